"""Appending to the journal, inside somebody's transaction."""

from __future__ import annotations

from interlock.core.canonical import JsonObject
from interlock.core.journal.leaf import LeafKind, Payload, leaf_bytes
from interlock.store.sqlite.writer import Transaction


def append(
    tx: Transaction,
    kind: LeafKind,
    fields: JsonObject,
    *,
    run: str | None = None,
    call: str | None = None,
    agent: str | None = None,
    payloads: tuple[Payload, ...] = (),
) -> int:
    """Write one leaf and its payloads; return its sequence.

    A leaf of a run points back at the run's previous leaf, so that one run can be followed alone.
    """
    seq = tx.next_seq
    previous: int | None = None
    if run is not None:
        found = tx.row("SELECT seq FROM leaf WHERE run = ? ORDER BY seq DESC LIMIT 1", run)
        previous = int(found[0]) if found else 0
    body = leaf_bytes(kind, seq, tx.now_us, {**fields, "run": run, "call": call, "agent": agent}, payloads, previous)
    tx.run("INSERT INTO leaf VALUES (?, ?, ?, ?, ?, ?, ?)", seq, tx.now_us, str(kind), run, call, agent, body)
    for payload in payloads:
        tx.run("INSERT INTO payload VALUES (?, ?, ?)", seq, payload.name, payload.sealed)
    tx.next_seq = seq + 1
    return seq
