"""Checks: the constraints of an agent file, evaluated exactly, one fact each in `context.checks`.

Every check is total: whatever the arguments are, it answers true or false and never raises. Two rules
hold for all of them: an argument that is left out (or null) fails, and so does an empty list, because
a tool may read "none given" as "all".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from interlock.core.canonical import Json, JsonObject
from interlock.core.policy.matching import glob_match, host_matches, is_under
from interlock.core.schema_check import SchemaValidator


class Check(Protocol):
    """One fact about a call's arguments.

    Attributes:
        key: Name of the fact: the key path in the agent file.
        accepted: What would be accepted, for the agent and the operator; never the value sent.
    """

    @property
    def key(self) -> str: ...

    @property
    def accepted(self) -> str: ...

    def holds(self, arguments: JsonObject) -> bool: ...

    def spec(self) -> JsonObject:
        """Everything that the answer depends on, for the digest of a slice."""
        ...


def _each(value: Json, test: Callable[[Json], bool]) -> bool:
    if value is None:
        return False
    if isinstance(value, list):
        return bool(value) and all(item is not None and test(item) for item in value)
    return test(value)


def same_value(left: Json, right: Json) -> bool:
    """Equality by type and value: true is not 1, "1" is not 1, 1 and 1.0 are one number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return type(left) is type(right) and left == right


@dataclass(frozen=True, slots=True)
class AllowedValues:
    """`allowed_<x>`: the argument, or each item of it, is one of a list."""

    key: str
    argument: str
    values: tuple[str | int | float | bool, ...]

    @property
    def accepted(self) -> str:
        return f"{self.argument} must be one of: {', '.join(map(str, self.values))}"

    def holds(self, arguments: JsonObject) -> bool:
        return _each(arguments.get(self.argument), lambda item: any(same_value(item, v) for v in self.values))

    def spec(self) -> JsonObject:
        return {"allowed": list(self.values), "argument": self.argument}


@dataclass(frozen=True, slots=True)
class Bound:
    """`min_<x>`, `max_<x>`: inclusive bounds of a number, or of each number of a list."""

    key: str
    argument: str
    low: int | float | None
    high: int | float | None

    @property
    def accepted(self) -> str:
        if self.low is not None:
            return f"{self.argument} must be at least {self.low}"
        return f"{self.argument} must be at most {self.high}"

    def holds(self, arguments: JsonObject) -> bool:
        return _each(arguments.get(self.argument), self._within)

    def _within(self, item: Json) -> bool:
        if isinstance(item, bool) or not isinstance(item, int | float):
            return False
        # Python compares int with float exactly, whatever their magnitudes.
        return (self.low is None or item >= self.low) and (self.high is None or item <= self.high)

    def spec(self) -> JsonObject:
        return {"argument": self.argument, "high": self.high, "low": self.low}


@dataclass(frozen=True, slots=True)
class TextMatch:
    """`match_<x>`, `under_<x>`, `host_<x>`: the string, or each of a list, matches one of the patterns."""

    key: str
    argument: str
    kind: str
    """`match`, `under` or `host`."""
    patterns: tuple[str, ...]

    @property
    def accepted(self) -> str:
        verb = {"match": "match", "under": "be a plain path under", "host": "be an http(s) URL on"}[self.kind]
        return f"{self.argument} must {verb} {' or '.join(self.patterns)}"

    def holds(self, arguments: JsonObject) -> bool:
        test = _MATCHERS[self.kind]
        return _each(
            arguments.get(self.argument),
            lambda item: isinstance(item, str) and any(test(pattern, item) for pattern in self.patterns),
        )

    def spec(self) -> JsonObject:
        return {"argument": self.argument, "kind": self.kind, "patterns": list(self.patterns)}


_MATCHERS: Final[dict[str, Callable[[str, str], bool]]] = {
    "match": glob_match,
    "under": is_under,
    "host": host_matches,
}


@dataclass(frozen=True, slots=True)
class ArgumentsSchema:
    """`arguments`: the whole argument object is valid against a JSON Schema."""

    key: str
    schema: JsonObject = field(repr=False)
    validator: SchemaValidator = field(repr=False, compare=False)

    @property
    def accepted(self) -> str:
        return "the arguments must be valid against the schema in the agent file"

    def holds(self, arguments: JsonObject) -> bool:
        return self.validator.first_error(arguments) is None

    def spec(self) -> JsonObject:
        return {"schema": self.schema}


@dataclass(frozen=True, slots=True)
class FieldsWithinScope:
    """`scope` where the catalogue names a `fields_argument`: a call asks only for granted fields.

    Left out, the upstream returns what it likes and projection cuts it to the scope anyway.
    """

    key: str
    argument: str
    scope: tuple[str, ...]

    @property
    def accepted(self) -> str:
        return f"{self.argument} may only name: {', '.join(self.scope)}"

    def holds(self, arguments: JsonObject) -> bool:
        asked = arguments.get(self.argument)
        if asked is None:
            return True
        return _each(asked, lambda item: isinstance(item, str) and self._granted(item))

    def _granted(self, name: str) -> bool:
        return any(name == granted or name.startswith(granted + ".") for granted in self.scope)

    def spec(self) -> JsonObject:
        return {"argument": self.argument, "fields": list(self.scope)}


@dataclass(frozen=True, slots=True)
class GuardRule:
    """A limit on a counter of the run, applied by `admit` on the locked values.

    Attributes:
        key: Key path in the agent file; also the rule's name.
        counter: Name of the counter within the run.
        limit: Spent plus reserved may not exceed it.
        list_argument: Path of the argument whose length is the amount; None counts 1.
    """

    key: str
    counter: str
    limit: int
    list_argument: tuple[str, ...] | None

    @property
    def accepted(self) -> str:
        what = "records" if self.counter.startswith("records:") else "calls"
        return f"at most {self.limit} {what} of this tool in one run"

    def amount(self, arguments: JsonObject) -> int:
        """How much one call takes."""
        return record_count(self.list_argument, arguments)

    def spec(self) -> JsonObject:
        argument = ".".join(self.list_argument) if self.list_argument else None
        return {"counter": self.counter, "limit": self.limit, "list_argument": argument}


def record_count(list_argument: tuple[str, ...] | None, arguments: JsonObject) -> int:
    """Records that a call touches: the items of the list argument that counts; no list, or an empty one, is 1."""
    if list_argument is None:
        return 1
    value: Json = arguments
    for name in list_argument:
        value = value.get(name) if isinstance(value, dict) else None
    return max(1, len(value)) if isinstance(value, list) else 1


def argument_candidates(name: str) -> list[str]:
    """The argument names that `<x>` of a constraint may mean: itself, then its English singulars."""
    candidates = [name]
    if name.endswith("ies") and len(name) > 3:
        candidates.append(name[:-3] + "y")
    if name.endswith("es") and len(name) > 2:
        candidates.append(name[:-2])
    if re.search(r"[^s]s$", name):
        candidates.append(name[:-1])
    return candidates
