"""A pinned tool: one operation of an upstream, whole as a person saw and accepted it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from interlock.core.canonical import Json, JsonObject, Unrepresentable, check_depth, decode, encode
from interlock.core.schema import SchemaReader
from interlock.core.schema_check import MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, SchemaRefused, SchemaValidator

TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
UPSTREAM_ID: Final = r"[a-z][a-z0-9-]{0,31}"
UPSTREAM_SHAPE: Final = "lower-case letters, digits and hyphens, starting with a letter, at most 32"
"""What `UPSTREAM_ID` means, in words, for error messages."""
_PIN_DOMAIN: Final = b"interlock-pin-v1"


class DefinitionRefused(ValueError):
    """A tool definition that cannot be pinned; the message says why and is safe to show."""


@dataclass(frozen=True, slots=True)
class PinnedTool:
    """One tool of one upstream.

    Attributes:
        upstream: The upstream's id.
        name: The tool's name, byte for byte.
        definition: The whole tool object as the upstream listed it, description and annotations too.
        pin: `sha256:` and the hex digest of the canonical definition.
    """

    upstream: str
    name: str
    definition: JsonObject = field(repr=False)
    pin: str
    arguments: SchemaValidator = field(repr=False, compare=False)
    output: SchemaReader | None = field(repr=False, compare=False)

    @property
    def qualified(self) -> str:
        return f"{self.upstream}/{self.name}"


def pin_of(definition: JsonObject) -> str:
    """Digest of a whole tool object.

    Raises:
        DefinitionRefused: it has no canonical form, or is larger or deeper than the caps.
    """
    try:
        check_depth(definition, MAX_SCHEMA_DEPTH)
        text = encode(definition)
        # A lock is read strictly: what its reader refuses would take every other pin with it.
        decode(text, max_depth=MAX_SCHEMA_DEPTH)
    except Unrepresentable as error:
        raise DefinitionRefused(f"the definition cannot be represented: {error}") from None
    if len(text) > 2 * MAX_SCHEMA_BYTES:
        raise DefinitionRefused(f"the definition has {len(text)} bytes; at most {2 * MAX_SCHEMA_BYTES} are accepted")
    return "sha256:" + hashlib.sha256(_PIN_DOMAIN + text).hexdigest()


def pinned_tool(upstream: str, definition: JsonObject) -> PinnedTool:
    """Admit one definition.

    Raises:
        DefinitionRefused: no valid name, no object schema, or a schema that will not be compiled.
    """
    name = definition.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise DefinitionRefused("the name is not 1 to 128 of the characters A-Z a-z 0-9 _ . / -")
    schema = definition.get("inputSchema")
    if not isinstance(schema, dict):
        raise DefinitionRefused("inputSchema is not an object")
    if schema.get("type") != "object":
        raise DefinitionRefused("inputSchema is not of type object")
    pin = pin_of(definition)
    try:
        validator = SchemaValidator(schema)
        output = _output_reader(definition.get("outputSchema"))
    except SchemaRefused as error:
        raise DefinitionRefused(str(error)) from None
    return PinnedTool(upstream, name, definition, pin, validator, output)


def _output_reader(schema: Json) -> SchemaReader | None:
    if schema is None:
        return None
    if not isinstance(schema, dict):
        raise DefinitionRefused("outputSchema is not an object")
    return SchemaValidator(schema).reader
