"""Reading a JSON Schema: types are never too few, and each position is where the value's part is."""

from __future__ import annotations

import pytest

from interlock.core.call import MalformedCall, canonical_arguments
from interlock.core.canonical import Json, JsonObject
from interlock.core.schema import (
    ANY_TYPE,
    ARRAY,
    BOOLEAN,
    FRACTION,
    INTEGER,
    MAX_REMEMBERED,
    NULL,
    OBJECT,
    STRING,
    Schema,
    SchemaReader,
    type_of,
)
from interlock.core.schema_check import SchemaRefused, SchemaValidator
from support import bundles
from support.bundles import TEXT, record
from support.limits import within


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, NULL),
        (True, BOOLEAN),
        (0, INTEGER),
        (1.0, INTEGER),
        (1.5, FRACTION),
        ("1", STRING),
        ([1], ARRAY),
        ({}, OBJECT),
    ],
)
def test_every_value_has_one_type(value: Json, kind: str) -> None:
    assert type_of(value) == kind


_TYPES: list[tuple[Schema, set[str]]] = [
    (True, set(ANY_TYPE)),
    (False, set()),
    ({}, set(ANY_TYPE)),
    ({"type": "integer"}, {INTEGER}),
    ({"type": "number"}, {INTEGER, FRACTION}),
    ({"type": ["string", "null"]}, {STRING, NULL}),
    ({"enum": ["a", 1, 1.5, None]}, {STRING, INTEGER, FRACTION, NULL}),
    ({"type": "number", "enum": [1, 2.0, "x"]}, {INTEGER}),
    ({"const": {"a": 1}}, {OBJECT}),
    ({"type": "string", "const": 1}, set()),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {STRING, NULL}),
    ({"oneOf": [{"type": "string"}, True]}, set(ANY_TYPE)),
    ({"type": "string", "anyOf": [{"minLength": 1}, {"type": "integer"}]}, {STRING}),
    ({"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}, {INTEGER}),
    ({"$ref": "#/$defs/id"}, {STRING}),
    ({"$ref": "#/$defs/id", "type": ["string", "null"]}, {STRING}),
    ({"$ref": "#/$defs/a~1b~0c"}, {BOOLEAN}),
    ({"$ref": "#/allOf/1"}, {OBJECT}),
    ({"$ref": "#/$defs/self"}, {INTEGER}),
    ({"$ref": "#/$defs/none"}, set(ANY_TYPE)),
    ({"$ref": "https://example.org/x"}, set(ANY_TYPE)),
    ({"not": {"type": "string"}}, set(ANY_TYPE)),
    ({"if": {"type": "string"}, "then": {"type": "integer"}}, set(ANY_TYPE)),
    ({"type": "unheard-of"}, set(ANY_TYPE)),
]
_ROOT: JsonObject = {
    "allOf": [{}, {"type": "object"}],
    "$defs": {
        "id": {"type": "string"},
        "a/b~c": {"type": "boolean"},
        "self": {"anyOf": [{"$ref": "#/$defs/self"}, True], "type": "integer"},
    },
}


@pytest.mark.parametrize(("schema", "types"), _TYPES, ids=[str(schema) for schema, _ in _TYPES])
def test_types_are_those_that_a_valid_value_can_have(schema: Schema, types: set[str]) -> None:
    assert SchemaReader(_ROOT).types(schema) == types


def test_a_property_is_where_all_applicators_say_it_is() -> None:
    reader = SchemaReader(
        {
            "properties": {"a": {"type": ["integer", "string", "null"]}},
            "allOf": [{"properties": {"a": {"type": ["integer", "string"]}}}],
            "anyOf": [{"properties": {"a": {"type": "integer"}}}, {"$ref": "#/$defs/other"}],
            "$defs": {"other": {"properties": {"a": {"type": "boolean"}}}},
        }
    )
    assert reader.types(reader.property(reader.root, "a")) == {INTEGER}


def test_branches_that_hold_no_object_say_nothing_about_properties() -> None:
    reader = SchemaReader({"anyOf": [record(a=TEXT), {"type": "null"}, {"type": "array", "items": {}}]})
    assert reader.types(reader.property(reader.root, "a")) == {STRING}


def test_an_undeclared_property_has_the_type_of_additional_properties() -> None:
    reader = SchemaReader({"type": "object", "properties": {"a": {}}, "additionalProperties": TEXT})
    assert reader.types(reader.property(reader.root, "b")) == {STRING}
    assert reader.types(SchemaReader(record(a=TEXT)).property(record(a=TEXT), "b")) == ANY_TYPE


def test_a_property_that_a_pattern_may_speak_of_promises_nothing() -> None:
    schema: JsonObject = {"patternProperties": {"^a": TEXT}, "additionalProperties": False}
    assert SchemaReader(schema).property(schema, "abc") is True


def test_items_follow_prefix_items_and_then_items() -> None:
    schema: JsonObject = {"prefixItems": [TEXT, {"type": "integer"}], "items": {"type": "boolean"}}
    reader = SchemaReader(schema)
    found = [reader.types(reader.item(schema, index)) for index in range(4)]
    assert found == [{STRING}, {INTEGER}, {BOOLEAN}, {BOOLEAN}]


def test_declared_names_come_from_every_applicator_in_place_and_from_nowhere_else() -> None:
    schema: JsonObject = {
        "properties": {"a": record(inner=TEXT)},
        "allOf": [{"properties": {"b": {}}}],
        "oneOf": [{"anyOf": [{"properties": {"c": {}}}]}],
        "if": {"properties": {"d": {}}},
        "then": {"properties": {"e": {}}},
        "else": {"$ref": "#/$defs/f"},
        "not": {"properties": {"n": {}}},
        "$defs": {"f": {"properties": {"f": {}}, "$ref": "#"}, "unused": {"properties": {"u": {}}}},
    }
    assert SchemaReader(schema).property_names(schema) == {"a", "b", "c", "d", "e", "f"}


@pytest.mark.parametrize("reference", ["#/$defs/\u00b2", "#/allOf/\u00b2", "#/allOf/" + "9" * 5000])
def test_a_reference_with_curious_digits_resolves_to_nothing(reference: str) -> None:
    assert SchemaReader({"allOf": [{}], "$defs": {}}).target(reference) is True


@pytest.mark.parametrize(
    "reference",
    ["#/$defs/a%2Fb", "#/%24defs/%C3%A9", "#/$defs/a~01", "#/$defs/%7e1", "#/$defs/a~1b/properties/%C3%A9", "#/l/%30"],
)
def test_a_reference_is_a_pointer_in_a_fragment(reference: str) -> None:
    """RFC 6901 §6: first the percent-encoding, then the slashes, then the tildes; so does the validator."""
    definitions: JsonObject = {"a": {"b": TEXT}, "é": TEXT, "a~1": TEXT, "/": TEXT, "a/b": record(é=TEXT)}
    schema: JsonObject = {"properties": {"x": {"$ref": reference}}, "$defs": definitions, "l": [TEXT]}
    assert SchemaReader(schema).resolve(reference) == TEXT
    assert SchemaValidator(schema).first_error({"x": 1}) == "x: fails the schema's `type`: ['string']"


@pytest.mark.parametrize("reference", ["", "x", "#x", "#x/$defs/a", "#/%FF", "#/$defs/none", "#/$defs", "#%2F$defs"])
def test_what_is_no_pointer_to_a_schema_resolves_to_nothing(reference: str) -> None:
    assert SchemaReader({"$defs": [{}]}).resolve(reference) is None


_DRAFT_7: JsonObject = {"$schema": "http://json-schema.org/draft-07/schema#"}


def test_in_draft_7_a_reference_hides_what_stands_beside_it() -> None:
    schema: JsonObject = {
        **_DRAFT_7,
        **record(x={"$ref": "#/definitions/any", "type": "string"}),
        "definitions": {"any": {"type": ["integer", "string"]}},
    }
    validator = SchemaValidator(schema)
    reader = validator.reader
    assert validator.first_error({"x": 1}) is None
    assert reader.types(reader.property(reader.root, "x")) == {INTEGER, STRING}


def test_drafts_before_2020_know_no_prefix_items() -> None:
    schema: JsonObject = {**_DRAFT_7, **record(x={"prefixItems": [TEXT]}, y={"items": [TEXT]})}
    validator = SchemaValidator(schema)
    reader = validator.reader
    assert validator.first_error({"x": [1], "y": ["a", 1]}) is None
    for name in ("x", "y"):
        assert reader.types(reader.item(reader.property(reader.root, name), 0)) >= {INTEGER}


# Schemas that keep a reader busy ------------------------------------------------------------------------


def _doubling(levels: int) -> JsonObject:
    """Definitions `a0` … `aN`, each of which refers twice to the next."""
    definitions: JsonObject = {
        f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}, {"$ref": f"#/$defs/a{level + 1}"}]}
        for level in range(levels)
    }
    return {**definitions, f"a{levels}": TEXT}


