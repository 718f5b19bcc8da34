"""Random bundles that load: upstreams, catalogues, agent files with every key, and guardrails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from oracle.generate_conditions import DECIMALS, INTEGERS, STRINGS, conditions, quoted
from oracle.generate_tools import EFFECTS, OUTPUT_FIELDS, PLURALS, TAGS, ToolDraft, tool_drafts
from oracle.json_value import Json, JsonObject, elements, members
from oracle.tool_schema import resolve, types
from oracle.world import Tool, World

AGENTS = ("alpha", "beta-2")
UPSTREAMS = ("crm", "files")
TOOLS = ("read_record", "update_record", "delete_record", "send.mail", "pay", "files/pay", "crm")
"""Two of them are named like an upstream, or like another upstream's tool."""
CHANNEL = "oncall"
"""The one name that the settings resolve for `notify`."""


@dataclass(frozen=True)
class Draft:
    """One generated bundle: policy files as text, and the tools as their upstreams list them."""

    tools: tuple[ToolDraft, ...]
    policies: dict[str, str]
    seed: int

    def world(self) -> World:
        """The same files as an independent reader sees them: parsed by PyYAML."""
        parsed = {
            path: cast(JsonObject, yaml.safe_load(text)) for path, text in self.policies.items() if "yaml" in path
        }
        return World(
            {tool.qualified: tool.definition for tool in self.tools},
            [file for path, file in parsed.items() if path.startswith("tools/")],
            {path: file for path, file in parsed.items() if path.startswith("agents/")},
            {path: text for path, text in self.policies.items() if path.endswith(".cedar")},
        )


@st.composite
def drafts(draw: DrawFn) -> Draft:
    """A whole bundle."""
    pairs = [(upstream, name) for upstream in UPSTREAMS for name in TOOLS]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=3, unique=True))
    tools = tuple(draw(tool_drafts(upstream, name)) for upstream, name in chosen)
    policies: dict[str, str] = {}
    for upstream in dict.fromkeys(tool.upstream for tool in tools):
        entries: dict[str, Json] = {
            tool.name: tool.entry for tool in tools if tool.upstream == upstream and tool.entry is not None
        }
        policies[f"tools/{upstream}.yaml"] = _yaml({"upstream": upstream, "tools": entries})
    for agent in AGENTS[: draw(st.integers(1, 2))]:
        policies[f"agents/{agent}.yaml"] = _yaml(draw(_agents(agent, tools)))
    count = draw(st.sampled_from((0, 0, 1, 1, 2, 3)))
    for number in range(count):
        file = f"guardrails/{draw(st.sampled_from(('org', 'team')))}.cedar"
        policies[file] = policies.get(file, "") + draw(_guardrails(f"rule-{number}", tools))
    return Draft(tools, policies, draw(st.integers(0, 2**32 - 1)))


