"""Read a located YAML tree into frozen dataclasses; every mistake becomes a finding in its place.

The dataclasses are the single description of a file: they drive this reader, the JSON Schema for
editors (`editor_schema`) and the reference pages. A field is declared with `key(...)`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar, cast

from interlock.core.canonical import INT64_MAX, INT64_MIN
from interlock.core.errors import Finding
from interlock.core.files.located import Mapping, Node, Place, Scalar, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """What `key()` attaches to a dataclass field.

    Attributes:
        doc: One sentence for people; it becomes the description in the JSON Schema.
        minimum: Inclusive bound of a number, or of a list's length.
        maximum: Inclusive bound of a number.
        pattern: What a string must match in full.
        shape: What `pattern` means, in words, for error messages.
        name: The key in the file, where it cannot be a Python name.
    """

    doc: str
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    shape: str | None = None
    name: str | None = None


def key(doc: str, *, default: Any = MISSING, **rules: Any) -> Any:
    """Declare one key of a file; without a default it is required."""
    metadata = {"key": Key(doc, **rules)}
    if isinstance(default, dict | list):
        raise TypeError("defaults must be immutable")
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def file_key(item: dataclasses.Field[Any]) -> tuple[str, Key]:
    """The name in the file and the declaration of a dataclass field."""
    declared = cast(Key, item.metadata["key"])
    return declared.name or item.name, declared


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """A value read from a file, with the place of each of its parts.

    Attributes:
        file: Path as shown in findings.
        value: The typed value.
        places: From a key path such as `tools.allowed[1].name` to where it stands.
    """

    file: str
    value: T
    places: dict[str, Place]

    def finding(self, path: str, problem: str, expected: str = "", hint: str = "") -> Finding:
        """A finding at a key path, or at its nearest known ancestor."""
        place = self.place(path)
        return Finding(self.file, place.line, place.column, problem, expected, hint)

    def place(self, path: str) -> Place:
        while path not in self.places:
            shorter = max(path.rfind("."), path.rfind("["))
            if shorter <= 0:
                return self.places.get("", Place(0, 0))
            path = path[:shorter]
        return self.places[path]


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A hint that names the nearest valid name, or an empty string."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def read(file: str, node: Node | None, target: type[T], findings: list[Finding]) -> Located[T] | None:
    """Read `node` as `target`; everything wrong is among `findings` afterwards.

    Returns:
        None if there is no value. Beside an unknown key there is one, which must not be used except to
        look for more findings.
    """
    if node is None:
        if not findings:
            findings.append(Finding(file, 0, 0, "the file is empty", f"a {_title(target)}"))
        return None
    reader = _Reader(file, findings)
    value = reader.read(node, target, "", None)
    if reader.unusable:
        return None
    return Located(file, cast(T, value), reader.places)


def _title(target: type[Any]) -> str:
    return (target.__doc__ or target.__name__).partition(".")[0].partition("\n")[0].strip()


class _Reader:
    def __init__(self, file: str, findings: list[Finding]) -> None:
        self._file = file
        self._findings = findings
        self.places: dict[str, Place] = {}
        self.unusable = False

    def _report(self, place: Place, problem: str, expected: str, hint: str = "", *, usable: bool = False) -> None:
        self._findings.append(Finding(self._file, place.line, place.column, problem, expected, hint))
        self.unusable = self.unusable or not usable

    def read(self, node: Node, target: Any, path: str, rules: Key | None) -> Any:
        self.places[path] = node.place
        origin = typing.get_origin(target)
        if origin in (types.UnionType, typing.Union):
            return self._union(node, target, path, rules)
        if origin is tuple:
            return self._sequence(node, typing.get_args(target)[0], path, rules)
        if origin is dict:
            return self._map(node, typing.get_args(target)[1], path)
        if origin is Literal:
            return self._choice(node, typing.get_args(target), path)
        if dataclasses.is_dataclass(target):
            return self._record(node, cast("type[Any]", target), path)
        return self._scalar(node, target, path, rules)

    def _remember(self, node: Node, path: str) -> None:
        self.places[path] = node.place
        if isinstance(node, Mapping):
            for name, member in node.members.items():
                self._remember(member, f"{path}.{name}")
                self.places[f"{path}.{name}"] = node.keys[name]
        elif isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                self._remember(item, f"{path}[{index}]")

    def _union(self, node: Node, target: Any, path: str, rules: Key | None) -> Any:
        if is_raw(target):
            self._remember(node, path)
            return node
        # `X | None` is an optional key; further members are told apart by the kind of node.
        options = [option for option in typing.get_args(target) if option is not type(None)]
        chosen = next((option for option in options if _suits(node, option)), options[0])
        return self.read(node, chosen, path, rules)

    def _record(self, node: Node, target: type[Any], path: str) -> Any:
        if not isinstance(node, Mapping):
            self._report(node.place, f"{_shown(path)} is {_kind(node)}", "a mapping of keys")
            return None
        hints = typing.get_type_hints(target)
        collector = collecting_field(target)
        fields = {file_key(item)[0]: item for item in dataclasses.fields(target) if item is not collector}
        values: dict[str, Any] = {}
        collected: dict[str, Node] = {}
        for name, member in node.members.items():
            item = fields.get(name)
            below = f"{path}.{name}" if path else name
            if item is None and collector and re.match(_patterns(target), name):
                self._remember(member, below)
                self.places[below] = node.keys[name]
                collected[name] = member
                continue
            if item is None:
                known = [known_name for known_name in fields if known_name not in node.members]
                hint = did_you_mean(name, [*known, *_mended(target, name)]) or f"known keys: {', '.join(fields)}"
                self._report(
                    node.keys[name], f"unknown key {name!r} in {_shown(path)}", "a known key", hint, usable=True
                )
                continue
            values[item.name] = self.read(member, hints[item.name], below, file_key(item)[1])
            self.places[below] = node.keys[name]
        missing = False
        for name, item in fields.items():
            if name not in node.members and item.default is MISSING:
                self._report(node.place, f"{_shown(path)} lacks the key {name!r}", file_key(item)[1].doc)
                missing = True
        if missing:
            return None
        if collector:
            values[collector.name] = collected
        return target(**values)

    def _sequence(self, node: Node, element: Any, path: str, rules: Key | None) -> Any:
        if not isinstance(node, Sequence):
            self._report(node.place, f"{_shown(path)} is {_kind(node)}", "a list")
            return ()
        if rules and rules.minimum is not None and len(node.items) < rules.minimum:
            self._report(node.place, f"{_shown(path)} has {len(node.items)} items", f"at least {rules.minimum}")
        item_rules = dataclasses.replace(rules, minimum=None, maximum=None) if rules else None
        return tuple(self.read(item, element, f"{path}[{i}]", item_rules) for i, item in enumerate(node.items))

    def _map(self, node: Node, element: Any, path: str) -> Any:
        if not isinstance(node, Mapping):
            self._report(node.place, f"{_shown(path)} is {_kind(node)}", "a mapping of keys")
            return {}
        found: dict[str, Any] = {}
        for name, member in node.members.items():
            below = f"{path}.{name}" if path else name
            found[name] = self.read(member, element, below, None)
            self.places[below] = node.keys[name]
        return found

    def _choice(self, node: Node, options: tuple[Any, ...], path: str) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        for option in options:
            if value == option and type(value) is type(option):
                return option
        said = node.text if isinstance(node, Scalar) else _kind(node)
        names = [str(option) for option in options]
        hint = did_you_mean(said, names)
        self._report(node.place, f"{_shown(path)} is {_quoted(node)}", f"one of {', '.join(names)}", hint)
        return options[0]

    def _scalar(self, node: Node, target: Any, path: str, rules: Key | None) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if target is str and isinstance(value, str):
            return self._text(node, value, path, rules)
        if target is bool and isinstance(value, bool):
            return value
        if target is int and isinstance(value, int) and not isinstance(value, bool):
            return self._bounded(node, value, path, rules)
        if target is Decimal and isinstance(value, int | Decimal) and not isinstance(value, bool):
            return self._bounded(node, Decimal(value), path, rules)
        self._report(node.place, f"{_shown(path)} is {_quoted(node)}", _EXPECTED[target])
        return None

    def _text(self, node: Node, value: str, path: str, rules: Key | None) -> str:
        if rules and rules.pattern and not re.fullmatch(rules.pattern, value):
            self._report(node.place, f"{_shown(path)} is {_quoted(node)}", rules.shape or f"text like {rules.pattern}")
        elif not value.strip():
            self._report(node.place, f"{_shown(path)} is empty", "some text")
        return value

    def _bounded(self, node: Node, value: Any, path: str, rules: Key | None) -> Any:
        minimum = rules.minimum if rules and rules.minimum is not None else INT64_MIN
        maximum = rules.maximum if rules and rules.maximum is not None else INT64_MAX
        if value < minimum:
            self._report(node.place, f"{_shown(path)} is {value}", f"at least {minimum}")
        if value > maximum:
            self._report(node.place, f"{_shown(path)} is {value}", f"at most {maximum}")
        return value


def collecting_field(target: type[Any]) -> dataclasses.Field[Any] | None:
    """The field of a dataclass that takes the keys matching its `PATTERN_KEYS`, if it has one."""
    if not hasattr(target, "PATTERN_KEYS"):
        return None
    return next(item for item in dataclasses.fields(target) if item.metadata.get("collects"))


def is_raw(target: Any) -> bool:
    """Whether a field's type is `Node` (or `Node | None`): the tree itself, read later by its owner."""
    return Scalar in typing.get_args(target)


