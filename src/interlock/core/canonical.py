"""Strict JSON in, canonical JSON out: what is decided is what is executed.

`decode` refuses every text that two parsers could read differently. `encode` writes RFC 8785 (JSON
Canonicalization Scheme) with the two additions that docs/reference/canonical-request.md states:
integers are written in full up to 64 bit, and every other number as RFC 8785 writes a double.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
JsonObject: TypeAlias = dict[str, Json]

MAX_DEPTH: Final = 32
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_VALUES: Final = 20_000
"""JSON values in one inbound message. Work is per value, so it bounds what one message costs; a text is one."""
EXACT_DOUBLE: Final = 2**53
"""Integers up to this magnitude are doubles exactly; beyond it only some are."""

# Cedar reads these keys as its own escapes (`{"__extn": …}` would smuggle in another type).
RESERVED_KEYS: Final = frozenset({"__extn", "__entity"})

_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


class Unrepresentable(ValueError):
    """A JSON text or value that has no single exact meaning. The message is safe to show."""


def _refuse_constant(text: str) -> float:
    raise Unrepresentable(f"{text} is not a JSON number")


def _exact_int(text: str) -> int:
    # 20 characters hold every 64-bit integer with its sign; longer ones are refused before int() sees them.
    if len(text) > 20:
        raise Unrepresentable("an integer is beyond 64 bit")
    number = int(text)
    if not INT64_MIN <= number <= INT64_MAX:
        raise Unrepresentable("an integer is beyond 64 bit")
    return number


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unrepresentable("a number is too large for a double")
    return number


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Unrepresentable(f"the key {_shown(key)} appears twice in one object")
            seen.add(key)
    if not RESERVED_KEYS.isdisjoint(members):
        raise Unrepresentable("the keys __extn and __entity are reserved")
    return members


def _shown(text: str) -> str:
    """A short, printable form of attacker-controlled text for an error message."""
    return json.dumps(text if len(text) <= 64 else text[:61] + "...")


_STRICT: Final[Callable[[str], Any]] = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_refuse_constant,
    parse_int=_exact_int,
    parse_float=_finite_float,
).decode


def decode(data: bytes, *, max_depth: int = MAX_DEPTH, max_values: int | None = None) -> Json:
    """Parse one JSON text strictly.

    Args:
        data: The text.
        max_depth: How deep arrays and objects may nest.
        max_values: How many values it may hold (`count_values`); None is any number.

    Raises:
        Unrepresentable: not UTF-8, not JSON, a BOM, duplicate keys at any depth, NaN or Infinity, an
            integer beyond 64 bit, a number beyond a double, a lone surrogate, too deep, too many values,
            a reserved key.
    """
    if max_values is not None and count_values(data) > max_values:
        raise Unrepresentable(f"the text holds more than {max_values} values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unrepresentable("the text is not UTF-8") from None
    try:
        value: Json = _STRICT(text)
    except Unrepresentable:
        raise
    except RecursionError:
        raise Unrepresentable(f"the text is nested deeper than {max_depth}") from None
    except ValueError as error:
        position = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unrepresentable(f"the text is not JSON{position}") from None
    # Cheap proofs first: a text with few opening brackets cannot be deep, and a lone surrogate can only
    # come from a \u escape, because strict UTF-8 has none.
    if data.count(b"[") + data.count(b"{") > max_depth:
        check_depth(value, max_depth)
    if b"\\u" in data:
        _check_surrogates(value)
    return value


def count_values(data: bytes) -> int:
    """How many values a JSON text holds: every object, array, text, number and literal, but no keys.

    Exact for JSON, without parsing it; of anything else, some number.
    """
    # Outside of texts there is a value before every comma, one more in everything that is not empty, and the root.
    pieces = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    outside = b"0".join(pieces[::2]).translate(None, b" \t\r\n")
    containers = outside.count(b"[") + outside.count(b"{") - outside.count(b"[]") - outside.count(b"{}")
    return 1 + outside.count(b",") + containers


def check_depth(value: Json, max_depth: int = MAX_DEPTH) -> None:
    """Raise `Unrepresentable` where arrays and objects nest deeper than `max_depth`."""
    level: list[Json] = [value]
    for _ in range(max_depth):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    if any(isinstance(item, dict | list) for item in level):
        raise Unrepresentable(f"the text is nested deeper than {max_depth}")


def _check_surrogates(value: Json) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Unrepresentable("a string holds half of a surrogate pair") from None


def encode(value: Json) -> bytes:
    """Return the canonical bytes of a value.

    Integers (`int`) are written in full; doubles (`float`) as ECMAScript writes them, so `1.0` is `1`.

    Raises:
        Unrepresentable: a non-finite double, an integer beyond 64 bit, or a lone surrogate.
    """
    try:
        if _plain(value):
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            if text.isascii() or not _ASTRAL.search(text):
                return text.encode("utf-8")
        pieces: list[str] = []
        _write(value, pieces)
        return "".join(pieces).encode("utf-8")
    except UnicodeEncodeError:
        raise Unrepresentable("a string holds half of a surrogate pair") from None


def _plain(value: Json) -> bool:
    """Whether the C encoder's output is already canonical: no doubles, integers in range."""
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return False
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise Unrepresentable("an integer is beyond 64 bit")
    return True


def _write(value: Json, out: list[str]) -> None:
    """Append the pieces of a value's canonical text."""
    if isinstance(value, float):
        out.append(es_number(value))
    elif isinstance(value, dict):
        before = "{"
        # RFC 8785 §3.2.3: keys are sorted by their UTF-16 code units.
        for key in sorted(value, key=lambda k: k.encode("utf-16-be", "surrogatepass")):
            out.append(before + json.dumps(key, ensure_ascii=False) + ":")
            _write(value[key], out)
            before = ","
        out.append("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for item in value:
            out.append(before)
            _write(item, out)
            before = ","
        out.append("]" if value else "[]")
    elif isinstance(value, int) and not isinstance(value, bool) and not INT64_MIN <= value <= INT64_MAX:
        raise Unrepresentable("an integer is beyond 64 bit")
    else:
        out.append(json.dumps(value, ensure_ascii=False))


def es_number(number: float) -> str:
    """Write a double as ECMAScript's Number::toString does (ECMA-262 §6.1.6.1.20, RFC 8785 §3.2.2.3)."""
    if not math.isfinite(number):
        raise Unrepresentable("a number is not finite")
    if number == 0:
        return "0"
    # repr() gives the shortest digits that round-trip, the same ones ECMAScript asks for, and where it writes no
    # exponent (from 1e-4 to 1e16) ECMAScript writes none either.
    text = repr(number)
    if "e" not in text:
        return text.removesuffix(".0")
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    digits, power = mantissa.replace(".", ""), int(exponent)
    if 0 < power <= 20:
        return sign + digits + "0" * (power + 1 - len(digits))
    if -7 < power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
