"""The example agent file with single mistakes planted in turn: each is reported in its place with the right hint."""

from __future__ import annotations

from typing import Final

import pytest

from support import bundles, crm

Mistake = tuple[str, str, list[str]]
"""What the file says, what it says instead, and the findings without the file's name."""

MISTAKES: Final[dict[str, Mistake]] = {
    "the id's key mistyped": (
        '  id: "support',
        '  ids: "support',
        [
            "2:3: `agent` lacks the key 'id'; expected the agent's id, unique in the bundle",
            "2:3: unknown key 'ids' in `agent`; expected a known key; did you mean 'id'?",
        ],
    ),
    "the agent section mistyped": (
        "agent:\n",
        "agnet:\n",
        [
            "1:1: the file lacks the key 'agent'; expected who the agent is",
            "1:1: unknown key 'agnet' in the file; expected a known key; did you mean 'agent'?",
        ],
    ),
    "an identity of two words": (
        'identity: "support-agent@myco.iam"',
        'identity: "support agent@myco.iam"',
        ["3:13: `agent.identity` is 'support agent@myco.iam'; expected one word, no spaces"],
    ),
    "an id of several words": (
        'id: "support-agent-v2"',
        "id: support agent v2",
        ["2:7: `agent.id` is 'support agent v2'; expected letters, digits, dots, hyphens and underscores, at most 128"],
    ),
    "no identity": (
        '  identity: "support-agent@myco.iam"\n',
        "",
        ["2:3: `agent` lacks the key 'identity'; expected the principal that may act as this agent"],
    ),
    "the tools section mistyped": (
        "tools:\n",
        "tool:\n",
        [
            "1:1: the file lacks the key 'tools'; expected what the agent may and may not call",
            "4:1: unknown key 'tool' in the file; expected a known key; did you mean 'tools'?",
        ],
    ),
    "allowed mistyped": (
        "  allowed:\n",
        "  alowed:\n",
        ["5:3: unknown key 'alowed' in `tools`; expected a known key; did you mean 'allowed'?"],
    ),
    "a mistyped tool": (
        'name: "read_customer_record"',
        'name: "read_custmer_record"',
        [
            "6:7: there is no pinned tool 'read_custmer_record'; expected a pinned tool; did you mean 'read_customer_record'?"
        ],
    ),
    "name mistyped": (
        'name: "read_customer_record"',
        'nam: "read_customer_record"',
        [
            "6:7: `tools.allowed[0]` lacks the key 'name'; expected `tool` or `upstream/tool`; with `effect`, a glob over names",
            "6:7: unknown key 'nam' in `tools.allowed[0]`; expected a known key; did you mean 'name'?",
        ],
    ),
    "a glob without effect": (
        'name: "read_customer_record"',
        'name: "read_*"',
        ["6:7: 'read_*' is a glob; expected `effect:` beside it; a glob grants one effect alone"],
    ),
    "an upstream that is not pinned": (
        'name: "update_order_status"',
        'name: "mail/update_order_status"',
        [
            "8:7: there is no pinned tool 'mail/update_order_status'; expected a pinned tool; did you mean 'crm/update_order_status'?"
        ],
    ),
    "scope mistyped": (
        'scope: ["customer_id"',
        'scopes: ["customer_id"',
        ["7:7: unknown key 'scopes' in `tools.allowed[0]`; expected a known key; did you mean 'scope'?"],
    ),
    "a scope field mistyped": (
        '"order_history", ',
        '"order_histroy", ',
        [
            "7:30: the output of crm/read_customer_record has no field 'order_histroy'; expected a field; did you mean 'order_history'?"
        ],
    ),
    "a scope that is no list": (
        'scope: ["customer_id", "order_history", "contact_info"]',
        'scope: "customer_id"',
        ["7:14: `tools.allowed[0].scope` is 'customer_id'; expected a list"],
    ),
    "constraints mistyped": (
        "constraints:\n",
        "constraint:\n",
        ["9:7: unknown key 'constraint' in `tools.allowed[1]`; expected a known key; did you mean 'constraints'?"],
    ),
    "a record limit mistyped": (
        "max_records_per_run: 10",
        "max_record_per_run: 10",
        [
            "10:9: crm/update_order_status has no argument 'record_per_run'; expected an argument of the tool, or its plural; did you mean 'max_records_per_run'?"
        ],
    ),
    "a record limit in quotes": (
        "max_records_per_run: 10",
        'max_records_per_run: "10"',
        ["10:30: `tools.allowed[1].constraints.max_records_per_run` is '10'; expected a whole number"],
    ),
    "a negative record limit": (
        "max_records_per_run: 10",
        "max_records_per_run: -1",
        ["10:30: `tools.allowed[1].constraints.max_records_per_run` is -1; expected at least 0"],
    ),
    "a constraint on no argument": (
        "allowed_statuses:",
        "allowed_states:",
        [
            "11:9: crm/update_order_status has no argument 'states'; expected an argument of the tool, or its plural; did you mean 'allowed_status'?"
        ],
    ),
    "a kind of constraint mistyped": (
        "allowed_statuses:",
        "alowed_statuses:",
        [
            "11:9: unknown key 'alowed_statuses' in `tools.allowed[1].constraints`; expected a known key; did you mean 'allowed_statuses'?"
        ],
    ),
    "allowed values that are no list": (
        'allowed_statuses: ["cancelled", "refunded", "processing"]',
        'allowed_statuses: "cancelled"',
        ["11:9: 'allowed_statuses' is not a list with items; expected a list of values"],
    ),
    "an allowed value of another type": (
        '"refunded", "processing"]',
        '"refunded", 3]',
        ["11:53: 'status' of crm/update_order_status can never be '3'; expected a value of type string"],
    ),
    "no allowed value at all": (
        '["cancelled", "refunded", "processing"]',
        "[]",
        ["11:9: 'allowed_statuses' is not a list with items; expected a list of values"],
    ),
    "a record limit twice": (
        "max_records_per_run: 10",
        "max_records_per_run: 10\n        max_records_per_run: 100",
        ["11:9: the key 'max_records_per_run' appears twice; expected each key once; it first appears at line 10"],
    ),
    "yes for true": (
        "requires_approval: true",
        "requires_approval: yes",
        ["13:26: `tools.allowed[2].requires_approval` is 'yes'; expected true or false"],
    ),
    "requires_approval in the plural": (
        "requires_approval: true",
        "requires_approvals: true",
        [
            "13:7: unknown key 'requires_approvals' in `tools.allowed[2]`; expected a known key; did you mean 'requires_approval'?"
        ],
    ),
    "approval waived without a word": (
        "requires_approval: true",
        "requires_approval: false",
        [
            "13:7: crm/send_customer_email is irreversible and would run without approval; expected a `justification`; or leave requires_approval out"
        ],
    ),
    "a justification of nothing": (
        "requires_approval: true",
        'requires_approval: true\n      justification: "they asked"',
        ["14:7: `justification` explains nothing here; expected requires_approval: false on an irreversible tool"],
    ),
    "no time to approve": (
        "approval_timeout_seconds: 300",
        "approval_timeout_seconds: 0",
        ["14:33: `tools.allowed[2].approval_timeout_seconds` is 0; expected at least 1"],
    ),
    "a time-out with a unit": (
        "approval_timeout_seconds: 300",
        "approval_timeout_seconds: 5m",
        ["14:33: `tools.allowed[2].approval_timeout_seconds` is '5m'; expected a whole number"],
    ),
    "a boolean in quotes": (
        "auto_deny_on_timeout: true",
        'auto_deny_on_timeout: "true"',
        ["15:29: `tools.allowed[2].auto_deny_on_timeout` is 'true'; expected true or false"],
    ),
    "auto_deny_on_timeout mistyped": (
        "auto_deny_on_timeout",
        "auto_deny_on_time_out",
        [
            "15:7: unknown key 'auto_deny_on_time_out' in `tools.allowed[2]`; expected a known key; did you mean 'auto_deny_on_timeout'?"
        ],
    ),
    "blocked mistyped": (
        "  blocked:\n",
        "  block:\n",
        ["16:3: unknown key 'block' in `tools`; expected a known key; did you mean 'blocked'?"],
    ),
    "a blocked tool mistyped": (
        '- "delete_customer_record"',
        '- "delete_customer_records"',
        [
            "17:7: there is no pinned tool 'delete_customer_records'; expected a pinned tool; did you mean 'delete_customer_record'?"
        ],
    ),
    "a blocked tool as a mapping": (
        '- "access_payment_raw"',
        "- access_payment_raw: true",
        ["18:7: `tools.blocked[1]` is a mapping; expected text (quote it if it looks like a number or a boolean)"],
    ),
    "blocked that is no list": (
        '  blocked:\n    - "delete_customer_record"\n    - "access_payment_raw"\n    - "bulk_send_email"\n',
        '  blocked: "delete_customer_record"\n',
        ["16:12: `tools.blocked` is 'delete_customer_record'; expected a list"],
    ),
    "the execution section in the plural": (
        "execution:\n",
        "executions:\n",
        ["20:1: unknown key 'executions' in the file; expected a known key; did you mean 'execution'?"],
    ),
    "a ceiling mistyped": (
        "max_steps: 25",
        "max_step: 25",
        ["21:3: unknown key 'max_step' in `execution`; expected a known key; did you mean 'max_steps'?"],
    ),
    "no step at all": ("max_steps: 25", "max_steps: 0", ["21:14: `execution.max_steps` is 0; expected at least 1"]),
    "half a step": (
        "max_steps: 25",
        "max_steps: 25.5",
        ["21:14: `execution.max_steps` is 25.5; expected a whole number"],
    ),
    "negative tokens": (
        "max_tokens_per_run: 50000",
        "max_tokens_per_run: -50000",
        ["22:23: `execution.max_tokens_per_run` is -50000; expected at least 1"],
    ),
    "a duration in words": (
        "max_wall_clock_seconds: 120",
        "max_wall_clock_seconds: 2 minutes",
        ["23:27: `execution.max_wall_clock_seconds` is '2 minutes'; expected a whole number"],
    ),
    "a currency sign": (
        "max_cost_usd: 2.00",
        "max_cost_usd: $2.00",
        ["24:17: `execution.max_cost_usd` is '$2.00'; expected a number"],
    ),
    "less than a millionth": (
        "max_cost_usd: 2.00",
        "max_cost_usd: 0.0000001",
        ["24:3: 1E-7 has more than six decimal places; expected micro-dollars"],
    ),
    "negative money": (
        "max_cost_usd: 2.00",
        "max_cost_usd: -1",
        ["24:17: `execution.max_cost_usd` is -1; expected at least 0"],
    ),
    "on_budget_exceeded mistyped": (
        "on_budget_exceeded:",
        "on_budget_exceded:",
        [
            "25:3: unknown key 'on_budget_exceded' in `execution`; expected a known key; did you mean 'on_budget_exceeded'?"
        ],
    ),
    "an action mistyped": (
        'action: "halt_and_escalate"',
        'action: "halt_and_escalat"',
        [
            "26:13: `execution.on_budget_exceeded.action` is 'halt_and_escalat'; expected one of halt, halt_and_escalate; did you mean 'halt_and_escalate'?"
        ],
    ),
    "an action that does not exist": (
        'action: "halt_and_escalate"',
        'action: "continue"',
        ["26:13: `execution.on_budget_exceeded.action` is 'continue'; expected one of halt, halt_and_escalate"],
    ),
    "somebody to notify of a plain halt": (
        'action: "halt_and_escalate"',
        'action: "halt"',
        ["27:5: `notify` goes with halt_and_escalate only; expected action: halt_and_escalate"],
    ),
    "a notify name that the settings lack": (
        'notify: "#oncall-agents"',
        'notify: "#oncall-agent"',
        [
            "27:5: the settings do not resolve '#oncall-agent'; expected a key of `notify:`; the settings resolve: #oncall-agents"
        ],
    ),
    "nobody to notify": (
        '    notify: "#oncall-agents"\n',
        "",
        ["25:3: halt_and_escalate says nobody to escalate to; expected `notify:` beside it"],
    ),
    "a notify name that is a comment": (
        'notify: "#oncall-agents"',
        "notify: #oncall-agents",
        [
            "27:12: `execution.on_budget_exceeded.notify` is empty; expected text (quote it if it looks like a number or a boolean)"
        ],
    ),
    "a tab": ("  max_steps: 25", "\tmax_steps: 25", ["21:1: not YAML: found character that cannot start any token"]),
    "a line one space short": (
        "      constraints:\n",
        "     constraints:\n",
        ["9:6: not YAML: did not find expected '-' indicator"],
    ),
    "a second document": (
        "max_cost_usd: 2.00\n",
        "max_cost_usd: 2.00\n---\nagent: {}\n",
        ["25:1: a second document starts here; expected one document a file"],
    ),
    "an anchor": (
        'name: "send_customer_email"',
        'name: &mail "send_customer_email"',
        ["12:13: anchors are not supported; expected a plain value"],
    ),
    "an alias": (
        'name: "send_customer_email"',
        "name: *mail",
        ["12:13: aliases are not supported; expected the value itself"],
    ),
    "a tag": ("max_steps: 25", "max_steps: !!int 25", ["21:14: tags are not supported; expected a plain value"]),
    "a ceiling twice": (
        "max_steps: 25\n",
        "max_steps: 25\n  max_steps: 30\n",
        ["22:3: the key 'max_steps' appears twice; expected each key once; it first appears at line 21"],
    ),
    "a quotation mark lost": (
        '["cancelled", "refunded"',
        '["cancelled, "refunded"',
        ["11:41: not YAML: did not find expected ',' or ']'"],
    ),
    "an effect beside a name": (
        'name: "send_customer_email"',
        'name: "send_customer_email"\n      effect: irreversible',
        ["13:7: `effect` goes with a glob only; expected no effect, or a name with * or ?"],
    ),
    "a version of the future": ("agent:\n", "version: 2\nagent:\n", ["1:10: `version` is 2; expected one of 1"]),
    "a condition on no argument": (
        'scope: ["customer_id", "order_history", "contact_info"]',
        'scope: ["customer_id", "order_history", "contact_info"]\n      when: "context.input has customer"',
        [
            "8:7: no action in scope has the attribute `context.input.customer`; expected an attribute that exists; did you mean 'context.input.customer_id'?"
        ],
    ),
    "a schema of no argument": (
        'scope: ["customer_id", "order_history", "contact_info"]',
        'scope: ["customer_id", "order_history", "contact_info"]\n      arguments: {properties: {custmer_id: {maxLength: 9}}}',
        [
            "8:32: crm/read_customer_record has no argument 'custmer_id'; expected an argument of the tool; did you mean 'customer_id'?"
        ],
    ),
    "a nested scope field mistyped": (
        'scope: ["customer_id", "order_history", "contact_info"]',
        'scope:\n      - "customer_id"\n      - "contact_info.emial"',
        [
            "9:9: the output of crm/read_customer_record has no field 'contact_info.emial'; expected a field; did you mean 'email'?"
        ],
    ),
    "a limit without a number": (
        "max_records_per_run: 10",
        "max_records_per_run:",
        ["10:29: `tools.allowed[1].constraints.max_records_per_run` is empty; expected a whole number"],
    ),
}


@pytest.mark.parametrize(("said", "instead", "findings"), MISTAKES.values(), ids=MISTAKES)
def test_a_planted_mistake_is_reported_in_its_place_and_the_file_does_not_load(
    said: str, instead: str, findings: list[str]
) -> None:
    mistaken = crm.AGENT_FILE.replace(said, instead, 1)
    assert mistaken != crm.AGENT_FILE
    assert bundles.refusals(crm.files(agent=mistaken)) == [f"{crm.AGENT_PATH}:{finding}" for finding in findings]


def test_the_file_without_a_mistake_loads() -> None:
    assert bundles.refusals(crm.files()) == []


def test_mistakes_of_shape_and_of_meaning_are_said_together() -> None:
    text = crm.AGENT_FILE.replace("max_steps", "max_stpes").replace("read_customer_record", "read_customer_recrod")
    text = text.replace("allowed_statuses", "allowed_statusses")
    assert [finding.split(": ")[0] for finding in bundles.refusals(crm.files(text))] == [
        "agents/support-agent.yaml:6:7",
        "agents/support-agent.yaml:11:9",
        "agents/support-agent.yaml:21:3",
    ]
