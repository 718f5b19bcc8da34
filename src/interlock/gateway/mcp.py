"""/mcp/{upstream}: Model Context Protocol over Streamable HTTP, both eras.

What is served here: initialize, ping, server/discover, tools/list, tools/call, cancellation, progress.
Every other method gets the protocol's own error. Lists and handshakes are answered by the plane; only a
permitted tools/call ever reaches an upstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interlock import __version__
from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import Code
from interlock.core.mcp import (
    HANDSHAKE_VERSIONS,
    HEADER_MISMATCH,
    HTTP_STATUS,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    META_CAPABILITIES,
    META_VERSION,
    METHOD_NOT_FOUND,
    MODERN,
    UNSUPPORTED_VERSION,
    implementation,
)
from interlock.core.mirror import Mirrored, decode_value, disagreement, mirrored_arguments
from interlock.core.policy.bundle import Bundle
from interlock.gateway.asgi import JSON_TYPE, BodyTooLarge, ClientGone, Request, Response, problem
from interlock.gateway.lists import ToolLists
from interlock.gateway.messages import (
    CallParams,
    RequestId,
    Rpc,
    RpcError,
    call_params,
    read_message,
    unread_weight,
    weight,
)
from interlock.gateway.rendering import rpc_error, rpc_result
from interlock.gateway.sessions import McpSession, Sessions
from interlock.gateway.tools import CallExchange, ProgressQueue
from interlock.plane.bundles import ActivePolicy
from interlock.plane.callers import Caller, Cancellation, InboundCall
from interlock.plane.limits import CallLimits, Limited

_MODERN_HEADERS: Final = ("mcp-protocol-version", "mcp-method", "mcp-name")


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request at this door."""

    request: Request
    caller: Caller
    bundle: Bundle
    upstream: str


