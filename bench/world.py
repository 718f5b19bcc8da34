"""Bundles and calls for measuring, of any size."""

from __future__ import annotations

from interlock.core.call import CanonicalCall, canonical_arguments, canonical_call
from interlock.core.canonical import JsonObject
from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
from interlock.core.policy.bundle import Bundle, load_bundle
from interlock.core.run import RunFacts
from interlock.core.tool import pinned_tool

AGENT = "agent-0"
RUN = RunFacts("run_bench", implicit=True, task=None, labels=(), steps=3, calls=1, records=2)
NOW_US = 1_790_000_000_000_000
ARGUMENTS: JsonObject = {"order_ids": ["o-1", "o-2"], "status": "cancelled", "amount": 12.5, "note": "as agreed"}

_TOOLS_EACH = 5
_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "order_ids": {"type": "array", "items": {"type": "string"}},
        "status": {"type": "string"},
        "amount": {"type": "number"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["order_ids", "status"],
}


def bundle_of(policies: int) -> Bundle:
    """A bundle that compiles to about this many Cedar policies; every agent has five tools with five each."""
    agents = max(1, round((policies - 1) / (_TOOLS_EACH * 5)))
    tools = [pinned_tool("crm", {"name": f"tool_{i}", "inputSchema": _SCHEMA}) for i in range(_TOOLS_EACH)]
    files = {
        LOCK_NAME: write_lock({"crm": PinnedUpstream("crm", "2026-07-28", "crm", tuple(tools))}),
        "tools/crm.yaml": (
            "upstream: crm\ntools:\n"
            + "".join(
                f"  tool_{i}: {{effect: reversible, tags: [money], records: {{count: order_ids}}}}\n"
                for i in range(_TOOLS_EACH)
            )
        ).encode(),
        "guardrails/organisation.cedar": (
            b'@id("large-sums-need-a-person")\n'
            b'forbid (principal, action in Action::"tag:money", resource)\n'
            b'when { context.input has amount && context.input.amount.greaterThan(decimal("1000.0")) }\n'
            b"unless { context.approval.granted };\n"
        ),
    }
    for number in range(agents):
        entries = "".join(
            f"    - name: tool_{i}\n"
            "      constraints: {max_records_per_run: 100, allowed_statuses: [cancelled, refunded], max_amount: 5000}\n"
            "      when: 'context.run.implicit || context.time.hour < 24'\n"
            "      arguments: {properties: {note: {type: [string, 'null'], maxLength: 200}}}\n"
            for i in range(_TOOLS_EACH)
        )
        text = f"agent: {{id: agent-{number}, identity: agent-{number}@example}}\ntools:\n  allowed:\n{entries}"
        files[f"agents/agent-{number}.yaml"] = text.encode()
    return load_bundle(files, frozenset())


def policy_count(bundle: Bundle) -> int:
    own = sum(len(rules.own_policies) for agent in bundle.agents.values() for rules in agent.slices.values())
    return own + len(bundle.guardrails)


def call_of(bundle: Bundle, **changes: float) -> CanonicalCall:
    tool = bundle.catalogue.tools["crm/tool_0"].pinned
    arguments = canonical_arguments(tool, {**ARGUMENTS, **changes}, additional=False)
    return canonical_call(AGENT, RUN.id, tool, arguments, {})
