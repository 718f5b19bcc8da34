"""Guardrails: they only forbid, and one that could never fire does not load."""

from __future__ import annotations

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code
from support import bundles
from support.bundles import INTEGER, NUMBER, TEXT, TEXTS, agent_file, entry, record, tool

TOOLS = [
    tool("pay", {"amount": NUMBER, "to": TEXT, "order": record(id=TEXT)}),
    tool("wire", {"amount": NUMBER, "count": INTEGER, "either": {"type": ["string", "integer"]}}),
    tool("look", {"tags": TEXTS, "free": {"type": "object"}}),
    tool("post", {"to": TEXT}, upstream="mail"),
]
CATALOGUE = """\
upstream: crm
tools:
  pay: {effect: reversible, tags: [money]}
  wire: {effect: reversible, tags: [money]}
  look: {effect: read}
"""
MAIL = "upstream: mail\ntools: {post: {effect: reversible, tags: [communication]}}\n"
ENTRIES = "".join(entry(name) for name in ("pay", "wire", "look", "post"))
OTHER = agent_file(ENTRIES, agent="b")


def _files(guardrails: str) -> dict[str, bytes]:
    return bundles.files_of(
        TOOLS,
        agent_file(ENTRIES),
        catalogue=CATALOGUE,
        guardrails=guardrails,
        more={"tools/mail.yaml": MAIL, "agents/b.yaml": OTHER},
    )


def _refusals(guardrails: str) -> list[str]:
    return bundles.refusals(_files(guardrails))


def _when(condition: str, scope: str = "principal, action, resource") -> str:
    return f"forbid({scope}) when {{ {condition} }};"


def _verdicts(guardrails: str, arguments: JsonObject | None = None) -> dict[str, str]:
    """The verdict on each agent's and tool's call."""
    bundle = bundles.load(_files(guardrails))
    return {
        f"{agent} {name}": bundles.ask(bundle, name, {} if arguments is None else arguments, agent=agent).verdict
        for agent in ("a", "b")
        for name in bundle.catalogue.tools
        if not arguments or arguments.keys() <= bundle.catalogue.tools[name].pinned.arguments.declared
    }


# What they cover ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "denied"),
    [
        (
            "principal, action, resource",
            {f"{a} {t}" for a in "ab" for t in ("crm/pay", "crm/wire", "crm/look", "mail/post")},
        ),
        ('principal == Agent::"a", action, resource', {"a crm/pay", "a crm/wire", "a crm/look", "a mail/post"}),
        ('principal in Agent::"b", action == Action::"crm/pay", resource', {"b crm/pay"}),
        ('principal is Agent in Agent::"a", action == Action::"crm/pay", resource', {"a crm/pay"}),
        ('principal, action in Action::"tag:money", resource', {"a crm/pay", "a crm/wire", "b crm/pay", "b crm/wire"}),
        (
            'principal, action in [Action::"effect:read", Action::"mail/post"], resource',
            {"a crm/look", "b crm/look", "a mail/post", "b mail/post"},
        ),
        ('principal, action in Action::"upstream:mail", resource', {"a mail/post", "b mail/post"}),
        ('principal, action, resource == Upstream::"mail"', {"a mail/post", "b mail/post"}),
        ('principal, action, resource is Upstream in Upstream::"mail"', {"a mail/post", "b mail/post"}),
    ],
)
def test_a_guardrail_covers_what_its_scope_says(scope: str, denied: set[str]) -> None:
    verdicts = _verdicts(f"forbid({scope});")
    assert {name for name, verdict in verdicts.items() if verdict == "deny"} == denied
    assert len(verdicts) == 8


def test_an_attribute_is_read_where_the_tool_has_it_and_absent_elsewhere() -> None:
    rule = _when('context.input has amount && context.input.amount.greaterThan(decimal("100.0"))')
    assert _verdicts(rule, {"amount": 100}) == {f"{a} crm/{t}": "permit" for a in "ab" for t in ("pay", "wire")}
    assert _verdicts(rule, {"amount": 100.0001}) == {f"{a} crm/{t}": "deny" for a in "ab" for t in ("pay", "wire")}
    assert set(_verdicts(rule).values()) == {"permit"}


def test_a_denial_names_the_guardrail_its_reason_and_its_line() -> None:
    bundle = bundles.load(
        _files('// for all\n@id("freeze")\n@reason("No changes in May.")\nforbid(principal, action, resource);')
    )
    decision = bundles.ask(bundle, "crm/pay", {})
    assert (decision.verdict, decision.code) == ("deny", Code.POLICY_DENIED)
    assert [(rule.id, rule.kind) for rule in decision.rules] == [("guardrails/g.cedar:freeze", "guardrail")]
    assert decision.sentence == "No changes in May. (guardrails/g.cedar:2)"


