"""One link to an upstream: opened on demand, compared with the pins, reopened with backoff."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from interlock.core.errors import UpstreamUnavailable
from interlock.core.lockfile import Lock
from interlock.plane.ports import Answer, Clock, NotSent, OnProgress, SealedCall
from interlock.upstream.connection import Connection, Hooks
from interlock.upstream.definitions import compare
from interlock.upstream.http import Endpoint, HttpConnection
from interlock.upstream.program import Program
from interlock.upstream.session import Session
from interlock.upstream.stdio import StdioConnection

COMPARE_EVERY_S: Final = 60.0
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_LAST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One upstream as the settings describe it, paths resolved.

    Attributes:
        environment: stdio: the explicit environment, without secrets.
        per_agent: stdio: one process for each agent.
        networks: HTTP: private networks that the host name may resolve to.
    """

    id: str
    command: tuple[str, ...] | None
    cwd: Path
    environment: Mapping[str, str]
    per_agent: bool
    url: str | None
    networks: tuple[str, ...]
    protocol: str
    call_timeout_s: float
    start_timeout_s: float
    max_bytes: int
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection is made with: secret values by header or variable, and how to blank them in texts."""

    values: Mapping[str, str]
    redact: Callable[[str], str]

    def __repr__(self) -> str:
        return "Credentials(...)"


async def connect(config: UpstreamConfig, credentials: Credentials, hooks: Hooks) -> Session:
    """Start or reach an upstream and settle the era. Raises UpstreamUnavailable."""
    connection: Connection
    if config.command is not None:
        environment = {**config.environment, **credentials.values}
        program = Program(config.id, config.command, config.cwd, environment, config.max_bytes, credentials.redact)
        connection = await StdioConnection.open(program, hooks)
    else:
        assert config.url is not None  # the settings have one of the two
        endpoint = Endpoint(config.id, config.url, config.networks, config.max_bytes, config.max_in_flight)
        connection = HttpConnection(endpoint, dict(credentials.values), hooks)
    session = Session(config.id, connection, config.protocol, config.start_timeout_s, credentials.redact)
    try:
        await session.open()
    except BaseException:
        await connection.close()
        raise
    return session


class Link:
    """One session at a time, under one set of credentials."""

    def __init__(
        self,
        config: UpstreamConfig,
        lock: Callable[[], Lock],
        clock: Clock,
        late: Callable[[str, Answer], None],
        compared: Callable[[Lock, dict[str, str]], None],
    ) -> None:
        """Prepare a link; nothing is opened yet.

        Args:
            config: The upstream.
            lock: The pins in force.
            clock: Monotonic time for backoff and comparisons.
            late: Gets answers to calls that were given up.
            compared: Gets the pins and why tools differ from them, by name, after each comparison.
        """
        self._config, self._lock, self._clock, self._compared = config, lock, clock, compared
        self._hooks = Hooks(list_changed=self._list_changed, late=late)
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._compared_at = float("-inf")
        self._compared_with: Lock | None = None
        self._failures = 0
        self._retry_at = float("-inf")
        self._problem = ""
        self._closed = False
        self.last_used = clock.monotonic()
        self.in_flight = 0

    @property
    def connected(self) -> bool:
        return self._session is not None and self._session.connection.alive

    async def prepare(self, credentials: Credentials) -> None:
        """Open and compare, where that is due. Raises UpstreamUnavailable."""
        self.last_used = self._clock.monotonic()
        if self.connected and self._fresh():
            return
        async with self._opening:
            if self.connected and self._fresh():
                return
            wait = self._retry_at - self._clock.monotonic()
            if wait > 0:
                raise UpstreamUnavailable(f"{self._problem} The next attempt is in {wait:.1f} s.")
            try:
                await self._compare(await self._open(credentials))
            except UpstreamUnavailable as error:
                self._failed(error.message)
                raise
            self._failures = 0

    def _fresh(self) -> bool:
        recent = self._clock.monotonic() - self._compared_at < COMPARE_EVERY_S
        return recent and self._compared_with is self._lock()

    def _failed(self, problem: str) -> None:
        """Count from now: an attempt that ran into a time-out is followed by a pause like any other."""
        self._problem = problem
        pause = min(_BACKOFF_LAST_S, _BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._retry_at = self._clock.monotonic() + pause

    async def _open(self, credentials: Credentials) -> Session:
        """The session, a new one where there is none."""
        session = self._session
        if session is not None and session.connection.alive:
            return session
        await self._end()
        session = await connect(self._config, credentials, self._hooks)
        self._session = session
        if self._closed:
            await self._end()
            raise UpstreamUnavailable(f"The connection to {self._config.id} was closed while it was opened.")
        self._compared_at = float("-inf")
        return session

    def _list_changed(self) -> None:
        self._compared_at = float("-inf")

    async def _compare(self, session: Session) -> None:
        lock = self._lock()
        # A change announced while the list is read must not be taken for compared.
        started = self._compared_at = self._clock.monotonic()
        try:
            listing = await session.list_tools()
            pinned = lock.upstreams.get(self._config.id)
            changed = await compare(pinned, listing) if pinned is not None else {}
        except BaseException:
            self._compared_at = float("-inf")
            raise
        self._compared(lock, changed)
        self._compared_with = lock
        if self._compared_at == started:
            self._compared_at = self._clock.monotonic()

    async def call(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        """Send a call on the session that `prepare` left. Raises NotSent or NoAnswer."""
        asked_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(sealed.start_within_s):
                await self._slots.acquire()
        except TimeoutError:
            raise NotSent("too many calls are in flight to this upstream") from None
        except asyncio.CancelledError:
            raise NotSent("the call was given up before its turn") from None
        self.in_flight += 1
        try:
            session = self._session
            if session is None or not session.connection.alive:
                raise NotSent("the upstream's connection is gone")
            # Connecting may take what waiting for a place has left.
            left = sealed.start_within_s - (self._clock.monotonic() - asked_at)
            return await session.call(replace(sealed, start_within_s=max(0.001, left)), on_progress)
        finally:
            self.in_flight -= 1
            self._slots.release()

    async def close(self) -> None:
        """End the session for good; one that is being opened ends as soon as it is open."""
        self._closed = True
        await self._end()

    async def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.connection.close()
