"""Cedar, typed: the only module that imports cedarpy. Everything is parsed once and reused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

import cedarpy

from interlock.core.canonical import JsonObject
from interlock.core.policy.cedar_ast import policy_id

PolicySet: TypeAlias = cedarpy.PolicySet
_cedar: Final = cast(Any, cedarpy)  # the package's own annotations are incomplete
P = ParamSpec("P")
T = TypeVar("T")


def _panicked(error: BaseException) -> bool:
    # A panic in Rust derives from BaseException alone, and its class cannot be imported.
    return type(error).__name__ == "PanicException"


def _refusing(parse: Callable[P, T]) -> Callable[P, T]:
    """A panic of the engine is a refusal of what it was given, like any other."""

    @wraps(parse)
    def refuse(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except BaseException as error:
            if _panicked(error):
                raise ValueError("the Cedar engine failed on it") from None
            raise

    return refuse


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed Cedar schema and the action hierarchy that it implies."""

    schema: Any
    entities: Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Cedar's answer to one request.

    Attributes:
        allowed: At least one permit and no forbid applied, and nothing failed.
        failed: A policy could not be evaluated, or the request does not fit the schema.
        reasons: Ids of the policies that decided, sorted.
    """

    allowed: bool
    failed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One finding of Cedar's validator."""

    policy_id: str
    problem: str


@_refusing
def parse_schema(document: JsonObject) -> Schema:
    """Parse a schema in Cedar's JSON format. Raises ValueError."""
    schema = _cedar.Schema.from_json_str(json.dumps({"": document}))
    return Schema(schema, _cedar.Entities.from_json_str("[]", schema))


@_refusing
def policy_set(policies: dict[str, JsonObject]) -> PolicySet:
    """Parse policies in Cedar's JSON format, by id. Raises ValueError."""
    return cast(PolicySet, _cedar.PolicySet.from_json_str(_document(policies)))


@_refusing
def text_to_json(text: str) -> list[JsonObject]:
    """Parse Cedar text, whose bounds were checked before, into policies. Raises ValueError."""
    try:
        document = json.loads(_cedar.policies_to_json_str(text))
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if document.get("templates") or document.get("templateLinks"):
        raise ValueError("templates (?principal, ?resource) are not supported")
    return list(document["staticPolicies"].values())


@_refusing
def validate(policies: list[JsonObject], schema: Schema) -> list[Complaint]:
    """Run Cedar's validator; each complaint names the policy by its `@id` annotation. Raises ValueError."""
    # The validator takes text only, and numbers the policies anew: the annotation leads back.
    text = _cedar.policies_from_json_str(_document({str(index): policy for index, policy in enumerate(policies)}))
    result = _cedar.validate_policies(text, schema.schema)
    ids = cast("dict[str, str]", result.id_annotations_by_policy_id)
    return [
        Complaint(ids.get(str(error.policy_id), ""), str(error.error).partition(", ")[2] or str(error.error))
        for error in result.errors
    ]


def never_apply(policies: list[JsonObject], schema: Schema) -> set[str]:
    """The `@id`s whose valid policies apply to no request that fits the schema. Raises ValueError.

    What can never hold is judged by types and scopes, not by values: `1 == 2`, but not `x < 1 && x > 2`.
    """
    # The type checker leaves out the branch of an `if` that it knows is never taken. So this probe has a type
    # error, unless the conditions are known to be false whatever the request.
    probes: list[JsonObject] = [{**policy, "conditions": [_probe(policy)]} for policy in policies]
    return {policy_id(policy) for policy in policies} - {complaint.policy_id for complaint in validate(probes, schema)}


def _probe(policy: JsonObject) -> JsonObject:
    bodies: list[JsonObject] = [
        condition["body"] if condition["kind"] == "when" else {"!": {"arg": condition["body"]}}
        for condition in cast("list[Any]", policy["conditions"])
    ]
    choice: JsonObject = {"if": _conjunction(bodies), "then": {"Value": 0}, "else": {"Value": ""}}
    return {"kind": "when", "body": {"like": {"left": {"if-then-else": choice}, "pattern": ["Wildcard"]}}}


def _conjunction(bodies: list[JsonObject]) -> JsonObject:
    """All of them in order, as a tree of little depth."""
    if len(bodies) < 2:
        return bodies[0] if bodies else {"Value": True}
    middle = len(bodies) // 2
    return {"&&": {"left": _conjunction(bodies[:middle]), "right": _conjunction(bodies[middle:])}}


def evaluate(
    agent: str, action: str, upstream: str, context: JsonObject, policies: PolicySet, schema: Schema
) -> Evaluation:
    """Evaluate one request; any error at all, the engine's own included, is `failed` (invariant I7)."""
    request = {
        # Structured ids: a name never becomes Cedar syntax.
        "principal": {"type": "Agent", "id": agent},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "Upstream", "id": upstream},
        "context": json.dumps(context),
    }
    try:
        result = _cedar.is_authorized(request, policies, schema.entities, schema.schema)
    except BaseException as error:
        # Whatever the engine raises is a denial; an interrupt is none of its errors.
        if not (isinstance(error, Exception) or _panicked(error)):
            raise
        return Evaluation(allowed=False, failed=True, reasons=())
    failed = bool(result.diagnostics.errors) or result.decision == _cedar.Decision.NoDecision
    return Evaluation(bool(result.allowed) and not failed, failed, tuple(sorted(result.diagnostics.reasons)))


def _document(policies: dict[str, JsonObject]) -> str:
    return json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})
