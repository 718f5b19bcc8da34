"""The canonical request: arguments brought into one form, and the digest that names a call."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
import rfc8785

from interlock.core.call import Arguments, MalformedCall, canonical_arguments, canonical_call
from interlock.core.canonical import Json, JsonObject, decode
from interlock.core.tool import PinnedTool
from support.bundles import FLAG, INTEGER, NUMBER, TEXT, TEXTS, record, tool, tool_taking
from support.limits import within

LOOSE = tool(
    "loose",
    {
        "any": {},
        "count": INTEGER,
        "amount": NUMBER,
        "either": {"anyOf": [INTEGER, TEXT]},
        "mixed": {"anyOf": [INTEGER, NUMBER]},
        "maybe": {"type": ["integer", "null"]},
        "counts": {"type": "array", "items": INTEGER},
        "pair": {"type": "array", "prefixItems": [INTEGER], "items": {}},
        "note": TEXT,
    },
)
REFERRING = tool_taking(
    {
        "allOf": [{"properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}}}],
        "$defs": {"line": record(quantity=INTEGER)},
    },
)


def _arguments(arguments: JsonObject, pinned: PinnedTool = LOOSE, *, additional: bool = False) -> Arguments:
    return canonical_arguments(pinned, arguments, additional=additional)


@pytest.mark.parametrize(
    ("arguments", "canonical"),
    [
        ({"count": 1.0}, b'{"count":1}'),
        ({"count": 9e18}, b'{"count":9000000000000000000}'),
        ({"count": 2**63 - 1}, b'{"count":9223372036854775807}'),
        ({"either": 2.0}, b'{"either":2}'),
        ({"maybe": -3.0}, b'{"maybe":-3}'),
        ({"counts": [1.0, 2**53 + 1]}, b'{"counts":[1,9007199254740993]}'),
        ({"pair": [1.0, 0.5]}, b'{"pair":[1,0.5]}'),
        ({"amount": 100.0, "any": {"x": 1e2}}, b'{"amount":100,"any":{"x":100}}'),
    ],
)
def test_what_the_schema_types_as_integer_is_an_integer_in_full(arguments: JsonObject, canonical: bytes) -> None:
    assert _arguments(arguments).canonical == canonical


def test_integers_are_found_through_references_and_applicators() -> None:
    found = _arguments({"lines": [{"quantity": 2.0}, {"quantity": 2**53 + 1}]}, REFERRING)
    assert found.value == {"lines": [{"quantity": 2}, {"quantity": 9007199254740993}]}
    assert found.canonical == b'{"lines":[{"quantity":2},{"quantity":9007199254740993}]}'


def test_the_decided_value_is_the_executed_one() -> None:
    found = _arguments({"count": 1.0, "counts": [], "note": "\u20ac"})
    assert decode(found.canonical) == found.value


@pytest.mark.parametrize("arguments", [{"any": 2**53 + 1}, {"amount": -(2**53) - 1}, {"mixed": 2**60 + 1}])
def test_an_integer_that_no_double_holds_is_refused_where_no_integer_is_asked_for(arguments: JsonObject) -> None:
    with pytest.raises(MalformedCall, match=r"beyond 2\^53"):
        _arguments(arguments)


@pytest.mark.parametrize("number", [2.0**63, -1e19, 1e300])
def test_an_integer_beyond_64_bit_is_refused_also_when_written_as_a_double(number: float) -> None:
    with pytest.raises(MalformedCall, match="beyond 64 bit"):
        _arguments({"count": number})


@pytest.mark.parametrize("number", [1e17, 2.0**53 + 2, 2.0**60, 2**60, -(2.0**62), 2.0**63, 1e19, 1e20, 123456789e13])
def test_canonical_bytes_hold_exactly_the_number_that_was_decided_also_for_a_reader_of_exact_integers(
    number: float,
) -> None:
    # ECMAScript pads the shortest digits of a double with zeros (2**60 becomes 1152921504606847000), which an
    # upstream with 64-bit integers takes at its word; and the record could not be decided again (I6).
    for name in ("any", "amount"):
        try:
            written = _arguments({name: number}).canonical
        except MalformedCall:
            continue
        again = decode(written)
        assert again == {name: number}
        assert isinstance(again, dict)
        assert _arguments(again).canonical == written


@pytest.mark.parametrize(
    ("arguments", "names"),
    [({"zzz": 1}, "'zzz'"), ({"count": 1, "Count": 1}, "'Count'"), ({"n" * 500: 1}, "'nnn")],
)
def test_an_undeclared_argument_is_refused_by_name(arguments: JsonObject, names: str) -> None:
    with pytest.raises(MalformedCall, match="the tool declares no argument") as refusal:
        _arguments(arguments)
    assert names in str(refusal.value)
    assert len(str(refusal.value)) < 120


def test_an_undeclared_argument_passes_where_the_catalogue_allows_more() -> None:
    assert _arguments({"zzz": [1.0]}, additional=True).canonical == b'{"zzz":[1]}'


def test_arguments_that_only_a_reference_or_an_applicator_declares_are_declared() -> None:
    pinned = tool_taking(
        {
            "$ref": "#/$defs/base",
            "anyOf": [{"properties": {"b": TEXT}}, {"required": ["a"]}],
            "if": {"properties": {"c": FLAG}},
            "$defs": {"base": {"properties": {"a": TEXT}}},
        },
    )
    assert _arguments({"a": "x", "b": "y", "c": True}, pinned).value == {"a": "x", "b": "y", "c": True}


SECRET = "hunter2"


_INVALID: list[tuple[JsonObject, Json]] = [
    (TEXT, [SECRET]),
    ({"type": "string", "maxLength": 3}, SECRET),
    ({"type": "string", "pattern": "^x$"}, SECRET),
    ({"enum": ["a", "b"]}, SECRET),
    ({"const": "a"}, SECRET),
    (record(a=INTEGER), {"a": SECRET}),
    ({"type": "array", "uniqueItems": True}, [SECRET, SECRET]),
    ({"type": "array", "maxItems": 1}, [SECRET, 1]),
    ({"type": "array", "contains": INTEGER}, [SECRET]),
    ({"type": "array", "prefixItems": [{}], "items": False}, [1, SECRET]),
    ({"type": "array", "prefixItems": [{}], "unevaluatedItems": False}, [1, SECRET]),
    ({"not": TEXT}, SECRET),
    ({"anyOf": [INTEGER, FLAG]}, SECRET),
    ({"oneOf": [TEXT, {"minLength": 1}]}, SECRET),
    (record(a=record(b=INTEGER)), {"a": {"b": SECRET}}),
    ({"type": "object", "propertyNames": {"maxLength": 3}}, {SECRET: 1}),
    ({"type": "object", "additionalProperties": False}, {SECRET: 1}),
    ({"type": "object", "unevaluatedProperties": False}, {SECRET: 1}),
    ({"type": "object", "maxProperties": 0}, {"a": SECRET}),
]


@pytest.mark.parametrize(("schema", "value"), _INVALID)
def test_a_refusal_says_which_keyword_failed_and_never_repeats_what_was_sent(schema: JsonObject, value: Json) -> None:
    pinned = tool("t", {"x": schema})
    with pytest.raises(MalformedCall, match=r"^x") as refusal:
        _arguments({"x": value}, pinned)
    assert SECRET not in str(refusal.value)
    assert not refusal.value.__cause__


def test_a_refusal_stays_short_whatever_the_names_of_the_arguments() -> None:
    pinned = tool("t", {"x": {"type": "object", "additionalProperties": INTEGER}})
    with pytest.raises(MalformedCall) as refusal:
        _arguments({"x": {"k" * 100_000: "no number"}}, pinned)
    assert len(str(refusal.value)) < 1_000


def test_missing_arguments_are_refused_by_name() -> None:
    pinned = tool("t", {"customer_id": TEXT}, required=["customer_id"])
    with pytest.raises(MalformedCall, match="`required`: customer_id"):
        _arguments({}, pinned)


def test_arguments_are_not_shown_when_a_call_is_printed() -> None:
    found = _arguments({"note": SECRET})
    call = canonical_call("a", "run_1", LOOSE, found, {})
    assert SECRET not in repr(found) + repr(call)


def test_bringing_arguments_into_form_takes_no_exponential_time_for_a_branching_recursive_schema() -> None:
    expression: JsonObject = {
        "anyOf": [record(a={"$ref": "#/$defs/e"}), record(a={"$ref": "#/$defs/e"}, b=TEXT), NUMBER],
    }
    pinned = tool_taking({"properties": {"f": {"$ref": "#/$defs/e"}}, "$defs": {"e": expression}})
    nested: Json = 1.5
    for _ in range(28):
        nested = {"a": nested}
    with within(5_000_000), suppress(MalformedCall):  # too costly to check is an answer, too
        _arguments({"f": nested}, pinned)


def test_arguments_that_nest_too_deep_are_refused() -> None:
    deep: Json = 1
    for _ in range(32):
        deep = [deep]
    with pytest.raises(MalformedCall, match="deeper"):
        _arguments({"any": deep})


def test_half_of_a_surrogate_pair_in_an_argument_is_refused() -> None:
    with pytest.raises(MalformedCall, match="surrogate"):
        _arguments({"note": "\ud800"})


# The digest ---------------------------------------------------------------------------------------------

PAY = tool("pay", {"amount": NUMBER, "to": TEXT, "tags": TEXTS})


def _digest(
    *,
    agent: str = "a",
    run: str = "run_1",
    pinned: PinnedTool = PAY,
    arguments: JsonObject | None = None,
    meta: JsonObject | None = None,
) -> str:
    found = canonical_arguments(pinned, {"amount": 1, "to": "x"} if arguments is None else arguments, additional=False)
    return canonical_call(agent, run, pinned, found, {} if meta is None else meta).digest


def test_the_digest_is_sha256_over_the_domain_and_the_canonical_envelope() -> None:
    envelope = {
        "agent": "a",
        "run": "run_1",
        "upstream": "crm",
        "tool": "pay",
        "pin": PAY.pin,
        "arguments": {"amount": 0.5, "to": "€"},
        "meta": {"progressToken": "p"},
        "inputResponses": None,
    }
    expected = hashlib.sha256(b"interlock-call-v1" + rfc8785.dumps(envelope)).hexdigest()
    assert _digest(arguments={"to": "€", "amount": 0.5}, meta={"progressToken": "p"}) == expected


@pytest.mark.parametrize(
    "spelling",
    [b'{"to":"x","amount":1}', b'{"amount": 1.0, "to": "\\u0078"}', b'{"amount":10e-1,\n"to":"x"}'],
)
def test_spellings_of_one_call_share_a_digest(spelling: bytes) -> None:
    arguments = decode(spelling)
    assert isinstance(arguments, dict)
    assert _digest(arguments=arguments) == _digest()


def test_every_part_of_a_call_moves_its_digest() -> None:
    described = tool("pay", {"amount": NUMBER, "to": TEXT, "tags": TEXTS}, title="Pay")
    elsewhere = tool("pay", {"amount": NUMBER, "to": TEXT, "tags": TEXTS}, upstream="bank")
    renamed = tool("pay2", {"amount": NUMBER, "to": TEXT, "tags": TEXTS})
    digests = [
        _digest(),
        _digest(agent="b"),
        _digest(run="run_2"),
        _digest(pinned=described),
        _digest(pinned=elsewhere),
        _digest(pinned=renamed),
        _digest(arguments={"amount": 2, "to": "x"}),
        _digest(arguments={"amount": 1, "to": "x", "tags": []}),
        _digest(arguments={}),
        _digest(meta={"traceparent": "00-1"}),
    ]
    assert len(set(digests)) == len(digests)


def test_parts_cannot_be_moved_from_one_member_into_another() -> None:
    assert _digest(agent='a","run":"b') != _digest(agent="a", run="b")
    assert _digest(arguments={"to": "x"}, meta={"amount": 1}) != _digest(arguments={"to": "x", "amount": 1})