class McpEndpoint:
    """Serves one upstream's URL for authenticated agents."""

    def __init__(
        self,
        policy: ActivePolicy,
        lists: ToolLists,
        sessions: Sessions,
        calls: CallExchange,
        limits: CallLimits,
        max_body: int,
    ) -> None:
        self._policy, self._lists, self._sessions, self._calls = policy, lists, sessions, calls
        self._limits, self._max_body = limits, max_body
        self._cancellable: dict[tuple[str, str, RequestId], Cancellation] = {}
        self._mirrored: dict[str, tuple[Mirrored, ...]] = {}

    async def handle(self, request: Request, caller: Caller, upstream: str) -> None:
        """Serve one request; the caller is authenticated already."""
        bundle = self._policy.bundle
        if bundle is None:
            await problem(Code.UNAVAILABLE, "No policy is active; everything is denied.").send(request.send)
            return
        agent = bundle.agents.get(caller.agent)
        if agent is None or agent.identity != caller.identity:
            message = "The agent is not in the active policy."
            await problem(Code.AGENT_NOT_ACTIVE, message, run_id=caller.run).send(request.send)
            return
        if upstream not in bundle.lock.upstreams:
            await problem(Code.NOT_FOUND, "There is no such upstream.").send(request.send)
            return
        exchange = _Exchange(request, caller, bundle, upstream)
        version = request.header("mcp-protocol-version")
        modern = version is not None and version not in HANDSHAKE_VERSIONS
        if request.method == "POST":
            await self._post(exchange, modern=modern)
        elif request.method == "DELETE" and not modern:
            await self._delete(exchange)
        else:
            # No stream is offered outside of requests; the specification's answer to that is 405.
            allowed = b"POST" if modern else b"POST, DELETE"
            await Response(405, headers=((b"allow", allowed),)).send(request.send)

    async def _post(self, exchange: _Exchange, *, modern: bool) -> None:
        request = exchange.request
        accept = request.header("accept") or ""
        if "application/json" not in accept and "*/*" not in accept:
            await Response(406).send(request.send)
            return
        kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            await Response(415).send(request.send)
            return
        try:
            rpc = await self._read(exchange)
            await (self._modern(exchange, rpc) if modern else self._legacy(exchange, rpc))
        except BodyTooLarge:
            message, close = f"The body may have {self._max_body} bytes.", (b"connection", b"close")
            await problem(Code.MALFORMED_CALL, message, status=413, headers=[close]).send(request.send)
        except Limited as over:
            run, wait_ms = exchange.caller.run, over.retry_after_ms
            await problem(Code.RATE_LIMITED, over.message, run_id=run, retry_after_ms=wait_ms).send(request.send)
        except RpcError as error:
            status = HTTP_STATUS.get(error.code, 200) if modern or error.request_id is None else 200
            await Response(status, rpc_error(error)).send(request.send)

    def check(self, agent: str) -> None:
        """Whether anything of the agent may be looked at. Raises Limited."""
        self._limits.check(agent)

    async def _read(self, exchange: _Exchange) -> Rpc:
        """The message; its agent is charged before anything is made of it, whatever it is."""
        agent = exchange.caller.agent
        self._limits.check(agent)
        try:
            body = await exchange.request.body(self._max_body)
        except (BodyTooLarge, ClientGone):
            self._limits.charge(agent, unread_weight(self._max_body))
            raise
        self._limits.check(agent)  # again: others of the agent were charged while this one arrived
        self._limits.charge(agent, weight(body))
        return read_message(body)

    # 2025-11-25 and before --------------------------------------------------------------------------

    async def _legacy(self, exchange: _Exchange, rpc: Rpc) -> None:
        request = exchange.request
        if rpc.method == "initialize" and rpc.id is not None:
            await self._initialize(exchange, rpc.id, rpc.params)
            return
        session_id = request.header("mcp-session-id")
        if not session_id:
            await problem(Code.MALFORMED_CALL, "Mcp-Session-Id is required after initialize.").send(request.send)
            return
        session = self._sessions.find(session_id, exchange.caller.agent, exchange.upstream)
        if session is None:
            # 404 makes a client initialize anew.
            await problem(Code.NOT_FOUND, "The session does not exist.").send(request.send)
            return
        if rpc.id is None:
            await self._legacy_notification(exchange, session, rpc)
        elif rpc.method == "ping":
            await self._result(exchange, rpc.id, b"{}")
        elif rpc.method == "tools/list":
            await self._list(exchange, rpc, modern=False)
        elif rpc.method == "tools/call":
            await self._legacy_call(exchange, session, rpc.id, rpc)
        else:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", rpc.id)

    async def _initialize(self, exchange: _Exchange, request_id: RequestId, params: JsonObject) -> None:
        asked = params.get("protocolVersion")
        if not isinstance(asked, str):
            raise RpcError(INVALID_PARAMS, "protocolVersion is missing", request_id)
        version = asked if asked in HANDSHAKE_VERSIONS else LEGACY
        session = self._sessions.open(exchange.caller.agent, exchange.upstream, version)
        result: JsonObject = {
            "protocolVersion": version,
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": implementation(__version__),
        }
        body = rpc_result(request_id, encode(result))
        headers = ((b"mcp-session-id", session.id.encode()),)
        await Response(200, body, JSON_TYPE, headers).send(exchange.request.send)

    async def _legacy_notification(self, exchange: _Exchange, session: McpSession, rpc: Rpc) -> None:
        if rpc.method == "tools/call":
            raise RpcError(INVALID_REQUEST, "A tools/call without an id executes nothing")
        if rpc.method == "notifications/cancelled":
            cancelled = rpc.params.get("requestId")
            if isinstance(cancelled, int | str) and not isinstance(cancelled, bool):
                key = (session.id, type(cancelled).__name__, cancelled)
                if (cancellation := self._cancellable.get(key)) is not None:
                    cancellation.cancel("the client cancelled it")
        await Response(202).send(exchange.request.send)

    async def _legacy_call(self, exchange: _Exchange, session: McpSession, request_id: RequestId, rpc: Rpc) -> None:
        params = call_params(rpc)
        call, progress = self._inbound(exchange, rpc, params)
        key = (session.id, type(request_id).__name__, request_id)
        if key in self._cancellable:
            raise RpcError(INVALID_REQUEST, "A request with this id is in flight", request_id)
        self._cancellable[key] = call.cancellation
        try:
            await self._calls.run(exchange.request, request_id, call, progress, modern=False)
        finally:
            del self._cancellable[key]

    async def _delete(self, exchange: _Exchange) -> None:
        request = exchange.request
        session_id = request.header("mcp-session-id") or ""
        session = self._sessions.find(session_id, exchange.caller.agent, exchange.upstream)
        if session is None:
            await problem(Code.NOT_FOUND, "The session does not exist.").send(request.send)
            return
        self._sessions.end(session)
        await Response(204).send(request.send)

    # 2026-07-28 -------------------------------------------------------------------------------------

    async def _modern(self, exchange: _Exchange, rpc: Rpc) -> None:
        request = exchange.request
        if rpc.id is None:
            if rpc.method == "tools/call":
                raise RpcError(INVALID_REQUEST, "A tools/call without an id executes nothing")
            # Nothing that a client may notify has a meaning here; acknowledging is the protocol's way.
            await Response(202).send(request.send)
            return
        for name in _MODERN_HEADERS:
            if len(request.headers.get(name, [])) > 1:
                raise RpcError(HEADER_MISMATCH, f"The header {name} appears more than once", rpc.id)
        if rpc.malformed is None:
            self._check_envelope(request, rpc, rpc.id)
        if rpc.method == "server/discover":
            await self._result(exchange, rpc.id, encode(_discovery()))
        elif rpc.method == "tools/list":
            await self._list(exchange, rpc, modern=True)
        elif rpc.method == "tools/call":
            params = call_params(rpc)
            self._check_mirrors(exchange, params, rpc.id)
            call, progress = self._inbound(exchange, rpc, params)
            await self._calls.run(request, rpc.id, call, progress, modern=True)
        else:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", rpc.id)

    def _check_envelope(self, request: Request, rpc: Rpc, request_id: RequestId) -> None:
        """Every request carries its envelope, and the headers that mirror it must agree with it."""
        meta = rpc.params.get("_meta")
        if not isinstance(meta, dict) or META_VERSION not in meta or META_CAPABILITIES not in meta:
            raise RpcError(
                INVALID_PARAMS, f"params._meta must carry {META_VERSION} and {META_CAPABILITIES}", request_id
            )
        version = meta[META_VERSION]
        if request.header("mcp-protocol-version") != version:
            raise RpcError(HEADER_MISMATCH, "MCP-Protocol-Version does not match the request's envelope", request_id)
        if request.header("mcp-method") != rpc.method:
            raise RpcError(HEADER_MISMATCH, "Mcp-Method does not match the request's method", request_id)
        if version != MODERN:
            data: JsonObject = {"supported": [MODERN], "requested": version}
            raise RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", request_id, data)

    def _check_mirrors(self, exchange: _Exchange, params: CallParams, request_id: RequestId) -> None:
        if params.malformed is not None or params.arguments is None:
            return
        named = exchange.request.header("mcp-name")
        if named is None or decode_value(named) != params.name:
            raise RpcError(HEADER_MISMATCH, "Mcp-Name does not match params.name", request_id)
        rules = exchange.bundle.slice(exchange.caller.agent, f"{exchange.upstream}/{params.name}")
        if rules is None or not rules.listed:
            return  # it is denied as a tool that does not exist is, and must not differ from one
        pinned = rules.tool.pinned
        mirrored = self._mirrored.get(pinned.pin)
        if mirrored is None:
            mirrored = self._mirrored[pinned.pin] = mirrored_arguments(pinned.definition.get("inputSchema"))
        if mirrored and (wrong := disagreement(mirrored, params.arguments, exchange.request.headers)):
            raise RpcError(HEADER_MISMATCH, wrong, request_id)

    # Both -------------------------------------------------------------------------------------------

    async def _list(self, exchange: _Exchange, rpc: Rpc, *, modern: bool) -> None:
        assert rpc.id is not None  # notifications were answered before
        if rpc.params.get("cursor") is not None:
            raise RpcError(INVALID_PARAMS, "The cursor is not one of ours: lists have one page", rpc.id)
        result = self._lists.result(exchange.bundle, exchange.caller.agent, exchange.upstream, modern=modern)
        await self._result(exchange, rpc.id, result)

    async def _result(self, exchange: _Exchange, request_id: RequestId, result: bytes) -> None:
        await Response(200, rpc_result(request_id, result)).send(exchange.request.send)

    def _inbound(self, exchange: _Exchange, rpc: Rpc, params: CallParams) -> tuple[InboundCall, ProgressQueue | None]:
        streams = "text/event-stream" in (exchange.request.header("accept") or "")
        progress = ProgressQueue(params.progress_token) if params.progress_token is not None and streams else None
        call = InboundCall(
            caller=exchange.caller,
            upstream=exchange.upstream,
            tool=params.name,
            arguments=params.arguments,
            malformed=params.malformed,
            raw=rpc.raw if params.malformed is not None else b"",
            idempotency_key=params.idempotency_key,
            on_progress=progress.put if progress else None,
        )
        return call, progress


def _discovery() -> JsonObject:
    return {
        "supportedVersions": [MODERN, *reversed(HANDSHAKE_VERSIONS)],
        "capabilities": {"tools": {"listChanged": False}},
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": implementation(__version__)},
    }
