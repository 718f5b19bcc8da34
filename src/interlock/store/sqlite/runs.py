"""Runs inside a transaction: standing, the clock, steps, ceilings, halts."""

from __future__ import annotations

import json
from typing import Any, Final

from interlock.core.canonical import encode
from interlock.core.errors import Code
from interlock.core.journal.leaf import LeafKind
from interlock.core.run import MAX_RUN_LIFE_US, UNMETERED, Ceilings
from interlock.plane.commands import OpenRun, Refused, Run
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.writer import Transaction

HOUR_US: Final = 3600 * 1_000_000
RUN_COLUMNS: Final = (
    "id, agent, implicit, opener, state, opened_at, last_activity, ceilings, steps, max_steps, clock_used,"
    " clock_since, max_clock, in_flight, open_holds, halt_reason, halted_at, notify, labels"
)

IMPLICIT_RUN: Final = (
    f"SELECT {RUN_COLUMNS} FROM run INDEXED BY implicit_run WHERE agent = ? AND implicit = 1 AND state <> 'ended'"
)
"""An agent has at most one; this index sees to that, and keeps the look-up flat however many have ended."""


def run_from_row(row: tuple[Any, ...]) -> Run:
    """A `Run` from a row of `RUN_COLUMNS`; raised limits replace the ones that it was opened with."""
    opened = Ceilings.from_json(json.loads(row[7]))
    ceilings = Ceilings(row[9], opened.max_tokens, row[12], opened.max_cost_micro_usd)
    return Run(
        id=row[0],
        agent=row[1],
        implicit=bool(row[2]),
        opener=row[3],
        state=row[4],
        opened_at_us=row[5],
        last_activity_us=row[6],
        ceilings=ceilings,
        steps=row[8],
        clock_used_us=row[10],
        clock_since_us=row[11],
        in_flight=row[13],
        open_holds=row[14],
        halt_reason=row[15],
        halted_at_us=row[16],
        notify=row[17],
        labels=tuple(json.loads(row[18])),
    )


