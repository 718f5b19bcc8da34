"""A decision: permit, deny or hold, with the rules that decided and exactly what they saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code
from interlock.core.policy.rules import Rule

Verdict = Literal["permit", "deny", "hold"]


@dataclass(frozen=True, slots=True)
class Guard:
    """A limit that `admit` applies on the locked counter.

    Attributes:
        counter: Name of the run's counter.
        amount: What this call takes of it.
        limit: Spent plus reserved, this call included, may not exceed it.
        rule: The rule that a refusal names.
    """

    counter: str
    amount: int
    limit: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say about one call.

    Attributes:
        verdict: permit, deny or hold.
        rules: The rules that decided; never empty.
        code: The code of a denial or hold; None for a permit.
        guards: Limits still to be applied by `admit`; only with a permit.
        counts: What a permit takes of the run's counters, by name: calls and records of its tool.
        facts: The exact context that was evaluated; with the bundle, enough to decide again (I6).
        bundle: Digest of the bundle.
        slice: Digest of the rules for this agent and tool; empty where there are none.
    """

    verdict: Verdict
    rules: tuple[Rule, ...]
    code: Code | None
    bundle: str
    slice: str
    guards: tuple[Guard, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    facts: JsonObject = field(default_factory=JsonObject, repr=False)

    @property
    def sentence(self) -> str:
        """One sentence for people: the first rule's, and where it stands."""
        rule = self.rules[0]
        return f"{rule.sentence} ({rule.where})"
