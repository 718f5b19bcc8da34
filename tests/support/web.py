"""A web server on this machine that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler = Callable[["Asked", web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Asked:
    """One request, as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Site:
    """A running server."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list[Asked])


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[Site]:
    """Serve every path with one handler."""
    site = Site()

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.path, headers, await request.read())
        site.asked.append(asked)
        return await handler(asked, request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    site.url = str(server.make_url("/"))
    try:
        yield site
    finally:
        await server.close()
