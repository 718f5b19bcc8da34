"""The invariants of the record, checked from its leaves alone, and the state that those leaves imply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock.core.canonical import JsonObject

REDEEM_WINDOW_US = 300 * 1_000_000


@dataclass(slots=True)
class RunState:
    """What the leaves say of one run."""

    agent: str
    max_steps: int | None
    last_leaf: int
    steps: int = 0
    halted: bool = False
    ended: bool = False
    in_flight: set[str] = field(default_factory=set[str])
    open_holds: set[str] = field(default_factory=set[str])
    spent: Counter[str] = field(default_factory=Counter[str])
    reserved: Counter[str] = field(default_factory=Counter[str])
    ran: Counter[str] = field(default_factory=Counter[str])
    unknown: Counter[str] = field(default_factory=Counter[str])

    @property
    def state(self) -> str:
        return "ended" if self.ended else "halted" if self.halted else "open"

    @property
    def counters(self) -> JsonObject:
        names = sorted(self.spent.keys() | self.reserved.keys())
        return {name: {"spent": self.spent[name], "reserved": self.reserved[name]} for name in names}


@dataclass(slots=True)
class _Hold:
    call: str
    state: str = "open"
    redeem_until: int = 0


class Replay:
    """Follows the journal leaf by leaf; an invariant that does not hold is an AssertionError that names it."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """Start before the first leaf; `limits` are the guards' limits by counter, the same for every run."""
        self.runs: dict[str, RunState] = {}
        self.outcomes: dict[str, str | None] = {}
        """Outcome of every permitted call; None while it is in flight."""
        self._limits = limits
        self._seq = 0
        self._at = 0
        self._halts: set[tuple[str, str]] = set()
        self._holds: dict[str, _Hold] = {}
        self._amounts: dict[str, dict[str, int]] = {}

    def follow(self, leaves: Iterable[Mapping[str, Any]]) -> Replay:
        for leaf in leaves:
            self._take(leaf)
        return self

    def _take(self, leaf: Mapping[str, Any]) -> None:
        assert leaf["seq"] == self._seq + 1, f"gap before leaf {leaf['seq']}"
        assert leaf["at"] >= self._at or leaf["kind"] == "clock_jump", f"time goes back at leaf {leaf['seq']}"
        self._seq, self._at = leaf["seq"], leaf["at"]
        if leaf["kind"] == "run_opened":
            assert leaf["run"] not in self.runs
            assert not self._stopped(leaf["agent"]), "a run was opened in a halted scope"
            ceilings = leaf["ceilings"]
            self.runs[leaf["run"]] = RunState(leaf["agent"], ceilings["max_steps"], leaf["seq"])
            return
        if "run" in leaf:
            run = self.runs[leaf["run"]]
            assert leaf["prev"] == run.last_leaf, f"leaf {leaf['seq']} does not point at its run's previous leaf"
            run.last_leaf = leaf["seq"]
        getattr(self, f"_{leaf['kind']}", lambda _leaf: None)(leaf)

    def _stopped(self, agent: str) -> bool:
        return ("agent", agent) in self._halts or ("all", "") in self._halts

    def _entering(self, leaf: Mapping[str, Any]) -> RunState:
        run = self.runs[leaf["run"]]
        assert not run.ended, f"leaf {leaf['seq']} enters a run that ended"
        assert not run.halted, f"I4: leaf {leaf['seq']} enters a halted run"
        assert not self._stopped(run.agent), f"I4: leaf {leaf['seq']} enters a halted scope"
        return run

    def _step(self, run: RunState) -> None:
        run.steps += 1
        assert run.max_steps is None or run.steps <= run.max_steps, "more steps than the ceiling"

    def _decision(self, leaf: Mapping[str, Any]) -> None:
        run = self._entering(leaf)
        if (redeemed := leaf.get("redeems")) is not None:
            hold = self._holds[redeemed]
            assert hold.state == "approved", f"I5: leaf {leaf['seq']} uses a hold that is {hold.state}"
            assert hold.call == leaf["call"], "I5: an approval was used by another call"
            assert leaf["at"] < hold.redeem_until, "I5: an approval was used too late"
            hold.state = "redeemed"
        else:
            self._step(run)
        if leaf["verdict"] != "permit":
            return
        assert leaf["call"] not in self.outcomes, "I2: a call was permitted twice"
        self.outcomes[leaf["call"]] = None
        run.in_flight.add(leaf["call"])
        amounts: dict[str, int] = leaf.get("reserves", {})
        self._amounts[leaf["call"]] = amounts
        run.reserved.update(amounts)
        for name in amounts:
            used = run.spent[name] + run.reserved[name]
            assert used <= self._limits.get(name, used), f"I3: {used} of {name} are used"

    def _outcome(self, leaf: Mapping[str, Any]) -> None:
        run, call, outcome = self.runs[leaf["run"]], leaf["call"], leaf["outcome"]
        assert self.outcomes[call] is None, f"I2: a second outcome of {call}"
        self.outcomes[call] = outcome
        run.in_flight.remove(call)
        amounts = self._amounts[call]
        run.reserved.subtract(amounts)
        run.spent.update(amounts if outcome != "not_sent" else {})
        run.ran.update(amounts if outcome in ("succeeded", "failed") else {})
        run.unknown.update(amounts if outcome == "unknown" else {})
        for name in amounts:
            assert run.ran[name] <= run.spent[name] <= run.ran[name] + run.unknown[name], "I3: ran, spent, unknown"

    def _resolution(self, leaf: Mapping[str, Any]) -> None:
        assert self.outcomes[leaf["call"]] == "unknown", "I2: a resolution of what was no unknown outcome"

    def _hold(self, leaf: Mapping[str, Any]) -> None:
        run = self._entering(leaf)
        self._step(run)
        run.open_holds.add(leaf["hold"])
        self._holds[leaf["hold"]] = _Hold(leaf["call"])

    def _verdict(self, leaf: Mapping[str, Any]) -> None:
        hold = self._holds[leaf["hold"]]
        assert hold.state == "open", f"I5: a verdict on a hold that is {hold.state}"
        hold.state = "approved" if leaf["approve"] else "denied"
        hold.redeem_until = leaf.get("redeem_until", 0)
        assert hold.redeem_until <= leaf["at"] + REDEEM_WINDOW_US
        self.runs[leaf["run"]].open_holds.remove(leaf["hold"])

    def _hold_closed(self, leaf: Mapping[str, Any]) -> None:
        hold = self._holds[leaf["hold"]]
        assert hold.state in ("open", "approved"), f"a hold that is {hold.state} was closed"
        hold.state = leaf["state"]
        self.runs[leaf["run"]].open_holds.discard(leaf["hold"])

    def _halt(self, leaf: Mapping[str, Any]) -> None:
        if leaf["scope"] == "run":
            self.runs[leaf["run"]].halted = True
        else:
            self._halts.add((leaf["scope"], leaf.get("agent", "")))

    def _resume(self, leaf: Mapping[str, Any]) -> None:
        if leaf["scope"] == "run":
            run = self.runs[leaf["run"]]
            assert run.halted
            run.halted, run.max_steps = False, leaf.get("max_steps")
        else:
            self._halts.remove((leaf["scope"], leaf.get("agent", "")))

    def _run_ended(self, leaf: Mapping[str, Any]) -> None:
        self.runs[leaf["run"]].ended = True
