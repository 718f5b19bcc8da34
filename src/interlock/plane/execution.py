"""From a permit to its outcome: execute, screen, settle. Every permit that gets here ends in one outcome."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code, InterlockError, StoreUnavailable
from interlock.plane.callers import CallError, CallResult, Reply
from interlock.plane.commands import Admitted, Outcome, Settle
from interlock.plane.flights import Flight, Flights
from interlock.plane.ports import (
    Answer,
    Clock,
    Meter,
    NoAnswer,
    NotSent,
    OnProgress,
    Progress,
    SealedCall,
    Sealer,
    Secrets,
    Store,
    Upstreams,
)
from interlock.plane.records import DecidableCase
from interlock.plane.screening import Leaked, screen
from interlock.plane.stopping import Stopping

_log = logging.getLogger("interlock.calls")
START_WITHIN_S: Final = 2.0
"""A permit that is older than this when its turn comes is not started."""
_MAX_KEPT_BODY: Final = 1_048_576
_MAX_PROGRESS_TEXT: Final = 2000
_GIVEN_UP: Final = 1000
_UNSETTLED: Final = 100
"""Answers that are kept until they can be recorded; of more, only that they are unknown."""


@dataclass(frozen=True, slots=True)
class Permit:
    """A durable permit and what it takes to use it once."""

    case: DecidableCase
    call_id: str
    admitted: Admitted
    asked_at: float
    """Monotonic seconds before the commit, so that a stall anywhere after it counts."""
    profile: str
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an execution ended, before it is recorded."""

    outcome: Outcome
    code: Code | None
    message: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Screening:
    """How the answer to a call is to be screened."""

    upstream: str
    scope: tuple[str, ...] | None


