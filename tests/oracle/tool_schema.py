"""What a pinned tool's input schema says of one position, and the values that may stand there.

Reads the subset of JSON Schema that upstreams write for arguments: `type`, `enum`, `const`,
`properties`, `additionalProperties`, `items`, `prefixItems`, `anyOf`, `oneOf`, `allOf` and local `$ref`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from json import dumps
from typing import cast

import jsonschema_rs

from oracle.json_value import Json, JsonObject, Malformed, elements, int64, is_number, members, walk

_ALL = frozenset({"null", "boolean", "string", "array", "object", "integer", "number"})


def resolve(root: JsonObject, schema: Json) -> Json:
    """Follow `$ref` from the root of the schema; what stands beside it is not looked at."""
    while "$ref" in members(schema):
        target: Json = root
        for step in str(members(schema)["$ref"]).removeprefix("#").strip("/").split("/"):
            target = members(target).get(step, True) if step else target
        schema = target
    return schema


def _alternatives(said: JsonObject) -> list[list[Json]]:
    """Lists of schemas of the same value; of each list one at least applies."""
    return [elements(said[word]) for word in ("anyOf", "oneOf") if word in said]


def _conjuncts(root: JsonObject, said: JsonObject) -> list[Json]:
    """Schemas of the same value that all apply."""
    target = [resolve(root, {"$ref": said["$ref"]})] if "$ref" in said else []
    return [*target, *elements(said.get("allOf"))]


def types(root: JsonObject, schema: Json) -> frozenset[str]:
    """The types that the schema lets stand here; `number` includes fractions, `integer` does not."""
    if schema is False:
        return frozenset()
    said = members(schema)
    found = _ALL
    if "type" in said:
        named = [str(name) for name in elements(said["type"])] or [str(said["type"])]
        found = frozenset(named) | ({"integer"} if "number" in named else frozenset[str]())
    for values in ([said["const"]] if "const" in said else None, said.get("enum")):
        if values is not None:
            found &= frozenset[str]().union(*(_types_of(value) for value in elements(values)))
    for branches in _alternatives(said):
        found &= frozenset[str]().union(*(types(root, part) for part in branches))
    for part in _conjuncts(root, said):
        found &= types(root, part)
    return found


def _types_of(value: Json) -> frozenset[str]:
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if is_number(value):
        whole = float(cast(float, value)).is_integer()
        return frozenset({"integer"} if whole else {"number"})
    return frozenset({"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"})


def in_place(root: JsonObject, schema: Json) -> list[JsonObject]:
    """The schema and every part of it that speaks of the same value."""
    said = members(schema)
    parts = [*_conjuncts(root, said), *(part for branches in _alternatives(said) for part in branches)]
    return [said, *(inner for part in parts for inner in in_place(root, part))]


def _below(root: JsonObject, schema: Json, kind: str, own: Callable[[JsonObject], Json]) -> Json:
    """The schema of a part of the value: what each schema says itself (`own`), combined as the whole is."""
    if not isinstance(schema, dict):
        return schema
    if kind not in types(root, schema):
        return False
    parts = [own(schema), *(_below(root, part, kind, own) for part in _conjuncts(root, schema))]
    for branches in _alternatives(schema):
        parts.append({"anyOf": [_below(root, part, kind, own) for part in branches]})
    telling = [part for part in parts if part is not True]
    return telling[0] if len(telling) == 1 else {"allOf": telling} if telling else True


def member(root: JsonObject, schema: Json, name: str) -> Json:
    """The schema of one member of an object position, declared or not; True where nothing is said."""

    def own(said: JsonObject) -> Json:
        return members(said.get("properties")).get(name, said.get("additionalProperties", True))

    return _below(root, schema, "object", own)


def properties(root: JsonObject, schema: Json) -> dict[str, Json]:
    """The declared properties of an object position."""
    if "object" not in types(root, schema):
        return {}
    names = dict.fromkeys(name for part in in_place(root, schema) for name in members(part.get("properties")))
    return {name: member(root, schema, name) for name in names}


def items(root: JsonObject, schema: Json, index: int = 0) -> Json:
    """The schema of an element of an array position; True where nothing is said."""

    def own(said: JsonObject) -> Json:
        first = elements(said.get("prefixItems"))
        return first[index] if index < len(first) else said.get("items", True)

    return _below(root, schema, "array", own)


def recursive(root: JsonObject, schema: Json, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a schema comes back to itself through its references."""
    if isinstance(schema, list):
        return any(recursive(root, part, seen) for part in schema)
    for word, part in members(schema).items():
        if word != "$ref":
            if recursive(root, part, seen):
                return True
        elif str(part) in seen or recursive(root, resolve(root, {"$ref": part}), seen | {str(part)}):
            return True
    return False


def is_plain(value: Json) -> bool:
    """Whether every number in a value has one writing only, whatever its schema."""
    return not any(isinstance(node, float) or (isinstance(node, int) and abs(node) > 2**53) for _, node in walk(value))


def canonical(root: JsonObject, schema: Json, value: Json) -> Json:
    """Write what the schema types as integer as an integer; refuse any other that RFC 8785 cannot write exactly."""
    if isinstance(value, dict):
        return {name: canonical(root, member(root, schema, name), part) for name, part in value.items()}
    if isinstance(value, list):
        return [canonical(root, items(root, schema, index), item) for index, item in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    kinds = types(root, schema)
    if "integer" in kinds and "number" not in kinds:
        return int64(int(value)) if float(value).is_integer() and int(value) == value else value
    if 2**53 < abs(value) < 1e21:
        # RFC 8785 writes a double's shortest digits and pads them with zeros: another number to who reads integers.
        if int(Decimal(repr(float(value)))) != value:
            raise Malformed("its canonical writing is another number")
        int64(int(value))
    return value


@lru_cache(maxsize=4096)
def _validator(text: str, *, formats: bool) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(text, validate_formats=formats)


def valid(schema: Json, value: Json, *, formats: bool) -> bool:
    """Whether JSON Schema 2020-12 accepts the value.

    Args:
        formats: Whether `format` is checked, as people's own schemas ask; in those of upstreams it is an annotation.
    """
    return _validator(dumps(schema), formats=formats).is_valid(value)
