"""Halting and resuming: runs, agents, everything. The store decides; flights are cancelled here."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from typing import Final

from interlock.core.canonical import JsonObject
from interlock.core.errors import InterlockError, StoreUnavailable
from interlock.core.journal.leaf import Payload
from interlock.plane.commands import Halt, Halted, HaltScope, Resume, Run
from interlock.plane.flights import Flights
from interlock.plane.ports import Clock, Notifier, Reader, Sealer, Store

_log = logging.getLogger("interlock.halts")
_REMEMBER_S: Final = 60.0


class Stopping:
    """Knows what is stopped in this process, for the last look before the first byte."""

    def __init__(
        self, store: Store, reader: Reader, sealer: Sealer, flights: Flights, notifier: Notifier, clock: Clock
    ) -> None:
        self._store, self._sealer, self._flights = store, sealer, flights
        self._notifier, self._clock = notifier, clock
        self._runs: OrderedDict[str, float] = OrderedDict()
        self._scopes = {(str(halt["scope"]), str(halt["target"])) for halt in reader.halts()}
        self._committing: Counter[tuple[str, str]] = Counter()
        self._unrecorded: dict[tuple[HaltScope, str], Halt] = {}

    def is_stopped(self, run: str, agent: str) -> bool:
        """Whether a permit of this run may not be started any more."""
        if run in self._runs:
            return True
        scopes = (("run", run), ("agent", agent), ("all", "all"))
        return any(scope in self._scopes or self._committing[scope] or scope in self._unrecorded for scope in scopes)

    async def halt(self, scope: HaltScope, target: str, by: str, reason: str) -> Halted:
        """Halt a scope; when this returns, the leaf is durable and what was in flight is cancelled.

        Raises:
            StoreUnavailable: it is not recorded. It is in force in this process all the same, until it is
                recorded (`record_pending`) or the process ends.
        """
        command = Halt(scope, target, by, self._reason(target, reason))
        # The flag goes up before the commit: between the two a permit may be given, but not started.
        self._committing[scope, target] += 1
        try:
            halted = await self._store.halt(command)
        except StoreUnavailable as error:
            self._unrecorded[scope, target] = command
            cancelled = self._cancel(scope, target, f"halted by {by}")
            extra = {"scope": scope, "target": target, "by": by, "cancelled": cancelled}
            _log.error("halted, and not recorded yet", extra=extra)
            message = (
                "It is halted and what was in flight is cancelled, but this is not recorded yet and ends with this"
                " process: after a restart, halt again."
            )
            raise StoreUnavailable(f"{message} {error.message}", remedy=error.remedy) from None
        else:
            self._raise_flag(scope, target)
        finally:
            self._committing[scope, target] -= 1
            self._committing += Counter()  # drops what is at zero
        self._in_force(command, halted)
        return halted

    async def record_pending(self) -> None:
        """Record halts that could not be recorded when they were given. Raises StoreUnavailable."""
        for command in list(self._unrecorded.values()):
            await self._record(command)

    async def _record(self, command: Halt) -> None:
        try:
            halted = await self._store.halt(command)
        except StoreUnavailable:
            raise
        except InterlockError as error:  # ended or halted by other means in the meantime
            _log.warning("a halt is not recorded", extra={"target": command.target, "why": error.message})
        else:
            self._raise_flag(command.scope, command.target)
            self._in_force(command, halted)
        self._unrecorded.pop((command.scope, command.target), None)

    def unrecorded(self) -> list[JsonObject]:
        """Halts that are in force in this process and not in the record, as `Reader.halts` shows them."""
        return [
            {"scope": halt.scope, "target": halt.target, "by": halt.by, "recorded": False}
            for halt in self._unrecorded.values()
        ]

    async def end(self, run: str, why: str) -> None:
        """End a run for good, with what it has in flight. Raises StoreUnavailable; that is cancelled even so."""
        try:
            await self._store.end_run(run, why)
        finally:
            self._flights.cancel("the run ended", run=run)
        self.ended(run)

    def ended(self, run: str) -> None:
        """The store ended a run: nothing of it may go on."""
        self._raise_flag("run", run)
        self._flights.cancel("the run ended", run=run)

    def _in_force(self, command: Halt, halted: Halted) -> None:
        cancelled = self._cancel(command.scope, command.target, f"halted by {command.by}")
        extra = {"scope": command.scope, "target": command.target, "by": command.by, "cancelled": cancelled}
        _log.warning("halted", extra=extra)
        for run in halted.runs:
            self._escalate(run, f"halted by {command.by}")

    async def resume(self, scope: HaltScope, target: str, by: str, reason: str) -> int:
        """Lift a halt."""
        pending = self._unrecorded.get((scope, target))
        if pending is not None:
            await self._record(pending)  # what is lifted has to have been in the record
        seq = await self._store.resume(Resume(scope, target, by, self._reason(target, reason)))
        self._lower_flag(scope, target)
        _log.warning("resumed", extra={"scope": scope, "target": target, "by": by})
        return seq

    def reached_ceiling(self, run: Run) -> None:
        """The store halted a run at a ceiling: cancel what it has in flight, and tell people."""
        self._raise_flag("run", run.id)
        cancelled = self._flights.cancel("the run was halted", run=run.id)
        _log.warning("run halted", extra={"run": run.id, "why": run.halt_reason, "cancelled": cancelled})
        self._escalate(run, run.halt_reason or "")

    def _escalate(self, run: Run, why: str) -> None:
        if run.notify is None:
            return
        event: JsonObject = {"event": "run_halted", "run": run.id, "agent": run.agent, "why": why, "steps": run.steps}
        self._notifier.notify(run.notify, event)

    def _cancel(self, scope: HaltScope, target: str, why: str) -> int:
        run = target if scope == "run" else None
        agent = target if scope == "agent" else None
        return self._flights.cancel(why, run=run, agent=agent)

    def _raise_flag(self, scope: HaltScope, target: str) -> None:
        now = self._clock.monotonic()
        if scope != "run":
            self._scopes.add((scope, target))
            return
        self._runs[target] = now
        # The store refuses later calls; the flag only has to outlive permits that are about to start.
        while self._runs and now - next(iter(self._runs.values())) > _REMEMBER_S:
            self._runs.popitem(last=False)

    def _lower_flag(self, scope: HaltScope, target: str) -> None:
        self._runs.pop(target, None)
        self._scopes.discard((scope, target))

    def _reason(self, context: str, reason: str) -> tuple[Payload, ...]:
        return (self._sealer.seal(context, "reason", reason.encode()),)
