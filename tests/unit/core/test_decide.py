"""Decide: permit only where Cedar allows without error, hold where approval alone is missing, deny otherwise."""

from __future__ import annotations

import pytest

from interlock.core.call import MalformedCall
from interlock.core.canonical import Json, JsonObject
from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.core.policy.bundle import Bundle
from interlock.core.run import RunFacts
from support import bundles, crm
from support.bundles import INTEGER, NUMBER, TEXT, TEXTS, agent_file, entry, tool

PAY = tool("pay", {"amount": NUMBER, "count": INTEGER, "to": TEXT, "note": TEXT})
CATALOGUE = "upstream: crm\ntools: {pay: {effect: reversible}}\n"
IDEMPOTENT = "upstream: crm\ntools: {pay: {effect: reversible, idempotent: true}}\n"


def _bundle(*keys: str, rest: str = "", guardrails: str = "", catalogue: str = CATALOGUE) -> Bundle:
    agent = agent_file(entry("pay", *keys), rest=rest)
    return bundles.load(bundles.files_of([PAY], agent, guardrails=guardrails, catalogue=catalogue))


def _ask(
    bundle: Bundle, arguments: JsonObject | None = None, *, approved: bool = False, unknown: bool = False
) -> Decision:
    sent: JsonObject = {} if arguments is None else arguments
    return bundles.ask(bundle, "crm/pay", sent, approved=approved, repeats_unknown=unknown)


# The example ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "verdict", "code"),
    [
        ("read_customer_record", {"customer_id": "c1"}, "permit", None),
        ("read_customer_record", {"customer_id": "c1", "fields": ["ssn"]}, "deny", Code.CONSTRAINT_VIOLATED),
        ("update_order_status", {"order_ids": ["o1", "o2"], "status": "cancelled"}, "permit", None),
        ("update_order_status", {"order_ids": ["o1"], "status": "shipped"}, "deny", Code.CONSTRAINT_VIOLATED),
        ("send_customer_email", {"to": ["a@example.org"]}, "hold", Code.APPROVAL_PENDING),
        ("delete_customer_record", {"customer_id": "c1"}, "deny", Code.POLICY_DENIED),
        ("access_payment_raw", {}, "deny", Code.POLICY_DENIED),
        ("bulk_send_email", {"to": []}, "deny", Code.POLICY_DENIED),
        ("attach_file", {"path": "/x"}, "deny", Code.POLICY_DENIED),
    ],
)
def test_the_example_agent_may_do_what_its_file_says(
    name: str, arguments: JsonObject, verdict: str, code: Code | None
) -> None:
    decision = crm.ask(crm.load(), name, arguments)
    assert (decision.verdict, decision.code) == (verdict, code)


def test_the_example_agent_has_its_ceilings_and_its_escalation() -> None:
    agent = crm.load().agents[crm.AGENT]
    assert agent.identity == "support-agent@myco.iam"
    assert agent.ceilings.as_json() == {
        "max_steps": 25,
        "max_tokens": 50_000,
        "max_wall_clock_us": 120_000_000,
        "max_cost_micro_usd": 2_000_000,
    }
    assert agent.notify == "#oncall-agents"


# Verdicts -------------------------------------------------------------------------------------------------------------


def test_a_tool_that_the_file_never_names_is_denied_by_default() -> None:
    decision = crm.ask(crm.load(), "attach_file", {})
    assert [rule.id for rule in decision.rules] == ["interlock:default-deny"]
    assert decision.slice == ""
    assert decision.sentence == "No rule permits this agent to call this tool. (interlock)"


def test_an_agent_that_is_not_in_the_bundle_is_denied() -> None:
    decision = bundles.ask(crm.load(), "crm/read_customer_record", {"customer_id": "c1"}, agent="nobody")
    assert (decision.verdict, decision.code) == ("deny", Code.POLICY_DENIED)


def test_a_permit_names_its_entry_the_bundle_and_the_slice() -> None:
    bundle = _bundle()
    decision = _ask(bundle)
    assert decision.verdict == "permit"
    assert [rule.id for rule in decision.rules] == ["a:tools.allowed[0]"]
    assert decision.sentence == "a may call crm/pay. (agents/a.yaml:4)"
    assert (decision.bundle, decision.slice) == (bundle.digest, bundles.rules_for(bundle, "crm/pay").digest)


