"""A reader for guardrail files: Cedar policies that only forbid."""

from __future__ import annotations

from dataclasses import dataclass

from oracle.expression import Entity, Expr, NotUnderstood, Tokens, expression, unquote


@dataclass(frozen=True)
class Matcher:
    """One part of a policy's scope; no entities and no kind match everything."""

    entities: tuple[Entity, ...] = ()
    kind: str = ""

    def covers(self, found: Entity, groups: frozenset[Entity] = frozenset()) -> bool:
        if self.kind and self.kind != found.kind:
            return False
        return not self.entities or not groups.union({found}).isdisjoint(self.entities)


@dataclass(frozen=True)
class Guardrail:
    """One `forbid`.

    Attributes:
        conditions: `(True, expression)` for `when`, `(False, expression)` for `unless`, in order.
    """

    name: str
    principal: Matcher
    action: Matcher
    resource: Matcher
    conditions: tuple[tuple[bool, Expr], ...]


def read_guardrails(text: str) -> list[Guardrail]:
    """Read a whole file; a policy without `@id` is named by its place, from 0."""
    tokens = Tokens(text)
    found: list[Guardrail] = []
    while tokens.kind != "end":
        found.append(_guardrail(tokens, f"policy{len(found)}"))
    return found


def _guardrail(tokens: Tokens, name: str) -> Guardrail:
    while tokens.accept("@"):
        annotation = tokens.take()
        if tokens.accept("("):
            value = unquote(tokens.take())
            tokens.take(")")
            name = value if annotation == "id" else name
    tokens.take("forbid")
    tokens.take("(")
    principal = _matcher(tokens, "principal", ",")
    action = _matcher(tokens, "action", ",")
    resource = _matcher(tokens, "resource", ")")
    conditions: list[tuple[bool, Expr]] = []
    while word := tokens.accept("when", "unless"):
        tokens.take("{")
        conditions.append((word == "when", expression(tokens)))
        tokens.take("}")
    tokens.take(";")
    return Guardrail(name, principal, action, resource, tuple(conditions))


def _matcher(tokens: Tokens, variable: str, end: str) -> Matcher:
    tokens.take(variable)
    word, kind = tokens.accept("==", "in", "is"), ""
    if word == "is":
        kind = tokens.take()
        word = tokens.accept("in")
    entities: list[Entity] = []
    if word and tokens.accept("["):
        while not tokens.accept("]"):
            entities.append(_entity(tokens))
            tokens.accept(",")
    elif word:
        entities.append(_entity(tokens))
    tokens.accept(",") if end == ")" else None
    tokens.take(end)
    return Matcher(tuple(entities), kind)


def _entity(tokens: Tokens) -> Entity:
    found = expression(tokens)
    if not isinstance(found, Entity):
        raise NotUnderstood(str(found))
    return found
