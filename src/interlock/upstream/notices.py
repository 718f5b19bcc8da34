"""Notices to people: the log, a file of JSON lines, or a webhook. Best effort, bounded, never blocking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiohttp

from interlock.core.canonical import JsonObject, encode
from interlock.plane.ports import Clock

_log = logging.getLogger("interlock.notices")
_QUEUE: Final = 1000
_ATTEMPTS: Final = 3
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class NoticeTarget:
    """Where a name leads to; `place` is a path or a URL."""

    kind: Literal["log", "file", "webhook"]
    place: str


class Notices:
    """Implements `plane.ports.Notifier`; a task of its own does the sending."""

    def __init__(self, targets: Mapping[str, NoticeTarget], clock: Clock) -> None:
        self._targets, self._clock = targets, clock
        self._queue: asyncio.Queue[tuple[str, JsonObject]] = asyncio.Queue(_QUEUE)

    def notify(self, target: str, event: JsonObject) -> None:
        """Queue an event; when the queue is full the notice is dropped and the log says so."""
        event = {**event, "target": target, "at": self._clock.now_us()}
        _log.warning("notice", extra={"notice": event})
        try:
            self._queue.put_nowait((target, event))
        except asyncio.QueueFull:
            _log.error("notice dropped: too many are waiting", extra={"target": target})

    async def run(self) -> None:
        """Send what is queued, for as long as the plane runs."""
        while True:
            name, event = await self._queue.get()
            target = self._targets.get(name)
            try:
                if target is not None and target.kind == "file":
                    await asyncio.to_thread(_append, Path(target.place), encode(event) + b"\n")
                elif target is not None and target.kind == "webhook":
                    await self._post(target.place, encode(event))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a place, the next notice goes out
                _log.error("notice not delivered", extra={"target": name, "why": str(error)})
            finally:
                self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Give what is queued a moment at shutdown."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            _log.error("notices not delivered at shutdown", extra={"waiting": self._queue.qsize()})

    async def _post(self, url: str, body: bytes) -> None:
        """POST with a few attempts; a notice is not an action, so repeating it is harmless."""
        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(2.0**attempt)
            try:
                timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
                headers = {"Content-Type": "application/json"}
                async with (
                    aiohttp.ClientSession(trust_env=False, timeout=timeout) as client,
                    client.post(url, data=body, headers=headers, allow_redirects=False) as response,
                ):
                    if response.status < 300:
                        return
                    problem = f"HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = type(error).__name__
        raise OSError(f"the webhook did not accept it: {problem}")


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)
