"""Approval: needed by default where an effect cannot be undone, waived only with a reason."""

from __future__ import annotations

import pytest

from interlock.core.errors import Code
from interlock.core.policy.slices import ApprovalTerms
from support import bundles
from support.bundles import agent_file, entry, tool

TOOLS = [tool(name, {}) for name in ("look", "change", "destroy", "unlisted")]
CATALOGUE = """\
upstream: crm
tools:
  look: {effect: read}
  change: {effect: reversible}
  destroy: {effect: irreversible}
"""
GATE = '@id("gate") forbid(principal, action == Action::"crm/look", resource) unless { context.approval.granted };'


ESCALATES = """\
execution:
  on_budget_exceeded: {action: halt_and_escalate, notify: "#oncall-agents"}
"""


def _files(*entries: str, guardrails: str = "", rest: str = "") -> dict[str, bytes]:
    agent = agent_file("".join(entries), rest=rest)
    return bundles.files_of(TOOLS, agent, catalogue=CATALOGUE, guardrails=guardrails)


def _verdict(name: str, *keys: str, approved: bool = False) -> str:
    return bundles.ask(bundles.load(_files(entry(name, *keys))), f"crm/{name}", {}, approved=approved).verdict


@pytest.mark.parametrize(
    ("name", "verdict"), [("look", "permit"), ("change", "permit"), ("destroy", "hold"), ("unlisted", "hold")]
)
def test_approval_is_needed_unless_the_effect_is_read_or_reversible(name: str, verdict: str) -> None:
    assert _verdict(name) == verdict
    assert _verdict(name, approved=True) == "permit"


@pytest.mark.parametrize("name", ["look", "change", "destroy"])
def test_approval_can_be_asked_for_whatever_the_effect(name: str) -> None:
    assert _verdict(name, "requires_approval: true") == "hold"
    assert _verdict(name, "requires_approval: true", approved=True) == "permit"


@pytest.mark.parametrize("name", ["look", "change"])
def test_approval_can_be_waived_in_words_where_it_was_not_needed(name: str) -> None:
    assert _verdict(name, "requires_approval: false") == "permit"


@pytest.mark.parametrize("name", ["destroy", "unlisted"])
def test_waiving_approval_of_an_irreversible_tool_needs_a_justification(name: str) -> None:
    [finding] = bundles.refusals(_files(entry(name, "requires_approval: false")))
    assert finding == (
        f"agents/a.yaml:5:7: crm/{name} is irreversible and would run without approval; "
        "expected a `justification`; or leave requires_approval out"
    )
    justified = _verdict(name, "requires_approval: false", "justification: the sandbox is rebuilt every night")
    assert justified == "permit"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("look", ["justification: because"]),
        ("look", ["requires_approval: false", "justification: because"]),
        ("destroy", ["justification: because"]),
        ("destroy", ["requires_approval: true", "justification: because"]),
    ],
)
def test_a_justification_that_justifies_nothing_is_a_finding(name: str, keys: list[str]) -> None:
    [finding] = bundles.refusals(_files(entry(name, *keys)))
    line = 4 + len(keys)
    assert finding == (
        f"agents/a.yaml:{line}:7: `justification` explains nothing here; "
        "expected requires_approval: false on an irreversible tool"
    )


@pytest.mark.parametrize("text", ["''", "'  '", "~"])
def test_an_empty_justification_is_none(text: str) -> None:
    findings = bundles.refusals(_files(entry("destroy", "requires_approval: false", f"justification: {text}")))
    assert findings[0].startswith("agents/a.yaml:6:22: `tools.allowed[0].justification` is empty")


def test_a_glob_over_irreversible_tools_needs_approval_for_each() -> None:
    bundle = bundles.load(_files(entry('"*"', "effect: irreversible")))
    for name in ("crm/destroy", "crm/unlisted"):
        assert bundles.ask(bundle, name, {}).verdict == "hold"


def test_two_entries_for_a_tool_need_approval_if_either_does() -> None:
    waived = entry("destroy", "requires_approval: false", "justification: tested")
    bundle = bundles.load(_files(waived, entry("destroy")))
    assert bundles.ask(bundle, "crm/destroy", {}).verdict == "hold"


def test_a_hold_names_the_rule_that_asks_for_approval() -> None:
    decision = bundles.ask(bundles.load(_files(entry("destroy"))), "crm/destroy", {})
    assert decision.code == Code.APPROVAL_PENDING
    assert decision.sentence == "crm/destroy needs a person's approval because it is irreversible. (agents/a.yaml:4)"
    asked = bundles.ask(bundles.load(_files(entry("look", "requires_approval: true"))), "crm/look", {})
    assert asked.sentence == "crm/look needs a person's approval. (agents/a.yaml:5)"