def test_guards_come_with_a_permit_alone() -> None:
    bundle = _bundle(
        "constraints: {max_calls_per_run: 2, max_records_per_run: 3, allowed_to: [x]}", "requires_approval: true"
    )
    assert _ask(bundle, {"to": "x"}).guards == ()
    assert _ask(bundle, {"to": "y"}, approved=True).guards == ()
    assert {guard.limit for guard in _ask(bundle, {"to": "x"}, approved=True).guards} == {2, 3}


# Order of rules ---------------------------------------------------------------------------------------------------------

FORBID = '@id("never") forbid(principal, action, resource);'
GATED = ("requires_approval: true", "constraints: {allowed_to: [x]}")


def test_blocked_is_named_before_a_guardrail_and_that_before_a_constraint() -> None:
    everything = _bundle(*GATED, rest="  blocked: [pay]\n", guardrails=FORBID)
    kinds = [rule.kind for rule in _ask(everything, {"to": "y"}).rules]
    assert kinds == ["blocked", "guardrail", "constraint"]
    assert [rule.kind for rule in _ask(_bundle(*GATED, guardrails=FORBID), {"to": "y"}).rules] == [
        "guardrail",
        "constraint",
    ]
    assert [rule.kind for rule in _ask(_bundle(*GATED), {"to": "y"}).rules] == ["constraint"]
    assert [rule.kind for rule in _ask(_bundle(*GATED), {"to": "x"}).rules] == ["approval"]


@pytest.mark.parametrize(
    ("rest", "guardrails", "code"),
    [
        ("  blocked: [pay]\n", "", Code.POLICY_DENIED),
        ("", FORBID, Code.POLICY_DENIED),
        ("", "", Code.CONSTRAINT_VIOLATED),
    ],
)
def test_the_code_is_that_of_the_first_named_rule(rest: str, guardrails: str, code: Code) -> None:
    assert _ask(_bundle(*GATED, rest=rest, guardrails=guardrails), {"to": "y"}).code == code


def test_a_call_that_approval_could_not_save_is_denied_and_not_held() -> None:
    bundle = _bundle(*GATED)
    assert _ask(bundle, {"to": "y"}).verdict == "deny"
    assert _ask(bundle, {"to": "y"}, approved=True).verdict == "deny"
    assert _ask(bundle, {"to": "x"}).verdict == "hold"
    assert _ask(bundle, {"to": "x"}, approved=True).verdict == "permit"


def test_a_hold_names_every_gate() -> None:
    gate = '@id("gate") forbid(principal, action, resource) unless { context.approval.granted };'
    decision = _ask(_bundle("requires_approval: true", guardrails=gate))
    assert {rule.id for rule in decision.rules} == {"guardrails/g.cedar:gate", "a:tools.allowed[0].requires_approval"}


# An unknown outcome --------------------------------------------------------------------------------------------------------


def test_repeating_a_call_of_unknown_outcome_is_held() -> None:
    decision = _ask(_bundle(), unknown=True)
    assert (decision.verdict, decision.code) == ("hold", Code.APPROVAL_PENDING)
    assert [rule.id for rule in decision.rules] == ["interlock:outcome-unknown"]
    assert decision.guards == ()


def test_who_approves_is_told_that_the_call_may_have_happened_already() -> None:
    decision = _ask(_bundle("requires_approval: true"), unknown=True)
    assert decision.verdict == "hold"
    assert [rule.id.rpartition(".")[2] for rule in decision.rules] == ["requires_approval", "interlock:outcome-unknown"]


def test_a_person_can_let_a_call_of_unknown_outcome_run_again() -> None:
    assert _ask(_bundle(), unknown=True, approved=True).verdict == "permit"


def test_repeating_an_idempotent_call_of_unknown_outcome_is_permitted() -> None:
    assert _ask(_bundle(catalogue=IDEMPOTENT), unknown=True).verdict == "permit"


def test_an_unknown_outcome_makes_nothing_allowed() -> None:
    assert _ask(_bundle(*GATED), {"to": "y"}, unknown=True).verdict == "deny"
    assert [rule.kind for rule in _ask(_bundle(*GATED), {"to": "x"}, unknown=True).rules] == ["approval", "plane"]


