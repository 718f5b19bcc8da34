"""tools/call over HTTP: one JSON answer, or a stream once there is progress or the wait gets long."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from interlock.gateway.asgi import JSON_TYPE, Receive, Request, Response, Send, send_last
from interlock.gateway.messages import RequestId
from interlock.gateway.rendering import progress_event, rpc_result, sse, tool_result
from interlock.plane.callers import CallError, InboundCall, Reply
from interlock.plane.enforce import Enforcer
from interlock.plane.limits import CallLimits
from interlock.plane.ports import Progress

_PING_S: Final = 15.0
_MAX_QUEUED: Final = 64
_SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(slots=True)
class ProgressQueue:
    """Progress on its way to a client; a slow reader loses the oldest, never the answer."""

    token: int | str
    events: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue[bytes](_MAX_QUEUED))

    def put(self, progress: Progress) -> None:
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(progress_event(self.token, progress))


class _Place:
    """The place in the agent's concurrency of an answer that its client has not taken yet."""

    def __init__(self, limits: CallLimits, agent: str) -> None:
        self._limits, self._agent = limits, agent
        self._held = ExitStack()
        self._left = False

    def take(self, _task: asyncio.Task[Reply]) -> None:
        if not self._left:
            self._held.enter_context(self._limits.answering(self._agent))

    def leave(self) -> None:
        self._left = True
        self._held.close()


class CallExchange:
    """Runs one call in a task of its own, so that a client that goes away cannot interrupt its record."""

    def __init__(self, enforcer: Enforcer, limits: CallLimits) -> None:
        self._enforcer, self._limits = enforcer, limits
        self._tasks: set[asyncio.Task[Reply]] = set()

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def drain(self, seconds: float) -> None:
        """Wait for calls in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def run(
        self,
        request: Request,
        request_id: RequestId,
        call: InboundCall,
        progress: ProgressQueue | None,
        *,
        modern: bool,
    ) -> None:
        """Enforce a call and send its answer.

        Args:
            request: The HTTP request.
            request_id: The JSON-RPC id to answer to.
            call: The call.
            progress: Where its progress arrives, if the client asked for it and can read streams.
            modern: The era; in the modern one a closed stream cancels the call.
        """
        task = asyncio.create_task(self._enforcer.enforce(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        untaken = _Place(self._limits, call.caller.agent)
        # From the moment that there is an answer, also while progress before it is not taken.
        task.add_done_callback(untaken.take)
        watcher = asyncio.create_task(_watch(request.receive, call if modern else None))
        try:
            streaming = progress is not None and await _stream_progress(request.send, task, progress)
            reply = await asyncio.shield(task)
            body = rpc_result(request_id, tool_result(reply, modern=modern))
            if streaming:
                await send_last(request.send, sse(body))
            else:
                await Response(200, body, JSON_TYPE, _trace_headers(reply)).send(request.send)
        finally:
            untaken.leave()
            watcher.cancel()


async def _stream_progress(send: Send, task: asyncio.Task[Reply], progress: ProgressQueue) -> bool:
    """Send progress until the answer is there; return whether that began a stream.

    A stream begins with the first progress, or when the wait gets long enough for a proxy to give up.
    """
    streaming = False
    while not task.done():
        getter = asyncio.ensure_future(progress.events.get())
        done, _ = await asyncio.wait({task, getter}, timeout=_PING_S, return_when=asyncio.FIRST_COMPLETED)
        if getter in done:
            event = getter.result()
        else:
            getter.cancel()
            if task in done:
                break
            event = b": waiting\n\n"
        if not streaming:
            streaming = True
            await send({"type": "http.response.start", "status": 200, "headers": list(_SSE_HEADERS)})
        await send({"type": "http.response.body", "body": event, "more_body": True})
    while streaming and not progress.events.empty():
        await send({"type": "http.response.body", "body": progress.events.get_nowait(), "more_body": True})
    return streaming


async def _watch(receive: Receive, call: InboundCall | None) -> None:
    """Notice that the client went away. Only in the modern era does that mean that it gave up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if call is not None:
        call.cancellation.cancel("the client closed the stream")


def _trace_headers(reply: Reply) -> tuple[tuple[bytes, bytes], ...]:
    """Ids for logs on the client's side, where the body is the upstream's own."""
    headers: list[tuple[bytes, bytes]] = []
    if reply.call_id:
        headers.append((b"interlock-call-id", reply.call_id.encode()))
    if reply.run_id:
        headers.append((b"interlock-run-id", reply.run_id.encode()))
    if isinstance(reply, CallError):
        headers.append((b"interlock-error", str(reply.code).encode()))
    return tuple(headers)
