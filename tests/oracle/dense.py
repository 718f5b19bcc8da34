"""One bundle by hand with a tool for every kind of rule, each within reach of a permit."""

from __future__ import annotations

import yaml

from oracle.generate import Draft
from oracle.generate_tools import OUTPUT, ToolDraft
from oracle.json_value import Json, JsonObject

DENSE_CALLS = 600
"""Calls for each of its tools that reach everything in it."""
_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_WHOLES: Json = {"type": "array", "items": {"type": "integer"}}
_TOOLS: dict[str, tuple[JsonObject, dict[str, Json]]] = {
    "bounds": ({"effect": "read"}, {"amount": {"type": ["number", "null"]}, "weights": {}}),
    "values": ({"effect": "read"}, {"anything": {}}),
    "flags": ({"effect": "read"}, {"flags": {"type": "array", "items": {"type": "boolean"}}}),
    "globs": ({"effect": "read"}, {"title": {"type": ["string", "null"]}}),
    "paths": ({"effect": "read", "arguments": {"path": {"type": "path"}}}, {"path": _TEXT}),
    "urls": ({"effect": "read", "arguments": {"url": {"type": "url"}}}, {"url": _TEXT}),
    "lists": ({"effect": "reversible", "records": {"count": "ids"}}, {"ids": {"type": "array", "items": _TEXT}}),
    "sums": ({"effect": "read"}, {"quantity": {"type": "integer"}, "ratio": {"type": "number"}}),
    "sends": ({"effect": "irreversible", "tags": ["communication"]}, {"title": _TEXT}),
    "wiped": ({"effect": "read"}, {"title": _TEXT}),
    "gone": ({"effect": "read"}, {"title": _TEXT}),
    "nulls": ({"effect": "read"}, {"title": {"type": ["string", "null"]}}),
    "frozen": ({"effect": "read", "tags": ["deletion"]}, {"title": _TEXT}),
    "shaped": ({"effect": "read"}, {"title": _TEXT, "level": {"type": "integer"}}),
    "columns": ({"effect": "read", "fields_argument": "fields"}, {"fields": {"type": "array", "items": _TEXT}}),
    "risky": ({"effect": "read"}, {"title": _TEXT}),
    "crm": ({"effect": "read"}, {"title": _TEXT}),
    "series": (
        {"effect": "read", "arguments": {"files": {"type": "path"}, "links": {"type": "url"}}},
        {"files": _TEXTS, "links": _TEXTS, "names": _TEXTS, "sizes": _WHOLES, "weights": _WHOLES, "states": _TEXTS},
    ),
    "dated": ({"effect": "read"}, {"title": _TEXT}),
}
_ANNOTATIONS: dict[str, JsonObject] = {"risky": {"destructiveHint": True}}
_AGENT = """
agent: {id: alpha, identity: alpha@example.com}
tools:
  allowed:
    - {name: bounds, constraints: {max_amount: 100, min_weights: 1}}
    - {name: values, constraints: {allowed_anything: [1, "x"]}}
    - {name: flags, constraints: {allowed_flags: [true]}}
    - {name: globs, constraints: {match_title: "Open *"}}
    - {name: paths, constraints: {under_path: /data/in}}
    - {name: urls, constraints: {host_url: example.com}}
    - {name: lists, constraints: {max_records_per_run: 10, max_calls_per_run: 3}}
    - {name: sums, when: "if context.input has quantity then context.input.quantity + 1 > 5 else true"}
    - {name: sends}
    - {name: wiped}
    - {name: gone}
    - {name: nulls, when: '!context.input_null.contains("title")'}
    - {name: frozen}
    - {name: shaped, arguments: {properties: {title: {maxLength: 3}}, required: [title]}}
    - {name: columns, scope: [name, contact]}
    - {name: columns, scope: [name, contact.email], requires_approval: true, approval_timeout_seconds: 60}
    - {name: columns, scope: [name, contact], approval_timeout_seconds: 600, auto_deny_on_timeout: false}
    - name: series
      constraints:
        {under_files: /data, host_links: [example.com], match_names: "a*", min_sizes: 1, max_weights: 9, allowed_states: [x]}
    - {name: risky}
    - {name: dated}
    - {name: "c*", effect: read, constraints: {max_calls_per_run: 5}}
    - {name: crm, constraints: {max_calls_per_run: 2}}
  blocked: ["wip*", "crm?gone"]
execution:
  max_steps: 25
  max_wall_clock_seconds: 120
  max_cost_usd: 2.00
  on_budget_exceeded: {action: halt_and_escalate, notify: oncall}
"""
_GUARDRAILS = """
@id("rule-0")
forbid(principal, action == Action::"crm/sums", resource)
when { context.input has ratio && context.input.ratio.lessThan(decimal("0.5")) };
forbid(principal, action in Action::"tag:deletion", resource);
forbid(principal, action == Action::"crm/dated", resource) when { context.time.hour >= 20 };
"""


def dense_draft() -> Draft:
    tools: list[ToolDraft] = []
    for name, (entry, arguments) in _TOOLS.items():
        schema: JsonObject = {"type": "object", "properties": arguments}
        counted: JsonObject = {"records": {"per_call": 1}, **entry}
        definition: JsonObject = {"name": name, "inputSchema": schema, "outputSchema": OUTPUT}
        definition |= {"annotations": _ANNOTATIONS[name]} if name in _ANNOTATIONS else {}
        tools.append(ToolDraft("crm", definition, counted))
    catalogue = yaml.safe_dump({"upstream": "crm", "tools": {tool.name: tool.entry for tool in tools}})
    policies = {"agents/alpha.yaml": _AGENT, "tools/crm.yaml": catalogue, "guardrails/org.cedar": _GUARDRAILS}
    return Draft(tuple(tools), policies, 0)
