"""A plane in the test's own process: the real story of a call and a real store around an upstream that obeys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import UpstreamUnavailable
from interlock.core.run import Ceilings
from interlock.identity.sealing import AesSealer
from interlock.plane.approvals import Approvals
from interlock.plane.bundles import ActivePolicy
from interlock.plane.callers import Caller, CallError, CallResult, Cancellation, InboundCall, Reply
from interlock.plane.commands import Run
from interlock.plane.deciding import Deciding
from interlock.plane.enforce import Enforcer, Plane
from interlock.plane.execution import Execution
from interlock.plane.flights import Flights
from interlock.plane.limits import CallLimits
from interlock.plane.ports import Answer, OnProgress, SealedCall, Store
from interlock.plane.records import CallRecords
from interlock.plane.refusals import RefusalTally
from interlock.plane.runs import RunPolicy, Runs
from interlock.plane.stopping import Stopping
from support import crm
from support.bundles import NOTIFY
from support.entropy import CountingEntropy
from support.store import ADAPTERS, MINUTE, World

IDENTITY: Final = "support-agent@myco.iam"
CALLER: Final = Caller(crm.AGENT, IDENTITY, None, "structural")
DONE: Final[JsonObject] = {"content": [{"type": "text", "text": "done"}], "structuredContent": {"done": True}}

Behaviour = Callable[[SealedCall, OnProgress | None], Awaitable[Answer]]


def answer(result: object) -> Answer:
    """An answer that holds this result."""
    return Answer(encode(result), None)  # type: ignore[arg-type]


class ScriptedUpstreams:
    """Implements `plane.ports.Upstreams`; what it does is what the test says."""

    def __init__(self) -> None:
        self.executed: list[SealedCall] = []
        self.prepared: list[tuple[str, str, str]] = []
        self.changed: set[str] = set()
        self.live_changed: set[str] | None = None
        """What the next comparison with the live tools will find; None finds no difference to before."""
        self.unavailable = ""
        self.timeout = 60.0
        self.behaviour: Behaviour = self._done

    async def _done(self, _sealed: SealedCall, _on_progress: OnProgress | None) -> Answer:
        return answer(DONE)

    def answers(self, *results: object) -> None:
        """Give these results, one after the other and the last one for ever; an exception is raised."""
        waiting = list(results)

        async def behave(_sealed: SealedCall, _on_progress: OnProgress | None) -> Answer:
            result = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(result, BaseException):
                raise result
            return result if isinstance(result, Answer) else answer(result)

        self.behaviour = behave

    def hangs(self) -> None:
        """Never answer."""

        async def behave(_sealed: SealedCall, _on_progress: OnProgress | None) -> Answer:
            return await asyncio.get_running_loop().create_future()

        self.behaviour = behave

    def timeout_s(self, upstream: str) -> float:
        if upstream != "crm":
            raise UpstreamUnavailable(f"no upstream {upstream}")
        return self.timeout

    async def prepare(self, upstream: str, agent: str, profile: str, secrets: Mapping[str, str]) -> None:
        self.prepared.append((upstream, agent, profile))
        if self.unavailable:
            raise UpstreamUnavailable(self.unavailable)
        if self.live_changed is not None:
            self.changed = self.live_changed

    def is_changed(self, upstream: str, tool: str) -> bool:
        return tool in self.changed

    async def execute(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        self.executed.append(sealed)
        return await self.behaviour(sealed, on_progress)


class ScriptedSecrets:
    """Implements `plane.ports.Secrets` with one value, or none."""

    def __init__(self) -> None:
        self.value = ""
        self.problem: Exception | None = None

    def profile(self, upstream: str, agent: str, tool: str) -> tuple[str, Mapping[str, str]]:
        if self.problem is not None:
            raise self.problem
        return ("with", {"Authorization": self.value}) if self.value else ("none", {})

    def has_secrets(self, upstream: str) -> bool:
        return bool(self.value)

    def leaked(self, upstream: str, text: bytes) -> bool:
        return self.value.encode() in text


class RecordingNotifier:
    """Implements `plane.ports.Notifier`."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, JsonObject]] = []

    def notify(self, target: str, event: JsonObject) -> None:
        self.sent.append((target, event))


