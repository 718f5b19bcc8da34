"""JSON as a call carries it: what has one exact meaning, and how two values compare.

Written from "The canonical request" alone; it shares nothing with `interlock.core.canonical`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias, cast

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
JsonObject: TypeAlias = dict[str, Json]


class Malformed(Exception):
    """The text or value has no single exact meaning, or is not valid for the tool."""


def members(value: Json) -> JsonObject:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def elements(value: Json) -> list[Json]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def several(value: Json) -> list[Json]:
    """The items of a list, or the value alone."""
    return value if isinstance(value, list) else [value]


def read(text: bytes) -> Json:
    """Parse a call's JSON strictly: everything that "Refuse, with malformed_call" names is refused."""
    try:
        value = cast(
            "Json",
            json.loads(
                text.decode("utf-8"),
                object_pairs_hook=_object,
                parse_constant=_never,
                parse_int=_integer,
                parse_float=_double,
            ),
        )
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    for depth, node in walk(value):
        if depth > 32 and isinstance(node, dict | list):
            raise Malformed("nested deeper than 32")
        for string in [node] if isinstance(node, str) else members(node):
            try:
                string.encode()
            except UnicodeEncodeError:
                raise Malformed("lone surrogate") from None
    return value


def walk(value: Json, depth: int = 1) -> list[tuple[int, Json]]:
    """Every value in `value` with its depth; the outermost has depth 1."""
    found: list[tuple[int, Json]] = [(depth, value)]
    for child in [*members(value).values(), *elements(value)]:
        found.extend(walk(child, depth + 1))
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Malformed("duplicate key")
    if {"__extn", "__entity"} & set(names):
        raise Malformed("reserved key")
    return dict(pairs)


def _never(text: str) -> float:
    raise Malformed(text)


def _integer(text: str) -> int:
    return int64(int(text[:64]))


def _double(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Malformed("beyond a double")
    return number


def int64(number: int) -> int:
    """The number, if it has at most 64 bit with its sign."""
    if not -(2**63) <= number <= 2**63 - 1:
        raise Malformed("integer beyond 64 bit")
    return number


def is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: int | float) -> Fraction:
    """A number's exact value, so that 2^53 and 2^53 + 1 differ whatever they are written as."""
    return Fraction(value)


def same(left: Json, right: Json) -> bool:
    """Equal by type and value; the only numeric type is `number`, so 1 and 1.0 are the same."""
    kinds: tuple[Callable[[Json], bool], ...] = (
        lambda value: isinstance(value, bool),
        is_number,
        lambda value: isinstance(value, str),
    )
    for kind in kinds:
        if kind(left) or kind(right):
            return kind(left) and kind(right) and left == right
    return False
