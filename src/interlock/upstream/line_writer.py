"""Lines to the input of a process, without a buffer of our own: what was not begun in time was never sent."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from interlock.plane.ports import NoAnswer, NotSent

_CUT: Final = b"!\n"
"""Ends a line that was given up. A line break alone would complete one of which only that was missing."""


class LineWriter:
    """The writing end of a pipe. Lines go one after the other, straight into the pipe.

    A buffer between us and the pipe would send a call long after it was given up, and nobody could take it back.
    A line that was begun and then given up is cut off: what there is of it in the pipe is no message, and never
    becomes one.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over a descriptor; `close` closes it."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._cut = False
        self._closed = False
        self.broken = False

    async def write(self, line: bytes, start_within_s: float, finish_within_s: float) -> None:
        """Write one line, which has no line break in it.

        Args:
            line: UTF-8, without the line break at its end.
            start_within_s: When its first byte must be in the pipe, in seconds from now.
            finish_within_s: When the whole line must be.

        Raises:
            NotSent: not a byte of it is in the pipe, and none will be; also where the task is cancelled before.
            NoAnswer: it was begun and not finished. `broken` says whether the other end is gone.
        """
        now = asyncio.get_running_loop().time()
        rest = whole = memoryview(line + b"\n")
        why = ""
        try:
            async with asyncio.timeout_at(now + start_within_s) as limit, self._turn:
                if self._cut:
                    await self._put(_CUT)
                    self._cut = False
                try:
                    while rest:
                        rest = rest[await self._put(rest) :]
                        limit.reschedule(now + finish_within_s)
                finally:
                    self._cut = 0 < len(rest) < len(whole)
        except TimeoutError:
            why = "the upstream does not read what it is sent"
        except OSError:
            self.broken, why = True, "the upstream closed its input"
        except asyncio.CancelledError:
            if len(rest) < len(whole):
                raise
            why = "the line was given up before its first byte"
        if why:
            raise NotSent(why) if len(rest) == len(whole) else NoAnswer(why)

    async def _put(self, data: bytes | memoryview) -> int:
        """Write as much as there is room for, at least one byte; how much that was."""
        while not self._closed:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                await self._wait_for_room()
        raise BrokenPipeError

    async def _wait_for_room(self) -> None:
        loop = asyncio.get_running_loop()
        room = self._room = loop.create_future()
        loop.add_writer(self._descriptor, _set, room)
        try:
            await room
        finally:
            self._room = None
            if not self._closed:
                loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Close the pipe; a line that waits for room is given up."""
        if self._closed:
            return
        self._closed = True
        if self._room is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            _set(self._room)
        os.close(self._descriptor)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
