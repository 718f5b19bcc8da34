"""The canonical request: one shape for every door, and the digest that names it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from interlock.core.canonical import (
    EXACT_DOUBLE,
    INT64_MAX,
    INT64_MIN,
    Json,
    JsonObject,
    Unrepresentable,
    check_depth,
    encode,
    es_number,
)
from interlock.core.schema import FRACTION, INTEGER, Schema, SchemaReader
from interlock.core.schema_check import TOO_LARGE
from interlock.core.tool import PinnedTool

_CALL_DOMAIN: Final = b"interlock-call-v1"
_MAX_PROBLEM: Final = 400
_ECMASCRIPT_EXPONENT: Final = 1e21
"""From here on ECMAScript writes doubles with an exponent; below, all digits of a whole number."""


class MalformedCall(ValueError):
    """A call that cannot be represented exactly or is not valid for its tool. Safe to show."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A call's arguments: the value that is decided and the bytes that are executed, made from it."""

    value: JsonObject = field(repr=False)
    canonical: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CanonicalCall:
    """One tool call as it is decided, recorded and executed.

    Attributes:
        agent: The agent's id.
        run: The run's id.
        tool: The pinned tool.
        arguments: Canonical arguments.
        meta: `_meta` members that are forwarded; only allow-listed ones get here.
        digest: Hex SHA-256 over the domain and the canonical JSON of all of the above.
    """

    agent: str
    run: str
    tool: PinnedTool
    arguments: Arguments
    meta: JsonObject
    digest: str


def canonical_call(agent: str, run: str, tool: PinnedTool, arguments: Arguments, meta: JsonObject) -> CanonicalCall:
    """Put the parts together and compute the digest (docs/reference/canonical-request.md)."""
    # The members in sorted order, with the arguments' bytes spliced in instead of encoded twice.
    parts = (
        b'{"agent":',
        encode(agent),
        b',"arguments":',
        arguments.canonical,
        b',"inputResponses":null,"meta":',
        encode(meta),
        b',"pin":',
        encode(tool.pin),
        b',"run":',
        encode(run),
        b',"tool":',
        encode(tool.name),
        b',"upstream":',
        encode(tool.upstream),
        b"}",
    )
    digest = hashlib.sha256(_CALL_DOMAIN + b"".join(parts)).hexdigest()
    return CanonicalCall(agent, run, tool, arguments, meta, digest)


def canonical_arguments(tool: PinnedTool, arguments: JsonObject, *, additional: bool) -> Arguments:
    """Bring strictly decoded arguments into their canonical form.

    Args:
        tool: The pinned tool; its input schema decides what is an integer.
        arguments: As `canonical.decode` returned them.
        additional: Whether arguments that the schema does not declare may pass.

    Raises:
        MalformedCall: undeclared arguments, inexact numbers, or not valid against the input schema.
    """
    reader = tool.arguments.reader
    if not additional:
        undeclared = arguments.keys() - tool.arguments.declared
        if undeclared:
            name = min(undeclared)
            shown = name if len(name) <= 64 else name[:61] + "..."
            raise MalformedCall(f"the tool declares no argument {shown!r}")
    if _needs_exactness(arguments):
        if not tool.arguments.affordable(arguments):
            raise MalformedCall(TOO_LARGE)
        value = _exact(reader, reader.root, arguments)
        assert isinstance(value, dict)  # an object stays an object
        arguments = value
    if problem := tool.arguments.first_error(arguments):
        raise MalformedCall(problem if len(problem) <= _MAX_PROBLEM else problem[: _MAX_PROBLEM - 3] + "...")
    try:
        check_depth(arguments)
        return Arguments(arguments, encode(arguments))
    except Unrepresentable as error:
        raise MalformedCall(str(error)) from None


def _needs_exactness(value: Json) -> bool:
    """Whether any number in here could be written in more than one way."""
    if isinstance(value, dict):
        return any(map(_needs_exactness, value.values()))
    if isinstance(value, list):
        return any(map(_needs_exactness, value))
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not -EXACT_DOUBLE <= value <= EXACT_DOUBLE


def _exact(reader: SchemaReader, schema: Schema, value: Json) -> Json:
    """Write integers where the schema types integers, and refuse integers that no double holds elsewhere."""
    if isinstance(value, dict):
        return {name: _exact(reader, reader.property(schema, name), member) for name, member in value.items()}
    if isinstance(value, list):
        return [_exact(reader, reader.item(schema, index), item) for index, item in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    types = reader.types(schema)
    if INTEGER in types and FRACTION not in types:
        if isinstance(value, float) and value.is_integer():
            return _int64(int(value))
        return value
    if EXACT_DOUBLE < abs(value) < _ECMASCRIPT_EXPONENT:
        # Beyond 2^53 RFC 8785 pads the shortest digits with zeros: 2^60 becomes 1152921504606847000, another integer
        # to who reads integers. So only what it writes in full is executed as it was decided.
        written = int(es_number(float(value)))
        if written != value or not INT64_MIN <= written <= INT64_MAX:
            raise MalformedCall("an integer beyond 2^53 stands where the schema does not ask for an integer")
        return float(value)
    return value


def _int64(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise MalformedCall("an integer is beyond 64 bit")
    return number
