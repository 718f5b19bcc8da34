"""Oracle and Cedar route side by side: where do they differ?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from interlock.core.decision import Decision
from interlock.core.errors import BundleInvalid, Finding
from interlock.core.policy.bundle import Bundle
from oracle import terms
from oracle.envelope import COUNTERS, argument_of
from oracle.generate import Draft
from oracle.generate_calls import Sent, calls
from oracle.generate_tools import OUTPUT_FIELDS
from oracle.json_value import JsonObject
from oracle.oracle import Answer, Oracle, Reason, answer_code
from oracle.route import decide, load
from oracle.terms import Limits
from oracle.world import Tool

PLANE_RULES = {
    "interlock:default-deny": "default-deny",
    "interlock:outcome-unknown": "unknown-outcome",
    "interlock:unrepresentable-argument": "inexact",
    "interlock:evaluation-error": "error",
}
_FIELDS = ("name", *OUTPUT_FIELDS, "contact.phone", "orders.total")
"""Every path of the generated tools' results."""


@dataclass
class Difference:
    """One thing on which the two do not agree; `sent` is None where it is not about a call."""

    what: str
    sent: Sent | None
    expected: object
    got: object


@dataclass
class Tally:
    """What a comparison covered, so that a generator that went quiet is noticed.

    Attributes:
        refused: What was generated and is no bundle, by the first finding.
        verdicts: Of the oracle, by name.
        reasons: Of the oracle, by kind.
        broken: Constraints that calls broke, by form: `max`, `max of a list`, `arguments`, `scope`, ...
        kept: The same for calls that were permitted under such a constraint.
        codes: Of the product.
        rules: Of the product: ids of the plane's own rules that led, and kinds of all others.
        guards: Counters that permits take from, without the tool.
    """

    refused: Counter[str] = field(default_factory=Counter[str])
    bundles: int = 0
    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    broken: Counter[str] = field(default_factory=Counter[str])
    kept: Counter[str] = field(default_factory=Counter[str])
    codes: Counter[str] = field(default_factory=Counter[str])
    rules: Counter[str] = field(default_factory=Counter[str])
    guards: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        counters = {
            name: dict(sorted(found.items())) for name, found in vars(self).items() if isinstance(found, Counter)
        }
        lines = [f"{name}: {found}" for name, found in counters.items()]
        return "\n".join([f"{self.bundles} bundles, {self.calls} calls", *lines])


def compare(draft: Draft, tally: Tally, *, most: int) -> Iterator[Difference]:
    """Compare everything that is derived from one bundle; `most` calls for each agent and tool."""
    try:
        bundle = load(draft)
    except BundleInvalid as refused:
        tally.refused[_kind(refused.findings[0])] += 1
        return
    oracle = Oracle(draft.world())
    tally.bundles += 1
    for agent in bundle.agents:
        yield from _compare_envelope(oracle, bundle, agent)
    for agent in bundle.agents:
        for number, tool in enumerate(oracle.tools.values()):
            least = most if oracle.entries(agent, tool) else most // 10
            for sent in calls(oracle, agent, tool, draft.seed + number, least):
                yield from _compare_call(oracle, bundle, sent, tally)


def _kind(finding: Finding) -> str:
    """A finding's problem without the names in it."""
    return re.sub(r"'[^']*'|`[^`]*`|\S+/\S+", "_", finding.problem)


def _compare_envelope(oracle: Oracle, bundle: Bundle, agent: str) -> Iterator[Difference]:
    """Compare what does not depend on a call: ceilings, lists, scopes, how holds end."""
    compiled = bundle.agents[agent]
    ceilings = compiled.ceilings
    limits = Limits(
        ceilings.max_steps,
        ceilings.max_tokens,
        ceilings.max_wall_clock_us,
        ceilings.max_cost_micro_usd,
        compiled.notify,
    )
    if limits != oracle.limits(agent):
        yield Difference(f"ceilings of {agent}", None, oracle.limits(agent), limits)
    for upstream in sorted({tool.upstream for tool in oracle.tools.values()}):
        listed = {item.tool.qualified for item in bundle.listed(agent, upstream)}
        if listed != oracle.listed(agent, upstream):
            yield Difference(f"listed for {agent}", None, oracle.listed(agent, upstream), listed)
    for tool in oracle.tools.values():
        entries = oracle.entries(agent, tool)
        rules = bundle.slice(agent, tool.qualified)
        if not entries or rules is None:
            continue
        wanted = (terms.timeout_s(entries), terms.auto_deny(entries))
        if (rules.approval.timeout_s, rules.approval.auto_deny) != wanted:
            yield Difference(f"holds of {agent} for {tool.qualified}", None, wanted, rules.approval)
        visible = {path for path in _FIELDS if terms.may_see(entries, path)}
        granted = {path for path in _FIELDS if rules.scope is None or _granted(path, rules.scope)}
        if visible != granted:
            yield Difference(f"scope of {agent} for {tool.qualified}", None, visible, granted)


