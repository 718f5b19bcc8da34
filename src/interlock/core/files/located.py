"""YAML as a tree whose every node knows its line and column, with nothing surprising left in it.

A subset of YAML 1.2 (core schema): no anchors, aliases, tags, merge keys, or second documents;
duplicate keys are errors; `yes` and `no` are strings. Size and depth are bounded while the events
stream in, before any tree exists, so that hostile text cannot exhaust memory or stack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import yaml

from interlock.core.canonical import Json
from interlock.core.errors import Finding

MAX_FILE_BYTES: Final = 256 * 1024
MAX_FILE_DEPTH: Final = 32

_NULL = re.compile(r"(null|Null|NULL|~|)")
_TRUE = re.compile(r"(true|True|TRUE)")
_FALSE = re.compile(r"(false|False|FALSE)")
# No leading zeros: 010 is ten to some readers of YAML and eight to others.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
# Three digits of exponent hold every double; Decimal refuses longer ones with an error of its own.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(?:0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
# YAML 1.1 breaks lines here, editors do not: what looks like the rest of a comment would be a key.
_HIDDEN_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node begins: 1-based line and column."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf. `value` is None, bool, int, Decimal or str; `text` is what the file says."""

    place: Place
    text: str
    value: None | bool | int | Decimal | str


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Members in file order; keys are strings, each with its own place."""

    place: Place
    members: dict[str, Node]
    keys: dict[str, Place]


Node: TypeAlias = Scalar | Sequence | Mapping


class _Refused(Exception):
    def __init__(self, place: Place, problem: str, expected: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.place, self.problem, self.expected, self.hint = place, problem, expected, hint


def parse(file: str, data: bytes) -> tuple[Node | None, list[Finding]]:
    """Parse one file.

    Returns:
        The tree, or None with the findings that prevented it. Duplicate keys are findings of a tree
        that is otherwise returned, so that one run reports everything.
    """
    findings: list[Finding] = []
    if len(data) > MAX_FILE_BYTES:
        return None, [Finding(file, 0, 0, f"the file has {len(data)} bytes", f"at most {MAX_FILE_BYTES}")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Finding(file, line, 1, "the file is not UTF-8")]
    if hidden := _HIDDEN_BREAK.search(text):
        line = text.count("\n", 0, hidden.start()) + 1
        column = hidden.start() - text.rfind("\n", 0, hidden.start())
        problem = f"the line is broken by U+{ord(hidden.group()):04X}, which editors do not show as a break"
        return None, [Finding(file, line, column, problem, "line feeds, or an escape in a quoted text")]
    try:
        return _Builder(file, findings).build(yaml.parse(text, Loader=_Loader)), findings
    except _Refused as refused:
        place = refused.place
        findings.append(Finding(file, place.line, place.column, refused.problem, refused.expected, refused.hint))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        findings.append(Finding(file, line, column, f"not YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:
        findings.append(Finding(file, 0, 0, f"not YAML: {str(error).partition(chr(10))[0]}"))
    return None, findings


class _Builder:
    """Turns the event stream into nodes with an explicit stack, so depth is checked and not suffered."""

    def __init__(self, file: str, findings: list[Finding]) -> None:
        self._file = file
        self._findings = findings

    def build(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        stack: list[_Open] = []
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Refused(_place(event), "a second document starts here", "one document a file")
                continue
            node = self._event(event, stack)
            if node is None:
                continue
            if stack:
                stack[-1].add(node)
            else:
                root = node
        return root

    def _event(self, event: Any, stack: list[_Open]) -> Node | None:
        """Return a finished node, or None when the event only opens one or is punctuation."""
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(_place(event), "aliases are not supported", "the value itself")
        if isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                raise _Refused(_place(event), "anchors are not supported", "a plain value")
            tag = cast("str | None", getattr(event, "tag", None))
            if tag is not None:
                raise _Refused(_place(event), "tags are not supported", "a plain value")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(_place(event), event.value, _resolve(event))
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            if len(stack) >= MAX_FILE_DEPTH:
                raise _Refused(_place(event), f"nested deeper than {MAX_FILE_DEPTH} levels", "a flatter file")
            mapping = isinstance(event, yaml.MappingStartEvent)
            stack.append(_Open(_place(event), mapping, self._file, self._findings))
            return None
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            return stack.pop().close()
        return None


class _Open:
    """A sequence or mapping that is still being read."""

    def __init__(self, place: Place, mapping: bool, file: str, findings: list[Finding]) -> None:
        self._place, self._mapping, self._file, self._findings = place, mapping, file, findings
        self._items: list[Node] = []
        self._members: dict[str, Node] = {}
        self._keys: dict[str, Place] = {}
        self._key: Scalar | None = None

    def add(self, node: Node) -> None:
        if not self._mapping:
            self._items.append(node)
        elif self._key is None:
            if not isinstance(node, Scalar):
                raise _Refused(node.place, "a key must be a single word or string", "a plain key")
            self._key = node
        else:
            self._member(self._key, node)
            self._key = None

    def _member(self, key: Scalar, node: Node) -> None:
        if key.text in self._members:
            first = self._keys[key.text]
            self._findings.append(
                Finding(
                    self._file,
                    key.place.line,
                    key.place.column,
                    f"the key {key.text!r} appears twice",
                    "each key once",
                    f"it first appears at line {first.line}",
                )
            )
            return
        self._members[key.text] = node
        self._keys[key.text] = key.place

    def close(self) -> Node:
        if self._mapping:
            return Mapping(self._place, self._members, self._keys)
        return Sequence(self._place, tuple(self._items))


def _place(event: Any) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1)


def _resolve(event: yaml.ScalarEvent) -> None | bool | int | Decimal | str:
    """YAML 1.2 core schema for plain scalars; a quoted scalar is always a string."""
    text = event.value
    if not event.implicit[0]:
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text):
        # Python bounds the digits it converts; a longer number is no number that anything here accepts.
        return int(text) if len(text) <= 40 else text
    if _FLOAT.fullmatch(text) and len(text) <= 64:
        number = Decimal(text)
        return number if math.isfinite(float(number)) else text
    return text


def to_json(node: Node) -> Json:
    """The plain JSON value of a node; decimals become doubles."""
    if isinstance(node, Scalar):
        return float(node.value) if isinstance(node.value, Decimal) else node.value
    if isinstance(node, Sequence):
        return [to_json(item) for item in node.items]
    return {key: to_json(member) for key, member in node.members.items()}
