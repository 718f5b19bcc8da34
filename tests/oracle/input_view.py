"""What of a call's arguments a Cedar condition can see, and what it cannot be told exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeAlias

from oracle.evaluation import Decimal4, Record, Value, record
from oracle.json_value import Json, JsonObject, elements, members
from oracle.tool_schema import in_place, items, properties, recursive, types

Kind: TypeAlias = Literal["String", "Bool", "Long", "decimal", "Set", "Record"]
Path: TypeAlias = tuple[str, ...]

_KINDS: dict[frozenset[str], Kind] = {
    frozenset({"string"}): "String",
    frozenset({"boolean"}): "Bool",
    frozenset({"integer"}): "Long",
    frozenset({"integer", "number"}): "decimal",
    frozenset({"number"}): "decimal",
    frozenset({"array"}): "Set",
    frozenset({"object"}): "Record",
}


@dataclass
class View:
    """The visible arguments of one call.

    Attributes:
        input: `context.input`.
        nulls: Dotted paths of members that are null, whatever their type: `context.input_null`.
        inexact: Paths whose value Cedar cannot hold exactly; they are left out of `input`.
    """

    input: Record = field(default_factory=lambda: record({}))
    nulls: set[str] = field(default_factory=set[str])
    inexact: set[Path] = field(default_factory=set[Path])


def kind_of(root: JsonObject, schema: Json) -> Kind | None:
    """The one Cedar type of a position; None for unions, free objects, recursion and whatever else has none."""
    kind = None if recursive(root, schema) else _KINDS.get(types(root, schema) - {"null"})
    if kind == "Set" and any("prefixItems" in part for part in in_place(root, schema)):
        return None
    if kind == "Set" and kind_of(root, items(root, schema)) is None:
        return None
    if kind == "Record" and not properties(root, schema):
        return None
    return kind


@dataclass(frozen=True)
class Shape:
    """A position that a condition can see, with what is below it."""

    kind: Kind
    members: dict[str, Shape] = field(default_factory=dict[str, "Shape"])
    element: Shape | None = None


def shape_of(root: JsonObject) -> Shape:
    """What a condition can see of a tool's arguments, of its input schema."""
    return _record_shape(root, root)


def _record_shape(root: JsonObject, schema: Json) -> Shape:
    parts = {name: _shape(root, part) for name, part in properties(root, schema).items()}
    return Shape("Record", {name: part for name, part in parts.items() if part is not None})


def _shape(root: JsonObject, schema: Json) -> Shape | None:
    kind = kind_of(root, schema)
    if kind == "Record":
        return _record_shape(root, schema)
    return Shape(kind, element=_shape(root, items(root, schema)) if kind == "Set" else None) if kind else None


def view(shape: Shape, arguments: JsonObject) -> View:
    """See a call's canonical arguments as a condition does."""
    seen = View()
    seen.input = _record(shape, arguments, (), seen)
    seen.nulls = set(_nulls(arguments, ""))
    return seen


def _nulls(value: JsonObject, before: str) -> Iterator[str]:
    for name, member in value.items():
        if member is None:
            yield before + name
        yield from _nulls(members(member), f"{before}{name}.")


def _record(own: Shape, value: JsonObject, path: Path, seen: View) -> Record:
    visible: dict[str, Value] = {}
    for name, part in own.members.items():
        if value.get(name) is None:
            continue
        found = _value(part, value[name], (*path, name), seen)
        if found is None:
            seen.inexact.add((*path, name))
        else:
            visible[name] = found
    return record(visible)


def _value(own: Shape, value: Json, path: Path, seen: View) -> Value | None:
    if own.kind == "Record":
        return _record(own, members(value), path, seen)
    if own.kind == "Set" and own.element is not None:
        parts = [_value(own.element, item, path, seen) for item in elements(value)]
        known = [part for part in parts if part is not None]
        return frozenset(known) if len(known) == len(parts) else None
    if own.kind == "decimal" and isinstance(value, int | float):
        return _decimal(value)
    return value if isinstance(value, bool | int | str) else None


def _decimal(value: int | float) -> Decimal4 | None:
    # The number that its shortest writing names: 0.1 is a tenth, as the sender wrote it.
    number = Fraction(Decimal(repr(value)))
    scaled = number * 10_000
    if scaled.denominator != 1 or not -(2**63) <= scaled < 2**63:
        return None
    return Decimal4(number)
