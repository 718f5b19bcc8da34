"""Random schedules of commands, many at once: the invariants hold at every leaf, and the state is what they imply."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import Conflict, NotFound
from interlock.core.run import Ceilings
from interlock.plane.commands import Finding, HaltScope, Hold, Outcome, Run
from interlock.plane.ports import Page
from support.examples import tries
from support.replay import Replay
from support.store import ADAPTERS, SECOND, World, guard, permit

LIMITS: Final = {"calls:crm/t": 3, "records:crm/t": 5}
MEMORY: Final = Path("/dev/shm")
OUTCOMES: Final[tuple[Outcome, ...]] = ("succeeded", "failed", "unknown", "not_sent")
SCOPES: Final[tuple[HaltScope, ...]] = ("run", "agent", "all")

Action: TypeAlias = tuple[str, int, int]
Burst: TypeAlias = tuple[float, list[Action]]

small = st.integers(0, 5)
ACTIONS = st.tuples(
    st.sampled_from(
        [
            "admit",
            "admit",
            "admit",
            "admit",
            "settle",
            "settle",
            "settle",
            "settle",
            "hold",
            "hold",
            "hold",
            "verdict",
            "verdict",
            "verdict",
            "redeem",
            "redeem",
            "redeem",
            "redeem",
            "deny",
            "halt",
            "halt",
            "resume",
            "resume",
            "end",
            "open",
            "upkeep",
            "recover",
            "find",
        ]
    ),
    small,
    small,
)
EVERYTHING = Page(1_000_000)
WAITS = st.sampled_from([0.0, 0.0, 0.0, 0.5, 20.0, 61.0, 299.0, 301.0, 700.0])
SCHEDULES = st.lists(st.tuples(WAITS, st.lists(ACTIONS, min_size=1, max_size=8)), min_size=1, max_size=16)


@dataclass(slots=True)
class Players:
    """What a schedule refers to by number."""

    world: World
    restarts: int = 0
    runs: list[Run] = field(default_factory=list[Run])
    calls: list[str] = field(default_factory=list[str])
    holds: list[Hold] = field(default_factory=list[Hold])

    @property
    def executor(self) -> str:
        return f"exec_{self.restarts}"

    async def play(self, schedule: list[Burst]) -> None:
        for number in range(2):
            await self._open(number)
        for wait, actions in schedule:
            self.world.clock.advance(wait)
            await asyncio.gather(*(self._perform(*action) for action in actions))
            self.check()
        for executor in ("exec_the_last", "exec_after_it"):
            await self.world.store.recover(executor)
        replay = self.check()
        assert None not in replay.outcomes.values(), "I2: a permit without an outcome"

    def check(self) -> Replay:
        """Every invariant, leaf by leaf; then the store's state against what its leaves imply."""
        replay = Replay(LIMITS).follow(self.world.leaves())
        for run, implied in replay.runs.items():
            found = self.world.reader.run(run)
            assert found is not None
            assert found.state == implied.state
            assert found.steps == implied.steps
            assert found.in_flight == len(implied.in_flight)
            assert found.open_holds == len(implied.open_holds)
            assert self.world.reader.counters(run) == implied.counters
        for call, outcome in replay.outcomes.items():
            expected = {None: "permitted", "not_sent": "failed"}.get(outcome, outcome)
            assert self.world.state(call) == expected
        summary = self.world.reader.summary()
        assert summary["calls"] == Counter(call["state"] for call in self.world.calls())
        assert summary["runs"] == Counter(run["state"] for run in self.world.reader.list_runs(None, None, EVERYTHING))
        assert summary["holds"] == Counter(hold.state for hold in self.world.reader.list_holds(None, EVERYTHING))
        return replay

    async def _perform(self, kind: str, one: int, two: int) -> None:
        command: Coroutine[Any, Any, object] = getattr(self, f"_{kind}")(one, two)
        with suppress(NotFound, Conflict):
            await command

    async def _open(self, one: int, _two: int = 0) -> None:
        ceilings = Ceilings(max_steps=6 + one, max_wall_clock_us=1000 * SECOND)
        opened = await self.world.open("ab"[one % 2], ceilings=ceilings)
        if isinstance(opened, Run):
            self.runs.append(opened)

    def _run(self, number: int) -> Run:
        return self.runs[number % len(self.runs)]

    async def _admit(self, one: int, two: int) -> None:
        record = self.world.record(self._run(one), f"digest {two}" if two < 2 else None)
        decision = permit(
            guard(LIMITS["calls:crm/t"]), guard(LIMITS["records:crm/t"], 1 + two % 3, counter="records:crm/t")
        )
        self.calls.append(record.call)
        await self.world.admit(self._run(one), decision, record=record, executor=self.executor, lease_s=60)

    async def _deny(self, one: int, _two: int) -> None:
        await self.world.deny(self._run(one))

    async def _settle(self, one: int, two: int) -> None:
        if self.calls:
            await self.world.settle(self.calls[-1 - one % len(self.calls)], OUTCOMES[two % 4])

    async def _hold(self, one: int, two: int) -> None:
        placed = await self.world.place(self._run(one), f"digest {two % 3}", timeout_s=300)
        if isinstance(placed, Hold):
            self.holds.append(placed)
            self.calls.append(placed.call)

    async def _verdict(self, one: int, two: int) -> None:
        if self.holds:
            await self.world.verdict(self.holds[-1 - one % len(self.holds)], approve=two > 0)

    async def _redeem(self, one: int, two: int) -> None:
        if self.holds:
            hold = self.holds[-1 - one % len(self.holds)]
            run = next(run for run in self.runs if run.id == hold.run)
            decision = permit(guard(LIMITS["calls:crm/t"]), slice_digest="sha256:slice" if two else "sha256:other")
            await self.world.admit(run, decision, redeems=hold, executor=self.executor)

    async def _halt(self, one: int, two: int) -> None:
        await self.world.halt(*self._scope(one, two))

    async def _resume(self, one: int, two: int) -> None:
        await self.world.resume(*self._scope(one, two))

    def _scope(self, one: int, two: int) -> tuple[HaltScope, str]:
        scope = SCOPES[one % 3]
        return scope, {"run": self._run(two).id, "agent": "ab"[two % 2], "all": "all"}[scope]

    async def _end(self, one: int, _two: int) -> None:
        if len(self.runs) > 1:
            await self.world.store.end_run(self._run(one).id, "done")

    async def _upkeep(self, _one: int, _two: int) -> None:
        await self.world.store.expire_due()

    async def _recover(self, _one: int, _two: int) -> None:
        self.restarts += 1
        await self.world.store.recover(self.executor)

    async def _find(self, one: int, two: int) -> None:
        if self.calls:
            await self.world.store.find_out(Finding(self.calls[-1 - one % len(self.calls)], two > 2, "uid:7"))


@pytest.mark.parametrize("adapter", ADAPTERS)
@tries(150)
@given(schedule=SCHEDULES)
def test_the_invariants_hold_under_any_schedule(adapter: str, schedule: list[Burst]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        world = World(ADAPTERS[adapter], Path(folder))
        try:
            asyncio.run(Players(world).play(schedule))
        finally:
            world.close()
