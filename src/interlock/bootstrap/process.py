"""The process: start, serve, look after what time brings, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from interlock import __version__
from interlock.api.app import build_api
from interlock.api.watch import build_watch
from interlock.bootstrap.compose import Composed, compose
from interlock.bootstrap.doctor import unmatched_secrets
from interlock.bootstrap.logs import configure
from interlock.bootstrap.serving import BoundedProtocol, EmbeddedServer, make_server, operator_protocol
from interlock.bootstrap.system import room_for
from interlock.core.errors import BundleInvalid, InterlockError, StoreUnavailable
from interlock.settings.load import LoadedSettings

_log = logging.getLogger("interlock")
_UPKEEP_S: Final = 1.0
_FLUSH_S: Final = 5.0
_IDLE_LINK_S: Final = 900.0
_SETTLE_S: Final = 5.0
_NOTICES_S: Final = 5.0
_THREAD_STACK: Final = 16 * 1024 * 1024
"""Bytes, of which only what is used is taken. Policy text is parsed in threads; the caps on it count on 2 MiB."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How `interlock up` was asked to start.

    Attributes:
        no_policy: Start with nothing in force (to pin tools); every call is denied.
        activate: Take the policy files as they are, for this reason.
        dev: Activate the files whenever they change.
        started: Called once everything listens, with the gateway's URL and the watch address.
    """

    no_policy: bool = False
    activate: str | None = None
    dev: bool = False
    started: Callable[[Composed], None] | None = None


def run_plane(settings: LoadedSettings, options: StartOptions) -> None:
    """Run until a signal ends it. Raises InterlockError where it cannot start."""
    configure(settings.tree.log)
    os.umask(0o077)
    threading.stack_size(_THREAD_STACK)
    with ExitStack() as stack:
        composed = compose(settings, stack)
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            runner.run(_serve(composed, options))


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where there is one (it is not on Windows)."""
    try:
        import uvloop  # noqa: PLC0415 - optional by platform
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(composed: Composed, options: StartOptions) -> None:
    by = f"uid:{os.getuid()}"
    await _take_over(composed, options, by)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servers = _servers(composed)
    serving = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
    sending = asyncio.create_task(composed.notices.run())
    background = [asyncio.create_task(_upkeep(composed))]
    if options.dev:
        background.append(asyncio.create_task(_watch_files(composed, by)))
    await _until_started(servers, serving)
    _log.info(
        "serving",
        extra={"version": __version__, "gateway": composed.public_url, "socket": str(composed.settings.socket)},
    )
    if options.started is not None:
        options.started(composed)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, sending, *serving, *background}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await _drain(composed, servers, serving, background)
    await _end_notices(composed, sending)
    _log.info("stopped")
    for task in (sending, *serving, *background):
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
    if lost := composed.stopping.unrecorded():
        what = ", ".join(f"{halt['scope']} {halt['target']}" for halt in lost)
        raise StoreUnavailable(
            f"Halts that could not be recorded end with this process: {what}.",
            remedy="Start it with --no-policy once the journal can be written, and give them again.",
        )


async def _until_started(
    servers: list[tuple[EmbeddedServer, socket.socket]], serving: list[asyncio.Task[None]]
) -> None:
    # The library has a flag and no event.
    while not all(server.started for server, _ in servers):
        if any(task.done() for task in serving):
            return
        await asyncio.sleep(0.01)


async def _take_over(composed: Composed, options: StartOptions, by: str) -> None:
    """Recover what a crash left, then put a policy in force."""
    lapsed = await composed.store.recover(composed.executor)
    if lapsed.calls:
        _log.warning("permits of the last process ended as unknown", extra={"calls": len(lapsed.calls)})
    for run in lapsed.halted:
        composed.stopping.reached_ceiling(run)
    if options.no_policy:
        _log.warning("no policy is in force: every call is denied")
    elif options.activate is not None:
        await composed.policy.activate(by, options.activate)
    else:
        await composed.policy.start(by)
    bundle = composed.policy.bundle
    for problem in unmatched_secrets(composed.settings, bundle) if bundle else ():
        _log.warning("a secret is never used", extra={"why": problem})


