"""Runs: finding the one that a caller is in, opening new ones, ending them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from interlock.core.errors import Code
from interlock.core.ids import RUN, make_id
from interlock.core.policy.compile import Agent
from interlock.core.run import MAX_RUN_LIFE_US, Ceilings
from interlock.plane.callers import Caller
from interlock.plane.commands import OpenRun, Refused, Run
from interlock.plane.ports import Clock, Entropy, Reader, Sealer, Store

_TASKS: Final = 1024


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What the deployment says about runs.

    Attributes:
        ceilings: Where an agent file says nothing.
        idle_us: An implicit run ends after this long without activity.
        cool_down_us: An implicit run halted at a ceiling blocks for this long.
    """

    ceilings: Ceilings
    idle_us: int
    cool_down_us: int
    max_implicit_per_hour: int
    max_opened_per_hour: int


class Runs:
    """An agent is always in exactly one run; reconnecting, renewing a token or a new session changes nothing."""

    def __init__(
        self, store: Store, reader: Reader, sealer: Sealer, clock: Clock, entropy: Entropy, policy: RunPolicy
    ) -> None:
        self._store, self._reader, self._sealer = store, reader, sealer
        self._clock, self._entropy, self._policy = clock, entropy, policy
        self._tasks: OrderedDict[str, str | None] = OrderedDict()

    async def current(self, caller: Caller, agent: Agent, bundle: str) -> Run | Refused:
        """The run that a call of this caller belongs to."""
        if caller.run is not None:
            run = self._reader.run(caller.run)
            if run is None or run.agent != caller.agent:
                return Refused(Code.RUN_HALTED, "The token's run does not exist.", "interlock:no-run", recorded=False)
            return run
        run = self._reader.implicit_run(agent.id)
        if run is not None and run.state == "open" and self._is_current(run):
            return run
        return await self._store.open_run(
            OpenRun(
                run=self._new_id(),
                agent=agent.id,
                implicit=True,
                opener="implicit",
                ceilings=agent.ceilings.with_defaults(self._policy.ceilings),
                notify=agent.notify,
                bundle=bundle,
                labels=(),
                max_per_hour=self._policy.max_implicit_per_hour,
                idle_us=self._policy.idle_us,
                cool_down_us=self._policy.cool_down_us,
            )
        )

    def _is_current(self, run: Run) -> bool:
        """A shortcut past the store's own rule for the common case; the store decides every other."""
        now = self._clock.now_us()
        recent = now - run.last_activity_us < self._policy.idle_us
        return recent and now - run.opened_at_us < MAX_RUN_LIFE_US

    async def open(
        self, agent: Agent, opener: str, bundle: str, task: str | None, labels: tuple[str, ...], asked: Ceilings
    ) -> Run | Refused:
        """Open a run for a host application, which may narrow the ceilings and never widen them."""
        run = self._new_id()
        payloads = (self._sealer.seal(run, "task", task.encode()),) if task is not None else ()
        return await self._store.open_run(
            OpenRun(
                run=run,
                agent=agent.id,
                implicit=False,
                opener=opener,
                ceilings=agent.ceilings.with_defaults(self._policy.ceilings).narrowed(asked),
                notify=agent.notify,
                bundle=bundle,
                labels=labels,
                max_per_hour=self._policy.max_opened_per_hour,
                payloads=payloads,
            )
        )

    def task(self, run: str) -> str | None:
        """The task text of a run, as its opener gave it."""
        if run in self._tasks:
            return self._tasks[run]
        sealed = self._reader.run_payload(run, "task")
        task = self._sealer.open(run, "task", sealed).decode() if sealed is not None else None
        self._tasks[run] = task
        if len(self._tasks) > _TASKS:
            self._tasks.popitem(last=False)
        return task

    def _new_id(self) -> str:
        return make_id(RUN, self._clock.now_us() // 1000, self._entropy.take(10))
