"""/healthz, /readyz and /metrics, on a listener of their own so that a flood of agents never hides them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.api.requests import answer


def build_watch(ready: Callable[[], str | None], metrics: Callable[[bool], bytes]) -> Starlette:
    """Put the application together.

    Args:
        ready: Why the plane is not ready; None if it is.
        metrics: The exposition text, given whether the plane is ready.
    """

    async def healthz(_request: Request) -> Response:
        return answer({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        problem = ready()
        return answer({"ready": problem is None, "why": problem}, 200 if problem is None else 503)

    async def render(_request: Request) -> Response:
        text = await asyncio.to_thread(metrics, ready() is None)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", render),
        ]
    )