# Errors deny ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approved", [False, True])
def test_a_rule_that_cannot_be_evaluated_denies(*, approved: bool) -> None:
    # An overflow inside a forbid: Cedar skips the rule and would allow.
    overflow = "forbid(principal, action, resource) when { context.input has count && context.input.count + 1 == 0 };"
    bundle = _bundle(guardrails=overflow)
    assert _ask(bundle, {"count": 1}, approved=approved).verdict == "permit"
    decision = _ask(bundle, {"count": 2**63 - 1}, approved=approved)
    assert (decision.verdict, decision.code) == ("deny", Code.POLICY_DENIED)
    assert [rule.id for rule in decision.rules] == ["interlock:evaluation-error"]


def test_an_error_denies_instead_of_holding() -> None:
    overflow = "forbid(principal, action, resource) when { context.input has count && context.input.count + 1 == 0 };"
    bundle = _bundle("requires_approval: true", guardrails=overflow)
    assert _ask(bundle, {"count": 1}).verdict == "hold"
    assert _ask(bundle, {"count": 2**63 - 1}).verdict == "deny"


@pytest.mark.parametrize("failure", [ValueError("no"), MemoryError(), RuntimeError("panicked")])
def test_an_engine_that_fails_denies(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: object) -> None:
        raise failure

    bundle = _bundle()
    monkeypatch.setattr("interlock.core.policy.cedar._cedar.is_authorized", fail)
    assert [rule.id for rule in _ask(bundle).rules] == ["interlock:evaluation-error"]


def test_an_engine_that_panics_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    # A panic in Rust reaches Python as an exception that derives from BaseException alone.
    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException

    bundle = _bundle()
    monkeypatch.setattr("interlock.core.policy.cedar._cedar.is_authorized", panic)
    assert _ask(bundle).verdict == "deny"


