"""What a Cedar policy reads and names, from Cedar's JSON policy format.

Cedar's validator accepts `context.input has typo && …`, a rule that never fires. So every attribute
that a policy mentions is collected here and checked by `guardrails.check_path`, `has` included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, cast

from interlock.core.canonical import Json, JsonObject

Path = tuple[str, ...]

INPUT_NULL: Final[Path] = ("input_null",)
_GROUP_KINDS: Final = ("effect", "tag", "upstream")
_SET_TESTS: Final = ("contains", "containsAll", "containsAny")
APPROVAL_GRANTED: Final[JsonObject] = {
    ".": {"left": {".": {"left": {"Var": "context"}, "attr": "approval"}}, "attr": "granted"}
}


@dataclass(slots=True)
class Mentions:
    """Everything an expression or policy speaks of.

    Attributes:
        reads: Attribute paths below `context` whose value is read, whole chains only.
        tests: Attribute paths that `has` asks for.
        nulls: Dotted paths that `context.input_null` is asked for.
        entities: `(type, id)` of every entity literal, scope included.
        variables: `principal`, `action`, `resource`, where conditions speak of them.
        problems: Constructs that cannot be followed, in words.
    """

    reads: set[Path] = field(default_factory=set[Path])
    tests: set[Path] = field(default_factory=set[Path])
    nulls: set[str] = field(default_factory=set[str])
    entities: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    variables: set[str] = field(default_factory=set[str])
    problems: list[str] = field(default_factory=list[str])

    @property
    def context(self) -> set[Path]:
        """Every attribute path below `context`."""
        return self.reads | self.tests


def mentions_of(policy: JsonObject) -> Mentions:
    """Collect from a whole policy: its scope and all its conditions but approval gates."""
    found = Mentions()
    for part in ("principal", "action", "resource"):
        _scope_entities(policy.get(part), found)
    for condition in conditions_of(policy):
        if not is_approval_gate(condition):
            _walk(condition["body"], found)
    return found


def expression_mentions(body: JsonObject) -> Mentions:
    found = Mentions()
    _walk(body, found)
    return found


def conditions_of(policy: JsonObject) -> list[JsonObject]:
    return cast("list[JsonObject]", policy.get("conditions") or [])


def policy_id(policy: JsonObject) -> str:
    return str(cast(JsonObject, policy["annotations"])["id"])


def asks_for_group(policy: JsonObject) -> bool:
    """Whether a condition speaks of a group of actions, such as `Action::"tag:money"`."""
    named = set[tuple[str, str]]().union(
        *(expression_mentions(cast(JsonObject, condition["body"])).entities for condition in conditions_of(policy))
    )
    return any(kind == "Action" and name.partition(":")[0] in _GROUP_KINDS for kind, name in named)


def is_approval_gate(condition: JsonObject) -> bool:
    """Whether a condition is exactly `unless { context.approval.granted }`."""
    return condition.get("kind") == "unless" and condition.get("body") == APPROVAL_GRANTED


def is_unconditional(policy: JsonObject) -> bool:
    """Whether nothing but the scope decides: no conditions, or only ones that are literally constant."""
    for condition in conditions_of(policy):
        body = condition.get("body")
        constant = body == {"Value": condition.get("kind") == "when"}
        if not constant:
            return False
    return True


def _walk(node: Json, found: Mentions) -> None:
    if isinstance(node, list):
        for item in node:
            _walk(item, found)
        return
    if not isinstance(node, dict):
        return
    path = _context_path(node)
    if path is not None:
        if path:
            found.reads.add(path)
        else:
            found.problems.append("uses `context` as a whole; name the attribute it needs")
        return
    if "Var" in node:
        found.variables.add(str(node["Var"]))
        return
    if "Record" in node:
        # A record literal's keys are the author's words, not ours: only its values are expressions.
        for member in cast(JsonObject, node["Record"]).values():
            _walk(member, found)
        return
    if "Value" in node:
        _literal_entities(node["Value"], found)
        return
    if "has" in node or "." in node:
        operation = "has" if "has" in node else "."
        left = cast(JsonObject, node[operation])["left"]
        if operation == "has" and (base := _context_path(cast(JsonObject, left))) is not None:
            found.tests.add((*base, str(cast(JsonObject, node["has"])["attr"])))
            return
        attribute = cast(JsonObject, node[operation])["attr"]
        found.problems.append(f"reads `{attribute}` of something that is not `context`")
    for name, value in node.items():
        if name in _SET_TESTS:
            _null_paths(cast(JsonObject, value), found)
        _walk(value, found)


def _null_paths(operands: JsonObject, found: Mentions) -> None:
    if _context_path(cast(JsonObject, operands["left"])) != INPUT_NULL:
        return
    asked = cast(JsonObject, operands["right"])
    for element in cast("list[Json]", asked.get("Set", [asked])):
        if isinstance(element, dict) and isinstance(text := element.get("Value"), str):
            found.nulls.add(text)


def _context_path(node: JsonObject) -> Path | None:
    """The attribute path of a chain that begins at `context`; None for anything else."""
    attributes: list[str] = []
    current: Json = node
    while isinstance(current, dict) and "." in current:
        step = cast(JsonObject, current["."])
        attributes.append(str(step["attr"]))
        current = step["left"]
    if current == {"Var": "context"}:
        return tuple(reversed(attributes))
    return None


def _literal_entities(value: Json, found: Mentions) -> None:
    if isinstance(value, dict):
        entity = value.get("__entity")
        if isinstance(entity, dict):
            found.entities.add((str(entity.get("type")), str(entity.get("id"))))
        for member in value.values():
            _literal_entities(member, found)
    elif isinstance(value, list):
        for item in value:
            _literal_entities(item, found)


def _scope_entities(part: Json, found: Mentions) -> None:
    if isinstance(part, dict):
        found.entities.update(_named(part))
        _scope_entities(part.get("in"), found)


def _named(part: JsonObject) -> set[tuple[str, str]]:
    """The `(type, id)` of the entities that one part of a scope names directly."""
    listed = part.get("entities")
    entities = [part.get("entity"), *(listed if isinstance(listed, list) else [])]
    return {(str(entity.get("type")), str(entity.get("id"))) for entity in entities if isinstance(entity, dict)}


def scope_covers_agent(policy: JsonObject, agent: str) -> bool:
    """Whether a policy's scope can match calls of this agent."""
    return _covers(policy.get("principal"), "Agent", agent)


def scope_covers_tool(policy: JsonObject, action: str, groups: frozenset[str], upstream: str) -> bool:
    """Whether a policy's scope can match calls of this tool."""
    return _covers(policy.get("action"), "Action", action, groups) and _covers(
        policy.get("resource"), "Upstream", upstream
    )


def _covers(part: Json, kind: str, name: str, groups: frozenset[str] = frozenset()) -> bool:
    if not isinstance(part, dict) or part.get("op") == "All":
        return True
    if part.get("op") == "is":
        inner = part.get("in")
        return part.get("entity_type") == kind and (
            inner is None or _covers({"op": "in", **cast(JsonObject, inner)}, kind, name, groups)
        )
    # Only `in` looks at groups: `action == Action::"tag:money"` is true of no tool.
    names = {name, *groups} if part.get("op") == "in" else {name}
    return any((kind, covered) in _named(part) for covered in names)
