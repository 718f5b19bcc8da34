"""Random upstreams: tools with every kind of argument, and catalogues that describe them.

An argument's name fixes its Cedar type in every tool, as a guardrail over several tools needs; what
varies is how the schema says it (nullable, referenced, in branches, bounded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from oracle.json_value import Json, JsonObject, members
from oracle.tool_schema import items, properties, types

_TEXT: JsonObject = {"type": "string"}
_NULL: JsonObject = {"type": "null"}
_WHOLE: JsonObject = {"type": "integer"}


def _nullable(kind: str) -> list[Json]:
    return [{"type": [kind, "null"]}, {"anyOf": [{"type": kind}, _NULL], "default": None}]


def _arrays(item: Json) -> list[Json]:
    return [
        {"type": "array", "items": item},
        {"anyOf": [{"type": "array", "items": item}, _NULL]},
        {"type": "array", "items": {"anyOf": [item, _NULL]}},
    ]


_CITY: dict[str, Json] = {"city": _TEXT, "zip": {"type": ["integer", "null"]}}
_GEO: Json = {"type": "object", "properties": {"lat": {"type": "number"}, "open": {"type": "boolean"}}}

SHAPES: dict[str, list[Json]] = {
    "status": [
        {"type": "string", "enum": ["open", "closed", "paid"]},
        {"enum": ["open", "closed", "paid"]},
        {"$ref": "#/$defs/status"},
    ],
    "title": [_TEXT, {"type": "string", "maxLength": 2000}, *_nullable("string"), {"oneOf": [_TEXT, _NULL]}],
    "amount": [
        {"type": "number"},
        {"type": ["integer", "number"]},
        {"type": "number", "minimum": -1000},
        {"anyOf": [_WHOLE, {"type": "number"}]},
        *_nullable("number"),
    ],
    "quantity": [
        _WHOLE,
        {"type": "integer", "minimum": -5, "maximum": 10**6},
        {"allOf": [{"type": "number"}, _WHOLE]},
        {"$ref": "#/$defs/whole"},
        *_nullable("integer"),
    ],
    "e-mail": [_TEXT, *_nullable("string")],
    "grade": [{"type": "integer", "enum": [1, 2, 3, 5]}],
    "confirm": [{"type": "boolean"}, *_nullable("boolean")],
    "tags": _arrays(_TEXT),
    "ids": _arrays(_WHOLE),
    "weights": _arrays({"type": "number"}),
    "flags": _arrays({"type": "boolean"}),
    "address": [
        {"type": "object", "properties": {**_CITY, "geo": _GEO}, "additionalProperties": False},
        {"type": "object", "properties": {**_CITY, "geo": _GEO}, "required": ["city"]},
        {"anyOf": [{"type": "object", "properties": {**_CITY, "geo": _GEO}}, _NULL]},
    ],
    "batch": [{"type": "object", "properties": {"rows": {"type": "array", "items": _TEXT}}}],
    "path": [_TEXT, *_nullable("string")],
    "files": [*_arrays(_TEXT)],
    "url": [_TEXT, {"type": "string", "format": "uri"}],
    "links": [*_arrays(_TEXT)],
    "fields": [*_arrays(_TEXT)],
    "columns": [_TEXT, *_nullable("string")],
    "anything": [{}, True, {"description": "as you like"}],
    "value": [
        {"type": ["string", "integer"]},
        {"type": ["string", "number", "boolean", "null"]},
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
        {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": ["number", "string"]}}]},
        {"enum": ["a", 1, True, None, 2.5]},
    ],
    "options": [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "number"}},
        {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    ],
    "tree": [{"$ref": "#/$defs/tree"}],
    "pair": [{"type": "array", "prefixItems": [_WHOLE, _TEXT], "items": {"type": "number"}}],
    "counts": [
        {"type": "object", "additionalProperties": _WHOLE},
        {"anyOf": [{"type": "object", "additionalProperties": _WHOLE}, _NULL]},
    ],
}
"""What the schema of an argument may look like, by name."""

NAMES = (*SHAPES, *("anything", "value", "amount", "quantity", "path", "url") * 2)
"""Names to draw from; those whose values are compared in the most ways come up more often."""

DEFINITIONS: dict[str, Json] = {
    "status": {"type": "string", "enum": ["open", "closed", "paid"]},
    "whole": {"type": "integer"},
    "tree": {
        "type": "object",
        "properties": {"label": _TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    },
}

PLURALS = {"status": "statuses", "title": "titles", "amount": "amounts", "quantity": "quantities", "value": "values"}
"""Arguments that a constraint may also name in the plural."""

OUTPUT: JsonObject = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "contact": {"type": "object", "properties": {"email": _TEXT, "phone": _TEXT}},
        "orders": {"type": "array", "items": {"type": "object", "properties": {"id": _TEXT, "total": _WHOLE}}},
    },
}
OUTPUT_FIELDS = ("contact", "contact.email", "orders", "orders.id")
TAGS = ("communication", "money", "deletion")
EFFECTS = ("read", "reversible", "irreversible")


@dataclass(frozen=True)
class ToolDraft:
    """One tool as generated: its definition and its catalogue entry, if it has one."""

    upstream: str
    definition: JsonObject
    entry: JsonObject | None

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def qualified(self) -> str:
        return f"{self.upstream}/{self.name}"

    @property
    def schema(self) -> JsonObject:
        return members(self.definition["inputSchema"])

    @property
    def arguments(self) -> list[str]:
        return sorted(properties(self.schema, self.schema))

    def value_types(self, argument: str) -> frozenset[str]:
        """The types of the argument, and of its items where it may be a list."""
        schema = properties(self.schema, self.schema)[argument]
        own = types(self.schema, schema)
        return own | types(self.schema, items(self.schema, schema)) if "array" in own else own

    def kind(self, argument: str) -> str | None:
        """What the catalogue says the argument is."""
        said = members((self.entry or {}).get("arguments")).get(argument)
        return str(members(said)["type"]) if said else None


@st.composite
def tool_drafts(draw: DrawFn, upstream: str, name: str) -> ToolDraft:
    """One tool with two to five arguments."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    schema: JsonObject = {
        "type": "object",
        "properties": {argument: draw(st.sampled_from(SHAPES[argument])) for argument in names},
        "$defs": DEFINITIONS,
    }
    if draw(st.booleans()):
        schema["required"] = [names[0]]
    if draw(st.integers(0, 3)) == 0:
        schema["additionalProperties"] = False
    definition: JsonObject = {"name": name, "description": "generated", "inputSchema": schema, "outputSchema": OUTPUT}
    hints = draw(st.lists(st.sampled_from(("readOnlyHint", "destructiveHint", "idempotentHint")), unique=True))
    if draw(st.integers(0, 2)) == 0:
        definition["annotations"] = {hint: draw(st.booleans()) for hint in hints}
    draft = ToolDraft(upstream, definition, None)
    if draw(st.integers(0, 9)) == 0:
        return draft
    return ToolDraft(upstream, definition, draw(_entries(draft, names)))


@st.composite
def _entries(draw: DrawFn, tool: ToolDraft, names: Sequence[str]) -> JsonObject:
    entry: JsonObject = {"effect": draw(st.sampled_from(EFFECTS))}
    if tags := draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=2)):
        entry["tags"] = list(tags)
    counts = [name for name in names if types(tool.schema, members(tool.schema["properties"])[name]) >= {"array"}]
    counts = [name for name in counts if name not in ("anything", "value")]
    counts += ["batch.rows"] if "batch" in names else []
    entry["records"] = {"count": draw(st.sampled_from(counts))} if counts and draw(st.booleans()) else {"per_call": 1}
    fields = [name for name in names if name in ("fields", "columns")]
    if fields and draw(st.integers(0, 3)):
        entry["fields_argument"] = fields[0]
    kinds: dict[str, Json] = {
        name: {"type": "url" if name in ("url", "links") else "path"}
        for name in names
        if name in ("path", "files", "url", "links") and draw(st.integers(0, 3))
    }
    if kinds:
        entry["arguments"] = kinds
    if draw(st.integers(0, 4)) == 0:
        entry["additional_arguments"] = "allow"
    if draw(st.booleans()):
        entry["idempotent"] = draw(st.booleans())
    return entry
