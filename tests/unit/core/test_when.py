"""`when`: one Cedar expression over `context`, parsed alone, that can say nothing but whether it holds."""

from __future__ import annotations

import json

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code
from interlock.core.run import RunFacts
from support import bundles
from support.bundles import INTEGER, NUMBER, TEXT, TEXTS, agent_file, entry, record, tool

PAY = tool(
    "pay",
    {
        "amount": NUMBER,
        "count": INTEGER,
        "to": TEXT,
        "tags": TEXTS,
        "order": record(id=TEXT, total=NUMBER),
        "either": {"anyOf": [TEXT, INTEGER]},
        "maybe": {"type": ["string", "null"]},
    },
)
CATALOGUE = "upstream: crm\ntools: {pay: {effect: read}}\n"


def _files(expression: str) -> dict[str, bytes]:
    quoted = json.dumps(expression)  # a double-quoted scalar of YAML, too
    return bundles.files_of([PAY], agent_file(entry("pay", f"when: {quoted}")), catalogue=CATALOGUE)


def _verdict(expression: str, arguments: JsonObject, **run: int) -> str:
    facts = RunFacts("run_1", True, None, ("blue",), run.get("steps", 0), run.get("calls", 0), run.get("records", 0))
    return bundles.ask(bundles.load(_files(expression)), "crm/pay", arguments, run=facts).verdict


@pytest.mark.parametrize(
    ("expression", "permitted", "denied"),
    [
        ('context.input has to && context.input.to == "x"', {"to": "x"}, {"to": "y"}),
        ('context.input has to && context.input.to like "*@example.org"', {"to": "a@example.org"}, {"to": "b"}),
        ("context.input has count && context.input.count < 5", {"count": 4}, {"count": 5}),
        ("context.input has count && context.input.count < 5", {"count": 4.0}, {}),
        (
            'context.input has amount && context.input.amount.lessThanOrEqual(decimal("1.5"))',
            {"amount": 1.5},
            {"amount": 1.5001},
        ),
        (
            'context.input has amount && context.input.amount.lessThan(decimal("-0.5"))',
            {"amount": -0.6},
            {"amount": -0.4},
        ),
        ('context.input has tags && context.input.tags.contains("a")', {"tags": ["b", "a"]}, {"tags": ["b"]}),
        ("context.input has order.id", {"order": {"id": "x"}}, {"order": {"total": 1}}),
        ('context.input_null.contains("maybe")', {"maybe": None}, {"maybe": "x"}),
        ('if context.input has to then context.input.to == "x" else true', {}, {"to": "y"}),
        ('if context.input has to // somebody\nthen context.input.to == "x"\nelse true', {}, {"to": "y"}),
    ],
)
def test_a_call_is_permitted_where_the_expression_holds(
    expression: str, permitted: JsonObject, denied: JsonObject
) -> None:
    assert _verdict(expression, permitted) == "permit"
    assert _verdict(expression, denied) == "deny"


def test_the_run_and_the_time_can_be_read() -> None:
    assert _verdict("context.run.calls < 3", {}, calls=2) == "permit"
    assert _verdict("context.run.calls < 3", {}, calls=3) == "deny"
    assert _verdict('context.run.labels.contains("blue")', {}) == "permit"
    assert _verdict("context.time.weekday < 6 && context.time.hour == 14", {}) == "permit"
    assert _verdict('context.time.now < datetime("2026-09-21T14:13:21Z")', {}) == "permit"
    assert _verdict('context.time.now < datetime("2026-09-21T14:13:20Z")', {}) == "deny"


