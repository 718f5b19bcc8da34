"""Schemas that an adversary wrote are admitted under caps, and validated within a budget."""

from __future__ import annotations

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.schema_check import (
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_DEPTH,
    TOO_LARGE,
    SchemaRefused,
    SchemaValidator,
)
from interlock.core.schema_cost import MAX_CHAIN
from support.bundles import INTEGER, record
from support.limits import within


def _nested(levels: int) -> JsonObject:
    schema: JsonObject = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def _doubling(levels: int, reference: str = "#/$defs/a{}", **anchor: str) -> JsonObject:
    """Definitions that each refer twice to the next; `$anchor` is added where asked for."""

    def level_of(level: int) -> JsonObject:
        names: JsonObject = {keyword: text.format(level) for keyword, text in anchor.items()}
        if level == levels:
            return {**names, "type": "string"}
        following = reference.format(level + 1)
        return {**names, "allOf": [{"$ref": following}, {"$ref": following}]}

    return {f"a{level}": level_of(level) for level in range(levels + 1)}


def _chain(length: int) -> JsonObject:
    links: JsonObject = {f"a{link}": {"$ref": f"#/$defs/a{link + 1}"} for link in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{length}": {}}}


_REFUSED: dict[str, tuple[JsonObject, str]] = {
    "a reference to another host": (
        {"properties": {"x": {"$ref": "https://example.org/s.json"}}},
        "outside the schema",
    ),
    "a reference to a file": ({"$ref": "file:///etc/passwd"}, "outside the schema"),
    "a relative reference": ({"items": {"$ref": "other.json"}}, "outside the schema"),
    "a reference that resolves to nothing": ({"$ref": "#/$defs/none"}, "cannot be compiled"),
    "a dynamic reference": ({"items": {"$dynamicRef": "#x"}}, "not supported"),
    "a recursive reference": ({"$recursiveRef": "#"}, "not supported"),
    "an identifier inside": ({"$defs": {"a": {"$id": "https://example.org/"}}}, "not supported"),
    "an anchor": ({"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}}, "anchors are not supported"),
    "an index that some read as a number": ({"$ref": "#/x/00", "x": [{}]}, "JSON Pointer"),
    "another dialect inside": (
        {"allOf": [{"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{}]}]},
        "inside a schema",
    ),
    "another dialect": ({"$schema": "https://example.org/my-dialect"}, "dialect"),
    "a dialect that is no text": ({"$schema": 7}, "dialect"),
    "a keyword of the wrong type": ({"properties": {"x": {"minLength": "three"}}}, "cannot be compiled"),
    "a type that does not exist": ({"type": "objekt"}, "cannot be compiled"),
    "a pattern with a look-ahead": ({"pattern": "(?=x)y"}, "cannot be compiled"),
    "a pattern with a back-reference": ({"pattern": r"(a)\1"}, "cannot be compiled"),
    "a pattern that compiles to megabytes": ({"pattern": "(?:(?:(?:a{60}){60}){60}){60}"}, "cannot be compiled"),
    "too many bytes": ({"description": "x" * MAX_SCHEMA_BYTES}, "bytes"),
    "too many levels": (_nested(MAX_SCHEMA_DEPTH), "deeper than 64"),
    "an integer beyond 64 bit": ({"maximum": 2**64}, "cannot be represented"),
    "half of a surrogate pair": ({"const": "\ud800"}, "cannot be represented"),
    "exponential expansion": ({"$ref": "#/$defs/a0", "$defs": _doubling(20)}, "expands to more than"),
    "a chain of references": (_chain(MAX_CHAIN), "chained deeper"),
    "itself in place": ({"$ref": "#"}, "without consuming"),
    "itself in place, over two steps": (
        {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}]}}},
        "without consuming",
    ),
}


@pytest.mark.parametrize(("schema", "reason"), _REFUSED.values(), ids=_REFUSED)
def test_a_schema_is_refused_with_the_reason_if_it_has(schema: JsonObject, reason: str) -> None:
    with pytest.raises(SchemaRefused, match=reason):
        SchemaValidator(schema)


_HIDDEN: dict[str, JsonObject] = {
    "anchors": {"properties": {"x": {"$ref": "#n0"}}, "$defs": _doubling(24, "#n{}", **{"$anchor": "n{}"})},
    "percent-encoded references": {
        "properties": {"x": {"$ref": "#/%24defs/a0"}},
        "$defs": _doubling(24, "#/%24defs/a{}"),
    },
    "a keyword of an older draft": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"x": {"items": [{}], "additionalItems": {"$ref": "#/$defs/a0"}}},
        "$defs": _doubling(24),
    },
}