def test_a_guardrail_without_id_is_named_by_its_place_in_the_file() -> None:
    bundle = bundles.load(
        _files('forbid(principal, action in Action::"effect:read", resource);\nforbid(principal, action, resource);')
    )
    assert [rule.id for rule in bundles.ask(bundle, "crm/pay", {}).rules] == ["guardrails/g.cedar:policy1"]


def test_a_value_that_cannot_be_compared_exactly_is_denied_where_a_rule_reads_it_and_only_there() -> None:
    bundle = bundles.load(
        _files(
            _when(
                'context.input has amount && context.input.amount == decimal("1.0")',
                'principal, action == Action::"crm/pay", resource',
            )
        )
    )
    denied = bundles.ask(bundle, "crm/pay", {"amount": 0.00001})
    assert (denied.verdict, denied.code) == ("deny", Code.CONSTRAINT_VIOLATED)
    assert "amount" in denied.rules[0].sentence
    assert "1e-05" not in denied.sentence
    assert bundles.ask(bundle, "crm/wire", {"amount": 0.00001}).verdict == "permit"


def test_asking_whether_a_record_is_there_does_not_read_the_rest_of_it() -> None:
    order = tool("order", {"order": record(id=TEXT, total=NUMBER)})
    rule = _when('context.input has order && context.input.order has id && context.input.order.id == "x"')
    files = bundles.files_of(
        [order], agent_file(entry("order", "requires_approval: false", "justification: x")), guardrails=rule
    )
    assert bundles.ask(bundles.load(files), "crm/order", {"order": {"id": "y", "total": 0.00001}}).verdict == "permit"


def test_reading_the_records_of_a_run_needs_a_declared_count() -> None:
    rule = _when("context.run.records > 3", 'principal, action == Action::"crm/look", resource')
    [finding] = _refusals(rule)
    assert finding.startswith("guardrails/g.cedar:1:1: reads `context.run.records`")
    assert "add `records: {count: ARGUMENT}` or `records: {per_call: 1}` to its entry" in finding
    assert _refusals(rule.replace("crm/look", "crm/pay").replace("records", "calls")) == []


# What does not load ------------------------------------------------------------------------------------------------


def test_a_permit_is_refused() -> None:
    [finding] = _refusals(
        "forbid(principal, action, resource) when { context.time.hour > 22 };\n  permit(principal, action, resource);"
    )
    assert finding == (
        "guardrails/g.cedar:2:3: a guardrail may not permit; rights are granted in agent files alone; expected forbid"
    )


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("forbid(principal, action, resource)", "1:1: the statement does not end; expected a `;`"),
        ("forbid(principal, action);", "1:1: not a Cedar policy: "),
        ("forbid(principal == ?principal, action, resource);", "1:1: not a Cedar policy: templates"),
        (
            '@id("x") forbid(principal, action, resource);\n@id("x") forbid(principal, action, resource);',
            "2:1: two policies have the @id 'x'",
        ),
    ],
)
def test_what_is_not_a_plain_forbid_of_its_own_name_is_refused(text: str, finding: str) -> None:
    assert any(found.startswith(f"guardrails/g.cedar:{finding}") for found in _refusals(text))


