"""Slices: the digest of the rules for one agent and tool moves with them, and with nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.policy.slices import Slice
from interlock.core.tool import pinned_tool
from support import bundles
from support.bundles import NUMBER, TEXT, TEXTS, agent_file, definition, entry, record

PAY: JsonObject = definition(
    "pay", {"amount": NUMBER, "to": TEXT, "fields": TEXTS, "order_ids": TEXTS}, output=record(id=TEXT, name=TEXT)
)
GET: JsonObject = definition("get", {"id": TEXT})
POST: JsonObject = definition("post", {})

AGENT = agent_file(
    entry(
        "pay",
        "scope: [id, name]",
        "constraints: {max_records_per_run: 10, max_calls_per_run: 5, allowed_to: [x, y]}",
        "arguments: {properties: {amount: {maximum: 100}}}",
        "when: context.input has amount",
        "requires_approval: true",
        "approval_timeout_seconds: 60",
    )
    + entry("get", "constraints: {max_calls_per_run: 7}"),
    rest="execution:\n  max_steps: 5\n  on_budget_exceeded: {action: halt_and_escalate, notify: '#oncall-agents'}\n",
)
OTHER_AGENT = agent_file(entry("get"), agent="b")
CATALOGUE = """\
upstream: crm
tools:
  pay: {effect: reversible, tags: [money], records: {count: order_ids}, fields_argument: fields}
  get: {effect: read}
