"""Located YAML: a plain subset of YAML 1.2, bounded, every node with its place."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interlock.core.canonical import Json
from interlock.core.files.located import (
    MAX_FILE_BYTES,
    MAX_FILE_DEPTH,
    Mapping,
    Node,
    Place,
    Scalar,
    Sequence,
    parse,
    to_json,
)
from support.limits import within


def _tree(text: str) -> Node:
    node, findings = parse("f.yaml", text.encode())
    assert not findings
    assert node is not None
    return node


def _member(text: str, name: str = "x") -> Node:
    tree = _tree(text)
    assert isinstance(tree, Mapping)
    return tree.members[name]


def _value(scalar: str) -> object:
    found = _member(f"x: {scalar}")
    assert isinstance(found, Scalar)
    return found.value


def _finding(data: bytes | str) -> str:
    node, findings = parse("f.yaml", data.encode() if isinstance(data, str) else data)
    assert node is None
    [finding] = findings
    return str(finding)


_SCALARS: list[tuple[str, object]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("true", True),
    ("FALSE", False),
    ("0", 0),
    ("-17", -17),
    ("+4", 4),
    ("012", "012"),
    ("2.00", Decimal("2.00")),
    (".5", Decimal("0.5")),
    ("1e3", Decimal(1000)),
    ("0.1", Decimal("0.1")),
    ("text", "text"),
    # What YAML 1.1 reads as booleans, octal, sexagesimal, dates or grouped digits is text in 1.2.
    ("yes", "yes"),
    ("No", "No"),
    ("on", "on"),
    ("y", "y"),
    ("tRUE", "tRUE"),
    ("nULL", "nULL"),
    ("1_000", "1_000"),
    ("12:30:45", "12:30:45"),
    ("2026-01-01", "2026-01-01"),
    # No number of any rule: text, so that a rule that wants a number refuses it.
    (".inf", ".inf"),
    (".nan", ".nan"),
    ("0x1F", "0x1F"),
    ("1e999", "1e999"),
    ("9" * 50, "9" * 50),
    ("=", "="),
    # Quoted is always text.
    ('"true"', "true"),
    ("'12'", "12"),
    ('""', ""),
    ("'~'", "~"),
]


@pytest.mark.parametrize(("scalar", "value"), _SCALARS)
def test_a_scalar_is_what_yaml_1_2_says(scalar: str, value: object) -> None:
    found = _value(scalar)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("number", ["1e9999999999999999999999", "1e-9999999999999999999999", "0e99999999999999999999"])
def test_a_number_with_an_absurd_exponent_is_text_or_a_number_and_no_crash(number: str) -> None:
    assert isinstance(_value(number), str | Decimal)


def test_a_block_scalar_is_text_whatever_it_looks_like() -> None:
    assert _value("|\n  12") == "12"


def test_every_node_and_key_knows_its_line_and_column() -> None:
    tree = _tree("a:\n  - é: [1, x]\n    b: {c: ~}\n")
    assert isinstance(tree, Mapping)
    assert tree.keys["a"] == Place(1, 1)
    items = tree.members["a"]
    assert isinstance(items, Sequence)
    assert items.place == Place(2, 3)
    [first] = items.items
    assert isinstance(first, Mapping)
    assert first.keys == {"é": Place(2, 5), "b": Place(3, 5)}
    inner = first.members["é"]
    assert isinstance(inner, Sequence)
    assert [item.place for item in inner.items] == [Place(2, 9), Place(2, 12)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_places_are_the_same_with_the_line_endings_of_any_editor(newline: str) -> None:
    tree = _tree(newline.join(["# c", "a: 1", "b: 2"]))
    assert isinstance(tree, Mapping)
    assert tree.keys["b"] == Place(3, 1)


def test_a_byte_order_mark_is_skipped_and_moves_no_column() -> None:
    tree = _tree("\ufeffa: 1")
    assert isinstance(tree, Mapping)
    assert tree.keys == {"a": Place(1, 1)}


def test_members_keep_the_order_of_the_file() -> None:
    tree = _tree("b: 1\na: 2\nc: 3\n")
    assert isinstance(tree, Mapping)
    assert list(tree.members) == ["b", "a", "c"]


def test_a_tree_turns_into_plain_json() -> None:
    expected: Json = {"a": [1, 2.5, "x", None, True], "b": {"1": "2"}}
    assert to_json(_tree("a: [1, 2.5, x, ~, true]\nb: {1: '2'}")) == expected


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a: &x 1", "f.yaml:1:4: anchors are not supported; expected a plain value"),
        ("- &x [1]", "f.yaml:1:3: anchors are not supported; expected a plain value"),
        ("a: *x", "f.yaml:1:4: aliases are not supported; expected the value itself"),
        ("a: !!str 1", "f.yaml:1:4: tags are not supported; expected a plain value"),
        ("a: ! 1", "f.yaml:1:4: tags are not supported; expected a plain value"),
        ("a:\n  !x {}", "f.yaml:2:3: tags are not supported; expected a plain value"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document starts here; expected one document a file"),
        ("a: 1\n--- \n", "f.yaml:2:1: a second document starts here; expected one document a file"),
        ("[a]: 1", "f.yaml:1:1: a key must be a single word or string; expected a plain key"),
        ("? {a: b}\n: 1", "f.yaml:1:3: a key must be a single word or string; expected a plain key"),
    ],
)
def test_what_yaml_offers_and_policies_do_not_need_is_refused_in_its_place(text: str, finding: str) -> None:
    assert _finding(text) == finding


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\n\tb: 2", "2:"),
        ("a:\n  b: 1\n c: 2", "3:2"),
        ("a: [1, 2\n", "2:1"),
        ("a: 'x\n", "2:1"),
        ("a: b: c", "1:5"),
        ("a: @x", "1:4"),
        ("a: }", "1:4"),
    ],
)
def test_what_is_not_yaml_is_refused_where_it_goes_wrong(text: str, place: str) -> None:
    found = _finding(text)
    assert found.startswith(f"f.yaml:{place}")
    assert "not YAML: " in found


def test_a_key_that_appears_twice_is_a_finding_and_reading_goes_on() -> None:
    node, findings = parse("f.yaml", b"a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert node is not None
    assert to_json(node) == {"a": 1, "b": {"c": 1}}
    assert [str(finding) for finding in findings] == [
        "f.yaml:2:11: the key 'c' appears twice; expected each key once; it first appears at line 2",
        "f.yaml:3:1: the key 'a' appears twice; expected each key once; it first appears at line 1",
    ]


@pytest.mark.parametrize("text", ["a: 1\n'a': 2", "1: x\n'1': y", "~: x\n'~': y"])
def test_keys_are_compared_as_they_are_written(text: str) -> None:
    _, findings = parse("f.yaml", text.encode())
    assert [finding.line for finding in findings] == [2]


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert to_json(_tree("<<: {a: 1}")) == {"<<": {"a": 1}}


def test_what_is_not_utf8_is_refused_at_its_line() -> None:
    assert _finding(b"a: 1\nb: \xff\n") == "f.yaml:2:1: the file is not UTF-8"


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\ufffe"])
def test_control_characters_are_refused(character: str) -> None:
    assert "not YAML" in _finding(f"a: x{character}")


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029", "\r"])
def test_no_line_may_begin_where_an_editor_shows_none(character: str) -> None:
    # YAML 1.1 breaks lines at these characters, and editors do not: what looks like the rest of a comment would
    # be a key.
    found = _finding(f"x: y\na: 1 # harmless{character}b: 2\n")
    assert found.startswith(f"f.yaml:2:16: the line is broken by U+{ord(character):04X}")


def test_a_file_of_too_many_bytes_is_refused() -> None:
    assert _finding(b"#" * (MAX_FILE_BYTES + 1)).startswith("f.yaml:0:0: the file has 262145 bytes")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_has_no_tree(text: str) -> None:
    assert parse("f.yaml", text.encode()) == (None, [])


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_tree_may_nest_to_the_limit_and_not_one_level_deeper(opening: str) -> None:
    closing = {"[": "]", "{a: ": "}", "- ": ""}[opening]
    _tree(opening * MAX_FILE_DEPTH + "x" + closing * MAX_FILE_DEPTH)
    assert "nested deeper than 32 levels" in _finding(
        opening * (MAX_FILE_DEPTH + 1) + "x" + closing * (MAX_FILE_DEPTH + 1)
    )


@pytest.mark.parametrize("unit", ["[", "{", "- ", "? ", "a: ", "[[],", "!", "&", "%", "'", "\\", "? a\n", "[a,", "{a,"])
def test_hostile_repetition_is_answered_with_bounded_work(unit: str) -> None:
    with within(3_000_000):
        parse("f.yaml", (unit * MAX_FILE_BYTES)[: MAX_FILE_BYTES // 4].encode())
