"""Headers that mirror the body, against the official SDK's own helpers (`mcp.shared.inbound`)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mcp.shared.inbound import (
    decode_header_value,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    validate_mcp_param_headers,
    x_mcp_header_map,
)

from interlock.core.canonical import JsonObject
from interlock.core.mirror import (
    Mirrored,
    decode_value,
    disagreement,
    encode_value,
    mirrored_arguments,
    outbound_headers,
)
from support.examples import tries

# Values -----------------------------------------------------------------------------------------------

values = st.one_of(
    st.text(),
    st.text(st.sampled_from(" \t=?base64Zm9v/+-~\x7f\x80é")),
    st.builds("=?base64?{}?=".format, st.text(st.sampled_from("Zm9vYg=+/ "))),
)


@tries(200)
@given(value=values)
def test_a_value_is_written_as_the_official_sdk_writes_it_and_read_back(value: str) -> None:
    written = encode_value(value)
    assert written == encode_header_value(value)
    assert decode_value(written) == value
    assert written.isascii()
    assert written.isprintable()


@tries(200)
@given(value=values)
def test_a_header_is_read_as_the_official_sdk_reads_it(value: str) -> None:
    assert decode_value(value) == decode_header_value(value)


# Annotations ------------------------------------------------------------------------------------------

TOKENS = st.sampled_from(["Region", "region", "Tenant", "X-1", "", "two words", "é", "a:b", 5, None, ["Region"]])
TYPES = st.sampled_from(
    ["string", "integer", "boolean", "number", "object", "null", None, 5, ["string"], ["string", "null"]]
)
ANNOTATION = "x-mcp-header"


def _leaf() -> st.SearchStrategy[dict[str, Any]]:
    annotated = st.fixed_dictionaries({"type": TYPES}, optional={ANNOTATION: TOKENS})
    plain = st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])})
    good = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["string", "integer", "boolean"]),
            ANNOTATION: st.sampled_from(["Region", "Tenant", "X-1", "Y", "Z"]),
        }
    )
    return st.one_of(plain, good, good, annotated)


def _object(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(st.sampled_from(["a", "b", "c.d"]), inner, max_size=3)
    elsewhere = st.sampled_from(["items", "not", "additionalProperties", "if"])
    return st.builds(
        lambda found, where, below, root: (
            {"type": "object", "properties": found, **below} | ({where: root} if root else {})
        ),
        properties,
        elsewhere,
        st.just({}),
        st.one_of(st.none(), st.none(), st.none(), inner),
    )


schemas = _object(st.recursive(_leaf(), _object, max_leaves=6))


@tries(200)
@given(schema=schemas)
def test_a_schema_mirrors_what_the_official_sdk_says_it_mirrors(schema: JsonObject) -> None:
    """A schema with an invalid annotation anywhere mirrors nothing: conforming clients drop such a tool."""
    expected = {} if find_invalid_x_mcp_header(schema) else x_mcp_header_map(schema)
    assert {item.path: item.token for item in mirrored_arguments(schema)} == expected


@pytest.mark.parametrize(
    "annotated",
    [
        {"type": ["string", "null"], ANNOTATION: "Region"},
        {"type": {"x": 1}, ANNOTATION: "Region"},
        {"type": "number", ANNOTATION: "Region"},
        {"type": "string", ANNOTATION: "two words"},
        {"type": "string", ANNOTATION: ""},
        {"type": "string", ANNOTATION: 5},
        {ANNOTATION: "Region"},
    ],
    ids=str,
)
def test_an_invalid_annotation_mirrors_nothing_and_breaks_nothing(annotated: JsonObject) -> None:
    good: JsonObject = {"type": "string", ANNOTATION: "Good"}
    assert mirrored_arguments({"type": "object", "properties": {"a": good}}) == (Mirrored(("a",), "Good", "string"),)
    assert mirrored_arguments({"type": "object", "properties": {"a": good, "b": annotated}}) == ()


@pytest.mark.parametrize("elsewhere", ["items", "additionalProperties", "not", "allOf", "$defs", "root"])
def test_an_annotation_where_no_argument_is_makes_the_schema_mirror_nothing(elsewhere: str) -> None:
    good: JsonObject = {"type": "string", ANNOTATION: "Good"}
    stray: JsonObject = {"type": "string", ANNOTATION: "Stray"}
    schema: JsonObject = {"type": "object", "properties": {"a": good}}
    if elsewhere == "root":
        schema |= {ANNOTATION: "Stray"}
    else:
        schema[elsewhere] = {"allOf": [stray], "$defs": {"x": stray}}.get(elsewhere, stray)  # type: ignore[assignment]
    assert find_invalid_x_mcp_header(schema)
    assert mirrored_arguments(schema) == ()


@pytest.mark.parametrize(
    "elsewhere",
    [{"additionalItems": {}}, {"dependencies": {"a": {}}}, {"items": [{}]}, {"definitions": {"x": {}}}],
    ids=str,
)
def test_an_annotation_below_a_keyword_of_an_older_draft_makes_the_schema_mirror_nothing(elsewhere: JsonObject) -> None:
    good: JsonObject = {"type": "string", ANNOTATION: "Good"}
    stray = json.loads(json.dumps(elsewhere).replace("{}", json.dumps({"type": "string", ANNOTATION: "Stray"})))
    assert mirrored_arguments({"type": "object", "properties": {"a": good}, **elsewhere}) != ()
    assert mirrored_arguments({"type": "object", "properties": {"a": good}, **stray}) == ()


def test_tokens_that_differ_in_case_alone_make_the_schema_mirror_nothing() -> None:
    properties: JsonObject = {
        name: {"type": "string", ANNOTATION: token} for name, token in (("a", "Region"), ("b", "REGION"))
    }
    assert mirrored_arguments({"type": "object", "properties": properties}) == ()


@pytest.mark.parametrize(
    "schema", [None, True, "x", 5, [], {}, {"properties": []}, {"properties": {"a": True}}], ids=str
)
def test_a_schema_without_annotations_mirrors_nothing(schema: Any) -> None:
    assert mirrored_arguments(schema) == ()


# Calls ------------------------------------------------------------------------------------------------

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "region": {"type": "string", ANNOTATION: "Region"},
        "count": {"type": "integer", ANNOTATION: "Count"},
        "dry": {"type": "boolean", ANNOTATION: "Dry"},
        "deep": {"type": "object", "properties": {"tenant": {"type": "string", ANNOTATION: "Tenant"}}},
    },
}
MIRRORED = mirrored_arguments(SCHEMA)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, -1.0, 1.5, 1e22, 42.0]),
    values,
    st.just([]),
    st.just({}),
)
arguments_of = st.fixed_dictionaries(
    {},
    optional={
        "region": scalars,
        "count": scalars,
        "dry": scalars,
        "deep": st.one_of(scalars, st.fixed_dictionaries({}, optional={"tenant": scalars})),
    },
)
NAMES = {"Region": ("region",), "Count": ("count",), "Dry": ("dry",), "Tenant": ("deep", "tenant")}
given_headers = st.dictionaries(
    st.sampled_from(sorted(NAMES)),
    st.one_of(values, st.sampled_from(["1", "1.0", "-1", "01", "1.50", "1e0", "true", "True", "42", "42.000", "-0"])),
)


@tries(200)
@given(arguments=arguments_of)
def test_outbound_headers_are_those_of_the_official_client(arguments: JsonObject) -> None:
    assert outbound_headers(MIRRORED, arguments) == mcp_param_headers(x_mcp_header_map(SCHEMA), arguments)


@tries(200)
@given(arguments=arguments_of)
def test_headers_that_the_official_client_derives_agree_with_their_body(arguments: JsonObject) -> None:
    derived = mcp_param_headers(x_mcp_header_map(SCHEMA), arguments)
    assert disagreement(MIRRORED, arguments, {name.lower(): [value] for name, value in derived.items()}) is None


@tries(200)
@given(arguments=arguments_of, headers=given_headers)
def test_headers_that_the_official_server_refuses_are_refused(arguments: JsonObject, headers: dict[str, str]) -> None:
    sent = {f"Mcp-Param-{token}": value for token, value in headers.items()}
    assume(validate_mcp_param_headers(SCHEMA, arguments, sent) is not None)
    assert disagreement(MIRRORED, arguments, {name.lower(): [value] for name, value in sent.items()}) is not None


@tries(200)
@given(arguments=arguments_of, changed=st.sampled_from(sorted(NAMES)), value=st.one_of(st.none(), values))
def test_headers_that_the_official_server_accepts_are_accepted(
    arguments: JsonObject, changed: str, value: str | None
) -> None:
    """But for numbers written in other ways than any client writes them, where ours is the stricter."""
    sent = mcp_param_headers(x_mcp_header_map(SCHEMA), arguments)
    if value is None:
        sent.pop(f"Mcp-Param-{changed}", None)
    else:
        sent[f"Mcp-Param-{changed}"] = value
    official = validate_mcp_param_headers(SCHEMA, arguments, sent)
    ours = disagreement(MIRRORED, arguments, {name.lower(): [found] for name, found in sent.items()})
    assert (ours is None) == (official is None) or (changed == "Count" and official is None)


@pytest.mark.parametrize(
    ("argument", "header", "agrees"),
    [
        (42, "42", True),
        (42, "42.0", True),
        (42.0, "42", True),
        (42, "43", False),
        (42, "42.5", False),
        (42, "4.2e1", False),
        (42, " 42", False),
        (2**53 + 1, str(2**53 + 1), True),
        (2**53 + 1, str(2**53), False),
        (True, "true", True),
        ("42", "42", True),
    ],
)
def test_an_integer_agrees_by_value_and_exactly(argument: Any, header: str, agrees: bool) -> None:
    wrong = disagreement(MIRRORED, {"count": argument}, {"mcp-param-count": [header]})
    assert (wrong is None) == agrees


def test_a_header_that_appears_twice_has_no_single_meaning() -> None:
    wrong = disagreement(MIRRORED, {"region": "eu"}, {"mcp-param-region": ["eu", "eu"]})
    assert wrong == "the header Mcp-Param-Region and its argument do not appear together, once each"


def test_what_disagrees_is_named_without_its_value() -> None:
    for headers in ({"mcp-param-region": ["us-secret"]}, {}):
        wrong = disagreement(MIRRORED, {"region": "eu-secret"}, headers)
        assert wrong is not None
        assert "Mcp-Param-Region" in wrong
        assert "secret" not in wrong


def test_a_header_that_mirrors_nothing_known_is_nobody_s_business() -> None:
    assert disagreement(MIRRORED, {}, {"mcp-param-other": ["x", "y"]}) is None