def test_a_denial_names_the_expression() -> None:
    decision = bundles.ask(bundles.load(_files("context.input has to")), "crm/pay", {})
    assert decision.code == Code.CONSTRAINT_VIOLATED
    assert [(rule.key, rule.line, rule.accepted) for rule in decision.rules] == [
        ("tools.allowed[0].when", 5, "context.input has to")
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "true }; permit(principal, action, resource) when { true",
        "true); permit(principal, action, resource) when { (true",
        "true) }; permit(principal, action, resource) when { (true",
        "true) } when { (true",
        "true) } unless { (false",
        "true) } unless { (context.approval.granted",
        "true //\r) }; permit(principal, action, resource) when { (true",
        "true /* ) }; permit(principal, action, resource); */",
        "true; true",
        "true,",
        "(true",
        "true)",
        "}",
        '"unended',
        "?principal == ?principal",
        "#",
        "permit(principal, action, resource);",
        "   //  nothing",
    ],
)
def test_text_that_is_not_one_expression_is_refused(expression: str) -> None:
    [finding] = bundles.refusals(_files(expression))
    assert finding.startswith("agents/a.yaml:5:7: ")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        (
            "context.input has ammount",
            "no action in scope has the attribute `context.input.ammount`; expected an attribute that exists; did you mean 'context.input.amount'?",
        ),
        (
            "context.input has order && context.input.order has idd",
            "no action in scope has the attribute `context.input.order.idd`",
        ),
        ("context.input has order.idd", "no action in scope has the attribute `context.input.order.idd`"),
        ('context.input["to "] == "x"', "no action in scope has the attribute `context.input.to `"),
        ('if true then true else context.input.too == "x"', "no action in scope has the attribute `context.input.too`"),
        ('["x"].contains(context.input.too)', "no action in scope has the attribute `context.input.too`"),
        ('{a: context.input.too} == {a: "x"}', "no action in scope has the attribute `context.input.too`"),
        ('decimal("1.0").lessThan(context.input.amunt)', "no action in scope has the attribute `context.input.amunt`"),
        ('context.input.too like "*"', "no action in scope has the attribute `context.input.too`"),
        ("context.input.too is Agent", "no action in scope has the attribute `context.input.too`"),
        ("-context.input.cuont == 1", "no action in scope has the attribute `context.input.cuont`"),
        ("context.input.tgas.isEmpty()", "no action in scope has the attribute `context.input.tgas`"),
        (
            "context.input has either",
            "no action in scope has the attribute `context.input.either`; expected an attribute that exists; arguments that are unions",
        ),
        ("context.run has stpes", "no action in scope has the attribute `context.run.stpes`"),
        ("context has input", "no action in scope has the attribute `context.input`"),
        ("context.provenance == 1", "no action in scope has the attribute `context.provenance`"),
        ("context.checks has x", "`context.checks` belongs to the agent files' own constraints"),
        ("context.approval.granted", "`approval` may only appear as `unless { context.approval.granted }`"),
        ('context["approval"]["granted"]', "`approval` may only appear"),
        ("context has approval", "`approval` may only appear"),
        ("context == context", "the expression uses `context` as a whole"),
        ("{a: context}.a.input.count == 1", "the expression reads `"),
        ("principal == principal", "the expression speaks of more than `context`"),
        ('principal == Agent::"a"', "the expression speaks of more than `context`"),
        ('action in Action::"tag:money"', "the expression speaks of more than `context`"),
        ("resource is Upstream", "the expression speaks of more than `context`"),
        ('Agent::"a" == Agent::"a"', "the expression speaks of more than `context`"),
        ('context.input.hasTag("x")', "no action in scope has the attribute `context.input`"),
    ],
)
def test_an_expression_that_reads_what_is_not_there_is_a_finding(expression: str, problem: str) -> None:
    findings = bundles.refusals(_files(expression))
    assert any(finding.startswith(f"agents/a.yaml:5:7: {problem}") for finding in findings)


@pytest.mark.parametrize(
    "expression",
    ["context.input.count < 5", "5", '"true"', "context.input has to && context.input.to == 5"],
    ids=["not guarded by has", "a number", "text", "of another type"],
)
def test_cedar_itself_checks_the_types(expression: str) -> None:
    findings = bundles.refusals(_files(expression))
    assert findings
    assert all(finding.startswith("agents/a.yaml:5:7: Cedar refuses the rule: ") for finding in findings)


@pytest.mark.parametrize("count", [10, 60, 90])
def test_a_long_list_of_alternatives_works_or_is_a_finding(count: int) -> None:
    alternatives = " || ".join(f'(context.input has to && context.input.to == "a{n}")' for n in range(count))
    files = _files(alternatives)
    if bundles.refusals(files):
        assert count > 10
    else:
        assert bundles.ask(bundles.load(files), "crm/pay", {"to": f"a{count - 1}"}).verdict == "permit"


@pytest.mark.parametrize(
    "expression",
    [
        " || ".join(["true"] * 900),
        "1" + " + 1" * 900 + " == 2",
        "context" + ".a" * 900,
        "!" * 900 + "true",
        "[" * 31 + "]" * 31,
    ],
    ids=["alternatives", "sums", "attributes", "negations", "sets"],
)
def test_text_that_nests_deep_when_parsed_is_a_finding_and_no_crash(expression: str) -> None:
    assert bundles.refusals(_files(expression))


@pytest.mark.parametrize(
    "expression", ["true", "1 == 1", "context.input has to || true", "if true then true else false"]
)
def test_a_condition_that_every_call_meets_is_a_finding(expression: str) -> None:
    [finding] = bundles.refusals(_files(expression))
    assert finding == "agents/a.yaml:5:7: the condition makes the rule do nothing, whatever the call"


def test_a_null_argument_is_asked_for_by_a_path_that_exists() -> None:
    for asked in ('.contains("amuont")', '.containsAny(["to", "amuont"])', '.containsAll(["amuont"])'):
        [finding] = bundles.refusals(_files(f"context.input_null{asked}"))
        assert finding.startswith("agents/a.yaml:5:7: no action in scope has the argument `amuont`")
        assert "did you mean 'amount'?" in finding
    assert not bundles.refusals(_files('context.input_null.containsAny(["order.id", "either"])'))