"""
GUARDRAILS = """\
@id("large") forbid(principal, action in Action::"tag:money", resource)
when { context.input has amount && context.input.amount.greaterThan(decimal("50.0")) };
@id("infrastructure") forbid(principal, action, resource) when { action in Action::"tag:infrastructure" };
@id("nights") forbid(principal, action == Action::"crm/get", resource) when { context.time.hour > 22 };
"""

Texts = Mapping[str, str]


def _texts() -> dict[str, str]:
    return {
        "agents/a.yaml": AGENT,
        "agents/b.yaml": OTHER_AGENT,
        "tools/crm.yaml": CATALOGUE,
        "guardrails/g.cedar": GUARDRAILS,
    }


def _slice(texts: Texts | None = None, definitions: tuple[JsonObject, ...] = (PAY, GET)) -> Slice:
    tools = [pinned_tool("crm", found) for found in definitions]
    more = {path: text for path, text in (texts or _texts()).items() if path != "agents/a.yaml"}
    agent = (texts or _texts())["agents/a.yaml"]
    return bundles.rules_for(bundles.load(bundles.files_of(tools, agent, more=more)), "crm/pay")


def _changed(path: str, old: str, new: str) -> dict[str, str]:
    texts = _texts()
    assert old in texts[path]
    return {**texts, path: texts[path].replace(old, new, 1)}


_KEEPING: dict[str, Callable[[], Slice]] = {
    "a comment in the agent file": lambda: _slice(_changed("agents/a.yaml", "tools:", "# a note\ntools:")),
    "layout": lambda: _slice(_changed("agents/a.yaml", "{id: a, identity: a@example.org}", "\n  identity: a@example.org\n  id: a")),
    "the words of a text value": lambda: _slice(_changed("agents/a.yaml", "allowed_to: [x, y]", "allowed_to: ['x', \"y\"]")),
    "another tool's constraint": lambda: _slice(_changed("agents/a.yaml", "max_calls_per_run: 7", "max_calls_per_run: 8")),
    "another entry, after": lambda: _slice(_changed("agents/a.yaml", "execution:", f"{entry('get')}execution:")),
    "another entry, before": lambda: _slice(_changed("agents/a.yaml", "    - name: pay\n", f"{entry('get')}    - name: pay\n")),
    "the order of constraints": lambda: _slice(_changed("agents/a.yaml", "{max_records_per_run: 10, max_calls_per_run: 5, allowed_to: [x, y]}", "{allowed_to: [x, y], max_calls_per_run: 5, max_records_per_run: 10}")),
    "a ceiling": lambda: _slice(_changed("agents/a.yaml", "max_steps: 5", "max_steps: 6")),
    "another tool blocked": lambda: _slice(_changed("agents/a.yaml", "execution:", "  blocked: [get]\nexecution:")),
    "another agent's file": lambda: _slice(_changed("agents/b.yaml", "- name: get", "- name: get\n      requires_approval: true")),
    "another tool's effect": lambda: _slice(_changed("tools/crm.yaml", "get: {effect: read}", "get: {effect: reversible}")),
    "another tool's definition": lambda: _slice(definitions=(PAY, {**GET, "description": "Gets more."})),
    "another tool": lambda: _slice(definitions=(PAY, GET, POST)),
    "a comment in the guardrails": lambda: _slice(_changed("guardrails/g.cedar", '@id("large")', '// note\n@id("large")')),
    "a guardrail's reason": lambda: _slice(_changed("guardrails/g.cedar", '@id("large")', '@id("large") @reason("Too much.")')),
    "another tool's guardrail": lambda: _slice(_changed("guardrails/g.cedar", "context.time.hour > 22", "context.time.hour > 21")),
    "another tool's guardrail, before": lambda: _slice(
        _changed(
            "guardrails/g.cedar",
            '@id("large")',
            'forbid(principal, action == Action::"crm/get", resource) when { context.time.hour > 20 };\n@id("large")',
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("changed", _KEEPING.values(), ids=_KEEPING)
def test_a_change_elsewhere_keeps_the_digest(changed: Callable[[], Slice]) -> None:
    assert changed().digest == _slice().digest


def test_a_guardrail_without_id_does_not_move_the_digest_when_others_come_before_it() -> None:
    unnamed = _changed("guardrails/g.cedar", '@id("large") ', "")
    before = 'forbid(principal, action == Action::"crm/get", resource) when { context.time.hour > 20 };\n'
    moved = {**unnamed, "guardrails/g.cedar": before + unnamed["guardrails/g.cedar"]}
    assert _slice(moved).digest == _slice(unnamed).digest


_MOVING: dict[str, Callable[[], Slice]] = {
    "an allowed value": lambda: _slice(_changed("agents/a.yaml", "allowed_to: [x, y]", "allowed_to: [x, z]")),
    "an allowed value's type": lambda: _slice(_changed("agents/a.yaml", "allowed_to: [x, y]", "match_to: [x, y]")),
    "a record limit": lambda: _slice(_changed("agents/a.yaml", "max_records_per_run: 10", "max_records_per_run: 11")),
    "a call limit": lambda: _slice(_changed("agents/a.yaml", "max_calls_per_run: 5", "max_calls_per_run: 6")),
    "no call limit": lambda: _slice(_changed("agents/a.yaml", "max_calls_per_run: 5, ", "")),
    "the arguments schema": lambda: _slice(_changed("agents/a.yaml", "maximum: 100", "maximum: 101")),
    "the condition": lambda: _slice(_changed("agents/a.yaml", "context.input has amount", "context.input has to")),
    "the scope": lambda: _slice(_changed("agents/a.yaml", "scope: [id, name]", "scope: [id]")),
    "approval": lambda: _slice(_changed("agents/a.yaml", "      requires_approval: true\n", "")),
    "the approval's time-out": lambda: _slice(_changed("agents/a.yaml", "approval_timeout_seconds: 60", "approval_timeout_seconds: 61")),
    "what a time-out does": lambda: _slice(_changed("agents/a.yaml", "approval_timeout_seconds: 60", "auto_deny_on_timeout: false")),
    "a second entry": lambda: _slice(_changed("agents/a.yaml", "execution:", f"{entry('pay', 'constraints: {max_amount: 3}')}execution:")),
    "being blocked": lambda: _slice(_changed("agents/a.yaml", "execution:", "  blocked: [pay]\nexecution:")),
    "the agent's id": lambda: bundles.rules_for(bundles.load(_renamed()), "crm/pay", agent="c"),
    "the pinned definition": lambda: _slice(definitions=({**PAY, "description": "Pays twice."}, GET)),
    "the effect": lambda: _slice(_changed("tools/crm.yaml", "pay: {effect: reversible", "pay: {effect: read")),
    "a tag": lambda: _slice(_changed("tools/crm.yaml", "tags: [money]", "tags: [money, infrastructure]")),
    "how records are counted": lambda: _slice(_changed("tools/crm.yaml", "{count: order_ids}", "{count: fields}")),
    "which argument names fields": lambda: _slice(_changed("tools/crm.yaml", "fields_argument: fields", "fields_argument: order_ids")),
    "its guardrail's condition": lambda: _slice(_changed("guardrails/g.cedar", "50.0", "60.0")),
    "its guardrail gone": lambda: _slice(_without_guardrail("idempotent: false")),
    "a guardrail more": lambda: _slice(_changed("guardrails/g.cedar", '@id("nights")', '@id("never") forbid(principal, action == Action::"crm/pay", resource);\n@id("nights")')),
}  # fmt: skip


def _renamed() -> dict[str, bytes]:
    tools = [pinned_tool("crm", found) for found in (PAY, GET)]
    more = {path: text for path, text in _texts().items() if path != "agents/a.yaml"}
    return bundles.files_of(tools, AGENT.replace("id: a,", "id: c,"), more=more)


def _without_guardrail(member: str) -> dict[str, str]:
    """The texts without the guardrail on amounts, and with one more member in the catalogue's entry of `pay`."""
    texts = _changed("tools/crm.yaml", "fields_argument: fields}", f"fields_argument: fields, {member}}}")
    return {**texts, "guardrails/g.cedar": re.sub(r'(?s)@id\("large"\).*?;', "", GUARDRAILS)}


