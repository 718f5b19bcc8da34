"""Canonical JSON: RFC 8785, with integers in full up to 64 bit."""

from __future__ import annotations

import math
import random
import struct

import pytest
import rfc8785

from interlock.core.canonical import INT64_MAX, INT64_MIN, Json, Unrepresentable, decode, encode, es_number


def _doubles(count: int) -> list[float]:
    """Any bit patterns, and numbers of everyday size."""
    chance = random.Random(8785)
    bits = [struct.unpack("<d", chance.getrandbits(64).to_bytes(8, "little"))[0] for _ in range(count)]
    everyday = [chance.choice((1, -1)) * chance.random() * 10.0 ** chance.randint(-25, 25) for _ in range(count)]
    return [number for number in (*bits, *everyday) if math.isfinite(number)]


def _value(chance: random.Random, depth: int) -> Json:
    kind = chance.randint(0, 7 if depth else 5)
    if kind == 6:
        return [_value(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    if kind == 7:
        return {_text(chance): _value(chance, depth - 1) for _ in range(chance.randint(0, 4))}
    scalars: list[Json] = [
        None,
        chance.random() < 0.5,
        chance.randint(-(2**53) + 1, 2**53 - 1),
        chance.uniform(-1e6, 1e6),
        _text(chance),
        "",
    ]
    return scalars[kind]


def _text(chance: random.Random) -> str:
    return "".join(
        chance.choice('az"\\/\n\r\t\b\f\x00\x1f\x7f \u00e9\u2028\ud7ff\ue000\uffff\U0001f600\U0010ffff')
        for _ in range(5)
    )


def test_doubles_are_written_as_the_reference_implementation_writes_them() -> None:
    for number in _doubles(5_000):
        assert es_number(number).encode() == rfc8785.dumps(number), number


def test_any_value_is_written_as_the_reference_implementation_writes_it() -> None:
    chance = random.Random(1)
    for _ in range(2_000):
        value = _value(chance, 4)
        assert encode(value) == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]  # its Json is invariant


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (1e21, "1e+21"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (-1.5e300, "-1.5e+300"),
        (-2.5, "-2.5"),
        (0.0001, "0.0001"),
        (-0.000015, "-0.000015"),
        (9999999999999998.0, "9999999999999998"),
        (1e16, "10000000000000000"),
        (-1.25e17, "-125000000000000000"),
    ],
)
def test_doubles_have_the_forms_of_ecmascript(number: float, text: str) -> None:
    assert es_number(number) == text


@pytest.mark.parametrize("number", [INT64_MAX, INT64_MIN, 2**53 + 1, -(2**53) - 1])
def test_integers_are_written_in_full_up_to_64_bit(number: int) -> None:
    assert encode([number]) == b"[%d]" % number


@pytest.mark.parametrize("number", [INT64_MAX + 1, INT64_MIN - 1])
@pytest.mark.parametrize("beside", [None, 0.5])
def test_integers_beyond_64_bit_have_no_canonical_form(number: int, beside: Json) -> None:
    with pytest.raises(Unrepresentable, match="beyond 64 bit"):
        encode({"a": [beside, number]})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_doubles_that_are_not_finite_have_no_canonical_form(number: float) -> None:
    with pytest.raises(Unrepresentable, match="not finite"):
        encode({"a": number})


@pytest.mark.parametrize("value", [["\ud800"], {"\udfff": 1}, ["\ud800", 0.5], {"\ud83d": 0.5, "😀": 1}])
def test_half_of_a_surrogate_pair_has_no_canonical_form(value: Json) -> None:
    with pytest.raises(Unrepresentable, match="surrogate"):
        encode(value)


def test_keys_are_sorted_by_their_utf16_code_units_and_not_by_code_points() -> None:
    # U+1F600 begins with the code unit D83D, which sorts before U+FFFF.
    assert encode({"\uffff": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\uffff":1}'.encode()


def test_keys_are_sorted_the_same_with_and_without_doubles_beside_them() -> None:
    with_double = encode({"b": 0.5, "a": {"\uffff": 1, "\U0001f600": 2}})
    assert with_double == '{"a":{"\U0001f600":2,"\uffff":1},"b":0.5}'.encode()


@pytest.mark.parametrize("text", [b"1", b"1.0", b"10e-1", b"0.1e1", b"1.000"], ids=lambda text: text.decode())
def test_every_spelling_of_a_number_has_one_canonical_form(text: bytes) -> None:
    assert encode(decode(text)) == b"1"
