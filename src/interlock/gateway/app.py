"""The gateway's ASGI application: who is asking, which door, which limits; then on to the door itself."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from interlock.core.errors import Code, StoreUnavailable, TokenRefused
from interlock.gateway.asgi import (
    BodyTooLarge,
    ClientGone,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    json_response,
    problem,
    read_request,
)
from interlock.gateway.mcp import McpEndpoint
from interlock.gateway.runs_api import Opener, RunsApi
from interlock.plane.callers import Caller
from interlock.plane.limits import Limited
from interlock.plane.ports import Clock

_log = logging.getLogger("interlock.gateway")
_MAX_HEADER_TOKEN: Final = 8192
_MAX_PEERS: Final = 10_000
T = TypeVar("T")


class AgentBearer(Protocol):
    """An agent's verified token."""

    @property
    def subject(self) -> str: ...

    @property
    def agent(self) -> str: ...

    @property
    def run(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Doors:
    """Verification of tokens, one function for each kind. Both raise TokenRefused."""

    agent: Callable[[str], AgentBearer]
    opener: Callable[[str], Opener]


class RefusedTokens:
    """Counts tokens that are not valid, by address, so that a flood of them does not flood the log."""

    def __init__(self, per_second: int, clock: Clock) -> None:
        self._limit, self._clock = per_second, clock
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def over(self, peer: str) -> bool:
        second, count = self._seen.get(peer, (0, 0))
        return second == int(self._clock.monotonic()) and count >= self._limit

    def count(self, peer: str) -> None:
        now = int(self._clock.monotonic())
        second, count = self._seen.pop(peer, (now, 0))
        self._seen[peer] = (now, count + 1 if second == now else 1)
        if len(self._seen) > _MAX_PEERS:
            self._seen.popitem(last=False)


class GatewayApp:
    """Routes requests. Authentication comes before anything else is read."""

    def __init__(
        self,
        mcp: McpEndpoint,
        runs: RunsApi,
        doors: Doors,
        refused: RefusedTokens,
        ready: Callable[[], str | None],
        public_url: str,
        origins: tuple[str, ...],
        max_body: int,
    ) -> None:
        self._mcp, self._runs, self._doors, self._refused = mcp, runs, doors, refused
        self._ready, self._origins, self._max_body = ready, origins, max_body
        self._public = urlsplit(public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = read_request(scope, receive, send)
        try:
            response = await self._route(request)
            if response is not None:
                await response.send(send)
        except ClientGone:
            return
        except BodyTooLarge:
            message = f"The body may have {self._max_body} bytes."
            await problem(Code.MALFORMED_CALL, message, status=413).send(send)
        except StoreUnavailable:
            await problem(Code.UNAVAILABLE, "The plane cannot record; nothing was executed.").send(send)

    async def _route(self, request: Request) -> Response | None:
        path = request.path
        if path == "/healthz":
            return json_response(200, {"status": "alive"})
        if path == "/readyz":
            problem_now = self._ready()
            # Agents learn that the plane is not ready, not why.
            return json_response(200 if problem_now is None else 503, {"ready": problem_now is None})
        misdirected = self._misdirected(request)
        if misdirected is not None:
            return misdirected
        if path.startswith("/mcp/"):
            return await self._agent_door(request, path.removeprefix("/mcp/"))
        if path == "/v1/runs" or path.startswith("/v1/runs/"):
            return await self._opener_door(request, path.removeprefix("/v1/runs"))
        return problem(Code.NOT_FOUND, "There is nothing here.")

    def _misdirected(self, request: Request) -> Response | None:
        """Browsers are kept out unless invited, and names that are not ours are no way in (DNS rebinding)."""
        origin = request.header("origin")
        if origin is not None and origin not in self._origins:
            return problem(Code.UNAUTHENTICATED, "Requests from this origin are not accepted.", status=403)
        try:
            name = urlsplit(f"//{request.header('host') or ''}").hostname
        except ValueError:  # brackets that hold no address
            name = None
        if name not in (self._public.hostname, "localhost", "127.0.0.1", "::1"):
            return problem(Code.UNAUTHENTICATED, "This plane is not known by that name.", status=421)
        return None

    async def _agent_door(self, request: Request, upstream: str) -> Response | None:
        bearer = self._bearer(request, self._doors.agent)
        if isinstance(bearer, Response):
            return bearer
        try:
            self._mcp.check(bearer.agent)  # before looking up who is at the other end, which has its cost too
        except Limited as over:
            wait_ms = over.retry_after_ms
            return problem(Code.RATE_LIMITED, over.message, run_id=bearer.run, retry_after_ms=wait_ms)
        caller = Caller(bearer.agent, bearer.subject, bearer.run, request.ring())
        await self._mcp.handle(request, caller, upstream)
        return None

    async def _opener_door(self, request: Request, rest: str) -> Response:
        bearer = self._bearer(request, self._doors.opener)
        if isinstance(bearer, Response):
            return bearer
        return await self._runs.handle(request, bearer, rest, self._max_body)

    def _bearer(self, request: Request, verify: Callable[[str], T]) -> T | Response:
        """Who is asking, by the token alone; refusals are slowed down and say as little as they can."""
        header = request.header("authorization") or ""
        scheme, _, token = header.partition(" ")
        try:
            if scheme.lower() != "bearer" or len(header) > _MAX_HEADER_TOKEN:
                raise TokenRefused("A bearer token is required.")
            return verify(token.strip())
        except TokenRefused as error:
            # A valid token always gets in: others at the same address must not be able to lock it out.
            if self._refused.over(request.peer):
                return problem(Code.RATE_LIMITED, "Too many refused tokens.", retry_after_ms=1000)
            self._refused.count(request.peer)
            _log.info("token refused", extra={"peer": request.peer, "why": error.message})
            challenge = b'Bearer error="invalid_token"' if token else b"Bearer"
            return problem(Code.UNAUTHENTICATED, error.message, headers=[(b"www-authenticate", challenge)])
