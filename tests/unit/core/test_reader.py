"""Reading a file into typed values: every mistake at once, each in its place, with what was expected."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Literal

import pytest

from interlock.core.errors import Finding
from interlock.core.files.located import Node, Place, parse, to_json
from interlock.core.files.reader import Located, did_you_mean, key, read


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a door."""

    PATTERN_KEYS: ClassVar[dict[str, Any]] = {"^(open|shut)_.+$": {}}

    kind: Literal["bolt", "latch"] = key("what sort of lock")
    keys: int = key("how many keys there are", default=1, minimum=1, maximum=9)
    rest: dict[str, Node] = field(default_factory=dict[str, Node], metadata={"collects": True})


@dataclass(frozen=True, slots=True)
class Door:
    """A door. With details that are not shown."""

    name: str = key("what it is called", pattern=r"[a-z]+", shape="lower-case letters")
    locks: tuple[Lock, ...] = key("its locks", default=())
    weights: dict[str, Decimal] | None = key("weights by part", default=None)
    tags: tuple[str, ...] = key("labels", default=(), minimum=1, pattern=r"\S+", shape="one word")
    is_open: bool = key("whether it stands open", default=False, name="open")
    notes: Node | None = key("anything", default=None)


def _read(text: str) -> tuple[Located[Door] | None, list[str]]:
    node, findings = parse("door.yaml", text.encode())
    located = read("door.yaml", node, Door, findings)
    return located, [str(finding) for finding in findings]


def _door(text: str) -> Located[Door]:
    located, findings = _read(text)
    assert not findings
    assert located is not None
    return located


def test_a_file_becomes_typed_values() -> None:
    door = _door(
        "name: front\nopen: true\ntags: [a, b]\nweights: {frame: 2.50, leaf: 7}\n"
        "locks:\n  - {kind: bolt, keys: 3, open_by: hand}\n  - kind: latch\nnotes: {x: [1]}\n"
    ).value
    assert (door.name, door.is_open, door.tags) == ("front", True, ("a", "b"))
    assert door.weights == {"frame": Decimal("2.50"), "leaf": Decimal(7)}
    assert [(lock.kind, lock.keys) for lock in door.locks] == [("bolt", 3), ("latch", 1)]
    assert [to_json(node) for node in door.locks[0].rest.values()] == ["hand"]
    assert door.notes is not None
    assert to_json(door.notes) == {"x": [1]}


def test_keys_that_are_left_out_have_their_defaults() -> None:
    assert _door("name: back").value == Door("back")


