"""HTTP spoken by hand, for bytes that no client library would send."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable
from contextlib import suppress

from support.plane import Answer, PlaneProcess


def connect(plane: PlaneProcess, timeout: float = 30) -> socket.socket:
    """A connection to the gateway."""
    host, _, port = plane.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def request(
    token: str | None,
    body: bytes,
    *,
    line: str = "POST /mcp/odd HTTP/1.1",
    more: Iterable[tuple[str, str]] = (),
    drop: Iterable[str] = (),
    length: bool = True,
) -> bytes:
    """A tools/call request of the modern era.

    Args:
        token: The bearer token; None sends no Authorization.
        body: Sent as it is.
        line: The request line.
        more: Headers in addition, also such that are there already.
        drop: Names of headers that are left out.
        length: Whether Content-Length is sent.
    """
    headers = [
        ("Host", "localhost"),
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "echo"),
        ("Connection", "close"),
    ]
    if token is not None:
        headers.append(("Authorization", f"Bearer {token}"))
    if length:
        headers.append(("Content-Length", str(len(body))))
    kept = [header for header in headers if header[0] not in drop]
    text = "\r\n".join([line, *(f"{name}: {value}" for name, value in [*kept, *more])])
    return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def exchange(plane: PlaneProcess, *parts: bytes, timeout: float = 30) -> list[Answer]:
    """Send bytes on one connection; every answer until the plane hangs up (or the time is over)."""
    with connect(plane, timeout) as connection:
        with suppress(ConnectionError):  # an answer may be there although not all was taken
            for part in parts:
                connection.sendall(part)
        received = b""
        with suppress(ConnectionError, TimeoutError):
            while part := connection.recv(65536):
                received += part
    return answers(received)


def answers(received: bytes) -> list[Answer]:
    """Parse what came back; interim answers (1xx) are left out."""
    found: list[Answer] = []
    stream = io.BytesIO(received)
    while status_line := stream.readline():
        headers: dict[str, str] = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(status_line.split()[1])
        if status >= 200:
            found.append(Answer(status, headers, stream.read(int(headers.get("content-length", "0")))))
    return found