def find_run(tx: Transaction, run: str) -> Run | None:
    row = tx.row(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", run)
    return run_from_row(row) if row else None


def open_run(tx: Transaction, command: OpenRun) -> Run | Refused:
    """Open a run, or return the agent's current implicit one (docs/reference/runs.md)."""
    refused = _stopped(tx, command.agent)
    if refused:
        return refused
    if command.implicit:
        current = _current_implicit(tx, command)
        if current is not None:
            return current
    opened = tx.row(
        "SELECT count(*), min(opened_at) FROM run WHERE agent = ? AND implicit = ? AND opened_at > ?",
        command.agent,
        command.implicit,
        tx.now_us - HOUR_US,
    )
    assert opened is not None  # an aggregate always has a row
    if opened[0] >= command.max_per_hour:
        wait_ms = max(1, (opened[1] + HOUR_US - tx.now_us) // 1000)
        reason = f"The agent has opened {opened[0]} runs within an hour, which is its limit."
        return Refused(Code.RATE_LIMITED, reason, "interlock:max-runs-per-hour", recorded=False, retry_after_ms=wait_ms)
    tx.run(
        "INSERT INTO run (id, agent, implicit, opener, state, opened_at, last_activity, ceilings, max_steps,"
        " clock_since, max_clock, notify, labels) VALUES (?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?)",
        command.run,
        command.agent,
        command.implicit,
        command.opener,
        tx.now_us,
        tx.now_us,
        encode(command.ceilings.as_json()).decode(),
        command.ceilings.max_steps,
        tx.now_us,
        command.ceilings.max_wall_clock_us,
        command.notify,
        encode(list(command.labels)).decode(),
    )
    append(
        tx,
        LeafKind.RUN_OPENED,
        {
            "opener": command.opener,
            "implicit": command.implicit,
            "ceilings": command.ceilings.as_json(),
            "unmetered": [name for name in UNMETERED if getattr(command.ceilings, name) is not None],
            "bundle": command.bundle,
        },
        run=command.run,
        agent=command.agent,
        payloads=command.payloads,
    )
    created = find_run(tx, command.run)
    assert created is not None  # inserted above
    return created


def _current_implicit(tx: Transaction, command: OpenRun) -> Run | None:
    """The agent's implicit run, if it is still the current one; an idle or spent one is ended here."""
    row = tx.row(IMPLICIT_RUN, command.agent)
    if row is None:
        return None
    run = run_from_row(row)
    if run.state == "halted":
        kind = tx.row("SELECT halt_kind FROM run WHERE id = ?", run.id)
        cooled = tx.now_us - (run.halted_at_us or tx.now_us) >= command.cool_down_us
        # A person's halt has no cool-down: only a person lifts it.
        if kind != ("ceiling",) or not cooled:
            return run
        end_run(tx, run.id, "cool-down")
        return None
    busy = run.in_flight > 0 or run.open_holds > 0
    idle = not busy and tx.now_us - run.last_activity_us >= command.idle_us
    over = tx.now_us - run.opened_at_us >= MAX_RUN_LIFE_US
    # What is in flight is cancelled by upkeep, which ends the run within a second: until then it is the one.
    if idle or (over and run.in_flight == 0):
        end_run(tx, run.id, "idle" if idle else "24 hours")
        return None
    return run


def end_run(tx: Transaction, run: str, why: str) -> None:
    """End a run for good; its open holds are closed by the caller's upkeep."""
    found = find_run(tx, run)
    if found is None or found.state == "ended":
        return
    tx.run(
        "UPDATE run SET state = 'ended', clock_used = ?, clock_since = NULL WHERE id = ?",
        found.clock_us(tx.now_us),
        run,
    )
    append(tx, LeafKind.RUN_ENDED, {"why": why}, run=run, agent=found.agent)


def standing(tx: Transaction, run_id: str) -> Run | Refused:
    """The run, if it may go on at this moment, read under the lock; a spent clock halts it here."""
    run = find_run(tx, run_id)
    if run is None:
        return Refused(Code.RUN_HALTED, "There is no such run.", "interlock:no-run", recorded=False)
    refused = _stopped(tx, run.agent) or _not_open(run)
    if refused:
        return refused
    if tx.now_us - run.opened_at_us >= MAX_RUN_LIFE_US:
        # Upkeep ends it, and has what is in flight cancelled.
        reason = "The run has lived for 24 hours, which is the longest a run may live."
        return Refused(Code.RUN_HALTED, reason, "interlock:max-run-life", recorded=False)
    limit = run.ceilings.max_wall_clock_us
    if limit is not None and run.clock_us(tx.now_us) >= limit:
        return halt_at_ceiling(tx, run, "max_wall_clock_seconds", f"{limit / 1_000_000:g} seconds of wall clock")
    return run


def _stopped(tx: Transaction, agent: str) -> Refused | None:
    row = tx.row("SELECT scope FROM halt WHERE scope = 'all' OR (scope = 'agent' AND target = ?) LIMIT 1", agent)
    if row is None:
        return None
    what = "Every agent is halted" if row[0] == "all" else f"The agent {agent} is halted"
    return Refused(Code.RUN_HALTED, f"{what} until a person resumes it.", "interlock:halt", recorded=False)


def _not_open(run: Run) -> Refused | None:
    if run.state == "halted":
        reason = f"The run is halted: {run.halt_reason}"
        return Refused(Code.RUN_HALTED, reason, "interlock:run-halted", recorded=False)
    if run.state == "ended":
        return Refused(Code.RUN_HALTED, "The run has ended.", "interlock:run-ended", recorded=False)
    return None


def check_steps(tx: Transaction, run: Run) -> Refused | None:
    """Whether the run has a step left for an attempted call; one that would pass the ceiling halts it here."""
    limit = run.ceilings.max_steps
    if limit is not None and run.steps >= limit:
        return halt_at_ceiling(tx, run, "max_steps", f"{limit} steps")
    return None


def halt_at_ceiling(tx: Transaction, run: Run, ceiling: str, amount: str) -> Refused:
    """Halt a run that reached a ceiling: it is halted and escalated, never retried."""
    reason = f"The ceiling {ceiling} of {amount} was reached."
    halted = mark_halted(tx, run, "ceiling", reason)
    append(
        tx,
        LeafKind.HALT,
        {"scope": "run", "by": "interlock", "ceiling": ceiling, "notify": run.notify},
        run=run.id,
        agent=run.agent,
    )
    return Refused(
        Code.RUN_HALTED, f"The run is halted: {reason}", f"interlock:{ceiling}", recorded=True, halted=halted
    )


def mark_halted(tx: Transaction, run: Run, kind: str, reason: str) -> Run:
    tx.run(
        "UPDATE run SET state = 'halted', halt_kind = ?, halt_reason = ?, halted_at = ?, clock_used = ?,"
        " clock_since = NULL WHERE id = ?",
        kind,
        reason,
        tx.now_us,
        run.clock_us(tx.now_us),
        run.id,
    )
    halted = find_run(tx, run.id)
    assert halted is not None  # updated above
    return halted


def count_activity(tx: Transaction, run: str, *, steps: int = 0, in_flight: int = 0, open_holds: int = 0) -> None:
    """Adjust what the run has done and is busy with, and let the clock run or stand still accordingly.

    The clock stands still while a call is held and nothing else is in flight.
    """
    tx.run(
        "UPDATE run SET steps = steps + ?1, in_flight = in_flight + ?2, open_holds = open_holds + ?3,"
        " clock_used = clock_used + max(0, coalesce(?4 - clock_since, 0)),"
        " clock_since = CASE WHEN state = 'open' AND (in_flight + ?2 > 0 OR open_holds + ?3 = 0) THEN ?4 END,"
        " last_activity = ?4 WHERE id = ?5",
        steps,
        in_flight,
        open_holds,
        tx.now_us,
        run,
    )