@pytest.mark.parametrize("changed", _MOVING.values(), ids=_MOVING)
def test_a_change_of_the_rules_for_this_agent_and_tool_moves_the_digest(changed: Callable[[], Slice]) -> None:
    assert changed().digest != _slice().digest


@pytest.mark.parametrize("member", ["additional_arguments: allow", "idempotent: true"])
def test_what_the_catalogue_says_of_the_tool_moves_the_digest_by_itself(member: str) -> None:
    assert _slice(_without_guardrail(member)).digest != _slice(_without_guardrail("idempotent: false")).digest


def test_a_slice_is_the_same_however_often_it_is_built() -> None:
    assert _slice().digest == _slice().digest
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", _slice().digest)


# Listing ------------------------------------------------------------------------------------------------------------


def _listed(allowed: str, *, blocked: str = "", guardrails: str = "") -> set[str]:
    tools = [pinned_tool("crm", found) for found in (PAY, GET)] + [pinned_tool("mail", POST)]
    rest = f"  blocked: [{blocked}]\n" if blocked else ""
    bundle = bundles.load(bundles.files_of(tools, agent_file(allowed, rest=rest), guardrails=guardrails))
    return {rules.tool.qualified for upstream in ("crm", "mail") for rules in bundle.listed("a", upstream)}


def test_a_tool_is_listed_where_some_permit_covers_it() -> None:
    assert _listed(entry("pay") + entry("post")) == {"crm/pay", "mail/post"}
    assert _listed(entry("pay", "when: context.input has amount", "constraints: {max_calls_per_run: 0}")) == {"crm/pay"}


def test_a_blocked_tool_is_not_listed() -> None:
    assert _listed(entry("pay") + entry("get"), blocked="pay") == {"crm/get"}
    assert _listed(entry("pay") + entry("get"), blocked='"*"') == set()


@pytest.mark.parametrize(
    ("guardrail", "listed"),
    [
        ('forbid(principal, action == Action::"crm/pay", resource);', {"crm/get"}),
        ('forbid(principal == Agent::"a", action in Action::"upstream:crm", resource);', set[str]()),
        ('forbid(principal, action == Action::"crm/pay", resource) when { true };', {"crm/get"}),
        ('forbid(principal, action == Action::"crm/pay", resource) unless { false };', {"crm/get"}),
        (
            'forbid(principal, action == Action::"crm/pay", resource) when { context.time.hour > 22 };',
            {"crm/get", "crm/pay"},
        ),
        (
            'forbid(principal, action == Action::"crm/pay", resource) unless { context.approval.granted };',
            {"crm/get", "crm/pay"},
        ),
        (
            'forbid(principal, action == Action::"crm/pay", resource) when { true } unless { context.approval.granted };',
            {"crm/get", "crm/pay"},
        ),
    ],
)
def test_a_tool_that_a_guardrail_forbids_whatever_the_call_is_not_listed(guardrail: str, listed: set[str]) -> None:
    assert _listed(entry("pay") + entry("get"), guardrails=guardrail) == listed


def test_nothing_is_listed_for_an_agent_or_upstream_that_is_not_there() -> None:
    bundle = bundles.load(bundles.files_of([pinned_tool("crm", GET)], agent_file(entry("get"))))
    assert bundle.listed("nobody", "crm") == bundle.listed("a", "mail") == []
    assert bundle.slice("nobody", "crm/get") is None
    assert bundle.slice("a", "crm/none") is None
