"""A slice: every rule that can matter to one agent's calls of one tool, compiled once.

Evaluation looks at a slice and never at the whole bundle, so a decision takes the same time whatever
the bundle's size; a hold binds to the slice's digest, so unrelated changes leave it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from interlock.core.canonical import Json, JsonObject, encode
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.cedar import PolicySet, policy_set
from interlock.core.policy.cedar_ast import INPUT_NULL, Path, is_approval_gate, is_unconditional, mentions_of
from interlock.core.policy.cedar_ast import conditions_of as conditions
from interlock.core.policy.cedar_schema import COUNTERS
from interlock.core.policy.cedar_types import RecordType, reading_tree
from interlock.core.policy.checks import Check, GuardRule
from interlock.core.policy.rules import Rule

DEFAULT_APPROVAL_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """How a hold under these rules ends when nobody answers."""

    timeout_s: int = DEFAULT_APPROVAL_TIMEOUT_S
    auto_deny: bool = True


@dataclass(frozen=True, slots=True)
class Slice:
    """The compiled rules of one (agent, tool).

    Attributes:
        policies: The Cedar policies, parsed.
        rules: By id; every id that Cedar can report is here.
        reads: The part of `context.input` that the policies read.
        listed: Some permit covers the tool and no unconditional forbid does (invariant I8).
        scope: Fields of the result that the agent may see; None is all.
    """

    agent: str
    tool: Tool
    policies: PolicySet = field(repr=False)
    rules: dict[str, Rule] = field(repr=False)
    checks: tuple[Check, ...]
    guards: tuple[tuple[GuardRule, Rule], ...]
    reads: RecordType
    reads_nulls: bool
    reads_counters: bool
    gated: bool
    listed: bool
    scope: tuple[str, ...] | None
    approval: ApprovalTerms
    digest: str
    own_policies: tuple[JsonObject, ...] = field(repr=False)
    """The agent file's policies in Cedar JSON, for validation and export; guardrails are not repeated."""


def build_slice(
    agent: str,
    tool: Tool,
    policies: dict[str, JsonObject],
    rules: dict[str, Rule],
    checks: list[Check],
    guards: list[tuple[GuardRule, Rule]],
    scope: tuple[str, ...] | None,
    approval: ApprovalTerms,
) -> Slice:
    """Put the parts together; `policies` are Cedar JSON by rule id, agent's and guardrails' alike."""
    reads: set[Path] = set()
    tests: set[Path] = set()
    gated = False
    for policy in policies.values():
        mentions = mentions_of(policy)
        reads |= mentions.reads
        tests |= mentions.tests
        gated = gated or any(is_approval_gate(condition) for condition in conditions(policy))
    permitted = any(policy["effect"] == "permit" for policy in policies.values())
    barred = any(policy["effect"] == "forbid" and is_unconditional(policy) for policy in policies.values())
    return Slice(
        agent=agent,
        tool=tool,
        policies=policy_set(policies),
        rules=rules,
        checks=tuple(checks),
        guards=tuple(guards),
        reads=reading_tree(tool.input, _below_input(reads), _below_input(tests)),
        reads_nulls=INPUT_NULL in reads,
        reads_counters=not COUNTERS.isdisjoint(reads),
        gated=gated,
        listed=permitted and not barred,
        scope=scope,
        approval=approval,
        digest=_digest(tool, _meant(policies, rules, checks), checks, guards, scope, approval),
        own_policies=tuple(policy for name, policy in policies.items() if rules[name].kind != "guardrail"),
    )


def _below_input(paths: set[Path]) -> list[Path]:
    return [path[1:] for path in paths if path[0] == "input"]


def _meant(policies: dict[str, JsonObject], rules: dict[str, Rule], checks: list[Check]) -> list[JsonObject]:
    """What the policies say, without names that move when an unrelated entry comes or goes before them.

    The policy of a check says no more than the check's own specification.
    """
    checked = {check.key for check in checks}
    return [
        {part: said for part, said in policy.items() if part != "annotations"}
        for name, policy in policies.items()
        if rules[name].key not in checked or rules[name].kind == "guardrail"
    ]


def _digest(
    tool: Tool,
    policies: list[JsonObject],
    checks: list[Check],
    guards: list[tuple[GuardRule, Rule]],
    scope: tuple[str, ...] | None,
    approval: ApprovalTerms,
) -> str:
    content: JsonObject = {
        "additional_arguments": tool.additional_arguments,
        "approval": {"auto_deny": approval.auto_deny, "timeout_s": approval.timeout_s},
        "checks": _unordered(check.spec() for check in checks),
        "count_argument": list(tool.count_argument) if tool.count_argument is not None else None,
        "groups": list[Json](sorted(tool.groups)),
        "guards": _unordered(guard.spec() for guard, _ in guards),
        "idempotent": tool.idempotent,
        "pin": tool.pinned.pin,
        "policies": _unordered(policies),
        "scope": list(scope) if scope is not None else None,
    }
    return "sha256:" + hashlib.sha256(b"interlock-slice-v1" + encode(content)).hexdigest()


def _unordered(parts: Iterable[JsonObject]) -> list[Json]:
    """As a list that is the same whatever the order: all of them apply, so it means nothing."""
    return list[Json](sorted(parts, key=encode))
