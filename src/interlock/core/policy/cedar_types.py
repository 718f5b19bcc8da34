"""A tool's arguments in Cedar: types from the pinned JSON Schema, values from a call.

What Cedar cannot type exactly (unions, free objects, recursion) is not declared, so that a rule which
names it is a load error. A value that its type cannot hold is left out of `context.input`, and is a
denial where the rules of the call read that attribute (docs/explanation/cedar.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from interlock.core.canonical import INT64_MAX, INT64_MIN, RESERVED_KEYS, Json, JsonObject
from interlock.core.schema import ARRAY, BOOLEAN, FRACTION, INTEGER, NULL, OBJECT, STRING, Schema, SchemaReader

Path: TypeAlias = tuple[str, ...]

_SCALARS: Final[dict[frozenset[str], str]] = {
    frozenset({STRING}): "String",
    frozenset({BOOLEAN}): "Boolean",
    frozenset({INTEGER}): "Long",
    frozenset({INTEGER, FRACTION}): "decimal",
    frozenset({FRACTION}): "decimal",
}
_DECIMAL_MAX: Final = Decimal(INT64_MAX).scaleb(-4)
_DECIMAL_MIN: Final = Decimal(INT64_MIN).scaleb(-4)
_MAX_NESTING: Final = 8
_MAX_ATTRIBUTES: Final = 5_000


@dataclass(frozen=True, slots=True)
class ScalarType:
    name: str
    """`String`, `Boolean`, `Long` or `decimal`."""


@dataclass(frozen=True, slots=True)
class SetType:
    element: CedarType


@dataclass(frozen=True, slots=True)
class RecordType:
    """A record whose attributes are all optional, as every argument is to a rule."""

    attributes: dict[str, CedarType]


CedarType: TypeAlias = ScalarType | SetType | RecordType


class _TooMany(Exception):
    pass


def argument_types(reader: SchemaReader) -> RecordType:
    """The type of `context.input` for a tool with this input schema.

    Records that refer to one another unfold without end: they are typed as deep as the bound on attributes allows.
    """
    for nesting in range(_MAX_NESTING, 0, -1):
        try:
            return _Unfolding(reader, nesting, _MAX_ATTRIBUTES).record(reader.root, frozenset(), 0) or RecordType({})
        except _TooMany:
            continue
    return _Unfolding(reader, 0, None).record(reader.root, frozenset(), 0) or RecordType({})


class _Unfolding:
    """Types of positions, down to a depth and up to a number of attributes."""

    def __init__(self, reader: SchemaReader, nesting: int, limit: int | None) -> None:
        self._reader, self._nesting, self._left = reader, nesting, limit

    def _type(self, schema: Schema, refs: frozenset[str], depth: int) -> CedarType | None:
        found = self._reader.types(schema) - {NULL}
        if found in _SCALARS:
            return ScalarType(_SCALARS[found])
        parts = self._reader.in_place(schema)
        here = frozenset(str(part["$ref"]) for part in parts if "$ref" in part)
        if depth >= self._nesting or not refs.isdisjoint(here):
            return None
        if found == frozenset({OBJECT}):
            return self.record(schema, refs | here, depth + 1)
        if found == frozenset({ARRAY}) and not any("prefixItems" in part for part in parts):
            element = self._type(self._reader.item(schema, 0), refs | here, depth + 1)
            return SetType(element) if element else None
        return None

    def record(self, schema: Schema, refs: frozenset[str], depth: int) -> RecordType | None:
        attributes: dict[str, CedarType] = {}
        for name in sorted(self._reader.property_names(schema)):
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise _TooMany
            if name in RESERVED_KEYS or name.startswith("__cedar"):
                continue
            found = self._type(self._reader.property(schema, name), refs, depth)
            if found is not None:
                attributes[name] = found
        return RecordType(attributes) if attributes else None


def type_at(record: RecordType, path: Path) -> CedarType | None:
    """The declared type at an attribute path, or None."""
    current: CedarType | None = record
    for name in path:
        if not isinstance(current, RecordType):
            return None
        current = current.attributes.get(name)
    return current


def to_schema_json(declared: CedarType, *, required: bool = False) -> JsonObject:
    """A type in Cedar's JSON schema format, as an attribute."""
    return {**_schema_json(declared), "required": required}


