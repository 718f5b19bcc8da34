"""The store port on SQLite: each method hands one command to the writer."""

from __future__ import annotations

from pathlib import Path

from interlock.core.errors import StoreUnavailable
from interlock.core.journal.leaf import LeafKind
from interlock.plane.commands import (
    Activate,
    Admit,
    Admitted,
    DecidedAgain,
    Finding,
    Halt,
    Halted,
    Hold,
    Lapsed,
    OpenRun,
    PlaceHold,
    Refusals,
    Refuse,
    Refused,
    Resume,
    Run,
    Settle,
    Settled,
    Superseded,
    Upkeep,
    Verdict,
)
from interlock.plane.ports import Clock
from interlock.store.sqlite import calls, holds, runs, upkeep
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.writer import Transaction, Writer


class SqliteStore:
    """See `plane.ports.Store` for what each method promises."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open or create the database. Raises StoreRefused or StoreUnavailable."""
        self._writer = Writer(path, clock, upkeep.after_clock_jump)

    def close(self) -> None:
        self._writer.close()

    @property
    def problem(self) -> StoreUnavailable | None:
        return self._writer.problem

    async def open_run(self, command: OpenRun) -> Run | Refused:
        return await self._writer.submit(lambda tx: runs.open_run(tx, command))

    async def end_run(self, run: str, why: str) -> None:
        await self._writer.submit(lambda tx: runs.end_run(tx, run, why))

    async def admit(self, command: Admit) -> Admitted | Refused | DecidedAgain | Superseded:
        return await self._writer.submit(lambda tx: calls.admit(tx, command))

    async def refuse(self, command: Refuse) -> Refused:
        return await self._writer.submit(lambda tx: calls.refuse(tx, command))

    async def settle(self, command: Settle) -> Settled:
        return await self._writer.submit(lambda tx: calls.settle(tx, command))

    async def place_hold(self, command: PlaceHold) -> Hold | Refused:
        return await self._writer.submit(lambda tx: holds.place_hold(tx, command))

    async def give_verdict(self, command: Verdict) -> Hold:
        return await self._writer.submit(lambda tx: holds.give_verdict(tx, command))

    async def halt(self, command: Halt) -> Halted:
        return await self._writer.submit(lambda tx: upkeep.halt(tx, command))

    async def resume(self, command: Resume) -> int:
        return await self._writer.submit(lambda tx: upkeep.resume(tx, command))

    async def find_out(self, command: Finding) -> None:
        await self._writer.submit(lambda tx: calls.find_out(tx, command))

    async def activate(self, command: Activate) -> int:
        return await self._writer.submit(lambda tx: upkeep.activate(tx, command))

    async def record_refusals(self, refusals: Refusals) -> None:
        await self._writer.submit(lambda tx: upkeep.record_refusals(tx, refusals))

    async def expire_due(self) -> Upkeep:
        return await self._writer.submit(upkeep.expire_due)

    async def recover(self, executor: str) -> Lapsed:
        return await self._writer.submit(lambda tx: _recover(tx, executor))


def _recover(tx: Transaction, executor: str) -> Lapsed:
    append(tx, LeafKind.STARTED, {"executor": executor})
    return calls.expire_leases(tx, foreign_to=executor)
