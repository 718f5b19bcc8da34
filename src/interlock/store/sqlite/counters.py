"""A run's counters inside a transaction: reserved with a permit, spent or released with its outcome."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.store.sqlite.writer import Transaction


def used(tx: Transaction, run: str, name: str) -> int:
    """Spent plus reserved."""
    row = tx.row("SELECT spent + reserved FROM counter WHERE run = ? AND name = ?", run, name)
    return int(row[0]) if row else 0


def reserve(tx: Transaction, run: str, amounts: Mapping[str, int]) -> None:
    """Reserve what a permitted call takes of each counter."""
    for name, amount in amounts.items():
        tx.run(
            "INSERT INTO counter (run, name, reserved) VALUES (?, ?, ?)"
            " ON CONFLICT (run, name) DO UPDATE SET reserved = reserved + excluded.reserved",
            run,
            name,
            amount,
        )


def release(tx: Transaction, run: str, amounts: Mapping[str, int], *, spend: bool) -> None:
    """End a reservation; what may have reached an upstream is spent."""
    for name, amount in amounts.items():
        tx.run(
            "UPDATE counter SET reserved = reserved - ?, spent = spent + ? WHERE run = ? AND name = ?",
            amount,
            amount if spend else 0,
            run,
            name,
        )
