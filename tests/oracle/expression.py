"""A reader for the part of Cedar that conditions in policy files are written in.

Text in, a tree of small frozen values out. Follows the grammar of the Cedar reference; entity
hierarchies and templates are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Literal:
    value: bool | int | str


@dataclass(frozen=True)
class Name:
    """`context`, `principal`, `action` or `resource`."""

    name: str


@dataclass(frozen=True)
class Entity:
    kind: str
    id: str


@dataclass(frozen=True)
class Get:
    of: Expr
    name: str


@dataclass(frozen=True)
class Has:
    of: Expr
    path: tuple[str, ...]


@dataclass(frozen=True)
class Like:
    of: Expr
    pattern: tuple[str | None, ...]
    """Characters in order; None is the wildcard."""


@dataclass(frozen=True)
class Operation:
    """A unary or binary operator; `&&` and `||` evaluate their second operand only if they must."""

    sign: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True)
class Choice:
    when: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True)
class SetOf:
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Call:
    """A function, or a method with its object as first argument."""

    name: str
    arguments: tuple[Expr, ...]


Expr: TypeAlias = Literal | Name | Entity | Get | Has | Like | Operation | Choice | SetOf | Call


def children(expr: Expr) -> tuple[Expr, ...]:
    """The parts of an expression, one level down."""
    match expr:
        case Get(of, _) | Has(of, _) | Like(of, _):
            return (of,)
        case Operation(_, parts) | SetOf(parts) | Call(_, parts):
            return parts
        case Choice(when, then, otherwise):
            return (when, then, otherwise)
        case _:
            return ()


_TOKEN = re.compile(
    r"""\s*(?://[^\n]*\n\s*)*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<int>\d+)|(?P<word>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)"""
    r"""|(?P<sign>::|\|\||&&|==|!=|<=|>=|[<>!+*.,;:@(){}\[\]-]))"""
)
_ESCAPE = re.compile(r"\\(u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", '"': '"', "'": "'", "\\": "\\"}


class NotUnderstood(ValueError):
    """The text is outside the grammar that this reader knows."""


class Tokens:
    """A cursor over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip() + "\n"
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            if not found or found.lastgroup is None:
                if re.fullmatch(r"\s*(//[^\n]*\n\s*)*", text[position:]):
                    break
                raise NotUnderstood(text[position : position + 40])
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()
        self._next = 0

    def peek(self, ahead: int = 0) -> str:
        """The token ahead, with strings in their quotes; empty at the end."""
        at = self._next + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def take(self, *wanted: str) -> str:
        """Consume the next token, which must be one of `wanted` if any are named."""
        found = self.peek()
        if not found or (wanted and found not in wanted):
            raise NotUnderstood(f"{found!r} instead of {wanted}")
        self._next += 1
        return found

    def accept(self, *wanted: str) -> str:
        """Consume the next token if it is one of `wanted`; empty otherwise."""
        return self.take() if self.peek() in wanted else ""

    @property
    def kind(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else "end"


def read_expression(text: str) -> Expr:
    """Read one expression, whole."""
    tokens = Tokens(text)
    found = expression(tokens)
    if tokens.kind != "end":
        raise NotUnderstood(tokens.peek())
    return found


def expression(tokens: Tokens) -> Expr:
    if tokens.accept("if"):
        when = expression(tokens)
        tokens.take("then")
        then = expression(tokens)
        tokens.take("else")
        return Choice(when, then, expression(tokens))
    return _chain(tokens, 0)


_LEVELS = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in", "has", "like"), ("+", "-"), ("*",))


def _chain(tokens: Tokens, level: int) -> Expr:
    if level == len(_LEVELS):
        return _unary(tokens)
    left = _chain(tokens, level + 1)
    while sign := tokens.accept(*_LEVELS[level]):
        if sign == "has":
            left = Has(left, _has_path(tokens))
        elif sign == "like":
            left = Like(left, tuple(_pattern(tokens.take()[1:-1])))
        else:
            left = Operation(sign, (left, _chain(tokens, level + 1)))
    return left


def _has_path(tokens: Tokens) -> tuple[str, ...]:
    if tokens.kind == "text":
        return (unquote(tokens.take()),)
    path = [tokens.take()]
    while tokens.accept("."):
        path.append(tokens.take())
    return tuple(path)


def _unary(tokens: Tokens) -> Expr:
    if tokens.accept("!"):
        return Operation("!", (_unary(tokens),))
    if tokens.accept("-"):
        if tokens.kind == "int":
            return Literal(-int(tokens.take()))
        return Operation("neg", (_unary(tokens),))
    found = _primary(tokens)
    while sign := tokens.accept(".", "["):
        if sign == "[":
            found = Get(found, unquote(tokens.take()))
            tokens.take("]")
        else:
            name = tokens.take()
            found = Call(name, (found, *_arguments(tokens))) if tokens.peek() == "(" else Get(found, name)
    return found


def _arguments(tokens: Tokens) -> list[Expr]:
    tokens.take("(")
    return _until(tokens, ")")


def _until(tokens: Tokens, end: str) -> list[Expr]:
    found: list[Expr] = []
    while not tokens.accept(end):
        found.append(expression(tokens))
        if tokens.peek() != end:
            tokens.take(",")
    return found


def _primary(tokens: Tokens) -> Expr:
    kind = tokens.kind
    if kind == "text":
        return Literal(unquote(tokens.take()))
    if kind == "int":
        return Literal(int(tokens.take()))
    if tokens.accept("("):
        inner = expression(tokens)
        tokens.take(")")
        return inner
    if tokens.accept("["):
        return SetOf(tuple(_until(tokens, "]")))
    word = tokens.take()
    if kind != "word":
        raise NotUnderstood(word)
    if word in ("true", "false"):
        return Literal(word == "true")
    if tokens.peek() == "(":
        return Call(word, tuple(_arguments(tokens)))
    if tokens.accept("::"):
        return Entity(word, unquote(tokens.take()))
    return Name(word)


def unquote(text: str) -> str:
    """The value of a quoted string."""
    return _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    code = found[2] or found[3]
    return chr(int(code, 16)) if code else _SIMPLE[found[1]]


def _pattern(text: str) -> list[str | None]:
    """A `like` pattern: `*` is a wildcard, and an escaped star is a star."""
    signs: list[str | None] = []
    position = 0
    while position < len(text):
        escape = _ESCAPE.match(text, position)
        if escape:
            signs.append("*" if escape[1] == "*" else _unescaped(escape))
            position = escape.end()
        else:
            signs.append(None if text[position] == "*" else text[position])
            position += 1
    return signs
