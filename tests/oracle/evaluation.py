"""What a Cedar expression is worth, by the Cedar reference: strict types, and errors instead of guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import TypeAlias

from oracle.expression import Call, Choice, Entity, Expr, Get, Has, Like, Literal, Name, Operation, SetOf, children

INPUT = ("context", "input")


class Failed(Exception):
    """Evaluation has no value: a missing attribute, a wrong type, an overflow."""


@dataclass(frozen=True)
class Decimal4:
    """A Cedar decimal: a number exact to four places."""

    value: Fraction


@dataclass(frozen=True)
class Instant:
    """A Cedar datetime, to the millisecond."""

    milliseconds: int


Value: TypeAlias = "bool | int | str | Decimal4 | Instant | Entity | frozenset[Value] | Record"


@dataclass(frozen=True)
class Record:
    members: tuple[tuple[str, Value], ...]

    def get(self, name: str) -> Value | None:
        return dict(self.members).get(name)


def record(members_: Mapping[str, Value]) -> Record:
    return Record(tuple(sorted(members_.items())))


def evaluate(expr: Expr, scope: Mapping[str, Value]) -> Value:
    """The value of an expression.

    Raises:
        Failed: where Cedar reports an error.
    """
    match expr:
        case Literal(value):
            return value
        case Name(name):
            return scope[name]
        case Entity():
            return expr
        case SetOf(parts):
            return frozenset(evaluate(part, scope) for part in parts)
        case Get(of, name):
            found = _record(evaluate(of, scope)).get(name)
            if found is None:
                raise Failed(f"no attribute {name}")
            return found
        case Has(of, path):
            value: Value | None = evaluate(of, scope)
            for step in path:
                value = _record(value).get(step) if value is not None else None
            return value is not None
        case Like(of, pattern):
            return like(_text(evaluate(of, scope)), pattern)
        case Choice(when, then, otherwise):
            return evaluate(then if _truth(evaluate(when, scope)) else otherwise, scope)
        case Call(name, arguments):
            return _call(name, [evaluate(argument, scope) for argument in arguments])
        case Operation(sign, operands):
            return _operate(sign, operands, scope)


def holds(expr: Expr, scope: Mapping[str, Value]) -> bool:
    """Whether a condition is true; anything but a boolean is a failure."""
    return _truth(evaluate(expr, scope))


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise Failed("not a boolean")
    return value


def _long(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Failed("not an integer")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise Failed("not a string")
    return value


def _record(value: Value) -> Record:
    if not isinstance(value, Record):
        raise Failed("not a record")
    return value


def _set(value: Value) -> frozenset[Value]:
    if not isinstance(value, frozenset):
        raise Failed("not a set")
    return value


def equal(left: Value, right: Value) -> bool:
    """Values of different types are different; Python's own `True == 1` does not count."""
    if isinstance(left, frozenset) and isinstance(right, frozenset):
        return all(any(equal(a, b) for b in right) for a in left) and all(any(equal(a, b) for a in left) for b in right)
    return type(left) is type(right) and left == right


def _operate(sign: str, operands: tuple[Expr, ...], scope: Mapping[str, Value]) -> Value:
    left = evaluate(operands[0], scope)
    if sign == "!":
        return not _truth(left)
    if sign in ("&&", "||"):
        if _truth(left) is (sign == "||"):
            return sign == "||"
        return _truth(evaluate(operands[1], scope))
    if sign == "neg":
        return _fits(-_long(left))
    right = evaluate(operands[1], scope)
    if sign in ("==", "!="):
        return equal(left, right) is (sign == "==")
    if sign in ("+", "-", "*"):
        a, b = _long(left), _long(right)
        return _fits(a + b if sign == "+" else a - b if sign == "-" else a * b)
    if isinstance(left, Instant) and isinstance(right, Instant):
        return _ordered(sign, Fraction(left.milliseconds), Fraction(right.milliseconds))
    return _ordered(sign, Fraction(_long(left)), Fraction(_long(right)))


def _ordered(sign: str, a: Fraction, b: Fraction) -> bool:
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]


def _fits(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise Failed("overflow")
    return number


_DECIMAL_METHODS = {"lessThan": "<", "lessThanOrEqual": "<=", "greaterThan": ">", "greaterThanOrEqual": ">="}


def _call(name: str, arguments: list[Value]) -> Value:
    if name == "decimal":
        return _decimal_literal(_text(arguments[0]))
    if name == "datetime":
        return _instant_literal(_text(arguments[0]))
    if name in _DECIMAL_METHODS:
        left, right = arguments
        if not isinstance(left, Decimal4) or not isinstance(right, Decimal4):
            raise Failed("not a decimal")
        return _ordered(_DECIMAL_METHODS[name], left.value, right.value)
    own = _set(arguments[0])
    if name == "isEmpty":
        return not own
    if name == "contains":
        return any(equal(item, arguments[1]) for item in own)
    wanted = _set(arguments[1])
    found = [any(equal(item, other) for item in own) for other in wanted]
    return {"containsAll": all(found), "containsAny": any(found)}[name]


def _decimal_literal(text: str) -> Decimal4:
    if not re.fullmatch(r"-?\d+\.\d{1,4}", text):
        raise Failed("not a decimal literal")
    return Decimal4(Fraction(text))


def _instant_literal(text: str) -> Instant:
    moment = datetime.fromisoformat(text)
    return Instant(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))


def like(text: str, pattern: tuple[str | None, ...]) -> bool:
    """Whether the whole text matches: None stands for any characters, none included."""
    signs = "".join(".*" if sign is None else re.escape(sign) for sign in pattern)
    return re.fullmatch(signs, text, re.DOTALL) is not None


@dataclass(frozen=True)
class Reading:
    """A path below `context.input` that an expression names.

    Attributes:
        whole: The value is looked at, not only whether there is one.
    """

    path: tuple[str, ...]
    whole: bool

    def depends_on(self, path: tuple[str, ...]) -> bool:
        """Whether the value at another path can make a difference."""
        return self.path[: len(path)] == path or (self.whole and path[: len(self.path)] == self.path)


def reads(expr: Expr) -> frozenset[Reading]:
    """What the expression names below `context.input`, whether or not evaluation gets there."""
    path = _path(expr)
    if path is not None:
        return frozenset({Reading(path[2:], whole=True)}) if path[:2] == INPUT else frozenset()
    if isinstance(expr, Has) and (base := _path(expr.of)) is not None:
        found = Reading((*base, *expr.path)[2:], whole=False)
        return frozenset({found}) if base[:2] == INPUT else frozenset()
    return frozenset[Reading]().union(*(reads(part) for part in children(expr)))


def _path(expr: Expr) -> tuple[str, ...] | None:
    if isinstance(expr, Name):
        return (expr.name,)
    if isinstance(expr, Get):
        base = _path(expr.of)
        return (*base, expr.name) if base else None
    return None
