"""Refusals after a halt: counted in memory, written as one leaf now and then, so that they cannot flood."""

from __future__ import annotations

from interlock.core.errors import Code
from interlock.plane.commands import Refusals
from interlock.plane.ports import Clock, Store


class RefusalTally:
    """Counts by (run, code)."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._counts: dict[tuple[str, Code], tuple[int, int]] = {}

    def count(self, run: str, code: Code) -> None:
        since, number = self._counts.get((run, code), (self._clock.now_us(), 0))
        self._counts[run, code] = (since, number + 1)

    async def flush(self) -> None:
        """Write what was counted since the last time."""
        for run, code in list(self._counts):
            since, number = self._counts.pop((run, code))
            try:
                await self._store.record_refusals(Refusals(run, code, number, since))
            except BaseException:
                # Not written, so not forgotten: what came in the meantime joins it.
                _, more = self._counts.get((run, code), (since, 0))
                self._counts[run, code] = (since, number + more)
                raise
