"""Strict JSON: every text that two parsers could read differently is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.canonical import (
    INT64_MAX,
    INT64_MIN,
    MAX_DEPTH,
    Json,
    Unrepresentable,
    check_depth,
    count_values,
    decode,
)
from support.examples import tries


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b" [true, false] ", [True, False]),
        (b'{"a": {"b": []}}', {"a": {"b": []}}),
        (b'"\\ud83d\\ude00 \\u00e9 \\/"', "😀 é /"),
        ('{"ключ": "😀"}'.encode(), {"ключ": "😀"}),
        (b"9223372036854775807", INT64_MAX),
        (b"-9223372036854775808", INT64_MIN),
        (b"-0", 0),
    ],
)
def test_plain_json_is_read_as_every_parser_reads_it(text: bytes, value: Json) -> None:
    assert decode(text) == value


def test_a_number_with_fraction_or_exponent_is_a_double_and_any_other_an_integer() -> None:
    assert [type(number) for number in (decode(b"1.0"), decode(b"1e2"), decode(b"12"))] == [float, float, int]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"a": 1, "a": 1}', id="in the root"),
        pytest.param(b'[{"x": [{"a": 1, "b": 2, "a": 3}]}]', id="deep down"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="one of them escaped"),
    ],
)
def test_a_key_that_appears_twice_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(Unrepresentable, match='the key "a" appears twice'):
        decode(text)


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"1e400", b"-1e999", b"[1E+309]"])
def test_numbers_that_no_double_holds_are_refused(text: bytes) -> None:
    with pytest.raises(Unrepresentable, match="number"):
        decode(text)


@pytest.mark.parametrize(
    "text",
    [b"9223372036854775808", b"-9223372036854775809", b"[18446744073709551615]", b"1" * 5000, b"-" + b"9" * 20],
)
def test_integers_beyond_64_bit_are_refused(text: bytes) -> None:
    with pytest.raises(Unrepresentable, match="beyond 64 bit"):
        decode(text)


@pytest.mark.parametrize("text", [b'"\\ud800"', b'{"\\udc00": 1}', b'["\\ude00\\ud83d"]', b'"\\ud83dx"'])
def test_half_of_a_surrogate_pair_is_refused(text: bytes) -> None:
    with pytest.raises(Unrepresentable, match="surrogate"):
        decode(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b"{} {}", id="two texts"),
        pytest.param(b"[1,]", id="a trailing comma"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b"01", id="a leading zero"),
        pytest.param(b"+1", id="a leading plus"),
        pytest.param(b"1_000", id="an underscore"),
        pytest.param("1٣".encode(), id="a digit of another script"),
        pytest.param(b'"\x1f"', id="a raw control character"),
        pytest.param(b"\xa0[]", id="a byte that is not UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="a surrogate in UTF-8"),
        pytest.param(b"[1]\x00", id="a trailing NUL"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: bytes) -> None:
    with pytest.raises(Unrepresentable):
        decode(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_text_may_nest_to_the_limit_and_not_one_level_deeper(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    innermost = b"" if opening == b"[" else b"1"
    decode(opening * MAX_DEPTH + innermost + closing * MAX_DEPTH)
    with pytest.raises(Unrepresentable, match="deeper than 32"):
        decode(opening * (MAX_DEPTH + 1) + innermost + closing * (MAX_DEPTH + 1))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_absurd_nesting_is_refused_and_not_suffered(opening: bytes) -> None:
    with pytest.raises(Unrepresentable):
        decode(opening * 500_000)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert decode(b"[" + b"[]," * 99 + b"[]]") == [[]] * 100


def test_the_depth_of_the_deepest_branch_counts() -> None:
    deep: Json = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(Unrepresentable):
        check_depth([1, {"a": 2}, deep])


@pytest.mark.parametrize("key", ["__extn", "__entity", "\\u005f_extn"])
def test_cedars_escapes_are_refused_as_keys_at_any_depth(key: str) -> None:
    with pytest.raises(Unrepresentable, match="reserved"):
        decode(f'{{"a": [{{"{key}": {{"fn": "decimal", "arg": "1.0"}}}}]}}'.encode())


def test_a_refusal_shows_a_long_key_shortened() -> None:
    with pytest.raises(Unrepresentable) as refusal:
        decode(b'{"%s": 1, "%s": 2}' % (b"k" * 5000, b"k" * 5000))
    assert len(str(refusal.value)) < 120


def test_a_refusal_never_repeats_a_value() -> None:
    with pytest.raises(Unrepresentable) as refusal:
        decode(b'{"password": "hunter2", "a": NaN}')
    assert "hunter2" not in str(refusal.value)


def _values(value: Json) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, below))


tricky = st.text(alphabet='\\",[]{}: a\n', max_size=8)


@tries(300)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | tricky,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=4),
        max_leaves=12,
    ),
    spaces=st.sampled_from([None, 0, 1]),
)
def test_values_are_counted_without_parsing(value: Json, spaces: int | None) -> None:
    assert count_values(json.dumps(value, indent=spaces).encode()) == _values(value)


def test_blanks_in_what_is_empty_hold_no_value() -> None:
    assert count_values(b'[ { \n }, [\t ], "" ]') == 4


def test_a_text_may_hold_as_many_values_as_it_is_given_and_no_more() -> None:
    assert decode(b'{"a": [1, 2], "b": {}}', max_values=5) == {"a": [1, 2], "b": {}}
    with pytest.raises(Unrepresentable, match="more than 4 values"):
        decode(b'{"a": [1, 2], "b": {}}', max_values=4)


def test_a_long_text_is_one_value() -> None:
    text = ',[{"\\' * 10_000
    assert decode(json.dumps([text]).encode(), max_values=2) == [text]