class Execution:
    """Uses permits."""

    def __init__(
        self,
        store: Store,
        upstreams: Upstreams,
        secrets: Secrets,
        sealer: Sealer,
        flights: Flights,
        stopping: Stopping,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._store, self._upstreams, self._secrets, self._sealer = store, upstreams, secrets, sealer
        self._flights, self._stopping, self._clock, self._meter = flights, stopping, clock, meter
        self._given_up: OrderedDict[str, _Screening] = OrderedDict()
        self._late: set[asyncio.Task[None]] = set()
        self._unsettled: dict[str, tuple[Settle, Settle]] = {}
        self._settling = asyncio.Lock()

    async def use(self, permit: Permit) -> Reply:
        """Execute once, record how it ended, and only then answer."""
        case = permit.case
        cancellation = case.inbound.cancellation
        flight = Flight(permit.call_id, case.run.id, case.agent.id, case.call.tool.upstream, cancellation)
        self._flights.add(flight)
        try:
            ended = await self._execute(permit)
        except Exception:  # noqa: BLE001 - a permit was given, so whatever broke in here needs an outcome
            _log.exception("execution failed", extra=self._context(permit))
            ended = _Ended("unknown", Code.OUTCOME_UNKNOWN, "The plane failed while the call was in flight.")
        finally:
            self._flights.remove(permit.call_id)
        return await self._settle(permit, ended)

    async def _execute(self, permit: Permit) -> _Ended:
        case = permit.case
        started = self._clock.monotonic()
        start_within_s = permit.asked_at + START_WITHIN_S - started
        if start_within_s <= 0:
            return _Ended("not_sent", Code.UNAVAILABLE, "The plane was too busy to start the call in time.")
        # The last look before the first byte: a halt that was acknowledged since the permit wins.
        if self._stopping.is_stopped(case.run.id, case.agent.id):
            return _Ended("not_sent", Code.RUN_HALTED, "The run was halted before the call was sent.")
        cancelled = case.inbound.cancellation.reason
        if cancelled is not None:
            return _given_up_unsent(cancelled)
        timeout_s = self._timeout_s(permit)
        sealed = SealedCall(permit.call_id, case.call, permit.profile, permit.secrets, timeout_s, start_within_s)
        task = asyncio.ensure_future(self._upstreams.execute(sealed, self._progress(case)))
        case.inbound.cancellation.listen(lambda: _cancel(task))
        try:
            answer = await task
        except NotSent as error:
            _log.warning("call not sent", extra=self._context(permit, why=str(error)))
            if (cancelled := case.inbound.cancellation.reason) is not None:
                return _given_up_unsent(cancelled)
            return _Ended("not_sent", Code.UNAVAILABLE, "The upstream cannot be reached; nothing was executed.")
        except NoAnswer as error:
            self._give_up(permit)
            return _Ended("unknown", Code.OUTCOME_UNKNOWN, f"Nobody can tell whether it happened: {error}.")
        except asyncio.CancelledError:
            task.cancel()
            self._give_up(permit)
            why = case.inbound.cancellation.reason or "the plane stopped"
            return _Ended("unknown", Code.OUTCOME_UNKNOWN, f"The call was given up while in flight ({why}).")
        except Exception:  # noqa: BLE001 - whatever broke, bytes may have been sent
            _log.exception("execution failed", extra=self._context(permit))
            return _Ended("unknown", Code.OUTCOME_UNKNOWN, "The exchange with the upstream broke.")
        finally:
            self._meter.step("execute", self._clock.monotonic() - started)
        return self._screened(_screening(case), answer)

    def _timeout_s(self, permit: Permit) -> float:
        """The upstream's time-out, or what the run has left of its wall clock, whichever is less."""
        timeout = self._upstreams.timeout_s(permit.case.call.tool.upstream)
        left = permit.admitted.clock_left_us
        return timeout if left is None else min(timeout, max(0.001, left / 1_000_000))

    def _progress(self, case: DecidableCase) -> OnProgress | None:
        """Pass progress on, unless only some fields of the result may be seen or it holds a secret."""
        listener = case.inbound.on_progress
        if listener is None or case.rules.scope is not None:
            return None
        leaked = self._leaked(case.call.tool.upstream)

        def forward(progress: Progress) -> None:
            text = progress.message
            if text and leaked and leaked(text.encode("utf-8", "replace")):
                return
            listener(progress if text is None else replace(progress, message=text[:_MAX_PROGRESS_TEXT]))

        return forward

    def _leaked(self, upstream: str) -> Leaked:
        return partial(self._secrets.leaked, upstream) if self._secrets.has_secrets(upstream) else None

    def _screened(self, how: _Screening, answer: Answer) -> _Ended:
        """What is left of an answer. Never raises: the call ran, and that has to be recorded."""
        try:
            screened = screen(answer, how.scope, self._leaked(how.upstream))
        except Exception:  # noqa: BLE001 - what cannot be screened is not shown
            _log.exception("a result cannot be screened", extra={"upstream": how.upstream})
            return _Ended("succeeded", Code.RESULT_WITHHELD, "The result cannot be screened, so it is withheld.")
        return _Ended(screened.outcome, screened.code, screened.message, screened.body)

    async def _settle(self, permit: Permit, ended: _Ended) -> Reply:
        case = permit.case
        try:
            settled = await asyncio.shield(self._store.settle(self._command(permit.call_id, ended)))
        except Exception as error:  # noqa: BLE001 - a permit was used: only its recorded outcome may be told
            if not isinstance(error, StoreUnavailable):
                _log.exception("outcome not recorded", extra=self._context(permit))
            # It may have happened and there is no record of how it ended: nothing of it is acknowledged.
            told = _Ended("unknown", Code.OUTCOME_UNKNOWN, "The outcome could not be recorded.")
            found = ended if len(self._unsettled) < _UNSETTLED else told
            self._unsettled[permit.call_id] = self._command(permit.call_id, told), self._command(permit.call_id, found)
            return self._reply(permit, told)
        if settled.halted is not None:
            self._stopping.reached_ceiling(settled.halted)
        self._meter.call(case.call.tool.upstream, str(ended.code or ended.outcome))
        _log.info("call ended", extra=self._context(permit, outcome=ended.outcome, code=str(ended.code or "")))
        return self._reply(permit, ended)

    async def settle_pending(self) -> None:
        """Record outcomes that could not be recorded when they came: first what was told, then what was found.

        Raises:
            StoreUnavailable: they cannot be recorded yet.
        """
        if not self._unsettled:
            return
        # One at a time, and the others wait: a second resolution would be recorded, and a permit could come first.
        async with self._settling:
            for call_id, commands in list(self._unsettled.items()):
                try:
                    for command in commands:
                        await self._settle_late(command)
                except InterlockError:
                    if self._store.problem is not None:
                        raise
                    # The journal is sound and refuses this alone, which must not stand in the way of all others:
                    # the call's lease ends it as unknown.
                    _log.exception("outcome not recorded", extra={"call": call_id})
                self._unsettled.pop(call_id, None)

    async def _settle_late(self, command: Settle) -> None:
        """Settle, a second time where the store failed and came back in the meantime. Raises InterlockError."""
        try:
            settled = await self._store.settle(command)
        except StoreUnavailable:
            if self._store.problem is not None:
                raise
            settled = await self._store.settle(command)
        if settled.halted is not None:
            self._stopping.reached_ceiling(settled.halted)

    def _command(self, call_id: str, ended: _Ended) -> Settle:
        detail: JsonObject = {}
        payloads = ()
        if ended.body is not None:
            kept = ended.body if len(ended.body) <= _MAX_KEPT_BODY else b""
            payloads = (self._sealer.seal(call_id, "output", kept),)
            if not kept:
                detail = {"omitted_bytes": len(ended.body), "sha256": hashlib.sha256(ended.body).hexdigest()}
        elif ended.message:
            payloads = (self._sealer.seal(call_id, "problem", ended.message.encode()),)
        return Settle(call_id, ended.outcome, ended.code, payloads, detail)

    def _reply(self, permit: Permit, ended: _Ended) -> Reply:
        run = permit.case.run.id
        if ended.body is not None and ended.code is None:
            return CallResult(ended.body, permit.call_id, run)
        return CallError(ended.code or Code.OUTCOME_UNKNOWN, ended.message, None, permit.call_id, run)

    # Answers that come after we gave up -------------------------------------------------------------

    def _give_up(self, permit: Permit) -> None:
        self._given_up[permit.call_id] = _screening(permit.case)
        if len(self._given_up) > _GIVEN_UP:
            self._given_up.popitem(last=False)

    def answered_late(self, call_id: str, answer: Answer) -> None:
        """Record an answer to a call whose outcome was unknown, as a resolution of its own."""
        how = self._given_up.pop(call_id, None)
        if how is None:
            return
        task = asyncio.get_running_loop().create_task(self._record_late(call_id, self._screened(how, answer)))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _record_late(self, call_id: str, ended: _Ended) -> None:
        try:
            await self._store.settle(self._command(call_id, ended))
        except InterlockError:
            _log.exception("late answer not recorded", extra={"call": call_id})

    def _context(self, permit: Permit, **more: str) -> dict[str, str]:
        case = permit.case
        return {
            "call": permit.call_id,
            "run": case.run.id,
            "agent": case.agent.id,
            "upstream": case.call.tool.upstream,
            "tool": case.call.tool.name,
            **more,
        }


def _given_up_unsent(why: str) -> _Ended:
    return _Ended("not_sent", Code.UNAVAILABLE, f"The call was given up before it was sent ({why}).")


def _screening(case: DecidableCase) -> _Screening:
    return _Screening(case.call.tool.upstream, case.rules.scope)


def _cancel(task: asyncio.Future[Answer]) -> None:
    task.cancel()
