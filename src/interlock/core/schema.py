"""Reading a tool's JSON Schema (2020-12): which types may stand where, and which arguments exist.

Only *structure* is answered here (types, properties, items, through `$ref` and the in-place
applicators); whether an instance is valid is jsonschema-rs's business, in `schema_check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias
from urllib.parse import unquote

from interlock.core.canonical import Json, JsonObject

Schema: TypeAlias = "bool | JsonObject"

# JSON Schema's `number` is split, because whether a position admits fractions decides how it is written.
NULL, BOOLEAN, INTEGER, FRACTION = "null", "boolean", "integer", "fraction"
STRING, ARRAY, OBJECT = "string", "array", "object"
ANY_TYPE: Final = frozenset({NULL, BOOLEAN, INTEGER, FRACTION, STRING, ARRAY, OBJECT})

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DRAFT_2019: Final = "https://json-schema.org/draft/2019-09/schema"
DRAFT_7: Final = "http://json-schema.org/draft-07/schema"
MAX_REMEMBERED: Final = 100_000
"""Answers that one reader keeps."""

_INDEX = re.compile("0|[1-9][0-9]{0,8}")
_TYPES: Final[dict[str, frozenset[str]]] = {
    "null": frozenset({NULL}),
    "boolean": frozenset({BOOLEAN}),
    "integer": frozenset({INTEGER}),
    "number": frozenset({INTEGER, FRACTION}),
    "string": frozenset({STRING}),
    "array": frozenset({ARRAY}),
    "object": frozenset({OBJECT}),
}
_DISJOINING: Final = ("anyOf", "oneOf")


def type_of(value: Json) -> str:
    """The type of one JSON value, in the words of this module. `1.0` is an integer (2020-12 §6.1.1)."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER
    if isinstance(value, float):
        return INTEGER if value.is_integer() else FRACTION
    if isinstance(value, str):
        return STRING
    return ARRAY if isinstance(value, list) else OBJECT