@pytest.mark.parametrize("schema", _HIDDEN.values(), ids=_HIDDEN)
def test_exponential_work_cannot_be_hidden_from_the_count(schema: JsonObject) -> None:
    with pytest.raises(SchemaRefused):
        SchemaValidator({"type": "object", **schema})


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"$id": "https://example.org/root", "properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
        _nested(MAX_SCHEMA_DEPTH - 1),
        _chain(MAX_CHAIN - 3),
    ],
    ids=["2020-12", "draft 7", "an identifier at the root", "properties named as keywords", "deep", "chained"],
)
def test_a_schema_within_the_caps_is_admitted(schema: JsonObject) -> None:
    assert SchemaValidator(schema).first_error({}) is None


def test_formats_are_annotations_unless_asserted() -> None:
    schema = record(at={"type": "string", "format": "date"}, other={"format": "nothing-known"})
    assert SchemaValidator(schema).first_error({"at": "yesterday", "other": 1}) is None
    asserting = SchemaValidator(record(at={"type": "string", "format": "date"}), check_formats=True)
    assert asserting.first_error({"at": "yesterday"}) == "at: fails the schema's `format`: date"
    with pytest.raises(SchemaRefused, match="nothing-known"):
        SchemaValidator(schema, check_formats=True)


_WRONG: list[tuple[JsonObject, Json, str]] = [
    (record(a=INTEGER), {"a": "x"}, "a: fails the schema's `type`: ['integer']"),
    (record(a=record(b={"enum": ["x", "y"]})), {"a": {"b": "z"}}, "a.b: fails the schema's `enum`: ['x', 'y']"),
    ({"required": ["a"]}, {}, "the arguments: fails the schema's `required`: a"),
    (record(a={"items": INTEGER}), {"a": [1, "x"]}, "a.1: fails the schema's `type`: ['integer']"),
    (record(a={"maximum": 5}), {"a": 6}, "a: fails the schema's `maximum`: 5"),
    ({"additionalProperties": False}, {"x": 1}, "the arguments: has a member that the schema does not declare"),
]


@pytest.mark.parametrize(("schema", "instance", "sentence"), _WRONG)
def test_an_error_says_where_and_what_the_schema_asks(schema: JsonObject, instance: Json, sentence: str) -> None:
    assert SchemaValidator(schema).first_error(instance) == sentence


def test_a_long_list_of_options_is_cut_short() -> None:
    problem = SchemaValidator({"enum": [f"option {number}" for number in range(500)]}).first_error("none")
    assert problem is not None
    assert len(problem) < 220


def test_what_costs_more_than_the_budget_is_not_valid() -> None:
    wide = SchemaValidator(record(x={"items": {"allOf": [{"minLength": 1} for _ in range(5_000)]}}))
    few: list[Json] = ["a"] * 100
    many: list[Json] = ["a"] * 2_000
    assert wide.first_error({"x": few}) is None
    assert wide.first_error({"x": many}) == TOO_LARGE


def test_a_recursive_schema_is_budgeted_by_what_the_instance_meets() -> None:
    node: JsonObject = {
        "anyOf": [record(left={"$ref": "#/$defs/n"}, right={"$ref": "#/$defs/n"}), record(left={"$ref": "#/$defs/n"})]
    }
    tree = SchemaValidator({"$ref": "#/$defs/n", "$defs": {"n": node}})
    assert tree.recursive
    shallow: Json = {}
    for _ in range(8):
        shallow = {"left": shallow}
    deep: Json = {}
    for _ in range(20):
        deep = {"left": deep}
    assert tree.first_error(shallow) is None
    assert tree.first_error(deep) == TOO_LARGE


def test_self_reference_in_place_is_found_also_behind_a_step_that_consumes() -> None:
    schema: JsonObject = {
        "$ref": "#/$defs/v",
        "$defs": {
            "v": {"additionalProperties": {"$ref": "#/$defs/u"}, "allOf": [{"$ref": "#/$defs/u"}]},
            "u": {"allOf": [{"$ref": "#/$defs/v"}]},
        },
    }
    with pytest.raises(SchemaRefused, match="without consuming"):
        SchemaValidator(schema)


