"""The Cedar schema of a bundle, generated from its pinned tools, and the attributes that rules may read."""

from __future__ import annotations

from typing import Final

from interlock.core.canonical import JsonObject
from interlock.core.policy import cedar
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.cedar_ast import INPUT_NULL, Path
from interlock.core.policy.cedar_types import to_schema_json, type_at
from interlock.core.policy.document import EFFECTS, TAGS
from interlock.core.schema import Schema, SchemaReader

_STRING: Final[JsonObject] = {"type": "String"}
_LONG: Final[JsonObject] = {"type": "Long"}
_BOOLEAN: Final[JsonObject] = {"type": "Boolean"}
_STRINGS: Final[JsonObject] = {"type": "Set", "element": _STRING}

_RUN: Final[JsonObject] = {
    "id": _STRING,
    "implicit": _BOOLEAN,
    "labels": _STRINGS,
    "steps": _LONG,
    "calls": _LONG,
    "records": _LONG,
    "task": {**_STRING, "required": False},
}
_TIME: Final[JsonObject] = {"now": {"type": "Extension", "name": "datetime"}, "hour": _LONG, "weekday": _LONG}
RUN_RECORDS: Final[Path] = ("run", "records")
COUNTERS: Final[frozenset[Path]] = frozenset({("run", "steps"), ("run", "calls"), RUN_RECORDS})
_FIXED: Final[frozenset[Path]] = frozenset(
    {INPUT_NULL, *(("run", name) for name in _RUN), *(("time", name) for name in _TIME)}
)


def readable_names() -> list[str]:
    """Attribute paths that every rule may read, for hints."""
    return sorted("context." + ".".join(path) for path in _FIXED)


def is_declared(tool: Tool, path: Path) -> bool:
    """Whether `context.<path>` exists for calls of this tool, as far as people's rules may read it."""
    if path in _FIXED:
        return True
    return len(path) > 1 and path[0] == "input" and type_at(tool.input, path[1:]) is not None


def is_unseen(tool: Tool, path: Path) -> bool:
    """Whether calls of this tool may carry the argument at `context.<path>` where rules cannot see it."""
    if len(path) < 2 or path[0] != "input":
        return False
    argument = path[1:]
    if argument[0] not in tool.pinned.arguments.declared:
        return tool.additional_arguments
    reader = tool.pinned.arguments.reader
    schema: Schema = reader.root
    for depth, name in enumerate(argument, 1):
        if name not in reader.property_names(schema):
            return False
        if type_at(tool.input, argument[:depth]) is None:
            return True
        schema = reader.property(schema, name)
    return False


def can_be_null(tool: Tool, dotted: str) -> bool:
    """Whether a call of this tool may have a null at a dotted path; names may hold dots themselves."""
    return tool.additional_arguments or _has_path(tool.pinned.arguments.reader, dotted)


def _has_path(reader: SchemaReader, dotted: str) -> bool:
    # Positions are few: each one uses up a part of the path.
    pending: list[tuple[Schema, str]] = [(reader.root, dotted)]
    while pending:
        schema, rest = pending.pop()
        names = reader.property_names(schema)
        if rest in names or (not names and schema is not reader.root):
            return True
        pending += [
            (reader.property(schema, name), rest.removeprefix(name + "."))
            for name in names
            if rest.startswith(name + ".")
        ]
    return False


def build_schema(tools: list[Tool], checks: dict[str, set[str]]) -> cedar.Schema:
    """Compile the schema.

    Args:
        tools: Every pinned tool.
        checks: For each qualified tool name, the keys of all checks that any agent's rules have for it.

    Raises:
        ValueError: a definition that Cedar cannot describe.
    """
    actions: JsonObject = {f"effect:{effect}": {} for effect in EFFECTS}
    actions.update({f"tag:{tag}": {} for tag in TAGS})
    actions.update({f"upstream:{tool.pinned.upstream}": {} for tool in tools})
    for tool in tools:
        actions[tool.qualified] = {
            "memberOf": [{"id": group} for group in sorted(tool.groups)],
            "appliesTo": {
                "principalTypes": ["Agent"],
                "resourceTypes": ["Upstream"],
                "context": _context(tool, checks.get(tool.qualified, set())),
            },
        }
    return cedar.parse_schema({"entityTypes": {"Agent": {}, "Upstream": {}}, "actions": actions})


def _context(tool: Tool, checks: set[str]) -> JsonObject:
    return {
        "type": "Record",
        "attributes": {
            "input": to_schema_json(tool.input, required=True),
            "input_null": _STRINGS,
            # Optional, because each agent has its own: the compiled rules deny where a fact is missing.
            "checks": {
                "type": "Record",
                "attributes": {key: {**_BOOLEAN, "required": False} for key in sorted(checks)},
            },
            "run": {"type": "Record", "attributes": _RUN},
            "approval": {"type": "Record", "attributes": {"granted": _BOOLEAN}},
            "time": {"type": "Record", "attributes": _TIME},
        },
    }
