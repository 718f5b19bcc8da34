"""/v1/approvals, /v1/halts, /v1/tokens, /v1/status: deciding, stopping, letting in, looking after."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.api.administration import Administration, TokenRequest
from interlock.api.requests import answer, body_of, listing, operator, page_of, text
from interlock.core.canonical import Json
from interlock.core.errors import BadRequest, NotFound
from interlock.plane.commands import HaltScope
from interlock.plane.ports import Page

_SCOPES: Final[tuple[HaltScope, ...]] = ("run", "agent", "all")
_MAX_TTL_S: Final = 900


class ControlRoutes:
    """Handlers; `routes` is what the application mounts."""

    def __init__(self, admin: Administration) -> None:
        self._admin = admin
        self.routes = [
            Route("/v1/approvals", self._approvals, methods=["GET"]),
            Route("/v1/approvals/{approval}", self._approval, methods=["GET"]),
            Route("/v1/approvals/{approval}/verdict", self._verdict, methods=["POST"]),
            Route("/v1/halts", self._halts, methods=["GET"]),
            Route("/v1/halts", self._halt, methods=["POST"]),
            Route("/v1/resumes", self._resume, methods=["POST"]),
            Route("/v1/tokens", self._token, methods=["POST"]),
            Route("/v1/status", self._status, methods=["GET"]),
            Route("/v1/settings", self._settings, methods=["GET"]),
            Route("/v1/doctor", self._doctor, methods=["GET"]),
        ]

    async def _approvals(self, request: Request) -> Response:
        page, state = page_of(request), request.query_params.get("state")
        return listing("approvals", await asyncio.to_thread(self._admin.approvals.list, state, page), page)

    async def _approval(self, request: Request) -> Response:
        return answer(self._admin.approvals.show(request.path_params["approval"]))

    async def _verdict(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"approve", "reason"}))
        if not isinstance(body.get("approve"), bool):
            raise BadRequest("`approve` is not true or false.")
        decided = await self._admin.approvals.decide(
            request.path_params["approval"],
            approve=body["approve"] is True,
            by=operator(request),
            reason=text(body, "reason", required=False),
        )
        return answer(decided)

    async def _halts(self, _request: Request) -> Response:
        items: list[Json] = [*self._admin.reader.halts(), *self._admin.stopping.unrecorded()]
        return answer({"halts": items})

    async def _halt(self, request: Request) -> Response:
        scope, target, reason = await self._scope(request)
        halted = await self._admin.stopping.halt(scope, target, operator(request), reason)
        runs: list[Json] = [run.id for run in halted.runs]
        return answer({"scope": scope, "target": target, "leaf": halted.seq, "runs": runs})

    async def _resume(self, request: Request) -> Response:
        scope, target, reason = await self._scope(request)
        seq = await self._admin.stopping.resume(scope, target, operator(request), reason)
        return answer({"scope": scope, "target": target, "leaf": seq})

    async def _scope(self, request: Request) -> tuple[HaltScope, str, str]:
        body = await body_of(request, frozenset({"scope", "target", "reason"}))
        named = text(body, "scope")
        scope: HaltScope | None = next((known for known in _SCOPES if known == named), None)
        if scope is None:
            raise BadRequest(f"`scope` is none of {', '.join(_SCOPES)}.")
        target = "all" if scope == "all" else text(body, "target")
        bundle = self._admin.policy.bundle
        if scope == "agent" and (bundle is None or target not in bundle.agents):
            known = bool(self._admin.reader.list_runs(target, None, Page(limit=1)))
            halted = any(halt["target"] == target for halt in self._admin.reader.halts())
            if not known and not halted:
                raise NotFound(f"The active policy has no agent {target!r}, and none of that name ever ran.")
        return scope, target, text(body, "reason", required=False) or "no reason given"

    async def _token(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"agent", "opener", "agents", "run", "ttl_seconds"}))
        ttl = body.get("ttl_seconds", _MAX_TTL_S)
        if isinstance(ttl, bool) or not isinstance(ttl, int) or not 1 <= ttl <= _MAX_TTL_S:
            raise BadRequest(f"`ttl_seconds` is not a number from 1 to {_MAX_TTL_S}.")
        opener = text(body, "opener", required=False, limit=128) or None
        listed = body.get("agents")
        if opener:
            agents = tuple(str(agent) for agent in listed) if isinstance(listed, list) else ()
        else:
            agents = (text(body, "agent"),)
        if not agents:
            raise BadRequest("A run opener's token names the `agents` it may open runs for.")
        run = text(body, "run", required=False) or None
        minted, token_id, expires = self._admin.mint(TokenRequest(opener, agents, run, ttl), operator(request))
        return answer({"token": minted, "token_id": token_id, "expires_at": expires}, 201)

    async def _status(self, _request: Request) -> Response:
        body = await asyncio.to_thread(self._admin.status)
        return answer(body)

    async def _settings(self, _request: Request) -> Response:
        return answer(self._admin.settings())

    async def _doctor(self, _request: Request) -> Response:
        checks: list[Json] = list(await self._admin.doctor())
        return answer({"checks": checks})
