"""Holds inside a transaction: join or place, verdict, redeem, expire."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from interlock.core.canonical import encode
from interlock.core.decision import Decision
from interlock.core.errors import Code, Conflict, NotFound
from interlock.core.journal.leaf import LeafKind
from interlock.plane.commands import CallRecord, Hold, HoldState, PlaceHold, Refused, Verdict
from interlock.store.sqlite.call_rows import decision_fields, insert_call
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.runs import check_steps, count_activity, standing
from interlock.store.sqlite.writer import Transaction

REDEEM_WINDOW_US: Final = 300 * 1_000_000
"""An approval is used within five minutes, or it lapses."""
STICKY_US: Final = 600 * 1_000_000
"""For ten minutes the same call gets the same answer: an expiry, or the stored result."""

HOLD_COLUMNS: Final = (
    "h.id, h.call, h.run, h.agent, h.upstream, h.tool, h.digest, h.slice, h.rules, h.state, h.created_at,"
    " h.expires_at, h.auto_deny, h.decided_at, h.decided_by, h.redeem_until, c.state"
)
HOLD_TABLES: Final = "hold h JOIN call c ON c.id = h.call"


def hold_from_row(row: tuple[Any, ...]) -> Hold:
    return Hold(
        id=row[0],
        call=row[1],
        run=row[2],
        agent=row[3],
        upstream=row[4],
        tool=row[5],
        digest=row[6],
        slice=row[7],
        rules=tuple(json.loads(row[8])),
        state=row[9],
        created_at_us=row[10],
        expires_at_us=row[11],
        auto_deny=bool(row[12]),
        decided_at_us=row[13],
        decided_by=row[14],
        redeem_until_us=row[15],
        call_state=row[16],
    )


def find_hold(tx: Transaction, hold: str) -> Hold | None:
    row = tx.row(f"SELECT {HOLD_COLUMNS} FROM {HOLD_TABLES} WHERE h.id = ?", hold)
    return hold_from_row(row) if row else None


def place_hold(tx: Transaction, command: PlaceHold) -> Hold | Refused:
    """Return the hold of this very call as it stands, or write a new one."""
    record = command.record
    run = standing(tx, record.run)
    if isinstance(run, Refused):
        return run
    current = _current(tx, command)
    if current is not None:
        return current
    refused = check_steps(tx, run)
    if refused:
        return refused
    expires = tx.now_us + command.terms.timeout_s * 1_000_000
    seq = append(
        tx,
        LeafKind.HOLD,
        {
            **decision_fields(record, command.decision),
            "hold": command.hold,
            "expires": expires,
            "auto_deny": command.terms.auto_deny,
        },
        run=record.run,
        call=record.call,
        agent=record.agent,
        payloads=record.payloads,
    )
    insert_call(tx, record, command.decision, "held", seq)
    tx.run(
        "INSERT INTO hold (id, call, run, agent, upstream, tool, digest, key, slice, rules, state, created_at,"
        " expires_at, auto_deny) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?)",
        command.hold,
        record.call,
        record.run,
        record.agent,
        record.upstream,
        record.tool,
        record.digest,
        command.key,
        command.decision.slice,
        encode([rule.id for rule in command.decision.rules]).decode(),
        tx.now_us,
        expires,
        command.terms.auto_deny,
    )
    count_activity(tx, record.run, steps=1, open_holds=1)
    placed = find_hold(tx, command.hold)
    assert placed is not None  # inserted above
    return placed


def _current(tx: Transaction, command: PlaceHold) -> Hold | None:
    """The latest hold of the same call, if it still answers for it."""
    record = command.record
    row = tx.row(
        f"SELECT {HOLD_COLUMNS} FROM {HOLD_TABLES} WHERE h.run = ? AND h.digest = ? AND h.key = ?"
        # By leaf and not by time: after a clock jump an older hold can have the later time.
        " ORDER BY c.first_leaf DESC LIMIT 1",
        record.run,
        record.digest,
        command.key,
    )
    if row is None:
        return None
    hold = hold_from_row(row)
    if hold.state in ("open", "approved") and hold.slice != command.decision.slice:
        close_hold(tx, hold, "void", "the rules for this tool changed")
        return None
    if hold.state == "open":
        if hold.auto_deny and hold.expires_at_us <= tx.now_us:
            return close_hold(tx, hold, "expired", "nobody decided in time")
        return hold
    if hold.state == "approved":
        if hold.redeem_until_us is not None and hold.redeem_until_us <= tx.now_us:
            return close_hold(tx, hold, "expired", "the approval was not used in time")
        return hold
    if hold.state == "denied":
        return hold  # a refusal stands for the rest of the run
    if hold.state == "redeemed":
        return _still_answers(tx, hold, command.decision.slice)
    recent = hold.decided_at_us is not None and tx.now_us - hold.decided_at_us < STICKY_US
    return hold if hold.state == "expired" and recent else None


def _still_answers(tx: Transaction, hold: Hold, slice_digest: str) -> Hold | None:
    """A redeemed hold answers while its call is in flight, and for ten minutes after it ended under these rules.

    Under other rules the stored result might show what may not be seen any more.
    """
    row = tx.row("SELECT ended_at FROM call WHERE id = ?", hold.call)
    ended = row[0] if row else None
    if ended is None:
        return hold
    return hold if hold.slice == slice_digest and tx.now_us - ended < STICKY_US else None


def give_verdict(tx: Transaction, command: Verdict) -> Hold:
    """Record a verdict on an open hold; it executes nothing."""
    hold = find_hold(tx, command.hold)
    if hold is None:
        raise NotFound(f"There is no approval {command.hold}.")
    if hold.state != "open":
        raise Conflict(f"The approval {hold.id} is {hold.state} already.")
    if hold.auto_deny and hold.expires_at_us <= tx.now_us:
        # Closing it here would be undone with the refusal; upkeep closes it.
        raise Conflict(f"The approval {hold.id} expired; an expired approval is a denial.")
    redeem_until = tx.now_us + REDEEM_WINDOW_US if command.approve else None
    seq = append(
        tx,
        LeafKind.VERDICT,
        {
            "hold": hold.id,
            "approve": command.approve,
            "by": command.by,
            "slice": hold.slice,
            "redeem_until": redeem_until,
        },
        run=hold.run,
        call=hold.call,
        agent=hold.agent,
        payloads=command.payloads,
    )
    tx.run(
        "UPDATE hold SET state = ?, decided_at = ?, decided_by = ?, redeem_until = ? WHERE id = ?",
        "approved" if command.approve else "denied",
        tx.now_us,
        command.by,
        redeem_until,
        hold.id,
    )
    if command.approve:
        tx.run("UPDATE call SET last_leaf = ? WHERE id = ?", seq, hold.call)
    else:
        _end_call(tx, hold.call, Code.APPROVAL_DENIED, seq)
    count_activity(tx, hold.run, open_holds=-1)
    decided = find_hold(tx, hold.id)
    assert decided is not None  # updated above
    return decided


def redeem(tx: Transaction, hold_id: str, record: CallRecord, decision: Decision) -> Refused | None:
    """Use an approval up, once, for exactly the call and rules that it was given for."""
    hold = find_hold(tx, hold_id)
    if hold is None or hold.state != "approved" or hold.call != record.call or hold.digest != record.digest:
        return Refused(
            Code.APPROVAL_EXPIRED, "The approval was used already or withdrawn.", "interlock:approval", recorded=False
        )
    if hold.slice != decision.slice:
        reason = "The rules for this tool changed since the approval; the call is held anew when it is sent again."
        close_hold(tx, hold, "void", "the rules for this tool changed")
        return Refused(Code.APPROVAL_EXPIRED, reason, "interlock:approval", recorded=True)
    if hold.redeem_until_us is None or hold.redeem_until_us <= tx.now_us:
        close_hold(tx, hold, "expired", "the approval was not used in time")
        return Refused(Code.APPROVAL_EXPIRED, "The approval was not used in time.", "interlock:approval", recorded=True)
    tx.run("UPDATE hold SET state = 'redeemed' WHERE id = ?", hold.id)
    return None


def close_hold(tx: Transaction, hold: Hold, state: HoldState, why: str) -> Hold:
    """End an open or approved hold that is not used; return it as it is then."""
    seq = append(
        tx,
        LeafKind.HOLD_CLOSED,
        {"hold": hold.id, "state": state, "why": why},
        run=hold.run,
        call=hold.call,
        agent=hold.agent,
    )
    tx.run("UPDATE hold SET state = ?, decided_at = ?, redeem_until = NULL WHERE id = ?", state, tx.now_us, hold.id)
    _end_call(tx, hold.call, Code.APPROVAL_EXPIRED, seq)
    if hold.state == "open":
        count_activity(tx, hold.run, open_holds=-1)
    return replace(hold, state=state, decided_at_us=tx.now_us, redeem_until_us=None, call_state="closed")


def _end_call(tx: Transaction, call: str, code: Code, seq: int) -> None:
    tx.run(
        "UPDATE call SET state = 'closed', code = ?, ended_at = ?, last_leaf = ? WHERE id = ? AND state = 'held'",
        str(code),
        tx.now_us,
        seq,
        call,
    )


def open_holds(tx: Transaction, where: str, *values: Any) -> list[Hold]:
    """Holds that are open or approved, and match a condition on `h` and `c`."""
    rows = tx.rows(
        f"SELECT {HOLD_COLUMNS} FROM {HOLD_TABLES} WHERE h.state IN ('open', 'approved') AND {where}", *values
    )
    return [hold_from_row(row) for row in rows]
