"""Halts, resumption, activation, and what comes due by time alone, inside a transaction."""

from __future__ import annotations

from interlock.core.errors import Conflict, NotFound
from interlock.core.journal.leaf import LeafKind
from interlock.core.run import MAX_RUN_LIFE_US
from interlock.plane.commands import Activate, Halt, Halted, Hold, HoldState, Refusals, Resume, Run, Upkeep
from interlock.store.sqlite.calls import expire_leases
from interlock.store.sqlite.holds import STICKY_US, close_hold, open_holds
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.runs import RUN_COLUMNS, end_run, find_run, mark_halted, run_from_row
from interlock.store.sqlite.writer import Transaction


def halt(tx: Transaction, command: Halt) -> Halted:
    """Stop a scope. The commit of this leaf is the acknowledgement (invariant I4)."""
    if command.scope == "run":
        run = find_run(tx, command.target)
        if run is None:
            raise NotFound(f"There is no run {command.target}.")
        # A cool-down ends a ceiling's halt and never a person's, so a person may halt what a ceiling has halted.
        kind = tx.row("SELECT halt_kind FROM run WHERE id = ?", run.id)
        if run.state == "ended" or (run.state == "halted" and kind != ("ceiling",)):
            raise Conflict(f"The run {run.id} is {run.state} already.")
        seq = append(
            tx,
            LeafKind.HALT,
            {"scope": "run", "by": command.by},
            run=run.id,
            agent=run.agent,
            payloads=command.payloads,
        )
        return Halted(seq, (mark_halted(tx, run, "person", f"halted by {command.by}"),))
    if tx.row("SELECT 1 FROM halt WHERE scope = ? AND target = ?", command.scope, command.target):
        raise Conflict("This scope is halted already.")
    agent = command.target if command.scope == "agent" else None
    seq = append(tx, LeafKind.HALT, {"scope": command.scope, "by": command.by}, agent=agent, payloads=command.payloads)
    tx.run("INSERT INTO halt VALUES (?, ?, ?, ?, ?)", command.scope, command.target, tx.now_us, command.by, seq)
    return Halted(seq, tuple(_runs_of(tx, agent)))


def _runs_of(tx: Transaction, agent: str | None) -> list[Run]:
    where, values = ("state = 'open'", ()) if agent is None else ("state = 'open' AND agent = ?", (agent,))
    return [run_from_row(row) for row in tx.rows(f"SELECT {RUN_COLUMNS} FROM run WHERE {where}", *values)]


def resume(tx: Transaction, command: Resume) -> int:
    """Lift a halt. A run gets a fresh allowance; what it used before stays counted and shown."""
    if command.scope != "run":
        found = tx.row("SELECT 1 FROM halt WHERE scope = ? AND target = ?", command.scope, command.target)
        if not found:
            raise NotFound("No halt of this scope is in force.")
        tx.run("DELETE FROM halt WHERE scope = ? AND target = ?", command.scope, command.target)
        agent = command.target if command.scope == "agent" else None
        return append(
            tx, LeafKind.RESUME, {"scope": command.scope, "by": command.by}, agent=agent, payloads=command.payloads
        )
    run = find_run(tx, command.target)
    if run is None:
        raise NotFound(f"There is no run {command.target}.")
    if run.state != "halted":
        raise Conflict(f"The run {run.id} is {run.state}; only a halted run can be resumed.")
    row = tx.row("SELECT ceilings ->> 'max_steps', ceilings ->> 'max_wall_clock_us' FROM run WHERE id = ?", run.id)
    assert row is not None  # found above
    steps = None if row[0] is None else run.steps + int(row[0])
    clock = None if row[1] is None else run.clock_used_us + int(row[1])
    stands_still = run.open_holds > 0 and run.in_flight == 0
    tx.run(
        "UPDATE run SET state = 'open', halt_kind = NULL, halt_reason = NULL, halted_at = NULL, max_steps = ?,"
        " max_clock = ?, clock_since = ?, last_activity = ? WHERE id = ?",
        steps,
        clock,
        None if stands_still else tx.now_us,
        tx.now_us,
        run.id,
    )
    return append(
        tx,
        LeafKind.RESUME,
        {"scope": "run", "by": command.by, "max_steps": steps, "max_wall_clock_us": clock},
        run=run.id,
        agent=run.agent,
        payloads=command.payloads,
    )


