"""The oracle against the sentences of the policy's meaning, one row each; the Cedar route must agree.

Pins down what the oracle itself understands, so that both routes cannot drift the same way unnoticed.
"""

from __future__ import annotations

import pytest
import yaml

from oracle.generate import Draft
from oracle.generate_moments import PLAIN
from oracle.generate_tools import ToolDraft
from oracle.json_value import JsonObject
from oracle.oracle import Answer, Oracle
from oracle.route import decide, load
from oracle.world import Moment

_TEXT: JsonObject = {"type": "string"}
_TEXTS: JsonObject = {"type": "array", "items": _TEXT}


def _tool(name: str, entry: JsonObject | None, **arguments: JsonObject) -> ToolDraft:
    schema: JsonObject = {"type": "object", "properties": {**arguments}}
    return ToolDraft("crm", {"name": name, "description": name, "inputSchema": schema}, entry)


TOOLS = (
    _tool(
        "read_customer_record",
        {"effect": "read", "tags": ["production-data"], "fields_argument": "fields", "records": {"per_call": 1}},
        customer_id=_TEXT,
        fields={"anyOf": [_TEXTS, {"type": "null"}]},
    ),
    _tool(
        "update_order_status",
        {"effect": "reversible", "records": {"count": "order_ids"}},
        order_ids=_TEXTS,
        status=_TEXT,
    ),
    _tool(
        "send_customer_email",
        {"effect": "irreversible", "tags": ["communication"], "records": {"count": "to"}},
        to=_TEXTS,
        amount={"type": "number"},
    ),
    _tool("delete_customer_record", None, customer_id=_TEXT),
    _tool("wipe", None),
    _tool(
        "pay",
        {
            "effect": "reversible",
            "tags": ["money"],
            "additional_arguments": "allow",
            "arguments": {"file": {"type": "path"}},
        },
        amount={"type": ["number", "null"]},
        count={"type": "integer"},
        anything={},
        file=_TEXT,
    ),
)
AGENT = """
agent: {id: support-agent-v2, identity: support-agent@myco.iam}
tools:
  allowed:
    - name: read_customer_record
      scope: [customer_id, order_history, contact_info.email]
    - name: update_order_status
      constraints: {max_records_per_run: 10, allowed_statuses: [cancelled, refunded, processing]}
    - name: send_customer_email
    - name: wipe
    - name: crm/pay
      constraints: {max_amount: 100.5, max_calls_per_run: 7}
    - name: pay
      constraints: {max_amount: 200, max_calls_per_run: 3, allowed_anything: [1, "x", true], under_file: /data}
      arguments: {properties: {count: {minimum: 2}}}
      when: if context.input has count then context.input.count + 1 < 9223372036854775807 else true
  blocked: [delete_customer_record, "w?p*"]
"""
GUARDRAILS = """
@id("big-mails")
forbid(principal, action in Action::"tag:communication", resource)
when { context.input has amount && context.input.amount.greaterThan(decimal("100.0")) };
@id("after-hours")
forbid(principal, action == Action::"crm/read_customer_record", resource)
when { context.time.hour >= 20 } unless { context.approval.granted };
"""

READ, UPDATE, SEND, PAY = "read_customer_record", "update_order_status", "send_customer_email", "pay"
_PAY = '"amount": 5, "anything": "x", "file": "/data/a"'
LATE = Moment(PLAIN.run, PLAIN.now_us + 7 * 3_600_000_000)
APPROVED = Moment(PLAIN.run, PLAIN.now_us, approved=True)
UNKNOWN = Moment(PLAIN.run, PLAIN.now_us, repeats_unknown=True)