@pytest.mark.parametrize("text", [b"\xff", b"x" * 300_000], ids=["not UTF-8", "too large"])
def test_a_file_that_is_no_text_is_refused(text: bytes) -> None:
    files = {**_files(""), "guardrails/h.cedar": text}
    [finding] = bundles.refusals(files)
    assert finding.startswith("guardrails/h.cedar:0:0: the file ")


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (
            "context.input has amunt",
            "no action in scope has the attribute `context.input.amunt`; expected an attribute that exists; did you mean 'context.input.amount'?",
        ),
        (
            "context.input has amunt && context.input.amunt > 1",
            "no action in scope has the attribute `context.input.amunt`",
        ),
        ("true || context.input has amunt", "no action in scope has the attribute `context.input.amunt`"),
        (
            'if context.input has to then context.input.to == "x" else context.input has tto',
            "no action in scope has the attribute `context.input.tto`",
        ),
        (
            "context.input has order && context.input.order has idd",
            "no action in scope has the attribute `context.input.order.idd`",
        ),
        ("context.input has order.idd", "no action in scope has the attribute `context.input.order.idd`"),
        ('context.input["amunt"] == 1', "no action in scope has the attribute `context.input.amunt`"),
        (
            "context.run has taks",
            "no action in scope has the attribute `context.run.taks`; expected an attribute that exists; did you mean 'context.run.task'?",
        ),
        ("context has stat", "no action in scope has the attribute `context.stat`"),
        ("context.checks has x", "`context.checks` belongs to the agent files' own constraints"),
        ("!context.approval.granted", "`approval` may only appear as `unless { context.approval.granted }`"),
        ("context.approval has granted", "`approval` may only appear"),
        ("principal has owner", "the guardrail reads `owner` of something that is not `context`"),
        ("resource.id == 1", "the guardrail reads `id` of something that is not `context`"),
        ("{a: context.input}.a has amunt", "the guardrail reads `a` of something that is not `context`"),
        ("context == context", "the guardrail uses `context` as a whole"),
        ('principal == Agent::"c"', 'Agent::"c" does not exist; expected a name of the bundle'),
        (
            'action == Action::"crm/pya"',
            "Action::\"crm/pya\" does not exist; expected a name of the bundle; did you mean 'crm/pay'?",
        ),
        (
            'action in [Action::"tag:mony"]',
            "Action::\"tag:mony\" does not exist; expected a name of the bundle; did you mean 'tag:money'?",
        ),
        (
            'resource in Upstream::"crmm"',
            "Upstream::\"crmm\" does not exist; expected a name of the bundle; did you mean 'crm'?",
        ),
        ('principal in Group::"x"', "there is no entity type 'Group'; expected Agent, Action or Upstream"),
        ("principal is Agnet", "Cedar refuses the rule: unrecognized entity type `Agnet`"),
        ('context.input has amount && context.input.amount == "x"', "Cedar refuses the rule: "),
        ('context.input.to == "x"', "Cedar refuses the rule: "),
    ],
)
def test_a_condition_that_speaks_of_what_is_not_there_is_refused(condition: str, problem: str) -> None:
    findings = _refusals(_when(condition))
    assert any(finding.startswith(f"guardrails/g.cedar:1:1: {problem}") for finding in findings), findings


def test_the_hint_for_an_argument_that_rules_cannot_read_says_so() -> None:
    for scope, name in (("crm/wire", "either"), ("crm/look", "free")):
        [finding] = _refusals(_when(f"context.input has {name}", f'principal, action == Action::"{scope}", resource'))
        assert "arguments that are unions, free objects or recursive cannot be read by rules" in finding


@pytest.mark.parametrize(
    ("scope", "problem"),
    [
        ('principal == Agent::"c", action, resource', 'Agent::"c" does not exist'),
        ('principal, action == Action::"crm/pya", resource', 'Action::"crm/pya" does not exist'),
        ('principal, action in Action::"tag:mony", resource', 'Action::"tag:mony" does not exist'),
        (
            'principal, action in [Action::"crm/pay", Action::"effect:raed"], resource',
            'Action::"effect:raed" does not exist',
        ),
        ('principal, action, resource == Upstream::"crmm"', 'Upstream::"crmm" does not exist'),
        ('principal, action, resource is Upstream in Upstream::"crmm"', 'Upstream::"crmm" does not exist'),
        ('principal == User::"a", action, resource', "there is no entity type 'User'"),
        ('principal == Interlock::Agent::"a", action, resource', "there is no entity type 'Interlock::Agent'"),
    ],
)
def test_a_scope_that_names_what_does_not_exist_is_refused(scope: str, problem: str) -> None:
    assert any(problem in finding for finding in _refusals(f"forbid({scope});"))


@pytest.mark.parametrize(
    "scope",
    [
        "principal is Agnet, action, resource",
        "principal, action, resource is Upstreem",
        "principal is Upstream, action, resource",
        'principal == Upstream::"crm", action, resource',
        'principal, action, resource == Agent::"a"',
        "principal, action, resource is Agent",
        'principal, action == Action::"tag:money", resource',
        "principal, action in [], resource",
        'principal, action == Action::"crm/pay", resource == Upstream::"mail"',
    ],
)
def test_a_scope_that_no_call_could_ever_match_is_refused(scope: str) -> None:
    assert _refusals(f"forbid({scope});")


@pytest.mark.parametrize(
    "condition",
    [
        "false",
        "1 == 2",
        "principal is Upstream",
        'principal in Upstream::"crm"',
        'resource == Agent::"a"',
        "principal == resource",
        "if false then true else false",
        'principal.hasTag("x")',
    ],
)
def test_a_condition_that_can_never_hold_is_refused(condition: str) -> None:
    assert _refusals(_when(condition))


