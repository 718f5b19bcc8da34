"""The store under test: its adapters, opened on a clock that the test sets, and commands to put to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from interlock.core.canonical import JsonObject
from interlock.core.decision import Decision, Guard
from interlock.core.errors import Code
from interlock.core.ids import CALL, HOLD, RUN, make_id
from interlock.core.journal.leaf import Payload
from interlock.core.policy.rules import NO_PERMIT, Rule
from interlock.core.policy.slices import ApprovalTerms
from interlock.core.run import Ceilings
from interlock.plane.commands import (
    Activate,
    Admit,
    Admitted,
    CallRecord,
    DecideAgain,
    DecidedAgain,
    Halt,
    Halted,
    HaltScope,
    Hold,
    OpenRun,
    Outcome,
    PlaceHold,
    Refuse,
    Refused,
    Resume,
    Run,
    Settle,
    Settled,
    Superseded,
    Verdict,
)
from interlock.plane.ports import CallFilter, Clock, Page, Reader, Store
from interlock.store.sqlite.reader import SqliteReader
from interlock.store.sqlite.store import SqliteStore
from support.clock import SetClock
from support.entropy import CountingEntropy

BUNDLE: Final = "sha256:bundle"
SLICE: Final = "sha256:slice"
LEASE_S: Final = 60
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
PERMITTED: Final = Rule("a/tools.allowed[0]", "permit", "agents/a.yaml", 4, "tools.allowed[0]", "It is allowed.")
GATED: Final = Rule("a/approval", "approval", "agents/a.yaml", 5, "requires_approval", "A person decides.")
LIMITED: Final = Rule("a/limit", "limit", "agents/a.yaml", 6, "max_calls_per_run", "Few calls.", "at most a few calls")


@dataclass(frozen=True, slots=True)
class Opened:
    """A store and its read side on the same record."""

    store: Store
    reader: Reader
    close: Callable[[], None]


def open_sqlite(folder: Path, clock: Clock) -> Opened:
    path = folder / "journal.db"
    store = SqliteStore(path, clock)
    return Opened(store, SqliteReader(path), store.close)


ADAPTERS: Final[dict[str, Callable[[Path, Clock], Opened]]] = {
    "sqlite": open_sqlite,
}
"""Every implementation of the port, by name; opening one again on the same folder finds the same record."""


def permit(
    *guards: Guard, counts: dict[str, int] | None = None, slice_digest: str = SLICE, bundle: str = BUNDLE
) -> Decision:
    """A permit; what its guards limit is counted, and `counts` beside it."""
    counted = {guard.counter: guard.amount for guard in guards} | (counts or {})
    facts: JsonObject = {"seen": True}
    return Decision(
        "permit", (PERMITTED,), None, bundle, slice_digest, guards, tuple(sorted(counted.items())), facts=facts
    )


def denial(rule: Rule = NO_PERMIT, code: Code = Code.POLICY_DENIED) -> Decision:
    return Decision("deny", (rule,), code, BUNDLE, SLICE)


def holding(slice_digest: str = SLICE) -> Decision:
    return Decision("hold", (GATED,), Code.APPROVAL_PENDING, BUNDLE, slice_digest)


def guard(limit: int, amount: int = 1, counter: str = "calls:crm/t", rule: Rule = LIMITED) -> Guard:
    return Guard(counter, amount, limit, rule)


def sealed(name: str, text: str = "") -> Payload:
    """A payload as the store sees it: opaque bytes and a commitment."""
    return Payload(name, f"sealed {name} {text}".encode(), f"commitment of {name} {text}")


class World:
    """One record, one clock, and short words for the commands."""

    def __init__(self, open_adapter: Callable[[Path, Clock], Opened], folder: Path) -> None:
        self.clock = SetClock()
        self._open, self._folder, self._entropy = open_adapter, folder, CountingEntropy()
        self._opened = open_adapter(folder, self.clock)

    @property
    def store(self) -> Store:
        return self._opened.store

    @property
    def reader(self) -> Reader:
        return self._opened.reader

    def reopen(self) -> None:
        """Close the record and open it again, as a restart does."""
        self._opened.close()
        self._opened = self._open(self._folder, self.clock)

    def close(self) -> None:
        self._opened.close()

    def new_id(self, prefix: str) -> str:
        return make_id(prefix, self.clock.now_us() // 1000, self._entropy.take(10))

    # Runs -------------------------------------------------------------------------------------------

    def opening(self, agent: str = "a", *, implicit: bool = False, **changes: Any) -> OpenRun:
        known: dict[str, Any] = {
            "run": self.new_id(RUN),
            "agent": agent,
            "implicit": implicit,
            "opener": "implicit" if implicit else "host",
            "ceilings": Ceilings(),
            "notify": None,
            "bundle": BUNDLE,
            "labels": (),
            "max_per_hour": 100,
            "idle_us": 15 * MINUTE,
            "cool_down_us": 60 * MINUTE,
        }
        return OpenRun(**(known | changes))

    async def open(self, agent: str = "a", *, implicit: bool = False, **changes: Any) -> Run | Refused:
        return await self.store.open_run(self.opening(agent, implicit=implicit, **changes))

    async def run(self, agent: str = "a", *, implicit: bool = False, **changes: Any) -> Run:
        """Open a run; `max_steps` and the other ceilings may be given by name."""
        named = {name: changes.pop(name) for name in ("max_steps", "max_wall_clock_us") if name in changes}
        if named:
            changes["ceilings"] = Ceilings(**named)
        opened = await self.open(agent, implicit=implicit, **changes)
        assert isinstance(opened, Run), opened
        return opened

    def seen(self, run: Run) -> Run:
        """The run as it is now."""
        found = self.reader.run(run.id)
        assert found is not None
        return found

    def clock_us(self, run: Run) -> int:
        """Wall clock that the run has used by now."""
        return self.seen(run).clock_us(self.clock.now_us())

    # Calls ------------------------------------------------------------------------------------------

    def record(self, run: Run, digest: str | None = None, *, tool: str = "t", call: str | None = None) -> CallRecord:
        call = call or self.new_id(CALL)
        payloads = (sealed("input", call), sealed("facts", call))
        return CallRecord(call, run.id, run.agent, "crm", tool, "sha256:pin", digest or call, "structural", payloads)

    async def admit(
        self,
        run: Run,
        decision: Decision | None = None,
        *,
        record: CallRecord | None = None,
        digest: str | None = None,
        redeems: Hold | None = None,
        idempotent: bool = False,
        decide_again: DecideAgain | None = None,
        lease_s: float = LEASE_S,
        executor: str = "exec_1",
    ) -> Admitted | Refused | DecidedAgain | Superseded:
        if record is None:
            record = self.record(run, redeems.digest if redeems else digest, call=redeems.call if redeems else None)
        return await self.store.admit(
            Admit(
                record=record,
                decision=decision or permit(),
                idempotent=idempotent,
                lease_us=round(lease_s * SECOND),
                executor=executor,
                redeems=redeems.id if redeems else None,
                decide_again=decide_again,
            )
        )

    async def permitted(self, run: Run, decision: Decision | None = None, **more: Any) -> str:
        """Get a permit; return the call's id."""
        record = self.record(run, more.pop("digest", None))
        admitted = await self.admit(run, decision, record=record, **more)
        assert isinstance(admitted, Admitted), admitted
        return record.call

    async def refused(self, run: Run, decision: Decision | None = None, **more: Any) -> Refused:
        """Ask for a permit and be refused."""
        answer = await self.admit(run, decision, **more)
        assert isinstance(answer, Refused), answer
        return answer

    async def deny(self, run: Run, decision: Decision | None = None, *, record: CallRecord | None = None) -> Refused:
        return await self.store.refuse(Refuse(record or self.record(run), decision or denial()))

    async def settle(self, call: str, outcome: Outcome = "succeeded", code: Code | None = None) -> Settled:
        return await self.store.settle(Settle(call, outcome, code, (sealed("output", call),)))

    async def unknown(self, run: Run, digest: str) -> str:
        """A call that ended with an unknown outcome."""
        call = await self.permitted(run, digest=digest)
        await self.settle(call, "unknown", Code.OUTCOME_UNKNOWN)
        return call

    def call(self, call: str) -> dict[str, Any]:
        """The call as it is now."""
        found = self.reader.call(call)
        assert found is not None
        return dict(found)

    def calls(self, **chosen: str) -> list[dict[str, Any]]:
        """The calls that match, newest first."""
        return [dict(call) for call in self.reader.list_calls(CallFilter(**chosen), Page(1_000_000))]

    def state(self, call: str) -> object:
        return self.call(call)["state"]

    # Holds ------------------------------------------------------------------------------------------

    async def place(
        self,
        run: Run,
        digest: str = "d",
        *,
        key: str = "",
        slice_digest: str = SLICE,
        timeout_s: int = 300,
        auto_deny: bool = True,
    ) -> Hold | Refused:
        terms = ApprovalTerms(timeout_s, auto_deny)
        record = self.record(run, digest)
        return await self.store.place_hold(PlaceHold(self.new_id(HOLD), record, holding(slice_digest), terms, key))

    async def hold(self, run: Run, digest: str = "d", **more: Any) -> Hold:
        placed = await self.place(run, digest, **more)
        assert isinstance(placed, Hold), placed
        return placed

    async def verdict(self, hold: Hold, *, approve: bool = True) -> Hold:
        return await self.store.give_verdict(Verdict(hold.id, approve, "uid:7", (sealed("reason", hold.id),)))

    async def approved(self, run: Run, digest: str = "d", **more: Any) -> Hold:
        return await self.verdict(await self.hold(run, digest, **more))

    def hold_state(self, hold: Hold) -> str:
        found = self.reader.hold(hold.id)
        assert found is not None
        return found.state

    # Halts ------------------------------------------------------------------------------------------

    async def halt(self, scope: HaltScope, target: str) -> Halted:
        return await self.store.halt(Halt(scope, target, "uid:7", (sealed("reason"),)))

    async def resume(self, scope: HaltScope, target: str) -> int:
        return await self.store.resume(Resume(scope, target, "uid:7", (sealed("reason"),)))

    # Bundles ----------------------------------------------------------------------------------------

    async def activate(self, digest: str = BUNDLE) -> int:
        return await self.store.activate(Activate(digest, b"{}", "uid:7", (sealed("reason"),)))

    # The record -------------------------------------------------------------------------------------

    def leaves(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Every leaf, oldest first; of one kind, if one is named."""
        return [dict(leaf) for leaf in self.reader.leaves_after(0, 1_000_000) if kind is None or leaf["kind"] == kind]

    def count(self) -> int:
        return len(self.leaves())

    def used(self, run: Run, counter: str = "calls:crm/t") -> dict[Literal["spent", "reserved"], int]:
        """Spent and reserved of one counter."""
        found: Any = self.reader.counters(run.id).get(counter)
        return found or {"spent": 0, "reserved": 0}