def _bushy(width: int) -> JsonObject:
    return {"properties": {f"p{index}": {"$ref": "#"} for index in range(width)}}


def _meshed(width: int) -> JsonObject:
    mesh: JsonObject = {
        f"d{one}": {
            "type": "object",
            "properties": {f"p{other}": {"$ref": f"#/$defs/d{other}"} for other in range(width)},
        }
        for one in range(width)
    }
    return {"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": mesh}


def _wide(width: int) -> JsonObject:
    return {
        "properties": {f"p{index}": TEXT for index in range(width)},
        "allOf": [{"required": []} for _ in range(width)],
    }


def _many_references(count: int) -> JsonObject:
    return {
        "allOf": [{"$ref": f"#{index}/$defs/b"} for index in range(count)],
        "$defs": {"b": {"allOf": [{} for _ in range(count)]}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(
            {"properties": {"self": {"$ref": "#"}, "x": {"$ref": "#/$defs/a0"}}, "$defs": _doubling(30)},
            id="a recursive schema with an exponential one inside",
        ),
        pytest.param(_bushy(60), id="sixty properties that are each the whole again"),
        pytest.param(_meshed(14), id="fourteen records that each hold all others"),
        pytest.param(_wide(2_500), id="two thousand properties times two thousand applicators"),
        pytest.param(_many_references(2_500), id="two thousand references to two thousand subschemas"),
    ],
)
def test_a_hostile_tool_is_refused_or_read_with_little_work(schema: JsonObject) -> None:
    # Reading happens when the bundle is loaded: Cedar types, list arguments, declared names, all of it.
    with within(10_000_000):
        try:
            hostile = bundles.tool_taking(schema)
        except ValueError:
            return
        bundles.load(bundles.files_of([hostile], bundles.agent_file(bundles.entry("t"))))