def _servers(composed: Composed) -> list[tuple[EmbeddedServer, socket.socket]]:
    settings = composed.settings.tree
    allowed = {os.getuid(), 0, *settings.operations.operator_uids}
    drain = settings.drain_seconds
    asked = settings.gateway.max_connections
    connections = room_for(asked)
    if connections < asked:
        extra = {"asked": asked, "connections": connections}
        _log.warning("the limit on open files allows fewer connections than gateway.max_connections", extra=extra)
    gateway = make_server(composed.gateway, BoundedProtocol, max_connections=connections, drain_seconds=drain)
    watch = make_server(
        build_watch(composed.not_ready, lambda ready: composed.meter.render(ready=ready)),
        BoundedProtocol,
        max_connections=256,
        drain_seconds=drain,
    )
    operator = make_server(
        build_api(composed.administration),
        operator_protocol(allowed.__contains__),
        max_connections=256,
        drain_seconds=drain,
    )
    listeners = composed.listeners
    return [(gateway, listeners.gateway), (watch, listeners.watch), (operator, listeners.operator)]


async def _upkeep(composed: Composed) -> None:
    """What comes due by time alone; a failing store is tried again until it recovers."""
    passed = 0.0
    while True:
        await asyncio.sleep(_UPKEEP_S)
        passed += _UPKEEP_S
        try:
            await composed.stopping.record_pending()
            await composed.execution.settle_pending()
            due = await composed.store.expire_due()
            for halted in due.halted_runs:
                composed.stopping.reached_ceiling(halted)
            for run in due.ended_runs:
                composed.stopping.ended(run)
            for call in due.unknown_calls:
                _log.warning("a permit's lease ran out; its outcome is unknown", extra={"call": call})
            for hold in due.closed_holds:
                _log.info("hold closed", extra={"approval": hold.id, "call": hold.call, "run": hold.run})
            bundle = composed.policy.bundle
            for hold in due.escalated_holds:
                agent = bundle.agents.get(hold.agent) if bundle else None
                if agent is not None and agent.notify is not None:
                    composed.notices.notify(
                        agent.notify, {"event": "approval_overdue", "approval": hold.id, "agent": hold.agent}
                    )
            if passed >= _FLUSH_S:
                passed = 0.0
                await composed.refusals.flush()
                await composed.pool.close_idle(_IDLE_LINK_S)
        except StoreUnavailable as error:
            # What is in flight could not be recorded either: nothing goes on that leaves no trace (I4).
            cancelled = composed.flights.cancel("the journal cannot be written")
            extra = {"why": str(error), "cancelled": cancelled}
            _log.error("the journal cannot be written; everything is denied", extra=extra)
        except Exception:  # noqa: BLE001 - one failure must not end the looking after
            _log.exception("upkeep failed")


async def _watch_files(composed: Composed, by: str) -> None:
    """`up --dev`: activate the files whenever they change; a broken state is said once and skipped."""
    tried = ""
    while True:
        await asyncio.sleep(_UPKEEP_S)
        snapshot = await asyncio.to_thread(_files_state, composed)
        if snapshot == tried or not await asyncio.to_thread(composed.policy.differs_from_files):
            continue
        tried = snapshot
        try:
            await composed.policy.activate(by, "the files changed (--dev)")
        except BundleInvalid as error:
            for finding in error.findings:
                _log.error(str(finding))
        except InterlockError as error:
            _log.error(str(error))
        except Exception:  # noqa: BLE001 - one failure must not end the watching, or the plane
            _log.exception("watching the policy files failed")


def _files_state(composed: Composed) -> str:
    """What the files are, as far as they can be looked at while somebody changes them."""
    states: list[str] = []
    with contextlib.suppress(OSError):
        for path in sorted(composed.settings.policies.rglob("*")):
            with contextlib.suppress(OSError):
                status = path.stat()
                states.append(f"{path}:{status.st_mtime_ns}:{status.st_size}")
    return "\n".join(states)


async def _drain(
    composed: Composed,
    servers: list[tuple[EmbeddedServer, socket.socket]],
    serving: list[asyncio.Task[None]],
    background: list[asyncio.Task[None]],
) -> None:
    """Take no more, let calls finish, cancel the rest, and record how every permit ended."""
    composed.draining = True
    _log.info("draining", extra={"in_flight": len(composed.flights)})
    (gateway, gateway_socket), *others = servers
    gateway.should_exit = True
    gateway_socket.close()
    await composed.exchange.drain(composed.settings.tree.drain_seconds)
    composed.flights.cancel("the plane shut down")
    await composed.exchange.drain(_SETTLE_S)
    for server, _ in others:
        server.should_exit = True
    for task in background:
        task.cancel()
    await asyncio.gather(*serving, *background, return_exceptions=True)
    with contextlib.suppress(StoreUnavailable):
        await composed.stopping.record_pending()
        await composed.execution.settle_pending()
        await composed.refusals.flush()
    await composed.pool.close()


async def _end_notices(composed: Composed, sending: asyncio.Task[None]) -> None:
    """Last of all, because calls that end in the drain may still escalate."""
    await composed.notices.drain(_NOTICES_S)
    sending.cancel()
    await asyncio.wait({sending})
