"""A client that does not take its answer, on a real connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from interlock.bootstrap import serving
from interlock.bootstrap.serving import BoundedProtocol, bind_tcp, make_server
from interlock.gateway.asgi import Receive, Response, Scope, Send

ANSWER = b"x" * 16_000_000
"""More than any kernel holds for a connection."""


class Answering:
    """Answers every request with a large body, and says when the client took it or was given up."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await Response(200, ANSWER).send(send)
        self.ended.set()


@asynccontextmanager
async def _client(app: Answering) -> AsyncGenerator[tuple[asyncio.StreamReader, set[Any]]]:
    """A client that asked and has not begun to read; and the server's connections."""
    with bind_tcp("127.0.0.1:0") as listener:
        server = make_server(app, BoundedProtocol, max_connections=None, drain_seconds=1)
        serves = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(sock=socket.create_connection(listener.getsockname()))
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            yield reader, server.server_state.connections
        finally:
            writer.close()
            server.should_exit = True
            await serves


async def test_whoever_does_not_take_the_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_SILENCE_S", 0.05)
    app = Answering()
    async with _client(app) as (reader, _connections):
        await asyncio.wait_for(app.ended.wait(), 30)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(ANSWER))


async def test_whoever_takes_some_of_it_in_time_gets_it_all() -> None:
    app = Answering()
    async with _client(app) as (reader, connections):
        await reader.readuntil(b"\r\n\r\n")
        [connection] = connections
        held: Callable[[], int] = connection.transport.get_write_buffer_size
        left = len(ANSWER)
        while left:
            before = held()
            while left and held() > before - 65_536:
                left -= len(await reader.readexactly(min(left, 65_536)))
            if held():
                connection._check_taken()  # as if the time were over
        await asyncio.wait_for(app.ended.wait(), 30)
