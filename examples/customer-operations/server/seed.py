"""The example's synthetic data: the same customers and orders on every machine, all of them made up."""

import json
import os
import random
import sqlite3
import tempfile
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Final

CUSTOMERS: Final = 3_000
STATUSES: Final = ("pending", "processing", "shipped", "delivered", "cancelled", "refunded")
SEGMENTS: Final = ("standard", "business", "trial")

_SCHEMA: Final = """
CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    segment TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT NOT NULL,
    card_number TEXT NOT NULL,
    card_expiry TEXT NOT NULL,
    credit_score INTEGER NOT NULL,
    internal_notes TEXT NOT NULL
) STRICT;
CREATE TABLE orders (
    order_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers ON DELETE CASCADE,
    placed_on TEXT NOT NULL,
    item TEXT NOT NULL,
    total_cents INTEGER NOT NULL,
    status TEXT NOT NULL
) STRICT;
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE INDEX orders_newest_first ON orders (placed_on DESC, order_id);
-- One row for every order that was really written, numbered in the order of the writes.
CREATE TABLE audit_of_changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL,
    previous_status TEXT NOT NULL,
    new_status TEXT NOT NULL,
    changed_at TEXT NOT NULL
) STRICT;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    written_at TEXT NOT NULL
) STRICT;
-- Every tools/call that reached the server, written before anything is done about it.
CREATE TABLE calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    received_at TEXT NOT NULL
) STRICT;
"""

_FIRST_DAY: Final = date(2025, 1, 1)
_ITEMS: Final = (
    "desk lamp",
    "notebook set",
    "office chair",
    "coffee grinder",
    "standing desk",
    "headphones",
    "backpack",
)
_NOTES: Final = (
    "Asked twice about late deliveries; offer a voucher only if they ask.",
    "Disputed a charge in the past, resolved in their favour.",
    "Prefers to be contacted in the morning.",
    "Flagged for manual review by the fraud desk.",
)


def ensure_database(path: Path) -> None:
    """Create and fill the database unless it exists.

    Several servers may start on one path at once, so each fills a file of its own and publishes it whole:
    `link` fails if another was first, and nobody ever opens half a database.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        fresh = Path(scratch) / "seed.db"
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
            _fill(connection)
            connection.execute("COMMIT")
        try:
            os.link(fresh, path)
        except FileExistsError:
            return


def _fill(connection: sqlite3.Connection) -> None:
    dice = random.Random(20260728)
    for number in range(1, CUSTOMERS + 1):
        customer = f"C-{number:04d}"
        connection.execute(
            "INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                customer,
                f"Customer {number:04d}",
                dice.choices(SEGMENTS, (7, 2, 1))[0],
                f"customer-{number:04d}@example.com",
                f"+1-{dice.randrange(201, 990)}-555-01{dice.randrange(100):02d}",
                _card_number(dice),
                f"{dice.randrange(1, 13):02d}/{dice.randrange(27, 33)}",
                dice.randrange(300, 851),
                json.dumps(dice.sample(_NOTES, dice.randrange(3))),
            ),
        )
        for order in range(1, dice.randrange(1, 4) + 1):
            connection.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)",
                (
                    f"O-{number:04d}-{order}",
                    customer,
                    (_FIRST_DAY + timedelta(days=dice.randrange(540))).isoformat(),
                    dice.choice(_ITEMS),
                    dice.randrange(500, 90_000),
                    dice.choices(STATUSES, (2, 3, 3, 8, 1, 1))[0],
                ),
            )


def _card_number(dice: random.Random) -> str:
    """A made-up number in a test range, with a valid check digit (ISO/IEC 7812-1) so that leak detectors know it."""
    digits = [4, 0, 0, 0, 0, 0, *(dice.randrange(10) for _ in range(9))]
    doubled = [sum(divmod(2 * digit, 10)) if index % 2 == 0 else digit for index, digit in enumerate(digits)]
    return "".join(map(str, [*digits, -sum(doubled) % 10]))
