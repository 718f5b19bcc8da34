"""An upstream over Streamable HTTP, in both eras, with aiohttp.

No redirects, no proxy from the environment, no cookies, credentials only to the configured origin, and
no address that was not configured: a host name may not lead into private networks by its DNS alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from interlock.core.canonical import JsonObject
from interlock.core.mcp import INTERNAL_ERROR, MODERN
from interlock.core.mirror import Mirrored, encode_value, mirrored_arguments, outbound_headers
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, SealedCall
from interlock.upstream.connection import Hooks
from interlock.upstream.frames import (
    NotAFrame,
    Notice,
    Reply,
    ServerRequest,
    call_frame,
    notification_frame,
    read_frame,
    reply_frame,
    request_frame,
)
from interlock.upstream.resolver import GuardedResolver
from interlock.upstream.sse import EventReader, EventTooLarge

_ACCEPT: Final = "application/json, text/event-stream"
_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to, and how much.

    Attributes:
        networks: Private networks that the host name may resolve to.
    """

    upstream: str
    url: str
    networks: tuple[str, ...]
    max_bytes: int
    max_connections: int


class HttpConnection:
    """One session with one endpoint under one set of credentials."""

    def __init__(self, endpoint: Endpoint, secrets: dict[str, str], hooks: Hooks) -> None:
        self._endpoint, self._hooks = endpoint, hooks
        self._credentials = secrets
        self._version: str | None = None
        self._session_id: str | None = None
        self._numbers = 0
        self._mirrored: dict[str, tuple[Mirrored, ...]] = {}
        self._closed = False
        host = urlsplit(endpoint.url).hostname or ""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Every call in flight may need a second one, to answer a request of the upstream.
                limit=2 * endpoint.max_connections,
                resolver=GuardedResolver(host, endpoint.networks),
                ttl_dns_cache=30,
                # Below the 5 s after which common servers close an idle connection under our feet.
                keepalive_timeout=4,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=True,
            max_line_size=8192,
            max_field_size=16384,
        )

    @property
    def alive(self) -> bool:
        return not self._closed

    def speak(self, version: str | None) -> None:
        self._version = version

    async def request(self, method: str, params: JsonObject, timeout_s: float) -> Answer:
        number = self._number()
        headers = {"Mcp-Method": method} if self._version == MODERN else {}
        frame = request_frame(number, method, params)
        return await self._exchange(number, frame, headers, None, timeout_s, connect_s=timeout_s)

    async def notify(self, method: str, params: JsonObject) -> None:
        if self._version == MODERN:
            return  # the modern wire has no notifications from client to server
        await self._post_quietly(notification_frame(method, params))

    async def call(self, sealed: SealedCall, meta: JsonObject, on_progress: OnProgress | None) -> Answer:
        number = self._number()
        if on_progress is not None:
            meta = {**meta, "progressToken": number}
        headers: dict[str, str] = {}
        if self._version == MODERN:
            headers = self._call_headers(sealed)
        try:
            frame = call_frame(number, sealed.call, meta)
            return await self._exchange(
                number, frame, headers, on_progress, sealed.timeout_s, connect_s=sealed.start_within_s
            )
        except (NoAnswer, asyncio.CancelledError):
            # Modern: closing the stream is the cancellation. Before: a notification is.
            if self._version != MODERN and not self._closed:
                notice = notification_frame("notifications/cancelled", {"requestId": number})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await self._post_quietly(notice)
            raise

    def _call_headers(self, sealed: SealedCall) -> dict[str, str]:
        tool = sealed.call.tool
        mirrored = self._mirrored.get(tool.pin)
        if mirrored is None:
            mirrored = self._mirrored[tool.pin] = mirrored_arguments(tool.definition.get("inputSchema"))
        return {
            "Mcp-Method": "tools/call",
            "Mcp-Name": encode_value(tool.name),
            **outbound_headers(mirrored, sealed.call.arguments.value),
        }

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _headers(self, extra: dict[str, str]) -> dict[str, str]:
        headers = {"Accept": _ACCEPT, "Content-Type": "application/json", **extra, **self._credentials}
        if self._version is not None:
            headers["MCP-Protocol-Version"] = self._version
        if self._session_id is not None:
            headers["Mcp-Session-Id"] = self._session_id
        return headers

    async def _exchange(
        self,
        number: int,
        frame: bytes,
        headers: dict[str, str],
        on_progress: OnProgress | None,
        timeout_s: float,
        *,
        connect_s: float,
    ) -> Answer:
        if self._closed:
            raise NotSent("the connection is closed")
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.post(
                    self._endpoint.url,
                    data=frame,
                    headers=self._headers(headers),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
                ) as response,
            ):
                return await self._answer(number, response, on_progress)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, aiohttp.ConnectionTimeoutError) as error:
            # The connection was never made, so nothing can have been sent on it.
            raise NotSent(f"the upstream cannot be reached ({_reason(error)})") from None
        except TimeoutError:
            raise NoAnswer(f"the upstream did not answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(f"the exchange with the upstream broke ({type(error).__name__})") from None

    async def _answer(self, number: int, response: aiohttp.ClientResponse, on_progress: OnProgress | None) -> Answer:
        """What a response means; see docs/explanation/story-of-a-call.md for what counts as an answer."""
        status = response.status
        if 300 <= status < 400:
            return _failed(f"the upstream redirects (HTTP {status}); redirects are not followed")
        if "Mcp-Session-Id" in response.headers:
            session = response.headers["Mcp-Session-Id"]
            self._session_id = session if len(session) <= 1024 and session.isprintable() else None
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream" and status == 200:
            return await self._stream(number, response, on_progress)
        message = _message(await self._bounded(response))
        if isinstance(message, Reply) and message.id == number:
            return message.answer
        if self._session_id is not None and status in (400, 404):
            # The session is over, which many servers say with 400; the next call opens a new one.
            self._closed = True
        if 400 <= status < 500:
            return _failed(f"the upstream refuses the request (HTTP {status})")
        # It may have been executed: a proxy that lost the upstream looks like this, or one that broke while answering.
        raise NoAnswer(f"the upstream answered HTTP {status} without an answer to the call")

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        """Read a body, decompressed, up to the limit."""
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._endpoint.max_bytes:
                raise NoAnswer(f"the upstream's answer is larger than {self._endpoint.max_bytes} bytes")
        return bytes(body)

    async def _stream(self, number: int, response: aiohttp.ClientResponse, on_progress: OnProgress | None) -> Answer:
        reader = EventReader(self._endpoint.max_bytes)
        received = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            received += len(chunk)
            if received > 4 * self._endpoint.max_bytes:
                raise NoAnswer("the upstream floods the stream of a call")
            try:
                events = reader.feed(chunk)
            except EventTooLarge:
                raise NoAnswer(f"an event of the upstream is larger than {self._endpoint.max_bytes} bytes") from None
            for event in events:
                answer = await self._event(number, event, on_progress)
                if answer is not None:
                    return answer
            await asyncio.sleep(0)  # what is already here comes without a pause, and others have work to do
        raise NoAnswer("the upstream ended the stream without an answer")

    async def _event(self, number: int, event: bytes, on_progress: OnProgress | None) -> Answer | None:
        try:
            message = read_frame(event)
        except NotAFrame:
            return None
        if isinstance(message, Reply):
            return message.answer if message.id == number else None
        if isinstance(message, ServerRequest):
            await self._post_quietly(reply_frame(message))
        elif message.method == "notifications/tools/list_changed":
            self._hooks.list_changed()
        elif on_progress is not None and message.progress is not None and message.progress[0] == number:
            on_progress(message.progress[1])
        return None

    async def _post_quietly(self, frame: bytes) -> None:
        """Post something that has no answer; whether it arrives is the upstream's affair."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                asyncio.timeout(10),
                self._client.post(
                    self._endpoint.url, data=frame, headers=self._headers({}), allow_redirects=False
                ) as response,
            ):
                response.close()

    async def close(self) -> None:
        self._closed = True
        if self._session_id is not None and self._version != MODERN:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with (
                    asyncio.timeout(2),
                    self._client.delete(
                        self._endpoint.url, headers=self._headers({}), allow_redirects=False
                    ) as response,
                ):
                    response.close()
        await self._client.close()


def _message(body: bytes) -> Reply | ServerRequest | Notice | None:
    try:
        return read_frame(body)
    except NotAFrame:
        return None


def _failed(message: str) -> Answer:
    return Answer(None, {"code": INTERNAL_ERROR, "message": message})


def _reason(error: Any) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(cause)[:200]