class SchemaReader:
    """Answers questions about one root schema. Positions are schemas, possibly made up on the way.

    Each answer is kept, because a schema may name one part in exponentially many ways. Keys are ids of
    schema nodes; what is kept holds the node too, so that its id means nothing else. Not for several
    threads at a time.
    """

    def __init__(self, root: Schema) -> None:
        self.root: Schema = root
        self.steps = 0
        """Schema nodes looked at so far; what is answered from memory counts one."""
        dialect = root.get("$schema") if isinstance(root, dict) else None
        named = dialect.rstrip("#") if isinstance(dialect, str) else DIALECT
        self._ref_stands_alone = named == DRAFT_7
        self._has_prefix_items = named == DIALECT
        self._types: dict[int, tuple[JsonObject, frozenset[str]]] = {}
        self._in_place: dict[int, tuple[JsonObject, tuple[JsonObject, ...]]] = {}
        self._names: dict[int, tuple[JsonObject, frozenset[str]]] = {}
        self._below: dict[tuple[int, str | int | None], tuple[JsonObject, Schema]] = {}
        self._alone: dict[int, JsonObject] = {}
        self._made_up: set[int] = set()

    def resolve(self, reference: str) -> Schema | None:
        """The subschema that a JSON Pointer into the root names (RFC 6901 §6); None if it is none."""
        if reference != "#" and not reference.startswith("#/"):
            return None
        try:
            pointer = unquote(reference[1:], errors="strict")
        except UnicodeDecodeError:
            return None
        node: Json = self.root
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                if name not in node:
                    return None
                node = node[name]
            elif isinstance(node, list) and _INDEX.fullmatch(name) and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node if isinstance(node, dict | bool) else None

    def target(self, reference: str) -> Schema:
        """Resolve a local `$ref`. What cannot be resolved is `True`: it promises nothing."""
        found = self.resolve(reference)
        return True if found is None else found

    def types(self, schema: Schema) -> frozenset[str]:
        """Every type that some value valid against `schema` may have (never too few)."""
        self.steps += 1
        if isinstance(schema, bool):
            return ANY_TYPE if schema else frozenset()
        known = self._types.get(id(schema))
        if known is not None:
            return known[1]
        self._types[id(schema)] = schema, ANY_TYPE  # what it says of itself in place adds nothing
        node = self._node(schema)
        found = _declared_types(node)
        for part in self._conjuncts(node):
            found &= self.types(part)
        for keyword in _DISJOINING:
            if branches := _list_of_schemas(node.get(keyword)):
                found &= frozenset[str]().union(*(self.types(branch) for branch in branches))
        self._types[id(schema)] = schema, found
        return found

    def property_names(self, schema: Schema) -> frozenset[str]:
        """Names that `properties` declares, here or in any in-place applicator."""
        if isinstance(schema, bool):
            return frozenset()
        known = self._names.get(id(schema))
        if known is not None:
            return known[1]
        names: set[str] = set()
        for part in self.in_place(schema):
            properties = part.get("properties")
            if isinstance(properties, dict):
                names.update(properties)
        found = frozenset(names)
        self._names[id(schema)] = schema, found
        return found

    def property(self, schema: Schema, name: str) -> Schema:
        """The position of property `name`: a schema that any value found there satisfies."""
        self._forget_some()
        return self._child(schema, name if name in self.property_names(schema) else None)

    def item(self, schema: Schema, index: int) -> Schema:
        """The position of array element `index`."""
        self._forget_some()
        return self._child(schema, min(index, self._prefix_length(schema)))

    def positions(self, start: Iterable[Schema]) -> Iterator[Schema]:
        """The given positions and all below them, without those made of the same parts as one before."""
        pending = [iter(start)]
        seen: set[frozenset[int]] = set()
        while pending:
            schema = next(pending[-1], None)
            if schema is None:
                pending.pop()
                continue
            parts = self.originals(schema)
            if parts not in seen:
                seen.add(parts)
                pending.append(self._children(schema))
            yield schema

    def _children(self, schema: Schema) -> Iterator[Schema]:
        """Every position one level down: each property, any other one, each item, any later one."""
        for name in sorted(self.property_names(schema)):
            yield self._child(schema, name)
        yield self._child(schema, None)
        for index in range(self._prefix_length(schema) + 1):
            yield self._child(schema, index)

    def in_place(self, schema: Schema) -> tuple[JsonObject, ...]:
        """`schema` and every subschema that applies to the same value, each once."""
        if isinstance(schema, bool):
            return ()
        known = self._in_place.get(id(schema))
        if known is not None:
            return known[1]
        found: dict[int, JsonObject] = {}
        pending: list[Schema] = [schema]
        while pending:
            part = pending.pop()
            self.steps += 1
            if isinstance(part, bool) or id(part) in found:
                continue
            node = found[id(part)] = self._node(part)
            pending.extend(self._conjuncts(node))
            for keyword in _DISJOINING:
                pending.extend(_list_of_schemas(node.get(keyword)))
            for keyword in ("if", "then", "else"):
                branch = node.get(keyword)
                if isinstance(branch, dict | bool):
                    pending.append(branch)
        parts = tuple(found.values())
        self._in_place[id(schema)] = schema, parts
        return parts

    def originals(self, schema: Schema) -> frozenset[int]:
        """Ids of the root schema's own nodes that a position is made of."""
        return frozenset(id(part) for part in self.in_place(schema)) - self._made_up

    def _node(self, schema: JsonObject) -> JsonObject:
        """What counts of a schema object: in draft 7 a `$ref` hides everything beside it."""
        if not self._ref_stands_alone or len(schema) == 1 or "$ref" not in schema:
            return schema
        return self._alone.setdefault(id(schema), {"$ref": schema["$ref"]})

    def _conjuncts(self, node: JsonObject) -> list[Schema]:
        """Subschemas that every valid value satisfies: the target of `$ref`, and `allOf`."""
        found = _list_of_schemas(node.get("allOf"))
        reference = node.get("$ref")
        return [*found, self.target(reference)] if isinstance(reference, str) else found

    def _prefix_length(self, schema: Schema) -> int:
        if not self._has_prefix_items:
            return 0
        prefixes = (part.get("prefixItems") for part in self.in_place(schema))
        return max((len(prefix) for prefix in prefixes if isinstance(prefix, list)), default=0)

    def _child(self, schema: Schema, at: str | int | None) -> Schema:
        """Mirror the applicator structure of `schema` one level down.

        Branches that no container of the kind satisfies say nothing about its children.

        Args:
            schema: The position of the container.
            at: A property's name, None for a property that none declares, or an item's index.
        """
        self.steps += 1
        if isinstance(schema, bool):
            return schema
        key = id(schema), at
        known = self._below.get(key)
        if known is not None:
            return known[1]
        self._below[key] = schema, True  # what it says of itself in place adds nothing
        found = self._child_of(schema, at)
        self._below[key] = schema, found
        return found

    def _child_of(self, schema: JsonObject, at: str | int | None) -> Schema:
        if (ARRAY if isinstance(at, int) else OBJECT) not in self.types(schema):
            return False
        node = self._node(schema)
        own = self._item_of(node, at) if isinstance(at, int) else _property_of(node, at)
        conjuncts: list[Json] = [own, *(self._child(part, at) for part in self._conjuncts(node))]
        for keyword in _DISJOINING:
            if branches := _list_of_schemas(node.get(keyword)):
                children = [self._child(branch, at) for branch in branches]
                possible: list[Json] = [child for child in children if child is not False]
                if not possible:
                    return False
                conjuncts.append(self._made({"anyOf": possible}))
        telling = list({id(part): part for part in conjuncts if part is not True}.values())
        if not telling:
            return True
        only = telling[0]
        return only if len(telling) == 1 and isinstance(only, dict | bool) else self._made({"allOf": telling})

    def _forget_some(self) -> None:
        """Positions of a recursive schema have no end; only memory of them is lost, never an answer."""
        if len(self._below) > MAX_REMEMBERED:
            for memory in (self._below, self._types, self._in_place, self._names, self._alone, self._made_up):
                memory.clear()

    def _made(self, schema: JsonObject) -> JsonObject:
        self._made_up.add(id(schema))
        return schema

    def _item_of(self, part: JsonObject, index: int) -> Schema:
        first = part.get("prefixItems") if self._has_prefix_items else None
        if isinstance(first, list) and index < len(first):
            found = first[index]
            return found if isinstance(found, dict | bool) else True
        rest = part.get("items", True)
        return rest if isinstance(rest, dict | bool) else True


def _declared_types(schema: JsonObject) -> frozenset[str]:
    declared = schema.get("type")
    found = ANY_TYPE
    if isinstance(declared, str):
        found = _TYPES.get(declared, ANY_TYPE)
    elif isinstance(declared, list):
        found = frozenset[str]().union(*(_TYPES.get(str(name), ANY_TYPE) for name in declared))
    values = schema.get("enum")
    if isinstance(values, list):
        found &= frozenset(type_of(value) for value in values)
    if "const" in schema:
        found &= {type_of(schema["const"])}
    return found


def _property_of(part: JsonObject, name: str | None) -> Schema:
    properties = part.get("properties")
    if isinstance(properties, dict) and name in properties:
        found = properties[name]
        return found if isinstance(found, dict | bool) else True
    if "patternProperties" in part:
        return True
    rest = part.get("additionalProperties", True)
    return rest if isinstance(rest, dict | bool) else True


def _list_of_schemas(value: Json) -> list[Schema]:
    return [part for part in value if isinstance(part, dict | bool)] if isinstance(value, list) else []