def test_a_guardrail_can_ask_for_approval() -> None:
    bundle = bundles.load(_files(entry("look"), guardrails=GATE))
    held = bundles.ask(bundle, "crm/look", {})
    assert (held.verdict, held.code) == ("hold", Code.APPROVAL_PENDING)
    assert [rule.id for rule in held.rules] == ["guardrails/g.cedar:gate"]
    assert bundles.ask(bundle, "crm/look", {}, approved=True).verdict == "permit"


def test_approval_lifts_nothing_but_the_gates() -> None:
    blocked = agent_file(entry("destroy"), rest="  blocked: [destroy]\n")
    bundle = bundles.load(bundles.files_of(TOOLS, blocked, catalogue=CATALOGUE))
    for approved in (False, True):
        decision = bundles.ask(bundle, "crm/destroy", {}, approved=approved)
        assert (decision.verdict, decision.rules[0].kind) == ("deny", "blocked")


# How a hold ends -----------------------------------------------------------------------------------------------


def _terms(*entries: str) -> ApprovalTerms:
    return bundles.rules_for(bundles.load(_files(*entries, rest=ESCALATES)), "crm/destroy").approval


def test_a_hold_is_denied_after_five_minutes_unless_the_file_says_otherwise() -> None:
    assert _terms(entry("destroy")) == ApprovalTerms(timeout_s=300, auto_deny=True)
    said = _terms(entry("destroy", "approval_timeout_seconds: 60", "auto_deny_on_timeout: false"))
    assert said == ApprovalTerms(timeout_s=60, auto_deny=False)


def test_of_two_entries_the_stricter_terms_hold() -> None:
    lax = entry("destroy", "approval_timeout_seconds: 900", "auto_deny_on_timeout: false")
    strict = entry("destroy", "approval_timeout_seconds: 60", "auto_deny_on_timeout: true")
    assert _terms(lax, strict) == _terms(strict, lax) == ApprovalTerms(timeout_s=60, auto_deny=True)


@pytest.mark.parametrize(
    ("key", "finding"),
    [
        ("approval_timeout_seconds: 0", "33: `tools.allowed[0].approval_timeout_seconds` is 0; expected at least 1"),
        ("approval_timeout_seconds: -1", "33: `tools.allowed[0].approval_timeout_seconds` is -1; expected at least 1"),
        (
            "approval_timeout_seconds: 604801",
            "33: `tools.allowed[0].approval_timeout_seconds` is 604801; expected at most 604800",
        ),
        (
            "approval_timeout_seconds: 5m",
            "33: `tools.allowed[0].approval_timeout_seconds` is '5m'; expected a whole number",
        ),
        ("auto_deny_on_timeout: no", "29: `tools.allowed[0].auto_deny_on_timeout` is 'no'; expected true or false"),
        ("requires_approval: yes", "26: `tools.allowed[0].requires_approval` is 'yes'; expected true or false"),
        (
            "requires_aproval: true",
            "7: unknown key 'requires_aproval' in `tools.allowed[0]`; expected a known key; did you mean 'requires_approval'?",
        ),
    ],
)
def test_a_mistake_in_the_terms_is_a_finding(key: str, finding: str) -> None:
    assert bundles.refusals(_files(entry("destroy", key))) == [f"agents/a.yaml:5:{finding}"]


@pytest.mark.parametrize("key", ["approval_timeout_seconds: 60", "auto_deny_on_timeout: false"])
def test_terms_for_an_approval_that_is_never_asked_for_are_pointed_out(key: str) -> None:
    found = [str(warning) for warning in bundles.load(_files(entry("look", key), rest=ESCALATES)).warnings]
    assert [finding.startswith("agents/a.yaml:5:7:") for finding in found] == [True]


@pytest.mark.parametrize(
    "rest", ["", "execution: {max_steps: 5}\n", "execution: {on_budget_exceeded: {action: halt}}\n"]
)
def test_a_hold_that_stays_open_after_its_time_needs_somebody_to_escalate_to(rest: str) -> None:
    said = entry("destroy", "auto_deny_on_timeout: false")
    [finding] = bundles.refusals(_files(said, rest=rest))
    assert finding == (
        "agents/a.yaml:5:7: the hold would stay open and nobody would be told; expected somebody to escalate to; "
        "set execution.on_budget_exceeded to {action: halt_and_escalate, notify: NAME}"
    )
    assert bundles.refusals(_files(entry("destroy", "auto_deny_on_timeout: true"), rest=rest)) == []