def _granted(path: str, scope: tuple[str, ...]) -> bool:
    return any(f"{path}.".startswith(f"{name}.") for name in scope)


def _compare_call(oracle: Oracle, bundle: Bundle, sent: Sent, tally: Tally) -> Iterator[Difference]:
    expected = oracle.decide(sent.agent, sent.tool, sent.text, sent.moment)
    got = decide(bundle, sent.agent, sent.tool, sent.text, sent.moment)
    _count(oracle, sent, expected, got, tally)
    if got is None:
        if expected.verdict != "malformed":
            yield Difference("verdict", sent, expected, "malformed")
        return
    if got.verdict != expected.verdict:
        yield Difference("verdict", sent, expected, got)
        return
    rules = bundle.slice(sent.agent, sent.tool)
    if got.verdict != "deny" and not (rules and rules.listed):
        yield Difference("not listed", sent, expected, got)
    # Several entries may each limit one counter; the strictest is what they mean together.
    limits: dict[tuple[str, int], int] = {}
    for guard in got.guards:
        taken = (guard.counter, guard.amount)
        limits[taken] = min(limits.get(taken, guard.limit), guard.limit)
    if frozenset((*taken, limit) for taken, limit in limits.items()) != expected.guards:
        yield Difference("guards", sent, expected, got)
    if got.verdict == "permit":
        if got.code is not None:
            yield Difference("code", sent, expected, got)
        return
    leader = got.rules[0]
    agreed = [reason for reason in expected.reasons if _means(leader.id, leader.kind, leader.file, leader.key, reason)]
    if not agreed:
        yield Difference("leading rule", sent, expected, got)
    elif got.code not in {answer_code(expected, reason) for reason in agreed}:
        yield Difference("code", sent, expected, got)


def _means(rule: str, kind: str, file: str, key: str, reason: Reason) -> bool:
    """Whether a rule of the product is the reason that the oracle found."""
    if kind == "plane":
        return PLANE_RULES.get(rule) == reason.kind
    if file != reason.file:
        return False
    if kind == "guardrail":
        return reason.kind == "guardrail" and rule == f"{file}:{reason.path[0]}"
    steps = tuple(step for step in re.split(r"[.\[\]]+", key) if step)
    if kind == "approval":
        return reason.kind == "approval"
    return reason.kind in ("blocked", "constraint", "when") and steps == reason.path


def _count(oracle: Oracle, sent: Sent, expected: Answer, got: Decision | None, tally: Tally) -> None:
    tally.calls += 1
    tally.verdicts[expected.verdict] += 1
    tally.reasons.update({reason.kind for reason in expected.reasons})
    tally.codes[str(got.code or "none") if got else "malformed_call"] += 1
    if got:
        tally.rules.update({rule.id if rule.kind == "plane" else rule.kind for rule in got.rules})
        tally.rules.update({guard.rule.kind for guard in got.guards})
        tally.guards.update({guard.counter.partition(":")[0] for guard in got.guards})
    tool = oracle.tools[sent.tool]
    arguments = oracle.arguments(tool, sent.text)
    if arguments is None:
        return
    if expected.verdict == "permit":
        for entry in oracle.entries(sent.agent, tool):
            keys = [(key,) for key in ("arguments", "scope", "when") if key in entry.keys]
            constraints = [("constraints", key) for key in entry.constraints]
            tally.kept.update({_form(path, tool, arguments) for path in [*keys, *constraints]})
    paths = [reason.path[3:] for reason in expected.reasons if reason.kind in ("constraint", "when")]
    tally.broken.update({_form(path, tool, arguments) for path in paths})


def _form(path: tuple[str, ...], tool: Tool, arguments: JsonObject) -> str:
    """What kind of constraint stands at a key path of an entry, and whether it meets a list here."""
    key = path[-1]
    if path[0] != "constraints" or key in COUNTERS:
        return key
    form, _, name = key.partition("_")
    return f"{form} of a list" if isinstance(arguments.get(argument_of(tool.declared, name)), list) else form


def describe(draft: Draft, differences: list[Difference]) -> str:
    """A report for a person: the bundle, then the first differences."""
    files = "\n".join(f"--- {path}\n{text}" for path, text in draft.policies.items())
    tools = "\n".join(f"{tool.qualified}: {tool.definition}" for tool in draft.tools)
    shown = "\n".join(
        f"{item.what}: {item.sent}\n  oracle: {item.expected}\n  route: {item.got}" for item in differences[:5]
    )
    return f"{len(differences)} differences\n{shown}\n{files}\n{tools}"