def activate(tx: Transaction, command: Activate) -> int:
    """Make a bundle the active one and keep it for as long as the journal lives."""
    tx.run(
        "INSERT INTO bundle VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        command.digest,
        command.content,
        tx.now_us,
    )
    seq = append(tx, LeafKind.ACTIVATION, {"bundle": command.digest, "by": command.by}, payloads=command.payloads)
    tx.run("INSERT INTO activation VALUES (?, ?, ?, ?)", seq, command.digest, tx.now_us, command.by)
    return seq


def record_refusals(tx: Transaction, refusals: Refusals) -> None:
    """One leaf for many refusals that came after a halt."""
    run = find_run(tx, refusals.run)
    append(
        tx,
        LeafKind.REFUSALS,
        {"code": str(refusals.code), "count": refusals.count, "since": refusals.since_us},
        run=run.id if run else None,
        agent=run.agent if run else None,
    )


def expire_due(tx: Transaction) -> Upkeep:
    """Close what time has ended: holds, unused approvals, leases, and runs of 24 hours."""
    undecided = "h.state = 'open' AND h.auto_deny = 1 AND h.expires_at <= ?"
    closed = _close_holds(tx, undecided, tx.now_us, "expired", "nobody decided in time")
    unused = "h.state = 'approved' AND h.redeem_until <= ?"
    closed += _close_holds(tx, unused, tx.now_us, "expired", "the approval was not used in time")
    escalated = open_holds(
        tx, "h.state = 'open' AND h.auto_deny = 0 AND h.escalated = 0 AND h.expires_at <= ?", tx.now_us
    )
    for hold in escalated:
        tx.run("UPDATE hold SET escalated = 1 WHERE id = ?", hold.id)
    lapsed = expire_leases(tx)
    oldest = tx.now_us - MAX_RUN_LIFE_US
    # A halted implicit run stands between its agent and a fresh run: a day does not lift its halt.
    over = "state <> 'ended' AND (state = 'open' OR implicit = 0) AND opened_at <= ?"
    ended = tuple(run for (run,) in tx.rows(f"SELECT id FROM run WHERE {over}", oldest))
    for run in ended:
        end_run(tx, run, "24 hours")
    of_ended = "EXISTS (SELECT 1 FROM run WHERE id = h.run AND (state = 'ended' OR opened_at <= ?))"
    closed += _close_holds(tx, of_ended, oldest, "void", "the run ended")
    return Upkeep(tuple(closed), tuple(escalated), lapsed.calls, ended, lapsed.halted)


def _close_holds(tx: Transaction, where: str, until_us: int, state: HoldState, why: str) -> list[Hold]:
    return [close_hold(tx, hold, state, why) for hold in open_holds(tx, where, until_us)]


def after_clock_jump(tx: Transaction) -> None:
    """The clock went back: no expiry can be trusted any more, so everything that waits is denied.

    What counts from a moment in the past is moved along with the clock, so that it lasts as long as it would
    have: wall clock, idleness, cool-down, 24 hours, runs within an hour, leases, and the minutes for which an
    expired or redeemed hold answers for its call.
    """
    append(tx, LeafKind.CLOCK_JUMP, {"back": tx.clock_back_us})
    tx.run(
        "UPDATE run SET opened_at = opened_at - ?1, last_activity = last_activity - ?1,"
        " clock_since = clock_since - ?1, halted_at = halted_at - ?1 WHERE state <> 'ended' OR opened_at > ?2",
        tx.clock_back_us,
        tx.now_us,
    )
    tx.run("UPDATE call SET lease_until = lease_until - ? WHERE state = 'permitted'", tx.clock_back_us)
    answering_since = tx.now_us - STICKY_US
    tx.run(
        "UPDATE hold SET created_at = created_at - ?1, decided_at = decided_at - ?1"
        " WHERE state = 'expired' AND decided_at > ?2",
        tx.clock_back_us,
        answering_since,
    )
    tx.run(
        "UPDATE call SET opened_at = opened_at - ?1, ended_at = ended_at - ?1"
        " WHERE ended_at > ?2 AND id IN (SELECT call FROM hold WHERE state = 'redeemed')",
        tx.clock_back_us,
        answering_since,
    )
    for hold in open_holds(tx, "1"):
        close_hold(tx, hold, "expired", "the clock went backwards")
