"""Arguments in Cedar: typed exactly or not at all, valued exactly or not at all."""

from __future__ import annotations

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.policy.cedar_types import (
    RecordType,
    ScalarType,
    argument_types,
    input_facts,
    null_paths,
    reading_tree,
    to_schema_json,
    type_at,
)
from interlock.core.schema import SchemaReader
from support.bundles import FLAG, INTEGER, NUMBER, TEXT, TEXTS, record


def _types(properties: JsonObject, **more: Json) -> RecordType:
    return argument_types(SchemaReader({"type": "object", "properties": properties, **more}))


def _json(schema: JsonObject, **more: Json) -> JsonObject | None:
    """The Cedar type of an argument `x`, in Cedar's JSON; None if it is left out."""
    found = type_at(_types({"x": schema}, **more), ("x",))
    return None if found is None else to_schema_json(found, required=False)


def _optional(found: JsonObject) -> JsonObject:
    return {**found, "required": False}


_STRING: JsonObject = {"type": "String"}
_LONG: JsonObject = {"type": "Long"}
_DECIMAL: JsonObject = {"type": "Extension", "name": "decimal"}
_TYPED: list[tuple[JsonObject, JsonObject]] = [
    (TEXT, _STRING),
    ({"enum": ["a", "b"]}, _STRING),
    ({"type": ["string", "null"]}, _STRING),
    ({"anyOf": [TEXT, {"type": "null"}]}, _STRING),
    (FLAG, {"type": "Boolean"}),
    (INTEGER, _LONG),
    ({"type": "number", "enum": [1, 2]}, _LONG),
    (NUMBER, _DECIMAL),
    ({"enum": [0.5]}, _DECIMAL),
    (TEXTS, {"type": "Set", "element": _STRING}),
    ({"type": "array", "items": {"type": ["integer", "null"]}}, {"type": "Set", "element": _LONG}),
    (record(a=TEXT), {"type": "Record", "attributes": {"a": _optional(_STRING)}}),
    ({"$ref": "#/$defs/d"}, _STRING),
]


@pytest.mark.parametrize(("schema", "expected"), _TYPED)
def test_what_cedar_can_type_is_typed(schema: JsonObject, expected: JsonObject) -> None:
    definitions: JsonObject = {"d": TEXT}
    assert _json(schema, **{"$defs": definitions}) == _optional(expected)


_UNTYPED: dict[str, JsonObject] = {
    "anything": {},
    "a union": {"type": ["string", "integer"]},
    "a union by anyOf": {"anyOf": [TEXT, TEXTS]},
    "null alone": {"type": "null"},
    "a free object": {"type": "object"},
    "a map": {"type": "object", "additionalProperties": TEXT},
    "an array of anything": {"type": "array"},
    "an array of unions": {"type": "array", "items": {"type": ["string", "integer"]}},
    "a tuple": {"type": "array", "prefixItems": [TEXT], "items": TEXT},
    "a tuple in one branch": {"type": "array", "items": TEXT, "allOf": [{"prefixItems": [TEXT]}]},
    "a record of free objects": record(a={"type": "object"}),
    "itself": {"$ref": "#"},
    "a value that no value is": {"type": "string", "const": 1},
}


@pytest.mark.parametrize("schema", _UNTYPED.values(), ids=_UNTYPED)
def test_what_cedar_cannot_type_is_left_out(schema: JsonObject) -> None:
    assert _json(schema) is None


def test_what_is_left_out_of_a_record_leaves_the_rest() -> None:
    assert _json(record(a=TEXT, b={}, c={"type": "object"})) == _optional(
        {"type": "Record", "attributes": {"a": _optional(_STRING)}}
    )


def test_records_are_typed_to_a_depth() -> None:
    deep: JsonObject = TEXT
    for _ in range(12):
        deep = record(a=deep)
    assert _json(deep) is None


@pytest.mark.parametrize("name", ["__extn", "__entity", "__cedar", "__cedar::x"])
def test_names_that_mean_something_to_cedar_are_left_out(name: str) -> None:
    assert type_at(_types({name: TEXT, "x": TEXT}), (name,)) is None


def _facts(properties: JsonObject, arguments: JsonObject) -> tuple[JsonObject, tuple[str, ...]]:
    found = input_facts(_types(properties), arguments)
    return found.value, found.unrepresentable


@pytest.mark.parametrize(
    ("schema", "value", "fact"),
    [
        (TEXT, "é", "é"),
        (FLAG, False, False),
        (INTEGER, 2**63 - 1, 2**63 - 1),
        (NUMBER, 1, "1.0000"),
        (NUMBER, 0.1, "0.1000"),
        (NUMBER, -0.25, "-0.2500"),
        (NUMBER, 100.0001, "100.0001"),
        (NUMBER, 922337203685477.5, "922337203685477.5000"),
        (TEXTS, ["a", "a"], ["a", "a"]),
        (TEXTS, [], []),
        (record(a=TEXT, b=INTEGER), {"a": "x", "b": None, "c": 1}, {"a": "x"}),
        ({"type": "array", "items": record(a=TEXT)}, [{"a": "x", "b": 1}, {}], [{"a": "x"}, {}]),
    ],
)
def test_a_value_enters_exactly(schema: JsonObject, value: Json, fact: Json) -> None:
    assert _facts({"x": schema}, {"x": value}) == ({"x": fact}, ())


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (NUMBER, 0.00001),
        (NUMBER, 1e15),
        (NUMBER, -1e300),
        (NUMBER, 5e-324),
        (NUMBER, True),
        (INTEGER, 1.5),
        (INTEGER, True),
        (TEXT, 5),
        (FLAG, 0),
        (TEXTS, ["a", 5]),
        (TEXTS, ["a", None]),
        (TEXTS, "a"),
        (record(a=TEXT), "a"),
        (record(a=TEXT), ["a"]),
        ({"type": "array", "items": record(a=TEXT)}, [{"a": 5}]),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_named_and_left_out(schema: JsonObject, value: Json) -> None:
    assert _facts({"x": schema}, {"x": value}) == ({}, ("x",))


def test_what_cannot_be_held_is_named_by_its_whole_path() -> None:
    properties: JsonObject = {"order": record(total=NUMBER, id=TEXT)}
    assert _facts(properties, {"order": {"total": 0.00001, "id": "x"}}) == ({"order": {"id": "x"}}, ("order.total",))


def test_absent_and_null_members_are_left_out_without_a_word() -> None:
    assert _facts({"x": TEXT, "y": TEXT}, {"x": None}) == ({}, ())


def test_only_what_the_rules_read_is_converted() -> None:
    declared = _types({"a": NUMBER, "b": NUMBER, "order": record(id=TEXT, total=NUMBER)})
    read = reading_tree(declared, [("a",), ("order", "id"), ("nothing",)])
    assert read == RecordType({"a": ScalarType("decimal"), "order": RecordType({"id": ScalarType("String")})})
    arguments: JsonObject = {"a": 1, "b": 0.00001, "order": {"id": "x", "total": 0.00001}}
    assert input_facts(read, arguments).value == {"a": "1.0000", "order": {"id": "x"}}
    assert input_facts(read, arguments).unrepresentable == ()


def test_a_rule_that_reads_a_record_whole_reads_all_of_it() -> None:
    declared = _types({"order": record(id=TEXT, total=NUMBER)})
    assert reading_tree(declared, [("order", "id"), ("order",)]) == declared


def test_the_paths_of_nulls_are_told() -> None:
    assert null_paths({"a": None, "b": {"c": None, "d": 1}, "e": [None], "f": 0}) == ["a", "b.c"]
