"""Decide: a slice, a canonical call and what the plane knows of the run, in; a decision, out.

Pure and deterministic. Permit only if Cedar allows and reports no error; hold if denied, but allowed
once approved, both without error; deny otherwise, and whenever anything goes wrong (invariant I7).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from interlock.core.call import CanonicalCall
from interlock.core.canonical import JsonObject
from interlock.core.decision import Decision, Guard
from interlock.core.errors import Code
from interlock.core.policy import cedar
from interlock.core.policy.cedar_types import input_facts, null_paths
from interlock.core.policy.checks import record_count
from interlock.core.policy.rules import EVALUATION_ERROR, NO_PERMIT, UNKNOWN_OUTCOME, UNREPRESENTABLE, Rule
from interlock.core.policy.slices import Slice
from interlock.core.run import RunFacts

_LEADS: Final = {"blocked": 0, "guardrail": 1, "plane": 2, "constraint": 3, "limit": 4, "approval": 5, "permit": 6}
"""Which of several deciding rules is named first: the one that nothing could lift."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the call itself.

    Attributes:
        run: Facts of the run.
        now_us: The store's time in microseconds since the epoch.
        approved: Whether a valid verdict approves exactly this call.
        repeats_unknown: Whether the same call ended before with an unknown outcome.
    """

    run: RunFacts
    now_us: int
    approved: bool = False
    repeats_unknown: bool = False


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The compiled schema that every evaluation is checked against, and the bundle it belongs to."""

    bundle: str
    schema: cedar.Schema


def decide(book: RuleBook, rules: Slice | None, call: CanonicalCall, seen: Circumstances) -> Decision:
    """Decide one call.

    Args:
        book: Schema and digest of the active bundle.
        rules: The slice of this agent and tool; None if the agent's file never speaks of the tool.
        call: The canonical call; its tool is the slice's.
        seen: Everything else that rules may look at.
    """
    if rules is None:
        return Decision("deny", (NO_PERMIT,), Code.POLICY_DENIED, book.bundle, "")
    facts, context = _facts(rules, call, seen)
    # Where no call is permitted anyway, a denial that depends on values would tell how rules read them.
    if facts["unrepresentable"] and rules.listed:
        named = Rule(
            UNREPRESENTABLE.id,
            "plane",
            "",
            0,
            "",
            f"A rule reads {', '.join(cast('list[str]', facts['unrepresentable']))}, whose value is not exact.",
            "integers up to 64 bit, decimals with at most four places, text, true or false",
        )
        return _denial(book, rules, (named,), facts)
    first = _evaluate(book, rules, call, context, approved=seen.approved)
    if first.failed:
        return _denial(book, rules, (EVALUATION_ERROR,), facts)
    if first.allowed:
        if seen.repeats_unknown and not rules.tool.idempotent and not seen.approved:
            return _hold(book, rules, (UNKNOWN_OUTCOME,), facts)
        return Decision(
            "permit",
            _named(rules, first.reasons),
            None,
            book.bundle,
            rules.digest,
            _guards(rules, call),
            _counts(rules, call),
            facts,
        )
    if rules.gated and not seen.approved:
        second = _evaluate(book, rules, call, context, approved=True)
        if second.failed:
            return _denial(book, rules, (EVALUATION_ERROR,), facts)
        if second.allowed:
            # Who approves has to know that the call may have happened already.
            repeats = (UNKNOWN_OUTCOME,) if seen.repeats_unknown and not rules.tool.idempotent else ()
            return _hold(book, rules, (*_named(rules, first.reasons), *repeats), facts)
        # Rules that approval could not lift are the ones worth naming.
        return _denial(book, rules, _named(rules, second.reasons), facts)
    return _denial(book, rules, _named(rules, first.reasons), facts)


def _facts(rules: Slice, call: CanonicalCall, seen: Circumstances) -> tuple[JsonObject, JsonObject]:
    """The recorded facts, and the Cedar context made of them (approval is added per evaluation)."""
    arguments = call.arguments.value
    read = input_facts(rules.reads, arguments)
    moment = datetime.fromtimestamp(seen.now_us // 1_000_000, UTC)
    nulls = null_paths(arguments) if rules.reads_nulls else []
    context: JsonObject = {
        "input": read.value,
        "input_null": list(nulls),
        "checks": {check.key: check.holds(arguments) for check in rules.checks},
        "run": seen.run.as_json(),
        "time": {
            "now": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "hour": moment.hour,
            "weekday": moment.isoweekday(),
        },
    }
    facts: JsonObject = {
        "context": context,
        "approved": seen.approved,
        "repeats_unknown": seen.repeats_unknown,
        "unrepresentable": list(read.unrepresentable),
        "now_us": seen.now_us,
    }
    return facts, context


def _evaluate(
    book: RuleBook, rules: Slice, call: CanonicalCall, context: JsonObject, *, approved: bool
) -> cedar.Evaluation:
    context = {**context, "approval": {"granted": approved}}
    return cedar.evaluate(call.agent, call.tool.qualified, call.tool.upstream, context, rules.policies, book.schema)


def _named(rules: Slice, reasons: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules behind Cedar's reasons, the weightiest first; no reason at all is the default denial."""
    found = [rules.rules[reason] for reason in reasons]
    return tuple(sorted(found, key=lambda rule: (_LEADS[rule.kind], rule.id))) or (NO_PERMIT,)


def _denial(book: RuleBook, rules: Slice, named: tuple[Rule, ...], facts: JsonObject) -> Decision:
    lead = named[0]
    bounded = lead.kind == "constraint" or lead.id == UNREPRESENTABLE.id
    code = Code.CONSTRAINT_VIOLATED if bounded else Code.POLICY_DENIED
    return Decision("deny", named, code, book.bundle, rules.digest, facts=facts)


def _hold(book: RuleBook, rules: Slice, named: tuple[Rule, ...], facts: JsonObject) -> Decision:
    return Decision("hold", named, Code.APPROVAL_PENDING, book.bundle, rules.digest, facts=facts)


def _guards(rules: Slice, call: CanonicalCall) -> tuple[Guard, ...]:
    arguments = call.arguments.value
    return tuple(Guard(guard.counter, guard.amount(arguments), guard.limit, rule) for guard, rule in rules.guards)


def _counts(rules: Slice, call: CanonicalCall) -> tuple[tuple[str, int], ...]:
    """What the call takes of its tool's two counters.

    Both are kept whether or not a rule speaks of them: one that is activated in the middle of a run finds
    what the run did before.
    """
    name = rules.tool.qualified
    records = record_count(rules.tool.count_argument, call.arguments.value)
    return ((f"calls:{name}", 1), (f"records:{name}", records))
