"""A call's row, and what its leaves say of it, inside a transaction."""

from __future__ import annotations

from interlock.core.canonical import JsonObject
from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.plane.commands import CallRecord, CallState
from interlock.store.sqlite.writer import Transaction


def insert_call(
    tx: Transaction,
    record: CallRecord,
    decision: Decision,
    state: CallState,
    seq: int,
    *,
    executor: str | None = None,
    lease: int | None = None,
    amounts: str = "{}",
) -> None:
    """Write the row of a call that is denied, held or permitted.

    Args:
        tx: The transaction.
        record: The call.
        decision: Its first rule is the one that the row names.
        state: Where the call starts.
        seq: Sequence of its leaf.
        executor: Who executes it; with a permit only.
        lease: Until when its outcome is awaited, in microseconds; with a permit only.
        amounts: What it reserves, by counter, as JSON text.
    """
    tx.run(
        "INSERT INTO call (id, run, agent, upstream, tool, digest, state, code, rule, ring, opened_at, ended_at,"
        " first_leaf, permit_leaf, last_leaf, executor, lease_until, amounts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        record.call,
        record.run,
        record.agent,
        record.upstream,
        record.tool,
        record.digest,
        state,
        code_text(decision.code),
        decision.rules[0].id,
        record.ring,
        tx.now_us,
        tx.now_us if state == "denied" else None,
        seq,
        seq if state == "permitted" else None,
        seq,
        executor,
        lease,
        amounts,
    )


def decision_fields(record: CallRecord, decision: Decision) -> JsonObject:
    """What a leaf says of a call and the decision on it."""
    return {
        "upstream": record.upstream,
        "tool": record.tool,
        "pin": record.pin or None,
        "ring": record.ring,
        "verdict": decision.verdict,
        "code": code_text(decision.code),
        "rules": [rule.id for rule in decision.rules],
        "bundle": decision.bundle or None,
        "slice": decision.slice or None,
    }


def code_text(code: Code | None) -> str | None:
    return str(code) if code else None
