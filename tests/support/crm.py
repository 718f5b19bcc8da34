"""The example bundle: the upstream `crm`, its tools, and the agent file that users start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from interlock.core.canonical import JsonObject
from interlock.core.decision import Decision
from interlock.core.lockfile import LOCK_NAME
from interlock.core.policy.bundle import Bundle
from interlock.core.tool import PinnedTool, pinned_tool
from support import bundles
from support.bundles import NUMBER, TEXT, TEXTS, definition, record

AGENT: Final = "support-agent-v2"
AGENT_PATH: Final = "agents/support-agent.yaml"
CATALOGUE_PATH: Final = "tools/crm.yaml"

AGENT_FILE: Final = """\
agent:
  id: "support-agent-v2"
  identity: "support-agent@myco.iam"
tools:
  allowed:
    - name: "read_customer_record"
      scope: ["customer_id", "order_history", "contact_info"]
    - name: "update_order_status"
      constraints:
        max_records_per_run: 10
        allowed_statuses: ["cancelled", "refunded", "processing"]
    - name: "send_customer_email"
      requires_approval: true
      approval_timeout_seconds: 300
      auto_deny_on_timeout: true
  blocked:
    - "delete_customer_record"
    - "access_payment_raw"
    - "bulk_send_email"
execution:
  max_steps: 25
  max_tokens_per_run: 50000
  max_wall_clock_seconds: 120
  max_cost_usd: 2.00
  on_budget_exceeded:
    action: "halt_and_escalate"
    notify: "#oncall-agents"
"""

CATALOGUE: Final = """\
upstream: crm
tools:
  read_customer_record: {effect: read, tags: [production-data], fields_argument: fields}
  update_order_status: {effect: reversible, records: {count: order_ids}}
  send_customer_email: {effect: irreversible, tags: [communication], records: {count: to}}
  attach_file: {effect: reversible, arguments: {path: {type: path}, source: {type: url}}}
"""

CUSTOMER: Final[JsonObject] = record(
    customer_id=TEXT,
    order_history={"type": "array", "items": record(id=TEXT, total=NUMBER)},
    contact_info=record(email=TEXT, phone=TEXT),
    ssn=TEXT,
)

DEFINITIONS: Final[tuple[JsonObject, ...]] = (
    definition(
        "read_customer_record",
        {"customer_id": TEXT, "fields": {"anyOf": [TEXTS, {"type": "null"}]}},
        required=["customer_id"],
        output=CUSTOMER,
    ),
    definition("update_order_status", {"order_ids": TEXTS, "status": TEXT}, required=["order_ids", "status"]),
    definition("send_customer_email", {"to": TEXTS, "subject": TEXT, "body": TEXT}, required=["to"]),
    definition("attach_file", {"path": TEXT, "source": TEXT}),
    definition("delete_customer_record", {"customer_id": TEXT}),
    definition("access_payment_raw", {"customer_id": TEXT}),
    definition("bulk_send_email", {"to": TEXTS}),
)


def tools(definitions: Sequence[JsonObject] = DEFINITIONS) -> list[PinnedTool]:
    return [pinned_tool("crm", found) for found in definitions]


def files(
    agent: str = AGENT_FILE,
    catalogue: str = CATALOGUE,
    guardrails: Mapping[str, str] | None = None,
    definitions: Sequence[JsonObject] = DEFINITIONS,
) -> dict[str, bytes]:
    """The files of the example bundle; `guardrails` are texts by path."""
    texts = {AGENT_PATH: agent, CATALOGUE_PATH: catalogue, **(guardrails or {})}
    return {LOCK_NAME: bundles.lock_of(tools(definitions)), **{path: text.encode() for path, text in texts.items()}}


def load(changed: Mapping[str, bytes] | None = None) -> Bundle:
    return bundles.load(files() if changed is None else changed)


def ask(bundle: Bundle, tool_name: str, arguments: JsonObject, *, approved: bool = False) -> Decision:
    """Decide one call of the example agent."""
    return bundles.ask(bundle, f"crm/{tool_name}", arguments, agent=AGENT, approved=approved)