def _patterns(target: type[Any]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in target.PATTERN_KEYS)


def _mended(target: type[Any], name: str) -> list[str]:
    """The key with its mistyped beginning put right, where the target collects keys by their beginnings."""
    beginning, _, rest = name.partition("_")
    close = difflib.get_close_matches(beginning, getattr(target, "KEY_BEGINNINGS", ()), n=1, cutoff=0.6)
    return [f"{close[0]}_{rest}"] if close and rest else []


def _suits(node: Node, option: Any) -> bool:
    kind = typing.get_origin(option) or option
    if isinstance(node, Sequence):
        return kind is tuple
    if isinstance(node, Mapping):
        return kind is dict or dataclasses.is_dataclass(kind)
    return kind is not tuple and kind is not dict and not dataclasses.is_dataclass(kind)


_EXPECTED: dict[Any, str] = {
    str: "text (quote it if it looks like a number or a boolean)",
    bool: "true or false",
    int: "a whole number",
    Decimal: "a number",
}


def _shown(path: str) -> str:
    return f"`{path}`" if path else "the file"


def _kind(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return _quoted(node)


def _quoted(node: Node) -> str:
    if not isinstance(node, Scalar):
        return _kind(node)
    if node.value is None:
        return "empty"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    return repr(text) if isinstance(node.value, str) else text