def test_the_budget_of_a_recursive_schema_counts_long_lists_of_options() -> None:
    options: list[Json] = [{"k": f"v{number}"} for number in range(10_000)]
    schema = SchemaValidator(record(self={"$ref": "#"}, x={"items": {"enum": options}}))
    last: list[Json] = [{"k": "v9999"}] * 4_000
    assert schema.first_error({"x": last[:10]}) is None
    assert schema.first_error({"x": last}) == TOO_LARGE


def test_one_error_is_looked_for_and_not_all_of_them() -> None:
    # Each error carries a copy of its part of the instance: collecting them exhausts memory.
    numbers = SchemaValidator(record(x={"type": "array", "items": INTEGER}))
    wrong: list[Json] = ["no number"] * 150_000
    with within(3_000_000):
        assert numbers.first_error({"x": wrong}) == "x.0: fails the schema's `type`: ['integer']"


def test_what_failed_in_each_alternative_is_looked_for_only_where_there_is_little_of_it() -> None:
    either: JsonObject = {"anyOf": [{"items": INTEGER}, {"items": {"type": "boolean"}}]}
    choice = SchemaValidator(record(x={"type": "array", **either}))
    wrong: list[Json] = ["neither"] * 150_000
    assert choice.first_error({"x": wrong[:100]}) == "x: fails the schema's `anyOf`"
    with within(5_000_000):
        problem = choice.first_error({"x": wrong})
    assert problem == "the arguments are not valid against the tool's schema"


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(x+x+)+y", "^(?:a?){200}a{200}$"])
def test_patterns_run_in_linear_time(pattern: str) -> None:
    schema = SchemaValidator({"pattern": pattern})
    with within(1_000):
        assert schema.first_error("a" * 5_000 + "!") is not None


def _leftovers(levels: int) -> JsonObject:
    """Each level evaluates the one below again, to find what it left over."""
    schema: JsonObject = record(a={})
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": INTEGER}
    return schema


_ONES: list[Json] = [1] * 50
_LARGE_OPTIONS: list[Json] = [{"a": _ONES, "b": number} for number in range(300)]
_DIVISIONS: list[Json] = [{"multipleOf": 1e-300}] * 100
_LARGE_NUMBERS: list[Json] = [1e300] * 1_000
_SLOW: dict[str, tuple[JsonObject, Json]] = {
    "many patterns that read a long text to its end": (
        record(x={"anyOf": [{"pattern": f"[ab][ab]{{{length}}}[x-z]"} for length in range(500)]}),
        {"x": "ab" * 500_000},
    ),
    "many patterns for long names": (
        {"patternProperties": {f"[ab][ab]{{{length}}}[x-z]": {} for length in range(500)}},
        {"ab" * 500_000: 1},
    ),
    "many patterns, in a recursive schema": (
        record(self={"$ref": "#"}, x={"anyOf": [{"pattern": f"[ab]{{{length}}}[x-z]"} for length in range(500)]}),
        {"x": "ab" * 500_000},
    ),
    "exact division of large numbers": (
        record(x={"items": {"allOf": _DIVISIONS}}),
        {"x": _LARGE_NUMBERS},
    ),
    "long lists of large options": (
        record(x={"items": {"enum": _LARGE_OPTIONS}}),
        {"x": _LARGE_OPTIONS[-1:] * 400},
    ),
    "leftovers of leftovers, in a recursive schema": (record(self={"$ref": "#"}, x=_leftovers(24)), {"x": {"a": 1}}),
}


@pytest.mark.parametrize(("schema", "instance"), _SLOW.values(), ids=_SLOW)
def test_no_keyword_is_dearer_than_the_budget_counts(schema: JsonObject, instance: Json) -> None:
    with within(6_000_000):
        assert SchemaValidator(schema).first_error(instance) == TOO_LARGE


def test_leftovers_of_leftovers_are_expansion() -> None:
    assert SchemaValidator(_leftovers(6)).first_error({"a": 1, "b": 2}) is None
    with pytest.raises(SchemaRefused, match="expands to more than"):
        SchemaValidator(_leftovers(24))


def test_a_chain_is_as_long_as_it_is_however_its_links_are_found() -> None:
    links: JsonObject = {
        f"a{link}": {"properties": {"x": {"$ref": f"#/$defs/a{link + 1}"}}} for link in range(MAX_CHAIN)
    }
    # From the last link to the first: each is measured before the one that leads to it.
    backwards: list[Json] = [{"$ref": f"#/$defs/a{link}"} for link in reversed(range(MAX_CHAIN + 1))]
    with pytest.raises(SchemaRefused, match="chained deeper"):
        SchemaValidator({"anyOf": backwards, "$defs": {**links, f"a{MAX_CHAIN}": {}}})