ROWS: tuple[tuple[str, str, str, Moment, str], ...] = (
    ("an allowed read is permitted", READ, '{"customer_id": "c"}', PLAIN, "permit"),
    (
        "fields within the scope may be asked for",
        READ,
        '{"fields": ["order_history", "order_history.id"]}',
        PLAIN,
        "permit",
    ),
    ("fields beyond the scope may not", READ, '{"fields": ["ssn"]}', PLAIN, "constraint"),
    ("a parent of a granted field is beyond it", READ, '{"fields": ["contact_info"]}', PLAIN, "constraint"),
    ("no fields at all may mean all", READ, '{"fields": []}', PLAIN, "constraint"),
    ("null fields are projected anyway", READ, '{"fields": null}', PLAIN, "permit"),
    ("an undeclared argument is malformed", READ, '{"customer": "c"}', PLAIN, "malformed"),
    ("a wrong type is malformed", READ, '{"customer_id": 1}', PLAIN, "malformed"),
    ("a duplicate key is malformed", READ, '{"customer_id": "c", "customer_id": "d"}', PLAIN, "malformed"),
    ("a lone surrogate is malformed", READ, '{"customer_id": "\\udc00"}', PLAIN, "malformed"),
    ("a gate holds in its hours", READ, '{"customer_id": "c"}', LATE, "hold"),
    (
        "a list counts its items",
        UPDATE,
        '{"order_ids": ["a", "b"], "status": "refunded"}',
        PLAIN,
        "permit records:2/10",
    ),
    ("no list counts one", UPDATE, '{"status": "refunded"}', PLAIN, "permit records:1/10"),
    ("an empty list counts one", UPDATE, '{"order_ids": [], "status": "refunded"}', PLAIN, "permit records:1/10"),
    ("a value outside the list is denied", UPDATE, '{"status": "shipped"}', PLAIN, "constraint"),
    ("a constrained argument left out fails", UPDATE, '{"order_ids": ["a"]}', PLAIN, "constraint"),
    ("equality is exact", UPDATE, '{"status": "Refunded"}', PLAIN, "constraint"),
    ("an irreversible tool is held by default", SEND, '{"to": ["a"]}', PLAIN, "hold"),
    ("a verdict lifts the hold", SEND, '{"to": ["a"]}', APPROVED, "permit"),
    ("no verdict lifts a guardrail", SEND, '{"to": ["a"], "amount": 100.0001}', APPROVED, "guardrail"),
    ("a guardrail denies rather than holds", SEND, '{"to": ["a"], "amount": 101}', PLAIN, "guardrail"),
    ("a bound itself is within", SEND, '{"to": ["a"], "amount": 1E2}', PLAIN, "hold"),
    (
        "what Cedar cannot hold is denied where it is read",
        SEND,
        '{"to": ["a"], "amount": 1.00001}',
        APPROVED,
        "inexact",
    ),
    ("blocked beats everything", "delete_customer_record", '{"customer_id": "c"}', APPROVED, "blocked"),
    ("a blocked glob beats an allowed name", "wipe", "{}", PLAIN, "blocked"),
    ("of two entries the strictest bound counts", PAY, f"{{{_PAY}}}", PLAIN, "permit calls:1/3"),
    ("within both bounds", PAY, '{"amount": 100.5, "anything": "x", "file": "/data"}', PLAIN, "permit calls:1/3"),
    (
        "the next double beyond one bound",
        PAY,
        '{"amount": 100.50000000000001, "anything": "x", "file": "/data"}',
        PLAIN,
        "constraint",
    ),
    ("just beyond one bound", PAY, '{"amount": 100.5001, "anything": "x", "file": "/data"}', PLAIN, "constraint"),
    ("null fails a bound", PAY, '{"amount": null, "anything": "x", "file": "/data"}', PLAIN, "constraint"),
    ("1.0 is 1", PAY, '{"amount": 1, "anything": 1.0, "file": "/data"}', PLAIN, "permit calls:1/3"),
    ("true is in the list", PAY, '{"amount": 1, "anything": true, "file": "/data"}', PLAIN, "permit calls:1/3"),
    ("false is not", PAY, '{"amount": 1, "anything": false, "file": "/data"}', PLAIN, "constraint"),
    ("text is not a number", PAY, '{"amount": 1, "anything": "1", "file": "/data"}', PLAIN, "constraint"),
    ("every item is checked", PAY, '{"amount": 1, "anything": ["x", "y"], "file": "/data"}', PLAIN, "constraint"),
    ("all items may be good", PAY, '{"amount": 1, "anything": ["x", 1], "file": "/data"}', PLAIN, "permit calls:1/3"),
    (
        "a directory is left by two dots",
        PAY,
        '{"amount": 1, "anything": 1, "file": "/data/../etc"}',
        PLAIN,
        "constraint",
    ),
    ("a directory is not a prefix", PAY, '{"amount": 1, "anything": 1, "file": "/database"}', PLAIN, "constraint"),
    (
        "a control character is no part of a path",
        PAY,
        '{"amount": 1, "anything": 1, "file": "/data/a\u0085"}',
        PLAIN,
        "constraint",
    ),
    ("the schema on top counts too", PAY, f'{{{_PAY}, "count": 1}}', PLAIN, "constraint"),
    ("a condition that holds", PAY, f'{{{_PAY}, "count": 9223372036854775805}}', PLAIN, "permit calls:1/3"),
    ("a condition that does not hold", PAY, f'{{{_PAY}, "count": 9223372036854775806}}', PLAIN, "when"),
    ("an overflow is a denial", PAY, f'{{{_PAY}, "count": 9223372036854775807}}', APPROVED, "error"),
    ("beyond 64 bit is malformed", PAY, f'{{{_PAY}, "count": 9223372036854775808}}', PLAIN, "malformed"),
    ("an integer that no double holds is malformed", PAY, f'{{{_PAY}, "extra": 9007199254740993}}', PLAIN, "malformed"),
    (
        "an integer that RFC 8785 would write as another is malformed",
        PAY,
        f'{{{_PAY}, "extra": -9223372036854775808}}',
        PLAIN,
        "malformed",
    ),
    ("what the catalogue allows on top may pass", PAY, f'{{{_PAY}, "extra": [1.5]}}', PLAIN, "permit calls:1/3"),
    ("an unknown outcome is held", PAY, f"{{{_PAY}}}", UNKNOWN, "hold"),
)