def test_every_part_knows_its_place_and_a_missing_one_that_of_its_parent() -> None:
    door = _door("name: front\nlocks:\n  - kind: bolt\n    open_by: hand\nnotes:\n  x: [1, 2]\n")
    assert door.place("locks[0].kind") == Place(3, 5)
    assert door.place("locks[0].open_by") == Place(4, 5)
    assert door.place("notes.x[1]") == Place(6, 10)
    assert door.place("locks[0].keys") == door.place("locks[0]") == Place(3, 5)
    assert door.place("nothing.of[3].this") == Place(1, 1)
    assert door.finding("locks[0].kind", "rusty", "oil", "ask") == Finding("door.yaml", 3, 5, "rusty", "oil", "ask")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "0:0: the file is empty; expected"),
        ("[a]", "1:1: the file is a list; expected a mapping of keys"),
        ("front", "1:1: the file is 'front'; expected a mapping of keys"),
        ("open: true", "1:1: the file lacks the key 'name'; expected what it is called"),
        ("name: x\nlocks: [{keys: 2}]", "2:9: `locks[0]` lacks the key 'kind'; expected what sort of lock"),
        ("name: x\nnaem: y", "2:1: unknown key 'naem' in the file; expected a known key; known keys: name, locks, "),
        ("nmae: x\nname: x", "1:1: unknown key 'nmae' in the file; expected a known key; known keys: "),
        ("name: x\ntgas: [x]", "2:1: unknown key 'tgas' in the file; expected a known key; did you mean 'tags'?"),
        (
            "name: x\nis_open: true",
            "2:1: unknown key 'is_open' in the file; expected a known key; did you mean 'open'?",
        ),
        ("name: x\nlocks: [{kind: bolt, opened: 1}]", "2:22: unknown key 'opened' in `locks[0]`; expected a known key"),
        ("name: 12", "1:7: `name` is 12; expected text (quote it if it looks like a number or a boolean)"),
        ("name: true", "1:7: `name` is true; expected text (quote it if it looks like a number or a boolean)"),
        ("name:", "1:6: `name` is empty; expected text (quote it if it looks like a number or a boolean)"),
        ("name: [x]", "1:7: `name` is a list; expected text (quote it if it looks like a number or a boolean)"),
        ("name: {x: y}", "1:7: `name` is a mapping; expected text (quote it if it looks like a number or a boolean)"),
        ("name: Front", "1:7: `name` is 'Front'; expected lower-case letters"),
        ("name: ''", "1:7: `name` is ''; expected lower-case letters"),
        ('name: "x\\n"', "1:7: `name` is 'x\\n'; expected lower-case letters"),
        ("name: x\nopen: yes", "2:7: `open` is 'yes'; expected true or false"),
        ("name: x\nopen: 1", "2:7: `open` is 1; expected true or false"),
        ("name: x\nopen: ~", "2:7: `open` is empty; expected true or false"),
        ("name: x\nlocks: {kind: bolt}", "2:8: `locks` is a mapping; expected a list"),
        ("name: x\nlocks: [bolt]", "2:9: `locks[0]` is 'bolt'; expected a mapping of keys"),
        ("name: x\nlocks:", "2:7: `locks` is empty; expected a list"),
        (
            "name: x\nlocks: [{kind: blot}]",
            "2:16: `locks[0].kind` is 'blot'; expected one of bolt, latch; did you mean 'bolt'?",
        ),
        ("name: x\nlocks: [{kind: [bolt]}]", "2:16: `locks[0].kind` is a list; expected one of bolt, latch"),
        ("name: x\nlocks: [{kind: bolt, keys: 0}]", "2:28: `locks[0].keys` is 0; expected at least 1"),
        ("name: x\nlocks: [{kind: bolt, keys: 10}]", "2:28: `locks[0].keys` is 10; expected at most 9"),
        ("name: x\nlocks: [{kind: bolt, keys: 2.0}]", "2:28: `locks[0].keys` is 2.0; expected a whole number"),
        ("name: x\nlocks: [{kind: bolt, keys: '2'}]", "2:28: `locks[0].keys` is '2'; expected a whole number"),
        ("name: x\nlocks: [{kind: bolt, keys: true}]", "2:28: `locks[0].keys` is true; expected a whole number"),
        ("name: x\nweights: {leaf: heavy}", "2:17: `weights.leaf` is 'heavy'; expected a number"),
        ("name: x\nweights: {leaf: true}", "2:17: `weights.leaf` is true; expected a number"),
        ("name: x\nweights: [1]", "2:10: `weights` is a list; expected a mapping of keys"),
        ("name: x\ntags: []", "2:7: `tags` has 0 items; expected at least 1"),
        ("name: x\ntags: [a, 'b c']", "2:11: `tags[1]` is 'b c'; expected one word"),
        ("name: x\ntags: [a, 7]", "2:11: `tags[1]` is 7; expected text (quote it if"),
        ("name: x\ntags: a", "2:7: `tags` is 'a'; expected a list"),
    ],
)
def test_a_mistake_is_reported_in_its_place_with_what_was_expected(text: str, finding: str) -> None:
    located, findings = _read(text)
    # Beside an unknown key the rest can be looked at, so that its mistakes are said at once too.
    assert (located is None) == ("unknown key" not in finding)
    [found] = findings
    assert found.startswith(f"door.yaml:{finding}")


def test_all_mistakes_are_reported_at_once() -> None:
    _, findings = _read("name: Front\nopen: maybe\ntags: []\nlocks: [{}, {kind: bolt, keys: x}]\nwieghts: {}\n")
    assert [finding.split(": ")[0] for finding in findings] == [
        "door.yaml:1:7",
        "door.yaml:2:7",
        "door.yaml:3:7",
        "door.yaml:4:9",
        "door.yaml:4:32",
        "door.yaml:5:1",
    ]


def test_a_duplicate_key_is_reported_beside_the_mistakes_of_the_rest() -> None:
    _, findings = _read("name: x\nname: y\nopen: maybe")
    assert [finding.partition(";")[0] for finding in findings] == [
        "door.yaml:2:1: the key 'name' appears twice",
        "door.yaml:3:7: `open` is 'maybe'",
    ]


def test_a_long_wrong_value_is_shown_shortened() -> None:
    _, [finding] = _read(f"name: {'X' * 500}")
    assert len(finding) < 150


@pytest.mark.parametrize(
    ("wrong", "hint"), [("tgas", "did you mean 'tags'?"), ("locs", "did you mean 'locks'?"), ("zzzz", ""), ("", "")]
)
def test_a_hint_names_the_nearest_valid_name_or_nothing(wrong: str, hint: str) -> None:
    assert did_you_mean(wrong, ["tags", "locks"]) == hint


def test_a_mutable_default_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError):
        key("x", default=[])


def test_a_finding_reads_as_one_line() -> None:
    assert str(Finding("a.yaml", 3, 7, "wrong")) == "a.yaml:3:7: wrong"
    assert str(Finding("a.yaml", 3, 7, "wrong", "right", "try it")) == "a.yaml:3:7: wrong; expected right; try it"
