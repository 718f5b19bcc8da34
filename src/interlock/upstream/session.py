"""An MCP session with one upstream: which era it speaks, what tools it lists, and calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from interlock import __version__
from interlock.core.canonical import JsonObject
from interlock.core.errors import UpstreamUnavailable
from interlock.core.mcp import HANDSHAKE_VERSIONS, LEGACY, MODERN, implementation, modern_meta
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, SealedCall
from interlock.upstream.connection import Connection
from interlock.upstream.definitions import Listing

_MAX_PAGES: Final = 100
_MAX_TOOLS: Final = 2000
_MAX_LIST_BYTES: Final = 8 * 1024 * 1024
_PROBE_TIMEOUT_S: Final = 5.0
_MAX_SAID: Final = 500


class _Page(msgspec.Struct, gc=False):
    """One page; definitions stay raw bytes. Some servers write null for an empty list."""

    tools: list[msgspec.Raw] | None
    nextCursor: str | None = None  # noqa: N815 - the wire's name


_decode_page = msgspec.json.Decoder(_Page).decode


class Session:
    """Speaks with one upstream after the era was settled."""

    def __init__(
        self, upstream: str, connection: Connection, protocol: str, timeout_s: float, redact: Callable[[str], str]
    ) -> None:
        """Prepare a session.

        Args:
            upstream: Its id.
            connection: How it is reached.
            protocol: The revision to speak, or `auto`.
            timeout_s: For each request that is not a call.
            redact: Blanks the upstream's secrets in what it says; that ends in logs and on screens.
        """
        self.upstream, self.connection = upstream, connection
        self._asked, self._timeout_s, self._redact = protocol, timeout_s, redact
        self.protocol = ""
        self.server = ""

    async def open(self) -> None:
        """Negotiate: the modern revision first, unless the settings say otherwise.

        Raises:
            UpstreamUnavailable: it cannot be reached or does not speak MCP.
        """
        try:
            if self._asked != LEGACY and await self._discover():
                return
            if self._asked == MODERN:
                raise UpstreamUnavailable(f"The upstream {self.upstream} does not speak MCP {MODERN}.")
            await self._initialize()
        except (NotSent, NoAnswer) as error:
            raise UpstreamUnavailable(f"The upstream {self.upstream} cannot be reached: {error}.") from None

    async def _discover(self) -> bool:
        """Whether the upstream answers as a modern server; anything else is evidence for the old era."""
        self.connection.speak(MODERN)
        try:
            answer = await self.connection.request(
                "server/discover", {"_meta": modern_meta(__version__)}, min(_PROBE_TIMEOUT_S, self._timeout_s)
            )
        except NoAnswer:
            # Silence: some old servers drop what they do not know before `initialize`.
            if not self.connection.alive:
                raise
            return False
        result = _object(answer.result)
        versions = result.get("supportedVersions")
        if not isinstance(versions, list) or MODERN not in versions:
            return False
        self.protocol, self.server = MODERN, self._redact(_server_name(result))
        return True

    async def _initialize(self) -> None:
        self.connection.speak(None)
        answer = await self.connection.request(
            "initialize",
            {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": implementation(__version__)},
            self._timeout_s,
        )
        if answer.error is not None:
            said = self._said(answer)
            raise UpstreamUnavailable(f"The upstream {self.upstream} refuses to initialize: {said}.")
        result = _object(answer.result)
        version = result.get("protocolVersion")
        if version not in HANDSHAKE_VERSIONS:
            raise UpstreamUnavailable(f"The upstream {self.upstream} offers an MCP revision that is not supported.")
        self.protocol, self.server = str(version), self._redact(_server_name(result))
        self.connection.speak(self.protocol)
        await self.connection.notify("notifications/initialized", {})

    async def list_tools(self) -> Listing:
        """Every page of the live list.

        Raises:
            UpstreamUnavailable: it does not answer, or with something that is no list, or with one beyond the
                caps: what was not read can neither be compared nor pinned.
        """
        listing = Listing({}, {})
        count = size = 0
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            text = await self._page(cursor)
            size += len(text)
            if size > _MAX_LIST_BYTES:
                raise self._endless(f"{_MAX_LIST_BYTES} bytes")
            page = self._read_page(text)
            definitions = page.tools or []
            count += len(definitions)
            if count > _MAX_TOOLS:
                raise self._endless(f"{_MAX_TOOLS} tools")
            for definition in definitions:
                listing.add(bytes(definition))
            cursor = page.nextCursor
            if not cursor:
                return listing
        raise self._endless(f"{_MAX_PAGES} pages")

    def _endless(self, limit: str) -> UpstreamUnavailable:
        return UpstreamUnavailable(f"The tool list of {self.upstream} has more than {limit}.")

    async def _page(self, cursor: str | None) -> bytes:
        params: JsonObject = {"cursor": cursor} if cursor else {}
        if self.protocol == MODERN:
            params["_meta"] = modern_meta(__version__)
        try:
            answer = await self.connection.request("tools/list", params, self._timeout_s)
        except (NotSent, NoAnswer) as error:
            raise UpstreamUnavailable(f"The upstream {self.upstream} does not list its tools: {error}.") from None
        if answer.result is None:
            said = self._said(answer)
            raise UpstreamUnavailable(f"The upstream {self.upstream} does not list its tools: {said}.")
        return answer.result

    def _said(self, answer: Answer) -> str:
        """An error's message for people: without secrets, printable and bounded."""
        text = self._redact(str(answer.error.get("message", "")) if answer.error else "")
        return "".join(sign for sign in text if sign.isprintable())[:_MAX_SAID]

    def _read_page(self, text: bytes) -> _Page:
        try:
            return _decode_page(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise UpstreamUnavailable(f"The tool list of {self.upstream} cannot be read.") from None

    async def call(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        """See `Connection.call`."""
        meta = modern_meta(__version__) if self.protocol == MODERN else {}
        return await self.connection.call(sealed, meta, on_progress)


def _object(result: bytes | None) -> dict[str, Any]:
    """A result that only tells names and versions; leniently read, nothing in it is executed."""
    if result is None:
        return {}
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _server_name(result: dict[str, Any]) -> str:
    """Name and version as the upstream gives them, for people; bounded and printable."""
    info: Any = result.get("serverInfo")
    meta: Any = result.get("_meta")
    if not isinstance(info, dict) and isinstance(meta, dict):
        info = cast("dict[str, Any]", meta).get("io.modelcontextprotocol/serverInfo")
    members = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    text = f"{members.get('name', '')} {members.get('version', '')}".strip()
    return "".join(character for character in text if character.isprintable())[:200]
