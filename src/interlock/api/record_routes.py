"""/v1/runs, /v1/calls, /v1/journal: what happened."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.api.administration import Administration
from interlock.api.requests import answer, body_of, listing, number, operator, page_of, text
from interlock.core.canonical import INT64_MAX, Json, JsonObject, Unrepresentable, decode
from interlock.core.errors import BadRequest, InterlockError, NotFound
from interlock.core.run import UNMETERED
from interlock.plane.commands import Finding
from interlock.plane.ports import CallFilter

_MAX_WAIT_S: Final = 30
_POLL_S: Final = 0.2
_MAX_LEAVES: Final = 500


class RecordRoutes:
    """Handlers; `routes` is what the application mounts."""

    def __init__(self, admin: Administration) -> None:
        self._admin = admin
        self.routes = [
            Route("/v1/runs", self._runs, methods=["GET"]),
            Route("/v1/runs/{run}", self._run, methods=["GET"]),
            Route("/v1/runs/{run}/end", self._end, methods=["POST"]),
            Route("/v1/calls", self._calls, methods=["GET"]),
            Route("/v1/calls/{call}", self._call, methods=["GET"]),
            Route("/v1/calls/{call}/finding", self._finding, methods=["POST"]),
            Route("/v1/journal", self._journal, methods=["GET"]),
        ]

    async def _runs(self, request: Request) -> Response:
        page, query = page_of(request), request.query_params
        rows = await asyncio.to_thread(self._admin.reader.list_runs, query.get("agent"), query.get("state"), page)
        return listing("runs", rows, page)

    async def _run(self, request: Request) -> Response:
        run_id = request.path_params["run"]
        reader = self._admin.reader
        run = reader.run(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id}.", remedy="`interlock runs list` shows them.")
        sealed = reader.run_payload(run_id, "task")
        ceilings = run.ceilings.as_json()
        body: JsonObject = {
            **run.as_json(),
            "clock_us": run.clock_us(self._admin.clock.now_us()),
            "counters": reader.counters(run_id),
            "task": self._admin.sealer.open(run_id, "task", sealed).decode() if sealed else None,
            "unmetered": [name for name in UNMETERED if ceilings[name] is not None],
        }
        return answer(body)

    async def _end(self, request: Request) -> Response:
        run_id = request.path_params["run"]
        if self._admin.reader.run(run_id) is None:
            raise NotFound(f"There is no run {run_id}.")
        await self._admin.stopping.end(run_id, f"ended by {operator(request)}")
        return answer({"run": run_id, "state": "ended"})

    async def _calls(self, request: Request) -> Response:
        page, query = page_of(request), request.query_params
        chosen = CallFilter(
            query.get("run"), query.get("agent"), query.get("upstream"), query.get("tool"), query.get("state")
        )
        rows = await asyncio.to_thread(self._admin.reader.list_calls, chosen, page)
        return listing("calls", rows, page)

    async def _call(self, request: Request) -> Response:
        call_id = request.path_params["call"]
        found = self._admin.reader.call(call_id)
        if found is None:
            raise NotFound(f"There is no call {call_id}.", remedy="`interlock calls list` shows them.")
        leaves: list[Json] = []
        for seq, leaf, payloads in self._admin.reader.call_leaves(call_id):
            opened: JsonObject = {name: self._opened(call_id, name, sealed) for name, sealed in payloads.items()}
            leaves.append({"seq": seq, "leaf": leaf, "payloads": opened})
        return answer({**found, "leaves": leaves})

    def _opened(self, context: str, name: str, sealed: bytes) -> Json:
        try:
            data = self._admin.sealer.open(context, name, sealed)
        except InterlockError as error:
            return {"unreadable": error.message}
        try:
            return decode(data)
        except Unrepresentable:
            # Evidence of a malformed call, or text: shown as it was, because no JSON says the same.
            return data.decode("utf-8", "replace")

    async def _finding(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"ran", "note"}))
        if not isinstance(body.get("ran"), bool):
            raise BadRequest("`ran` is not true or false.")
        call_id = request.path_params["call"]
        note = self._admin.sealer.seal(call_id, "note", text(body, "note").encode())
        await self._admin.store.find_out(Finding(call_id, body["ran"] is True, operator(request), (note,)))
        return answer({"call": call_id, "finding": "ran" if body["ran"] else "did_not_run"})

    async def _journal(self, request: Request) -> Response:
        """Leaves after a sequence; waits a little for new ones, so that a reader can follow."""
        after = number(request, "after", 0, 0, INT64_MAX)
        wait = number(request, "wait", 0, 0, _MAX_WAIT_S)
        deadline = self._admin.clock.monotonic() + wait
        while True:
            leaves = self._admin.reader.leaves_after(after, _MAX_LEAVES)
            if leaves or self._admin.clock.monotonic() >= deadline:
                items: list[Json] = list(leaves)
                return answer({"leaves": items})
            await asyncio.sleep(_POLL_S)
