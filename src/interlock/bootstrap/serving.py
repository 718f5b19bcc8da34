"""uvicorn, embedded: one server for each listener, bounds on headers, and who is at the other end.

The library has no limits on request headers and no time-out for them or for clients that do not take
their answer, takes what comes after a body for headers, and does not tell the user at the other end of a
local connection; the protocol class here adds what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from interlock.core.errors import SettingsInvalid
from interlock.gateway.peers import Connection

_MAX_HEADER_BYTES: Final = 32_768
_MAX_HEADERS: Final = 100
_SILENCE_S: Final = 15.0
"""For the headers of a request, for the rest of one that was answered before it ended, and for taking an answer."""
_TAKEN_BYTES: Final = 65_536
"""What a client takes of an answer in that time, at least, as long as there is that much."""
_PEERCRED: Final = struct.Struct("3i")


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds on what is not the body, in bytes and in time."""

    _header_bytes = 0
    _unparsed_bytes = 0
    _progressed = False
    _in_head = True
    _timer: asyncio.TimerHandle | None = None
    _untaken_bytes = 0
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit = self.config.limit_concurrency
        if limit is not None and len(self.connections) > limit:
            # The library only refuses requests; a silent connection would keep its descriptor.
            transport.abort()
            return
        # Whatever the kernel does not take at once counts as not taken, and has to be within a time.
        transport.set_write_buffer_limits(high=0)
        self.app_state = {**self.app_state, **self._who(transport)}
        self._expect_more()

    def _who(self, transport: asyncio.Transport) -> dict[str, Any]:
        """Facts about the other end that handlers may rely on."""
        return {"ring": Connection(transport.get_extra_info("peername"), transport.get_extra_info("sockname")).ring}

    def _expect_more(self) -> None:
        self._expect_nothing()
        self._timer = self.loop.call_later(_SILENCE_S, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken_bytes = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(_SILENCE_S, self._check_taken)

    def _check_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        if self._untaken_bytes - left < _TAKEN_BYTES:
            self.transport.abort()  # closing would wait until all is taken
            return
        self._untaken_bytes = left
        self._taking = self.loop.call_later(_SILENCE_S, self._check_taken)

    def resume_writing(self) -> None:
        self._stop_taking()
        super().resume_writing()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def data_received(self, data: bytes) -> None:
        self._progressed = False
        super().data_received(data)
        # The parser keeps an unfinished header to itself, and copies it whole with every part that arrives.
        self._unparsed_bytes = 0 if self._progressed else self._unparsed_bytes + len(data)
        if self._unparsed_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes, self._in_head = 0, True
        self._expect_more()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name + value)
        if not self._in_head:
            return  # a trailer: whoever decides by headers must not find another one after the body
        super().on_header(name, value)
        if len(self.headers) > _MAX_HEADERS:
            raise ValueError("too many headers")

    def _count(self, part: bytes) -> None:
        self._header_bytes += len(part)
        if self._header_bytes > _MAX_HEADER_BYTES:
            # An exception in a callback makes the parser give up, and uvicorn answer 400 and close.
            raise ValueError("the headers are too large")

    def on_headers_complete(self) -> None:
        self._progressed, self._in_head = True, False
        self._expect_nothing()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progressed = True
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body and self.cycle.response_complete:
            # Nobody waits for the rest of this request, and the library's own time-out ends with its next byte.
            self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._stop_taking()
        super().connection_lost(exc)


def operator_protocol(allowed: Callable[[int], bool]) -> type[BoundedProtocol]:
    """A protocol for the operator socket: whom the kernel names and the settings do not allow is hung up on."""

    class OperatorProtocol(BoundedProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            uid = self.app_state.get("peer_uid")
            if uid is None or not allowed(uid):
                transport.abort()

        def _who(self, transport: asyncio.Transport) -> dict[str, Any]:
            sock = transport.get_extra_info("socket")
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
            return {"peer_uid": _PEERCRED.unpack(credentials)[1]}

    return OperatorProtocol


class EmbeddedServer(uvicorn.Server):
    """A server among several in one process: signals are the process's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def make_server(
    app: Any, protocol: type[BoundedProtocol], *, max_connections: int | None, drain_seconds: int
) -> EmbeddedServer:
    """One server for one listener."""
    return EmbeddedServer(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=max_connections,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, drain_seconds),
        )
    )


def bind_tcp(address: str) -> socket.socket:
    """Bind `host:port`. Raises SettingsInvalid."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise SettingsInvalid(
            f"The address {address} cannot be bound ({error}).",
            remedy="Another process may use it; choose another with `gateway.listen` or `operations.listen`.",
        ) from None
    listener.setblocking(False)
    return listener


def bind_unix(path: Path, *, group_readable: bool) -> socket.socket:
    """Bind the operator socket; a stale one of a dead plane is replaced (its lock is ours by now)."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody else may connect between bind and chmod.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise SettingsInvalid(f"The operator socket {path} cannot be made ({error}).") from None
    finally:
        os.umask(before)
    if group_readable:
        # Peers are checked by user; the mode only has to let the named ones reach the check.
        path.chmod(0o666)
    listener.listen(64)
    listener.setblocking(False)
    return listener
