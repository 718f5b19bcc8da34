"""All upstreams: one link for each (upstream, agent, set of credentials), opened when it is needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from interlock.core.canonical import JsonObject
from interlock.core.errors import UpstreamUnavailable
from interlock.core.lockfile import Lock, PinnedUpstream
from interlock.plane.ports import Answer, Clock, NotSent, OnProgress, SealedCall
from interlock.upstream.connection import Hooks
from interlock.upstream.definitions import admit
from interlock.upstream.link import COMPARE_EVERY_S, Credentials, Link, UpstreamConfig, connect

_log = logging.getLogger("interlock.upstream")


@dataclass(frozen=True, slots=True)
class _Key:
    upstream: str
    agent: str
    profile: str


@dataclass(frozen=True, slots=True)
class _Findings:
    """Why tools differ from one set of pins, by name; it says nothing of other pins."""

    pins: Lock
    changed: Mapping[str, str]


class UpstreamPool:
    """Implements `plane.ports.Upstreams`.

    A pinned tool whose live definition differs on one link is unavailable on every link, until the pins
    change, a later comparison on that link says otherwise, or nobody uses that link any more. Nothing is
    lost by that: a comparison comes before the next call.
    """

    def __init__(
        self,
        configs: Mapping[str, UpstreamConfig],
        lock: Callable[[], Lock],
        clock: Clock,
        redact: Callable[[str, str], str],
    ) -> None:
        """Describe the upstreams; nothing is started yet.

        Args:
            configs: By id.
            lock: The pins in force.
            clock: Monotonic time for backoff and comparisons.
            redact: Blanks an upstream's secrets in a text.
        """
        self._configs, self._lock, self._clock, self._redact = configs, lock, clock, redact
        self._links: dict[_Key, Link] = {}
        self._found: dict[_Key, _Findings] = {}
        self._together: dict[str, _Findings] = {}
        self._closed = False
        self.on_late: Callable[[str, Answer], None] = _ignore_late

    def timeout_s(self, upstream: str) -> float:
        return self._config(upstream).call_timeout_s

    def is_changed(self, upstream: str, tool: str) -> bool:
        return tool in self._changed(upstream)

    def _changed(self, upstream: str) -> Mapping[str, str]:
        findings = self._together.get(upstream)
        return findings.changed if findings is not None and findings.pins is self._lock() else {}

    async def prepare(self, upstream: str, agent: str, profile: str, secrets: Mapping[str, str]) -> None:
        await self._link(upstream, agent, profile).prepare(self._credentials(upstream, secrets))

    async def execute(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        upstream = sealed.call.tool.upstream
        if self.is_changed(upstream, sealed.call.tool.name):
            raise NotSent("the tool's definition changed")
        link = self._links.get(self._key(upstream, sealed.call.agent, sealed.profile))
        if link is None:
            raise NotSent("the upstream's connection was closed")
        return await link.call(sealed, on_progress)

    async def discover(self, upstream: str, secrets: Mapping[str, str]) -> tuple[PinnedUpstream, dict[str, str]]:
        """List the live tools on a connection of its own, for pinning.

        Returns:
            Pins of what the upstream offers now, and why other tools of it cannot be pinned.

        Raises:
            UpstreamUnavailable: it cannot be reached or does not list its tools.
        """
        hooks = Hooks(list_changed=lambda: None, late=_ignore_late)
        session = await connect(self._config(upstream), self._credentials(upstream, secrets), hooks)
        try:
            listing = await session.list_tools()
        finally:
            await session.connection.close()
        tools, refused = await admit(upstream, listing)
        return PinnedUpstream(upstream, session.protocol, session.server, tools), refused

    def _credentials(self, upstream: str, secrets: Mapping[str, str]) -> Credentials:
        return Credentials(secrets, partial(self._redact, upstream))

    def _config(self, upstream: str) -> UpstreamConfig:
        config = self._configs.get(upstream)
        if config is None:
            raise UpstreamUnavailable(
                f"The settings have no upstream {upstream!r}.", remedy="Add it under `upstreams:` and restart."
            )
        return config

    def _key(self, upstream: str, agent: str, profile: str) -> _Key:
        config = self._config(upstream)
        shared = config.command is not None and not config.per_agent
        return _Key(upstream, "" if shared else agent, profile)

    def _link(self, upstream: str, agent: str, profile: str) -> Link:
        if self._closed:
            raise UpstreamUnavailable("The plane is shutting down.")
        key = self._key(upstream, agent, profile)
        link = self._links.get(key)
        if link is None:
            config, noted = self._config(upstream), partial(self._note_changes, key)
            link = self._links[key] = Link(config, self._lock, self._clock, self._answered_late, noted)
        return link

    def _answered_late(self, call: str, answer: Answer) -> None:
        self.on_late(call, answer)

    def _note_changes(self, key: _Key, pins: Lock, changed: dict[str, str]) -> None:
        before = self._changed(key.upstream)
        self._found[key] = _Findings(pins, changed)
        self._put_together(key.upstream)
        for tool, why in changed.items():
            if before.get(tool) != why:
                _log.warning("tool differs from its pin", extra={"upstream": key.upstream, "tool": tool, "why": why})

    def _put_together(self, upstream: str) -> None:
        pins = self._lock()
        relevant = [found for key, found in self._found.items() if key.upstream == upstream and found.pins is pins]
        together = {tool: why for found in relevant for tool, why in found.changed.items()}
        self._together[upstream] = _Findings(pins, together)

    async def close_idle(self, idle_s: float) -> None:
        """Close links that nobody used for a while.

        One with a tool that differs goes as soon as a comparison would be due: calls of that tool are denied
        before they reach the link, so nothing else would ever find out that the upstream changed back.
        """
        now = self._clock.monotonic()
        for key, link in list(self._links.items()):
            found = self._found.get(key)
            limit = min(idle_s, COMPARE_EVERY_S) if found is not None and found.changed else idle_s
            if link.in_flight == 0 and now - link.last_used > limit:
                del self._links[key]
                self._found.pop(key, None)
                self._put_together(key.upstream)
                await link.close()

    def health(self) -> JsonObject:
        """Per upstream: links that are open, calls in flight, and tools that differ from their pins."""
        return {name: self._health_of(name) for name in self._configs}

    def _health_of(self, upstream: str) -> JsonObject:
        links = [link for key, link in self._links.items() if key.upstream == upstream]
        return {
            "connected": sum(link.connected for link in links),
            "in_flight": sum(link.in_flight for link in links),
            "changed": dict(self._changed(upstream)),
        }

    async def close(self) -> None:
        self._closed = True
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)


def _ignore_late(_call: str, _answer: Answer) -> None:
    """Nobody waits for late answers yet."""