def _draft() -> Draft:
    entries = {tool.name: tool.entry for tool in TOOLS if tool.entry is not None}
    catalogue = yaml.safe_dump({"upstream": "crm", "tools": entries})
    policies = {"agents/support.yaml": AGENT, "tools/crm.yaml": catalogue, "guardrails/org.cedar": GUARDRAILS}
    return Draft(TOOLS, policies, 0)


def _summary(answer: Answer) -> str:
    if answer.verdict == "permit":
        taken = sorted(f" {counter.partition(':')[0]}:{amount}/{limit}" for counter, amount, limit in answer.guards)
        return "permit" + "".join(taken)
    if answer.verdict == "deny":
        kinds = {reason.kind for reason in answer.reasons} - {"approval"}
        return "blocked" if "blocked" in kinds else "/".join(sorted(kinds))
    return answer.verdict


@pytest.mark.parametrize(("sentence", "tool", "sent", "moment", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_the_oracle_and_the_cedar_route_understand_that(
    sentence: str, tool: str, sent: str, moment: Moment, expected: str
) -> None:
    draft = _draft()
    answer = Oracle(draft.world()).decide("support-agent-v2", f"crm/{tool}", sent.encode(), moment)
    assert _summary(answer) == expected
    got = decide(load(draft), "support-agent-v2", f"crm/{tool}", sent.encode(), moment)
    assert (got.verdict if got else "malformed") == answer.verdict


def test_only_tools_that_a_call_could_be_permitted_for_are_listed() -> None:
    assert Oracle(_draft().world()).listed("support-agent-v2", "crm") == {
        f"crm/{name}" for name in (READ, UPDATE, SEND, PAY)
    }
