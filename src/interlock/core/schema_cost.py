"""What a schema that an adversary wrote costs: written out, read, and for each value that it validates.

Costs are numbers of evaluations and never clocks, so that the same schema and the same call always get
the same answer (invariant I6). One evaluation is one schema node meeting one node of a value, about 60 ns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from interlock.core.canonical import Json, JsonObject
from interlock.core.schema import Schema, SchemaReader
from interlock.core.schema_keywords import LISTS, MAPS, SINGLE

MAX_EXPANSION: Final = 20_000
"""Schema nodes after every reference is written out, for a schema without recursion."""
MAX_READING: Final = 100_000
"""Steps of reading every position that a schema describes."""
MAX_WORK: Final = 5_000_000
"""Expanded schema nodes times instance nodes: at most about 0.3 s of one core, usually far less."""
MAX_RECURSIVE_VISITS: Final = 50_000
"""Pairs of (schema node, instance node) for a recursive schema, counted before validation."""
MAX_CHAIN: Final = 128
"""Steps from the root to any subschema, references included."""
MAX_EXPLAINED: Final = 20_000
"""Pairs of (schema node, instance node) where every alternative that failed is described."""
_MAX_COPIED: Final = 1_000_000
"""Those pairs times instance nodes: each description carries a copy of its part of the instance."""

_IN_PLACE: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}
)
_OF_ITEMS: Final = frozenset({"additionalItems", "items", "prefixItems", "contains", "unevaluatedItems"})
_OF_MEMBERS: Final = frozenset({"additionalProperties", "patternProperties", "propertyNames", "unevaluatedProperties"})
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf"})
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
# To find what is left over, the in-place applicators are evaluated again, at every level of nesting.
_REPEATED: Final = 3
# Exact arithmetic on doubles of any magnitude.
_MULTIPLE_OF: Final = 100
_LISTED_PER_EVALUATION: Final = 8
_CHARACTERS_PER_EVALUATION: Final = 64
_NAMES_PER_EVALUATION: Final = 16


class SchemaTooCostly(ValueError):
    """A schema over one of the caps; the message says which and is safe to show."""


class SchemaCost:
    """The cost of one schema, measured once; what a value costs to validate is told by it."""

    def __init__(self, reader: SchemaReader) -> None:
        """Measure a schema.

        Raises:
            SchemaTooCostly: it expands too far, is chained too deep, takes too long to read, or refers to
                itself without consuming any of the value.
        """
        self._reader = reader
        # Keys are ids of schema nodes, all of which the reader keeps alive.
        self._weights: dict[int, int] = {}
        self._applied: dict[int, list[tuple[str, Schema]]] = {}
        self._sizes: dict[int, tuple[int, int, int]] = {}
        self._open: set[int] = set()
        self._heights: dict[int, int] = {}
        self._alternatives = False
        self.recursive = False
        self.unresolved = False
        self.expansion, self._patterns, _ = self._measure(reader.root)
        if not self.recursive and self.expansion > MAX_EXPANSION:
            raise SchemaTooCostly(f"the schema expands to more than {MAX_EXPANSION} nodes")
        _read_whole(reader)

    def affordable(self, instance: Json) -> bool:
        """Whether a value can be validated, and its numbers be typed, within the budget."""
        if self.recursive:
            return self._visits_within(MAX_RECURSIVE_VISITS, instance)
        nodes, characters = _extent(instance)
        return self.expansion * nodes + self._patterns * (characters // _CHARACTERS_PER_EVALUATION) <= MAX_WORK

    def explainable(self, instance: Json) -> bool:
        """Whether the first error can be looked for in full, with what failed in each alternative."""
        if not self._alternatives:
            return True
        nodes, _ = _extent(instance)
        return self._visits_within(min(MAX_EXPLAINED, _MAX_COPIED // nodes), instance)

    def _measure(self, schema: Schema) -> tuple[int, int, int]:
        """Evaluations and patterns of a schema with its references written out, and its longest chain."""
        if isinstance(schema, bool):
            return 1, 0, 1
        key = id(schema)
        if key in self._open:
            self.recursive = True
            return 1, 0, 1
        found = self._sizes.get(key)
        if found is None:
            self._in_place_height(schema, set())
            if len(self._open) >= MAX_CHAIN:
                raise SchemaTooCostly(_CHAINED)
            self._open.add(key)
            self._alternatives = self._alternatives or not _ALTERNATIVES.isdisjoint(schema)
            repeated = 1 if _UNEVALUATED.isdisjoint(schema) else _REPEATED
            size, patterns, height = self._weight(schema), _patterns(schema), 0
            for keyword, part in self._parts(schema):
                times = repeated if keyword in _IN_PLACE else 1
                below = self._measure(part)
                size, patterns = size + times * below[0], patterns + times * below[1]
                height = max(height, below[2])
            self._open.discard(key)
            found = self._sizes[key] = size, patterns, height + 1
        if len(self._open) + found[2] > MAX_CHAIN:
            raise SchemaTooCostly(_CHAINED)
        return found

    def _in_place_height(self, schema: Schema, open_keys: set[int]) -> int:
        """The longest chain of subschemas for one and the same value; it may not lead back to itself."""
        if isinstance(schema, bool):
            return 1
        key = id(schema)
        if key in open_keys:
            raise SchemaTooCostly("the schema refers to itself without consuming any of the value")
        if key not in self._heights:
            if len(open_keys) >= MAX_CHAIN:
                raise SchemaTooCostly(_CHAINED)
            open_keys.add(key)
            parts = [part for keyword, part in self._parts(schema) if keyword == "$ref" or keyword in _IN_PLACE]
            self._heights[key] = 1 + max((self._in_place_height(part, open_keys) for part in parts), default=0)
            open_keys.discard(key)
        return self._heights[key]

    def _parts(self, schema: JsonObject) -> list[tuple[str, Schema]]:
        """Every (keyword, subschema) of one schema object, with what `$ref` refers to."""
        found = _subschemas(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = self._reader.resolve(reference)
            self.unresolved = self.unresolved or target is None
            found.append(("$ref", True if target is None else target))
        return found

    def _weight(self, schema: JsonObject) -> int:
        """Evaluations that the keywords of one schema node take for one node of a value."""
        key = id(schema)
        found = self._weights.get(key)
        if found is None:
            listed, required = schema.get("enum"), schema.get("required")
            dependent = schema.get("dependentRequired")
            found = 1 + _extent([listed, schema.get("const"), dependent])[0] // _LISTED_PER_EVALUATION
            found += len(required) if isinstance(required, list) else 0
            found += _MULTIPLE_OF if "multipleOf" in schema else 0
            self._weights[key] = found
        return found

    def _visits_within(self, limit: int, instance: Json) -> bool:
        """Whether the schema's nodes meet the instance's nodes at most `limit` times, by weight."""
        pending: list[tuple[Schema, Json]] = [(self._reader.root, instance)]
        while pending:
            schema, value = pending.pop()
            if isinstance(schema, bool):
                limit -= 1
                continue
            limit -= self._weight(schema) + _names_work(schema, value)
            for met in self._below(schema, value):
                pending.append(met)
                if len(pending) > limit:
                    return False
        return limit >= 0

    def _below(self, schema: JsonObject, value: Json) -> Iterator[tuple[Schema, Json]]:
        key = id(schema)
        parts = self._applied.get(key)
        if parts is None:
            parts = [part for part in self._parts(schema) if part[0] != "properties"]
            self._applied[key] = parts
        repeated = 1 if _UNEVALUATED.isdisjoint(schema) else _REPEATED
        members: JsonObject = value if isinstance(value, dict) else {}
        items: list[Json] = value if isinstance(value, list) else []
        for keyword, part in parts:
            if keyword == "$ref":
                yield part, value
            elif keyword in _IN_PLACE:
                yield from [(part, value)] * repeated
            elif keyword in _OF_ITEMS:
                yield from ((part, item) for item in items)
            elif keyword in _OF_MEMBERS:
                yield from ((part, member) for member in members.values())
        properties = schema.get("properties")
        if members and isinstance(properties, dict):
            for name in min(members, properties, key=len):
                part = properties.get(name)
                if name in members and isinstance(part, dict | bool):
                    yield part, members[name]


_CHAINED: Final = f"references and subschemas are chained deeper than {MAX_CHAIN}"


def _read_whole(reader: SchemaReader) -> None:
    """Read every position once, so that reading them later is looking them up."""
    for _ in reader.positions([reader.root]):
        if reader.steps > MAX_READING:
            raise SchemaTooCostly(f"reading the schema takes more than {MAX_READING} steps")


def _subschemas(node: JsonObject) -> list[tuple[str, Schema]]:
    """Every (keyword, subschema) of one schema object, but for `$ref`."""
    found: list[tuple[str, Schema]] = []
    for keyword, value in node.items():
        if keyword in SINGLE and isinstance(value, dict | bool):
            found.append((keyword, value))
        elif keyword in LISTS and isinstance(value, list):
            found.extend((keyword, part) for part in value if isinstance(part, dict | bool))
        elif keyword in MAPS and isinstance(value, dict):
            found.extend((keyword, part) for part in value.values() if isinstance(part, dict | bool))
    return found


def _patterns(schema: JsonObject) -> int:
    """Regular expressions of one schema node, each of which may read a whole text."""
    by_name = schema.get("patternProperties")
    return ("pattern" in schema) + (len(by_name) if isinstance(by_name, dict) else 0)


def _names_work(schema: JsonObject, value: Json) -> int:
    """Evaluations for finding declared members, and for matching patterns."""
    patterns, properties = _patterns(schema), schema.get("properties")
    work = 0
    if patterns and isinstance(value, str | dict):
        characters = len(value) if isinstance(value, str) else sum(map(len, value))
        work = patterns * (characters // _CHARACTERS_PER_EVALUATION)
    if isinstance(value, dict) and isinstance(properties, dict):
        work += min(len(value), len(properties)) // _NAMES_PER_EVALUATION
    return work


def _extent(value: Json) -> tuple[int, int]:
    """Nodes of a value, and characters of all its texts and keys."""
    nodes = characters = 0
    pending: list[Json] = [value]
    while pending:
        node = pending.pop()
        nodes += 1
        if isinstance(node, str):
            characters += len(node)
        elif isinstance(node, dict):
            characters += sum(map(len, node))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return nodes, characters