def _schema_json(declared: CedarType) -> JsonObject:
    if isinstance(declared, SetType):
        return {"type": "Set", "element": _schema_json(declared.element)}
    if isinstance(declared, RecordType):
        return {"type": "Record", "attributes": {n: to_schema_json(t) for n, t in declared.attributes.items()}}
    if declared.name == "decimal":
        return {"type": "Extension", "name": "decimal"}
    return {"type": declared.name}


@dataclass(frozen=True, slots=True)
class Input:
    """`context.input` for one call.

    Attributes:
        value: In Cedar's JSON entity format; only attributes that the rules read.
        unrepresentable: Paths that the rules read and whose value Cedar cannot hold exactly.
    """

    value: JsonObject
    unrepresentable: tuple[str, ...]


class _Unrepresentable(Exception):
    pass


def reading_tree(record: RecordType, reads: Iterable[Path], tests: Iterable[Path] = ()) -> RecordType:
    """The part of an input type that rules look at.

    Args:
        record: The type of the whole input.
        reads: Paths whose value is read, each whole from its end downward.
        tests: Paths that are only asked for; of a record, its presence is enough.
    """
    reading, testing = _by_head(reads), _by_head(tests)
    attributes: dict[str, CedarType] = {}
    for name in reading.keys() | testing.keys():
        declared = record.attributes.get(name)
        if isinstance(declared, RecordType) and all(reading.get(name, ())):
            attributes[name] = reading_tree(declared, reading.get(name, ()), testing.get(name, ()))
        elif declared is not None:
            attributes[name] = declared
    return RecordType(attributes)


def _by_head(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        if path:
            found.setdefault(path[0], []).append(path[1:])
    return found


def input_facts(read: RecordType, arguments: JsonObject) -> Input:
    """Convert what the rules read of the arguments; nulls and absent members are left out."""
    problems: list[str] = []
    return Input(_record_value(read, arguments, "", problems), tuple(sorted(problems)))


def _record_value(declared: RecordType, value: JsonObject, at: str, problems: list[str]) -> JsonObject:
    found: JsonObject = {}
    for name, member_type in declared.attributes.items():
        member = value.get(name)
        if member is None:
            continue
        path = f"{at}.{name}" if at else name
        if isinstance(member_type, RecordType) and isinstance(member, dict):
            found[name] = _record_value(member_type, member, path, problems)
            continue
        try:
            found[name] = _value(member_type, member)
        except _Unrepresentable:
            problems.append(path)
    return found


def _value(declared: CedarType, value: Json) -> Json:
    """One value, exact or not at all. Nulls inside arrays have no place in a Cedar set."""
    if isinstance(declared, SetType):
        if not isinstance(value, list):
            raise _Unrepresentable
        return [_value(declared.element, item) for item in value]
    if isinstance(declared, RecordType):
        if not isinstance(value, dict):
            raise _Unrepresentable
        present = {name: member for name, member in value.items() if member is not None}
        return {n: _value(t, present[n]) for n, t in declared.attributes.items() if n in present}
    if declared.name == "String" and isinstance(value, str):
        return value
    if declared.name == "Boolean" and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise _Unrepresentable
    if declared.name == "Long" and isinstance(value, int) and INT64_MIN <= value <= INT64_MAX:
        return value
    if declared.name == "decimal" and isinstance(value, int | float):
        return _decimal(value)
    raise _Unrepresentable


def _decimal(value: int | float) -> str:
    """A number as Cedar's decimal: exact to four places, or not at all."""
    # repr() gives the digits that the JSON text meant, which is what people compare with.
    number = Decimal(repr(value))
    scaled = number.scaleb(4)
    if scaled != scaled.to_integral_value() or not _DECIMAL_MIN <= number <= _DECIMAL_MAX:
        raise _Unrepresentable
    return f"{number:.4f}"


def null_paths(arguments: JsonObject, at: str = "", depth: int = 0) -> list[str]:
    """Dotted paths of members that are null, for `context.input_null`."""
    found: list[str] = []
    for name, member in arguments.items():
        path = f"{at}.{name}" if at else name
        if member is None:
            found.append(path)
        elif isinstance(member, dict) and depth < _MAX_NESTING:
            found.extend(null_paths(member, path, depth + 1))
    return sorted(found)