def _yaml(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def effect_of(tool: ToolDraft) -> str:
    """The tool's effect, as the oracle reads catalogue and annotations."""
    return Tool(tool.qualified, tool.definition, tool.entry or {}).effect


@st.composite
def _agents(draw: DrawFn, agent: str, tools: tuple[ToolDraft, ...]) -> JsonObject:
    named = draw(st.lists(st.sampled_from(tools), min_size=1, max_size=3, unique_by=lambda tool: tool.qualified))
    again = draw(st.lists(st.sampled_from(named), max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    allowed: list[Json] = [draw(_entries(tool, tools)) for tool in [*named, *again]]
    if draw(st.integers(0, 3)) == 0:
        allowed.append(draw(_glob_entries(tools)))
    section: JsonObject = {"allowed": allowed}
    if draw(st.integers(0, 4)) == 0:
        tool = draw(st.sampled_from(tools))
        forms = [tool.qualified, tool.name[:3] + "*", "*" + tool.name[-4:], tool.name[:-1] + "?", f"{tool.upstream}/*"]
        forms += [tool.name] if _bare_name_is_enough(tool, tools) else []
        section["blocked"] = [draw(st.sampled_from(forms))]
    file: JsonObject = {"agent": {"id": agent, "identity": f"{agent}@example.com"}, "tools": section}
    stays_open = any(members(entry).get("auto_deny_on_timeout") is False for entry in allowed)
    if stays_open or draw(st.booleans()):
        file["execution"] = draw(_executions())
    if stays_open:
        escalation: JsonObject = {"action": "halt_and_escalate", "notify": CHANNEL}
        file["execution"] = {**members(file["execution"]), "on_budget_exceeded": escalation}
    return file


def _bare_name_is_enough(tool: ToolDraft, tools: tuple[ToolDraft, ...]) -> bool:
    return "/" not in tool.name and sum(other.name == tool.name for other in tools) == 1


@st.composite
def _executions(draw: DrawFn) -> JsonObject:
    pools: dict[str, tuple[Json, ...]] = {
        "max_steps": (1, 25, 2**31),
        "max_tokens_per_run": (1, 50_000),
        "max_wall_clock_seconds": (1, 120, 86_400),
        "max_cost_usd": (0, 1, 0.000001, 0.1, 2.0, 19.99, 1234.567891),
    }
    found: JsonObject = {}
    for name, pool in pools.items():
        if draw(st.booleans()):
            found[name] = draw(st.sampled_from(pool))
    action = draw(st.sampled_from((None, "halt", "halt_and_escalate")))
    if action:
        found["on_budget_exceeded"] = {"action": action, **({"notify": CHANNEL} if "escalate" in action else {})}
    return found


def _approval(draw: DrawFn, effect: str, entry: JsonObject) -> None:
    said = draw(st.sampled_from((None, None, True, False, False)))
    if said is not None:
        entry["requires_approval"] = said
        if not said and effect == "irreversible":
            entry["justification"] = "reviewed by two people"
    if draw(st.integers(0, 3)) == 0:
        entry["approval_timeout_seconds"] = draw(st.sampled_from((1, 60, 300, 3600)))
    if draw(st.integers(0, 3)) == 0:
        entry["auto_deny_on_timeout"] = draw(st.booleans())


@st.composite
def _entries(draw: DrawFn, tool: ToolDraft, tools: tuple[ToolDraft, ...]) -> JsonObject:
    bare = _bare_name_is_enough(tool, tools) and draw(st.booleans())
    entry: JsonObject = {"name": tool.name if bare else tool.qualified}
    _approval(draw, effect_of(tool), entry)
    if draw(st.integers(0, 2)) == 0:
        # Scopes of several entries must have something in common.
        entry["scope"] = ["name", *draw(st.lists(st.sampled_from(OUTPUT_FIELDS), max_size=3, unique=True))]
    constraints: JsonObject = {}
    for argument in tool.arguments:
        if draw(st.integers(0, 4)) < 2:
            key, limit = draw(_constraints(tool, argument))
            if key:
                constraints[key] = limit
    for counter in ("max_records_per_run", "max_calls_per_run"):
        if draw(st.integers(0, 3)) == 0 and (tool.entry is not None or counter == "max_calls_per_run"):
            constraints[counter] = draw(st.sampled_from((0, 1, 3, 10, 1000)))
    if constraints:
        entry["constraints"] = constraints
    if draw(st.integers(0, 3)) == 0:
        entry["arguments"] = draw(_argument_schemas(tool))
    if draw(st.integers(0, 2)) == 0:
        entry["when"] = draw(conditions(tool.schema, counted=tool.entry is not None))
    return entry


@st.composite
def _glob_entries(draw: DrawFn, tools: tuple[ToolDraft, ...]) -> JsonObject:
    tool = draw(st.sampled_from(tools))
    effect = effect_of(tool)
    forms = ["*", f"{tool.upstream}/*", f"?{tool.qualified[1:]}"]
    forms += [tool.name[:2] + "*", "?" + tool.name[1:]] if "/" not in tool.name else []
    pattern = draw(st.sampled_from(forms))
    entry: JsonObject = {"name": pattern, "effect": effect}
    _approval(draw, effect, entry)
    if draw(st.booleans()):
        entry["constraints"] = {"max_calls_per_run": draw(st.sampled_from((0, 2, 5)))}
    if draw(st.booleans()):
        entry["when"] = draw(conditions(None, counted=False))
    return entry


_SCALARS: dict[str, tuple[Json, ...]] = {
    "string": STRINGS,
    "integer": INTEGERS,
    "number": (*(float(text) for text in DECIMALS), 0.1, 1e300),
    "boolean": (True, False),
}
CONFUSABLE: tuple[Json, ...] = (1, True, "1", "true", 0, False, 1.5, "")
FORMATS = ("email", "ipv4", "uuid", "date")
GLOBS = ("open*", "*", "a?b", "*@example.com", "[a]*", "*x*y*", "1", "*.é", "a**b")
DIRECTORIES = ("/data", "/data/in", "/", "work/in", "/data/")
HOSTS = ("example.com", "*.example.com", "example.com:8443", "127.0.0.1", "[::1]")


@st.composite
def _constraints(draw: DrawFn, tool: ToolDraft, argument: str) -> tuple[str, Json]:
    kinds = tool.value_types(argument)
    name = PLURALS[argument] if argument in PLURALS and draw(st.booleans()) else argument
    forms: list[str] = ["allowed"] if kinds & _SCALARS.keys() else []
    forms += ["min", "max"] if kinds & {"integer", "number"} else []
    special = tool.kind(argument)
    if "string" in kinds:
        forms += {"path": ["under"], "url": ["host"]}.get(special or "", ["match"])
    if not forms:
        return "", None
    if kinds >= {"integer", "string"}:
        forms += ["allowed"] * 4  # where the types of values matter
    form = draw(st.sampled_from(forms))
    pools: dict[str, tuple[str, ...]] = {"match": GLOBS, "under": DIRECTORIES, "host": HOSTS}
    if form in pools:
        several = draw(st.lists(st.sampled_from(pools[form]), min_size=1, max_size=2, unique=True))
        limit: Json = [*several]
        return f"{form}_{name}", limit if len(several) > 1 or draw(st.booleans()) else several[0]
    if form == "allowed":
        return f"allowed_{name}", list(draw(_allowed(tool, argument, kinds)))
    numbers = _SCALARS["integer"] + (_SCALARS["number"] if "number" in kinds or draw(st.booleans()) else ())
    return f"{form}_{name}", draw(st.sampled_from(numbers))


def _kind(value: Json) -> str:
    """The narrowest type of a scalar."""
    kinds: dict[object, str] = {bool: "boolean", int: "integer", float: "number"}
    return kinds.get(type(value), "string")


@st.composite
def _allowed(draw: DrawFn, tool: ToolDraft, argument: str, kinds: frozenset[str]) -> list[Json]:
    listed = elements(members(resolve(tool.schema, members(tool.schema["properties"])[argument])).get("enum"))
    values = [value for kind in sorted(kinds & _SCALARS.keys()) for value in _SCALARS[kind]]
    pool = [value for value in listed if value is not None] or values
    if not listed and kinds >= {"integer", "string"} and draw(st.booleans()):
        pool = [value for value in CONFUSABLE if _kind(value) in kinds]
    # Drawn by place: 1, 1.0 and true are equal to Python, and all three belong in one list.
    places = draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=3, unique=True))
    return [pool[place] for place in places]


@st.composite
def _argument_schemas(draw: DrawFn, tool: ToolDraft) -> JsonObject:
    argument = draw(st.sampled_from(tool.arguments))
    own = types(tool.schema, members(tool.schema["properties"])[argument])
    kinds: list[Json] = list(draw(st.sampled_from((("null", "string"), ("number",), ("array", "boolean")))))
    parts: list[JsonObject] = [
        {"const": draw(st.sampled_from(("open", 1, True, None)))},
        {"enum": ["open", 5, 1.5, False]},
        {"type": kinds},
    ]
    if "null" in own:
        parts.append({"not": {"type": "null"}})
    if own & {"integer", "number"}:
        parts.append({"maximum": 100, "exclusiveMinimum": 0})
    if "string" in own:
        parts.extend(({"maxLength": 5}, {"pattern": "^[a-z]+$"}, {"format": draw(st.sampled_from(FORMATS))}))
    if "array" in own:
        parts.append({"minItems": 1, "maxItems": 2})
    # Only where integers stay integers: the validator rounds when it divides doubles beyond 2^53.
    if own <= {"integer", "null"}:
        parts.append({"multipleOf": 5})
    schema: JsonObject = {"properties": {argument: draw(st.sampled_from(parts))}}
    if draw(st.booleans()):
        schema["required"] = [draw(st.sampled_from(tool.arguments))]
    return schema


PRINCIPALS = ("principal", "principal", f'principal == Agent::"{AGENTS[0]}"', "principal is Agent")
RESOURCES = ("resource", "resource is Upstream")
CLAUSES: tuple[tuple[str, ...], ...] = (
    (),
    *(("when",),) * 4,
    *(("when", "unless"),) * 2,
    *(("when", "approval"),) * 2,
    ("approval", "when"),
    ("approval",),
    ("unless",),
)


@st.composite
def _guardrails(draw: DrawFn, name: str, tools: tuple[ToolDraft, ...]) -> str:
    tool = draw(st.sampled_from(tools))
    groups = [f"effect:{effect_of(tool)}", f"upstream:{tool.upstream}"]
    groups += [f"tag:{tag}" for tag in TAGS if tag in cast("list[str]", (tool.entry or {}).get("tags", []))]
    group = quoted(draw(st.sampled_from(groups)))
    any_group = quoted(draw(st.sampled_from(groups + [f"effect:{effect}" for effect in EFFECTS])))
    one = quoted(tool.qualified)
    scopes = [f"action == Action::{one}"]
    if all(other is tool or (other.entry or {}).get("additional_arguments") != "allow" for other in tools):
        # A tool that takes undeclared arguments may take one where the condition would not see it.
        scopes += ["action", f"action in Action::{group}", f"action in [Action::{any_group}, Action::{one}]"]
    action = draw(st.sampled_from(scopes))
    principal = draw(st.sampled_from(PRINCIPALS))
    resource = draw(st.sampled_from((*RESOURCES, f"resource == Upstream::{quoted(tool.upstream)}")))
    condition = conditions(tool.schema, counted=all(other.entry is not None for other in tools))
    clauses = draw(st.sampled_from(CLAUSES))
    written = [
        "unless { context.approval.granted }" if clause == "approval" else f"{clause} {{ {draw(condition)} }}"
        for clause in clauses
    ]
    heading = draw(st.sampled_from((f'@id("{name}")\n', f'// why: "it"; }}\n@id("{name}") @note("x")\n', "")))
    return f"{heading}forbid({principal}, {action}, {resource})\n{' '.join(written)};\n"
