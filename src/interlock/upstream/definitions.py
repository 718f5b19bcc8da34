"""Tool definitions as an upstream lists them: told apart by name, read strictly only where they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from interlock.core.canonical import JsonObject, Unrepresentable, decode
from interlock.core.lockfile import PinnedUpstream
from interlock.core.schema_check import MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH
from interlock.core.tool import DefinitionRefused, PinnedTool, pin_of, pinned_tool

_MAX_LISTED_BYTES: Final = 2 * MAX_SCHEMA_BYTES
_NAME_SHOWN: Final = 128
_NO_NAME: Final = "(no name)"


class _Named(msgspec.Struct, gc=False):
    name: str


_decode_named = msgspec.json.Decoder(_Named).decode


@dataclass(frozen=True, slots=True)
class Listing:
    """What an upstream offers right now.

    Attributes:
        definitions: The JSON text of each tool object, by name; nothing but the name was read.
        refused: Why others are no tools, by name as far as it can be shown.
    """

    definitions: dict[str, bytes]
    refused: dict[str, str]

    def add(self, definition: bytes) -> None:
        """Take one listed definition. A name that is listed twice is nobody's."""
        try:
            name = _decode_named(definition).name
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self.refused[_NO_NAME] = "it is no object with a name"
            return
        if name in self.definitions or name in self.refused:
            self.definitions.pop(name, None)
            self.refused[name] = "the name is listed twice"
            return
        self.definitions[name] = definition


async def compare(pinned: PinnedUpstream, listing: Listing) -> dict[str, str]:
    """Why pinned tools are not what the upstream lists, by name; reads the definitions of those tools alone.

    What has the digest of its pin is what was compiled when the pins were read, so nothing is compiled here.
    """
    live: dict[str, str] = {}
    refused = dict(listing.refused)
    for tool in pinned.tools:
        definition = listing.definitions.get(tool.name)
        if definition is None:
            continue
        try:
            live[tool.name] = pin_of(_read(definition))
        except DefinitionRefused as error:
            refused[tool.name] = str(error)
        await asyncio.sleep(0)  # one may be large, and others have work to do
    return differences(pinned, live, refused)


def differences(pinned: PinnedUpstream, live: Mapping[str, str], refused: Mapping[str, str]) -> dict[str, str]:
    """Why pinned tools are not what the upstream offers now, by name; tools nobody pinned do not count.

    Args:
        pinned: What was accepted.
        live: The pins of what is offered now, by name.
        refused: Why definitions that are offered cannot be used, by name.
    """
    found: dict[str, str] = {}
    for tool in pinned.tools:
        if tool.name in refused:
            found[tool.name] = f"its definition cannot be used: {refused[tool.name]}"
        elif tool.name not in live:
            found[tool.name] = "the upstream does not offer it any more"
        elif live[tool.name] != tool.pin:
            found[tool.name] = "its definition changed"
    return found


async def admit(upstream: str, listing: Listing) -> tuple[tuple[PinnedTool, ...], dict[str, str]]:
    """The tools of a list that can be pinned, by name, and why others cannot."""
    tools: list[PinnedTool] = []
    refused = {name[:_NAME_SHOWN]: why for name, why in listing.refused.items()}
    for name, definition in sorted(listing.definitions.items()):
        try:
            tools.append(pinned_tool(upstream, _read(definition)))
        except DefinitionRefused as error:
            refused[name[:_NAME_SHOWN]] = str(error)
        await asyncio.sleep(0)  # compiling may take long, and others have work to do
    return tuple(tools), refused


def _read(definition: bytes) -> JsonObject:
    """Strictly, because pins are digests: what two parsers could read differently is no definition."""
    if len(definition) > _MAX_LISTED_BYTES:
        raise DefinitionRefused(
            f"the definition has {len(definition)} bytes as listed; at most {_MAX_LISTED_BYTES} are read"
        )
    try:
        members = decode(definition, max_depth=MAX_SCHEMA_DEPTH)
    except Unrepresentable as error:
        raise DefinitionRefused(f"the definition cannot be represented: {error}") from None
    if not isinstance(members, dict):
        raise DefinitionRefused("the definition is no object")
    return members
