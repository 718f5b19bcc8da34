"""An upstream as a subprocess: JSON lines over its pipes, a process group of its own, an explicit environment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import OrderedDict
from typing import Final

from interlock.core.canonical import JsonObject
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, SealedCall
from interlock.upstream.connection import Hooks
from interlock.upstream.frames import (
    NotAFrame,
    Notice,
    Reply,
    ServerRequest,
    call_frame,
    notification_frame,
    read_frame,
    reply_frame,
    request_frame,
)
from interlock.upstream.program import Program, Started, start

_log = logging.getLogger("interlock.upstream")
_MAX_GARBAGE_LINES: Final = 100
_MAX_GIVEN_UP: Final = 1000
_GRACE_S: Final = 2.0
_STDERR_LINE: Final = 4096
_NOTICE_TIMEOUT_S: Final = 1.0
_TURN: Final = 1000
"""So many messages are handled before others may work; what is buffered comes without a pause."""


class StdioConnection:
    """One process. It dies with its group: children that it forked are ended too."""

    def __init__(self, program: Program, started: Started, hooks: Hooks) -> None:
        pipes = started.pipes
        assert pipes.stdout is not None  # created with pipes
        assert pipes.stderr is not None
        self._program, self._transport, self._exited, self._hooks = program, started.transport, pipes.exited, hooks
        self._stdin, self._stdout, self._stderr = started.stdin, pipes.stdout, pipes.stderr
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._progress: dict[int, OnProgress] = {}
        self._given_up: OrderedDict[int, str] = OrderedDict()
        self._dead = ""
        self._killed = False
        self._reader = asyncio.create_task(self._read())
        self._tasks = [self._reader, asyncio.create_task(self._read_errors()), asyncio.create_task(self._watch())]

    @staticmethod
    async def open(program: Program, hooks: Hooks) -> StdioConnection:
        """Start the process. Raises UpstreamUnavailable."""
        return StdioConnection(program, await start(program), hooks)

    @property
    def alive(self) -> bool:
        return not self._dead and not self._exited.is_set()

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    def speak(self, version: str | None) -> None:
        """Frames over pipes look the same in every revision."""

    async def request(self, method: str, params: JsonObject, timeout_s: float) -> Answer:
        number = self._number()
        frame = request_frame(number, method, params)
        return await self._exchange(number, frame, timeout_s, start_within_s=timeout_s)

    async def notify(self, method: str, params: JsonObject) -> None:
        await self._write(notification_frame(method, params), _NOTICE_TIMEOUT_S, _NOTICE_TIMEOUT_S)

    async def call(self, sealed: SealedCall, meta: JsonObject, on_progress: OnProgress | None) -> Answer:
        number = self._number()
        if on_progress is not None:
            meta = {**meta, "progressToken": number}
            self._progress[number] = on_progress
        try:
            frame = call_frame(number, sealed.call, meta)
            return await self._exchange(number, frame, sealed.timeout_s, start_within_s=sealed.start_within_s)
        except (NoAnswer, asyncio.CancelledError):
            if self.alive:
                self._give_up(number, sealed.call_id)
                # In both eras a request over stdio is cancelled by a notification.
                with contextlib.suppress(NotSent, NoAnswer):
                    await self.notify("notifications/cancelled", {"requestId": number})
            raise
        finally:
            self._progress.pop(number, None)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _exchange(self, number: int, frame: bytes, timeout_s: float, *, start_within_s: float) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[number] = future
        try:
            await self._write(frame, min(start_within_s, timeout_s), timeout_s)
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            raise NoAnswer(f"the upstream did not answer within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()  # seen, also where writing failed first

    async def _write(self, frame: bytes, start_within_s: float, finish_within_s: float) -> None:
        if not self.alive:
            raise NotSent(f"the upstream's process is gone{self._dead and ': ' + self._dead}")
        try:
            await self._stdin.write(frame, start_within_s, finish_within_s)
        except (NotSent, NoAnswer):
            if self._stdin.broken:
                self._die("it closed its input")
            raise

    def _give_up(self, number: int, call_id: str) -> None:
        self._given_up[number] = call_id
        if len(self._given_up) > _MAX_GIVEN_UP:
            self._given_up.popitem(last=False)

    async def _read(self) -> None:
        garbage = handled = 0
        try:
            while line := await self._stdout.readline():
                try:
                    message = read_frame(line)
                except NotAFrame:
                    garbage += 1
                    if garbage > _MAX_GARBAGE_LINES:
                        self._die("it writes lines that are no messages")
                        return
                    continue
                garbage = 0
                await self._handle(message)
                handled += 1
                if handled % _TURN == 0:
                    await asyncio.sleep(0)
            self._die("it closed its output")
        except (ValueError, asyncio.LimitOverrunError):
            self._die(f"it sent a line over {self._program.max_line_bytes} bytes")
        except OSError as error:
            self._die(f"its pipe broke ({error})")
        except Exception:  # noqa: BLE001 - nobody may wait for a reader that is gone
            _log.exception("message of an upstream not handled", extra={"upstream": self._program.upstream})
            self._die("a message of it could not be handled")

    async def _watch(self) -> None:
        """End the group with its leader, once what the leader wrote last was read."""
        await self._exited.wait()
        await asyncio.wait({self._reader}, timeout=_GRACE_S)
        self._die("its process exited")

    async def _handle(self, message: Reply | ServerRequest | Notice) -> None:
        if isinstance(message, Reply):
            future = self._waiting.get(message.id)
            if future is not None and not future.done():
                future.set_result(message.answer)
            elif (call_id := self._given_up.pop(message.id, None)) is not None:
                self._hooks.late(call_id, message.answer)
        elif isinstance(message, ServerRequest):
            with contextlib.suppress(NotSent, NoAnswer):
                await self._write(reply_frame(message), _NOTICE_TIMEOUT_S, _NOTICE_TIMEOUT_S)
        elif message.method == "notifications/tools/list_changed":
            self._hooks.list_changed()
        elif message.progress is not None:
            number, progress = message.progress
            if (listener := self._progress.get(number)) is not None:
                listener(progress)

    def _die(self, why: str) -> None:
        """Fail what waits and end the whole group; the next call starts a new process."""
        if self._dead:
            return
        self._dead = why
        _log.warning("upstream ended", extra={"upstream": self._program.upstream, "why": why})
        self._stdin.close()
        self._fail_waiting()
        self._signal(signal.SIGKILL)

    def _fail_waiting(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NoAnswer(f"the upstream ended: {self._dead}"))

    def _signal(self, number: signal.Signals) -> None:
        # The group outlives its leader where children were forked; its id stays ours until it is empty.
        # SIGKILL empties it, and from then on the id may be somebody else's.
        if self._killed:
            return
        self._killed = number is signal.SIGKILL
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _read_errors(self) -> None:
        """What the process says on its standard error goes to the log, bounded and without secrets."""
        while True:
            try:
                line = await self._stderr.readline()
            except (ValueError, asyncio.LimitOverrunError):
                continue
            if not line:
                return
            if not _log.isEnabledFor(logging.DEBUG):
                continue
            # First redacted, then cut: half a secret is one too.
            text = self._program.redact(line.decode("utf-8", "replace").rstrip())[:_STDERR_LINE]
            _log.debug("upstream says", extra={"upstream": self._program.upstream, "text": text})

    async def close(self) -> None:
        """Close its input, wait, ask, then kill the group (the order of the MCP specification)."""
        self._dead = self._dead or "it was closed"
        self._stdin.close()
        try:
            if not await self._exits():
                self._signal(signal.SIGTERM)
                await self._exits()
            self._signal(signal.SIGKILL)
            await self._exits()
            # With the group its pipes end, unless a child left the group; what was answered last still counts.
            await asyncio.wait({self._reader}, timeout=_GRACE_S)
        finally:
            self._signal(signal.SIGKILL)
            self._fail_waiting()
            self._transport.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _exits(self) -> bool:
        """Whether the process is gone, or goes within the time of grace."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._exited.wait()
        return self._exited.is_set()