class RecordingMeter:
    """Implements `plane.ports.Meter`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def call(self, upstream: str, result: str) -> None:
        self.calls.append((upstream, result))

    def step(self, name: str, seconds: float) -> None:
        pass


@dataclass(slots=True)
class Limits:
    """Limits of a plane in process; wide unless a test narrows them."""

    rate: float = 1000.0
    burst: int = 1000
    concurrent: int = 1000


class InProcess:
    """The example's policy in force, with every part at hand."""

    def __init__(
        self,
        folder: Path,
        *,
        files: Callable[[], dict[str, bytes]] = crm.files,
        store: Callable[[Store], Store] = lambda store: store,
        limits: Limits | None = None,
    ) -> None:
        """Put it together; `store` may wrap the real store to make it misbehave."""
        limits = limits or Limits()
        self.world = World(ADAPTERS["sqlite"], folder)
        self.clock, self.entropy = self.world.clock, CountingEntropy()
        self.store, self.reader = store(self.world.store), self.world.reader
        self.sealer = AesSealer(folder / "data.key", self.entropy)
        self.upstreams, self.secrets = ScriptedUpstreams(), ScriptedSecrets()
        self.notifier, self.meter, self.flights = RecordingNotifier(), RecordingMeter(), Flights()
        self.policy = ActivePolicy(self.store, self.reader, self.sealer, files, NOTIFY)
        self.stopping = Stopping(self.store, self.reader, self.sealer, self.flights, self.notifier, self.clock)
        self.execution = Execution(
            self.store,
            self.upstreams,
            self.secrets,
            self.sealer,
            self.flights,
            self.stopping,
            self.clock,
            self.meter,
        )
        ceilings = Ceilings(max_steps=100, max_wall_clock_us=3600 * 1_000_000)
        self.runs = Runs(
            self.store,
            self.reader,
            self.sealer,
            self.clock,
            self.entropy,
            RunPolicy(ceilings, 15 * MINUTE, 60 * MINUTE, 100, 100),
        )
        self.deciding = Deciding(self.reader, self.upstreams, self.clock, self.runs.task)
        self.approvals = Approvals(
            self.store,
            self.reader,
            self.sealer,
            self.policy,
            self.runs.task,
            lambda event: self.notifier.notify("approvers", event),
        )
        self.refusals = RefusalTally(self.store, self.clock)
        self.limits = CallLimits(limits.rate, limits.burst, limits.concurrent, self.clock)
        self.records = CallRecords(self.sealer, self.clock, self.entropy)
        self.enforcer = Enforcer(
            Plane(
                store=self.store,
                reader=self.reader,
                upstreams=self.upstreams,
                secrets=self.secrets,
                policy=self.policy,
                runs=self.runs,
                deciding=self.deciding,
                records=self.records,
                approvals=self.approvals,
                stopping=self.stopping,
                execution=self.execution,
                limits=self.limits,
                refusals=self.refusals,
                clock=self.clock,
                entropy=self.entropy,
                meter=self.meter,
                executor="exec_1",
            )
        )

    def close(self) -> None:
        self.world.close()

    # As an agent ------------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: JsonObject | None = None, **more: Any) -> Reply:
        return await self.enforcer.enforce(self.inbound(tool, arguments, **more))

    def inbound(
        self, tool: str, arguments: JsonObject | None = None, *, caller: Caller = CALLER, **more: Any
    ) -> InboundCall:
        """What a door makes of a message, for which it has charged the agent."""
        self.limits.charge(caller.agent, 1)
        return InboundCall(caller, more.pop("upstream", "crm"), tool, arguments, **more)

    async def refused(self, tool: str, arguments: JsonObject | None = None, **more: Any) -> CallError:
        reply = await self.call(tool, arguments, **more)
        assert isinstance(reply, CallError), reply
        return reply

    async def result(self, tool: str, arguments: JsonObject | None = None, **more: Any) -> CallResult:
        reply = await self.call(tool, arguments, **more)
        assert isinstance(reply, CallResult), reply
        return reply

    def flying(self, tool: str, arguments: JsonObject, **more: Any) -> Flying:
        """Start a call and leave it in flight."""
        cancellation = Cancellation()
        inbound = self.inbound(tool, arguments, cancellation=cancellation, **more)
        return Flying(asyncio.create_task(self.enforcer.enforce(inbound)), cancellation, self.upstreams)

    # The record -------------------------------------------------------------------------------------

    def run(self) -> Run:
        """The example agent's implicit run."""
        found = self.reader.implicit_run(crm.AGENT)
        assert found is not None
        return found

    def opened(self, call: str, name: str) -> bytes:
        """A call's payload, opened."""
        sealed = self.reader.payload(call, name)
        assert sealed is not None
        return self.sealer.open(call, name, sealed)


@dataclass(slots=True)
class Flying:
    """A call in flight."""

    task: asyncio.Task[Reply]
    cancellation: Cancellation
    upstreams: ScriptedUpstreams

    async def sent(self) -> SealedCall:
        """Wait until it reached the upstream."""
        while not self.upstreams.executed:
            assert not self.task.done(), self.task.result()
            await asyncio.sleep(0)
        return self.upstreams.executed[-1]


@contextmanager
def in_process(folder: Path, **options: Any) -> Generator[InProcess]:
    plane = InProcess(folder, **options)
    try:
        yield plane
    finally:
        plane.close()
