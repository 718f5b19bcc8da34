"""Bare ASGI: what the gateway needs of HTTP, and no framework on the way of a call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import ERROR_CATALOGUE, Code
from interlock.plane.callers import CallError
from interlock.plane.commands import Ring

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

BODY_TIMEOUT_S: Final = 30.0
JSON_TYPE: Final = b"application/json"
PROBLEM_TYPE: Final = b"application/problem+json"
_LARGE: Final = 65_536


class BodyTooLarge(Exception):
    """The request body exceeds the limit."""


class ClientGone(Exception):
    """The client went away, or did not send its body in time."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request: everything but its body.

    Attributes:
        headers: Every value of every header, by lower-case name.
        peer: Address of the other end, for limits on what is not authenticated.
        ring: Tells the ring of the connection. It may have to look the other end up, so ask late.
    """

    method: str
    path: str
    headers: dict[str, list[str]]
    peer: str
    ring: Callable[[], Ring]
    receive: Receive = field(repr=False)
    send: Send = field(repr=False)

    def header(self, name: str) -> str | None:
        """The value of a header that appears exactly once; None if it does not appear.

        A header that appears several times has no single meaning and reads as an empty text.
        """
        values = self.headers.get(name)
        if not values:
            return None
        return values[0] if len(values) == 1 else ""

    async def body(self, limit: int) -> bytes:
        """Read the body. Raises BodyTooLarge or ClientGone."""
        declared = self.header("content-length")
        if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
            raise BodyTooLarge
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    part: bytes = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise BodyTooLarge
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise ClientGone from None


def _unknown_ring() -> Ring:
    """Of a connection that nobody can tell anything about: the weaker label."""
    return "cooperative"


def read_request(scope: Scope, receive: Receive, send: Send) -> Request:
    """Make a `Request` of an ASGI scope."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    state: dict[str, Any] = scope.get("state") or {}
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        peer=client[0] if client else "",
        ring=state.get("ring", _unknown_ring),
        receive=receive,
        send=send,
    )


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send) -> None:
        headers = [(b"content-length", str(len(self.body)).encode()), (b"cache-control", b"no-store"), *self.headers]
        if self.body:
            headers.append((b"content-type", self.content_type))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send_last(send, self.body)


async def send_last(send: Send, body: bytes) -> None:
    """Send the last part of a body. A large one is waited for: until the client takes it, we hold it."""
    if len(body) > _LARGE:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


def json_response(status: int, value: JsonObject, headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    return Response(status, encode(value), JSON_TYPE, tuple(headers))


def problem(
    code: Code,
    message: str,
    *,
    status: int | None = None,
    rule: str | None = None,
    run_id: str | None = None,
    retry_after_ms: int | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Response:
    """A problem document (RFC 9457) with the members of the error that an agent gets from a call.

    Args:
        code: From the catalogue, which also says whether trying again can help.
        message: One sentence that is safe to show.
        status: Where HTTP has a more exact one than the catalogue's.
        rule: The rule that refused, if one did.
        run_id: The run that was meant, if one was.
        retry_after_ms: When trying again makes sense; also sent as `Retry-After`.
        headers: More headers.
    """
    shown = ERROR_CATALOGUE[code].http_status if status is None else status
    error = CallError(code, message, rule, None, run_id, None, retry_after_ms)
    title = str(code).replace("_", " ")
    body: JsonObject = {"status": shown, "title": title, "detail": message, **error.as_json()}
    more = list(headers)
    if retry_after_ms is not None:
        more.append((b"retry-after", str(math.ceil(retry_after_ms / 1000)).encode()))
    return Response(shown, encode(body), PROBLEM_TYPE, tuple(more))