def test_numbers_in_a_large_call_are_typed_within_the_budget_too() -> None:
    wide: JsonObject = {"items": {"allOf": [{"minimum": 0} for _ in range(5_000)]}}
    numbers: list[Json] = [1.0] * 100_000
    with within(10_000_000), pytest.raises(MalformedCall, match="too large"):
        canonical_arguments(bundles.tool_taking(record(x=wide)), {"x": numbers}, additional=False)


@pytest.mark.parametrize("remembered", [10, MAX_REMEMBERED])
def test_a_recursive_tool_is_read_alike_however_much_is_remembered(
    monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr("interlock.core.schema.MAX_REMEMBERED", remembered)
    node: JsonObject = {
        "allOf": [{"properties": {"l": {"$ref": "#/$defs/n"}, "r": {"$ref": "#/$defs/n"}, "v": {"type": "integer"}}}],
        "anyOf": [{"properties": {"l": {"$ref": "#/$defs/n"}}}, {"required": ["r"]}],
    }
    reader = bundles.tool_taking({**node, "$defs": {"n": node}}).arguments.reader
    with within(3_000_000):
        for path in range(2**6):
            position: Schema = reader.root
            for bit in range(6):
                position = reader.property(position, "lr"[path >> bit & 1])
            assert reader.types(reader.property(position, "v")) == {INTEGER}
            assert reader.property_names(position) == {"l", "r", "v"}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"properties": {"x": {"$ref": "#/%24defs/a0"}}, "$defs": _doubling(8)}, id="percent-encoded"),
        pytest.param(
            {"properties": {"x": {"$ref": "#here"}}, "$defs": {"a": {"$anchor": "here", **TEXT}}}, id="anchor"
        ),
    ],
)
def test_the_reader_and_the_validator_follow_the_same_references_or_the_schema_is_refused(schema: JsonObject) -> None:
    try:
        validator = SchemaValidator({"type": "object", **schema})
    except SchemaRefused:
        return
    reader = validator.reader
    assert validator.first_error({"x": 1}) is not None
    assert reader.types(reader.property(reader.root, "x")) == {STRING}
