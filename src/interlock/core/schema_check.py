"""Validating against schemas that an adversary wrote, in bounded time and without I/O.

A schema is admitted once, under caps on size, depth and expansion; remote and file references are
refused; patterns run on a linear-time engine. Each validation then has a budget of schema evaluations,
a number and not a clock, so that the same call always gets the same answer (invariant I6).
"""

from __future__ import annotations

from typing import Final

import jsonschema_rs

from interlock.core.canonical import Json, JsonObject, Unrepresentable, check_depth, encode
from interlock.core.schema import DIALECT, DRAFT_7, DRAFT_2019, SchemaReader
from interlock.core.schema_cost import SchemaCost, SchemaTooCostly

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_SCHEMA_DEPTH: Final = 64
TOO_LARGE: Final = "the arguments are too large to check against the tool's schema"
_REGEX_BYTES: Final = 1_000_000

_DIALECTS: Final = frozenset({DIALECT, DRAFT_2019, DRAFT_7})
# Keywords whose target depends on the path of evaluation: their cost cannot be bounded beforehand.
_REFUSED: Final = frozenset({"$dynamicRef", "$recursiveRef"})


class SchemaRefused(ValueError):
    """A schema that will not be compiled; the message says why and is safe to show."""


class SchemaValidator:
    """One admitted schema. `first_error` is the only question asked of it."""

    def __init__(self, schema: JsonObject, *, check_formats: bool = False) -> None:
        """Admit and compile a schema.

        Args:
            schema: JSON Schema 2020-12 (or draft 7 or 2019-09, when `$schema` says so).
            check_formats: Treat `format` as an assertion and refuse unknown ones. Off for schemas of
                upstreams, where 2020-12 makes it an annotation.

        Raises:
            SchemaRefused: too large, too deep, too costly, remote references, or not a valid schema.
        """
        _admit(schema)
        self.reader = SchemaReader(schema)
        try:
            self._cost = SchemaCost(self.reader)
        except SchemaTooCostly as error:
            raise SchemaRefused(str(error)) from None
        self.recursive = self._cost.recursive
        self.declared = self.reader.property_names(schema)
        try:
            self._compiled = jsonschema_rs.validator_for(
                schema,
                offline=True,
                validate_formats=check_formats,
                ignore_unknown_formats=not check_formats,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES),
            )
        except (ValueError, jsonschema_rs.ValidationError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise SchemaRefused(f"the schema cannot be compiled: {reason}") from None
        if self._cost.unresolved:
            raise SchemaRefused("$ref is no JSON Pointer into the schema; anchors are not supported")

    def affordable(self, instance: Json) -> bool:
        """Whether checking `instance` stays within the budget."""
        return self._cost.affordable(instance)

    def first_error(self, instance: Json) -> str | None:
        """The first way in which `instance` is invalid, without repeating its values; None if valid.

        Returns a sentence also where checking would cost more than the budget: what cannot be checked
        is not valid.
        """
        if not self.affordable(instance):
            return TOO_LARGE
        if self._compiled.is_valid(instance):
            return None
        if self._cost.explainable(instance):
            try:
                self._compiled.validate(instance)
            except jsonschema_rs.ValidationError as error:
                where = ".".join(str(part) for part in error.instance_path) or "the arguments"
                return f"{where}: {_what_failed(error)}"
        return "the arguments are not valid against the tool's schema"


def _what_failed(error: jsonschema_rs.ValidationError) -> str:
    """Say which keyword failed and what the schema asks, never the value that was sent."""
    keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
    kind = error.kind
    wanted: object = None
    for name in ("types", "options", "expected_value", "limit", "pattern", "format", "multiple_of", "property"):
        wanted = getattr(kind, name, None)
        if wanted is not None:
            break
    if keyword in {"additionalProperties", "unevaluatedProperties"}:
        return "has a member that the schema does not declare"
    if wanted is None:
        return f"fails the schema's `{keyword}`"
    text = str(wanted)
    return f"fails the schema's `{keyword}`: {text if len(text) <= 160 else text[:157] + '...'}"


def _admit(schema: JsonObject) -> None:
    try:
        check_depth(schema, MAX_SCHEMA_DEPTH)
        size = len(encode(schema))
    except Unrepresentable as error:
        raise SchemaRefused(f"the schema cannot be represented: {error}") from None
    if size > MAX_SCHEMA_BYTES:
        raise SchemaRefused(f"the schema has {size} bytes; at most {MAX_SCHEMA_BYTES} are accepted")
    dialect = schema.get("$schema")
    if dialect is not None and (not isinstance(dialect, str) or dialect.rstrip("#") not in _DIALECTS):
        raise SchemaRefused("$schema names a dialect that is not supported")
    named = DIALECT if dialect is None else dialect.rstrip("#")
    pending: list[Json] = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str) and not reference.startswith("#"):
                raise SchemaRefused("$ref points outside the schema; only references that start with # are followed")
            if not _REFUSED.isdisjoint(node):
                raise SchemaRefused("$dynamicRef and $recursiveRef are not supported")
            inner = node.get("$schema")
            if isinstance(inner, str) and inner.rstrip("#") != named:
                raise SchemaRefused("$schema inside a schema changes what its keywords mean; it is not supported")
            if isinstance(node.get("$id"), str) and node is not schema:
                raise SchemaRefused("$id inside a schema changes what references mean; it is not supported")
            pending.extend(node.values())