def test_an_interrupt_is_no_answer_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    bundle = _bundle()
    monkeypatch.setattr("interlock.core.policy.cedar._cedar.is_authorized", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _ask(bundle)


def test_facts_that_do_not_fit_the_schema_deny() -> None:
    beyond = RunFacts("run_1", implicit=True, task=None, labels=(), steps=2**70, calls=0, records=0)
    decision = bundles.ask(_bundle(), "crm/pay", {}, run=beyond)
    assert [rule.id for rule in decision.rules] == ["interlock:evaluation-error"]


READS_AMOUNT = (
    'forbid(principal, action, resource) when { context.input has amount && context.input.amount == decimal("1.0") };'
)


@pytest.mark.parametrize("amount", [0.00001, 1e15, 5e-324])
def test_a_value_that_no_rule_can_compare_exactly_denies_where_a_rule_reads_it(amount: float) -> None:
    decision = _ask(_bundle(guardrails=READS_AMOUNT), {"amount": amount}, approved=True)
    assert (decision.verdict, decision.code) == ("deny", Code.CONSTRAINT_VIOLATED)
    assert [rule.id for rule in decision.rules] == ["interlock:unrepresentable-argument"]
    assert "amount" in decision.sentence
    assert "decimals with at most four places" in decision.rules[0].accepted


@pytest.mark.parametrize(
    "arguments", [{"amount": 0.00001}, {"amount": 1e300, "note": "x" * 50_000}, {"note": "\u0000"}]
)
def test_an_argument_that_no_rule_names_never_affects_the_decision(arguments: JsonObject) -> None:
    assert _ask(_bundle(), arguments).verdict == "permit"
    assert (
        _ask(
            _bundle(guardrails=READS_AMOUNT.replace("amount", "to").replace('decimal("1.0")', '"x"')), arguments
        ).verdict
        == "permit"
    )


def test_a_blocked_tool_is_policy_whatever_its_arguments() -> None:
    bundle = _bundle(rest="  blocked: [pay]\n", guardrails=READS_AMOUNT)
    decision = _ask(bundle, {"amount": 0.00001})
    assert (decision.verdict, decision.code) == ("deny", Code.POLICY_DENIED)


# Facts --------------------------------------------------------------------------------------------------------------------


def test_the_facts_are_what_was_evaluated_and_no_more() -> None:
    bundle = _bundle("constraints: {allowed_to: [x]}", guardrails=READS_AMOUNT)
    run = RunFacts("run_9", implicit=False, task="Refund", labels=("eu",), steps=4, calls=1, records=2)
    decision = bundles.ask(bundle, "crm/pay", {"amount": 2, "to": "x", "note": "hunter2"}, run=run)
    expected: JsonObject = {
        "context": {
            "input": {"amount": "2.0000"},
            "input_null": [],
            "checks": {"tools.allowed[0].constraints.allowed_to": True},
            "run": {
                "id": "run_9",
                "implicit": False,
                "task": "Refund",
                "labels": ["eu"],
                "steps": 4,
                "calls": 1,
                "records": 2,
            },
            "time": {"now": "2026-09-21T14:13:20Z", "hour": 14, "weekday": 1},
        },
        "approved": False,
        "repeats_unknown": False,
        "unrepresentable": [],
        "now_us": bundles.NOW_US,
    }
    assert decision.facts == expected


def test_facts_are_not_shown_when_a_decision_is_printed() -> None:
    assert "hunter2" not in repr(
        _ask(
            _bundle(guardrails=READS_AMOUNT.replace("amount", "to").replace('decimal("1.0")', '"z"')), {"to": "hunter2"}
        )
    )


def test_the_same_question_has_the_same_answer() -> None:
    bundle = _bundle(*GATED, guardrails=READS_AMOUNT)
    for arguments in ({"to": "x"}, {"to": "y"}, {"to": "x", "amount": 1}, {"to": "x", "amount": 0.00001}):
        sent: JsonObject = dict[str, Json](arguments)
        assert _ask(bundle, sent) == _ask(bundle, sent) == _ask(_bundle(*GATED, guardrails=READS_AMOUNT), sent)


def test_counters_of_the_run_can_forbid() -> None:
    bundle = _bundle(guardrails="forbid(principal, action, resource) when { context.run.records >= 3 };")
    for records, verdict in ((2, "permit"), (3, "deny")):
        run = RunFacts("run_1", implicit=True, task=None, labels=(), steps=0, calls=0, records=records)
        assert bundles.ask(bundle, "crm/pay", {}, run=run).verdict == verdict
    assert bundles.rules_for(bundle, "crm/pay").reads_counters
    assert not bundles.rules_for(_bundle(), "crm/pay").reads_counters


@pytest.mark.parametrize(
    ("keys", "guardrails"),
    [
        ([], ""),
        (["constraints: {max_calls_per_run: 9}"], ""),
        (["constraints: {max_records_per_run: 9}"], ""),
        ([], "forbid(principal, action, resource) when { context.run.calls >= 3 };"),
    ],
)
def test_a_permit_takes_of_its_tools_counters_whether_or_not_a_rule_speaks_of_them(
    keys: list[str], guardrails: str
) -> None:
    many = tool("pay", {"ids": TEXTS})
    catalogue = "upstream: crm\ntools: {pay: {effect: reversible, records: {count: ids}}}\n"
    files = bundles.files_of([many], agent_file(entry("pay", *keys)), catalogue=catalogue, guardrails=guardrails)
    decision = bundles.ask(bundles.load(files), "crm/pay", {"ids": ["a", "b"]})
    assert dict(decision.counts) == {"calls:crm/pay": 1, "records:crm/pay": 2}


def test_an_agents_name_never_becomes_cedar() -> None:
    bundle = _bundle()
    for agent in ('a" || true', "a\\", 'Agent::"a"'):
        assert bundles.ask(bundle, "crm/pay", {}, agent=agent).verdict == "deny"


@pytest.mark.parametrize(
    "value",
    [{"__extn": {"fn": "decimal", "arg": "1.0"}}, {"__entity": {"type": "Agent", "id": "a"}}],
    ids=["extn", "entity"],
)
def test_cedars_escapes_in_an_argument_are_no_way_around_a_rule(value: JsonObject) -> None:
    # The strict decoder refuses them; a caller that got past it still meets the schema.
    bundle = _bundle(
        guardrails='forbid(principal, action, resource) when { context.input has to && context.input.to like "*x*" };'
    )
    with pytest.raises(MalformedCall):
        _ask(bundle, {"to": value})