def test_a_condition_that_always_lifts_its_forbid_is_refused() -> None:
    assert _refusals("forbid(principal, action, resource) unless { true };")


def test_a_null_argument_is_asked_for_by_a_path_that_exists() -> None:
    assert not _refusals(_when('context.input_null.contains("order.id")'))
    assert _refusals(_when('context.input_null.contains("order.idd")'))


def test_an_attribute_that_one_tool_in_scope_has_in_a_form_that_rules_cannot_read_is_refused() -> None:
    # Otherwise the rule would guard `pay` and silently let the same argument of `draw` pass.
    tools = [*TOOLS, tool("draw", {"amount": {"type": ["number", "string"]}})]
    catalogue = CATALOGUE + "  draw: {effect: reversible, tags: [money]}\n"
    rule = _when(
        'context.input has amount && context.input.amount.greaterThan(decimal("100.0"))',
        'principal, action in Action::"tag:money", resource',
    )
    [finding] = bundles.refusals(
        bundles.files_of(tools, "", catalogue=catalogue, guardrails=rule, more={"tools/mail.yaml": MAIL})
    )
    assert finding.startswith("guardrails/g.cedar:1:1: ")
    assert "crm/draw" in finding


def test_an_attribute_that_a_tool_in_scope_takes_undeclared_is_refused() -> None:
    # `look` takes any further argument, so `amount` could be among them and no rule would see it.
    catalogue = CATALOGUE.replace("look: {effect: read}", "look: {effect: read, additional_arguments: allow}")
    rule = _when('context.input has amount && context.input.amount.greaterThan(decimal("100.0"))')
    assert bundles.refusals(
        bundles.files_of(TOOLS, "", catalogue=catalogue, guardrails=rule, more={"tools/mail.yaml": MAIL})
    )


def test_a_tag_that_no_tool_has_yet_is_a_warning() -> None:
    bundle = bundles.load(_files('forbid(principal, action in Action::"tag:deletion", resource);'))
    assert [str(warning) for warning in bundle.warnings] == [
        "guardrails/g.cedar:1:1: the guardrail applies to no pinned tool of any agent"
    ]


@pytest.mark.parametrize("group", ["tag:deletion", "effect:irreversible"])
def test_a_condition_that_waits_for_a_tool_of_a_group_is_a_warning(group: str) -> None:
    bundle = bundles.load(_files(_when(f'action in Action::"{group}" && context.time.hour > 22')))
    assert [str(warning) for warning in bundle.warnings] == [
        "guardrails/g.cedar:1:1: the condition makes the rule do nothing, whatever the call"
    ]


def test_a_file_without_any_rule_is_pointed_out() -> None:
    files = _files("// forbid(principal, action, resource);\n")
    assert bundles.refusals(files) or bundles.load(files).warnings


# Approval ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "forbid(principal, action, resource) unless { context.approval.granted };",
        'forbid(principal, action, resource) unless { (context["approval"]["granted"]) };',
        "forbid(principal, action, resource) when { context.input has to } unless { context.approval.granted };",
    ],
)
def test_approval_can_be_a_gate_of_its_own(text: str) -> None:
    bundle = bundles.load(_files(text))
    assert bundles.ask(bundle, "crm/pay", {"to": "x"}).verdict == "hold"
    assert bundles.ask(bundle, "crm/pay", {"to": "x"}, approved=True).verdict == "permit"


@pytest.mark.parametrize(
    "text",
    [
        "forbid(principal, action, resource) when { context.approval.granted };",
        "forbid(principal, action, resource) unless { context.approval.granted && true };",
        "forbid(principal, action, resource) unless { !context.approval.granted };",
        "forbid(principal, action, resource) unless { context.approval.granted || context.input has to };",
        "forbid(principal, action, resource) unless { context.approval.granted == true };",
        "forbid(principal, action, resource) unless { if context.approval.granted then true else false };",
        "forbid(principal, action, resource) unless { [context.approval.granted].contains(true) };",
    ],
)
def test_approval_can_be_nothing_else(text: str) -> None:
    assert any("`approval` may only appear" in finding for finding in _refusals(text))


@pytest.mark.parametrize("count", [20, 60, 120])
def test_a_long_list_of_alternatives_works_or_is_a_finding(count: int) -> None:
    files = _files(_when(" || ".join(f'(context.input has to && context.input.to == "a{n}")' for n in range(count))))
    if bundles.refusals(files):
        assert count > 20
    else:
        assert bundles.ask(bundles.load(files), "crm/pay", {"to": f"a{count - 1}"}).verdict == "deny"
