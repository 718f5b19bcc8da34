"""What the customer-operations tools do, each as one transaction on the server's own SQLite database."""

import json
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NotRequired

from mcp.server.mcpserver.exceptions import ToolError
from seed import STATUSES, ensure_database
from typing_extensions import TypedDict  # pydantic refuses typing's before Python 3.12

_BUSY_TIMEOUT_S: Final = 30.0


class Order(TypedDict):
    """One order of a customer."""

    order_id: str
    placed_on: str
    item: str
    total_cents: int
    status: str


class ContactInfo(TypedDict):
    """How to reach a customer."""

    email: str
    phone: str


class PaymentCard(TypedDict):
    """The card on file, unmasked."""

    number: str
    expiry: str


class CustomerRecord(TypedDict):
    """One customer; fields that were not asked for are left out."""

    customer_id: str
    order_history: NotRequired[list[Order]]
    contact_info: NotRequired[ContactInfo]
    payment_card: NotRequired[PaymentCard]
    internal_notes: NotRequired[list[str]]
    credit_score: NotRequired[int]


FIELDS: Final = tuple(CustomerRecord.__annotations__)


class StatusChange(TypedDict):
    """What happened to one order."""

    order_id: str
    previous_status: str
    new_status: str


class StatusUpdate(TypedDict):
    """What an update of order statuses changed."""

    updated: int
    changes: list[StatusChange]


class RecentOrder(Order):
    """One order with whose it is."""

    customer_id: str
    customer_name: str


class RecentOrders(TypedDict):
    """Orders, newest first."""

    orders: list[RecentOrder]


class MailWritten(TypedDict):
    """How many messages were put into the outbox."""

    written: int


class CustomerDeleted(TypedDict):
    """What a deletion took away."""

    customer_id: str
    deleted_orders: int


class RawPayment(TypedDict):
    """The card on file, unmasked, with whose it is."""

    customer_id: str
    payment_card: PaymentCard


class Records:
    """The database. Several processes may use the same file; within one, calls take turns."""

    def __init__(self, path: Path) -> None:
        ensure_database(path)
        self._turn = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        # A killed process loses nothing with NORMAL in WAL mode; only a power cut could.
        self._connection.executescript("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """All or nothing. The write lock is taken at once: one taken halfway could fail instead of waiting."""
        with self._turn:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, parameters: Sequence[str | int]) -> list[sqlite3.Row]:
        with self._turn:
            return self._connection.execute(query, parameters).fetchall()

    def note_call(self, tool: str, arguments: Mapping[str, object]) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO calls (tool, arguments, received_at) VALUES (?, ?, ?)",
                (tool, json.dumps(arguments, sort_keys=True), _now()),
            )

    def read(self, customer_id: str, fields: Sequence[str] | None) -> CustomerRecord:
        asked = set(FIELDS if fields is None else fields)
        if unknown := asked.difference(FIELDS):
            raise ToolError(f"no such field: {', '.join(sorted(unknown))}; fields are {', '.join(FIELDS)}")
        row = self._customer(customer_id)
        record = CustomerRecord(customer_id=customer_id)
        if "order_history" in asked:
            orders = self._rows("SELECT * FROM orders WHERE customer_id = ? ORDER BY order_id", (customer_id,))
            record["order_history"] = [_order(order) for order in orders]
        if "contact_info" in asked:
            record["contact_info"] = ContactInfo(email=row["email"], phone=row["phone"])
        if "payment_card" in asked:
            record["payment_card"] = _card(row)
        if "internal_notes" in asked:
            record["internal_notes"] = json.loads(row["internal_notes"])
        if "credit_score" in asked:
            record["credit_score"] = row["credit_score"]
        return record

    def raw_payment(self, customer_id: str) -> RawPayment:
        return RawPayment(customer_id=customer_id, payment_card=_card(self._customer(customer_id)))

    def recent_orders(self, limit: int, status: str | None) -> RecentOrders:
        if status is not None:
            _check_status(status)
        rows = self._rows(
            "SELECT orders.*, name FROM orders JOIN customers USING (customer_id)"
            " WHERE ?1 = '' OR status = ?1 ORDER BY placed_on DESC, order_id LIMIT ?2",
            (status or "", limit),
        )
        return RecentOrders(
            orders=[
                RecentOrder(**_order(row), customer_id=row["customer_id"], customer_name=row["name"]) for row in rows
            ]
        )

    def update_status(self, order_ids: Sequence[str], status: str) -> StatusUpdate:
        """Write every item of the list, also a repeated or unchanged one, so that the audit counts items."""
        _check_status(status)
        changes: list[StatusChange] = []
        with self._transaction() as connection:
            for order_id in order_ids:
                row = connection.execute("SELECT status FROM orders WHERE order_id = ?", (order_id,)).fetchone()
                if row is None:
                    raise ToolError(f"no order {order_id!r}; no order was changed")
                connection.execute("UPDATE orders SET status = ? WHERE order_id = ?", (status, order_id))
                connection.execute(
                    "INSERT INTO audit_of_changes (order_id, previous_status, new_status, changed_at)"
                    " VALUES (?, ?, ?, ?)",
                    (order_id, row["status"], status, _now()),
                )
                changes.append(StatusChange(order_id=order_id, previous_status=row["status"], new_status=status))
        return StatusUpdate(updated=len(changes), changes=changes)

    def write_mail(self, recipients: Sequence[str], subject: str, body: str) -> MailWritten:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO outbox (recipient, subject, body, written_at) VALUES (?, ?, ?, ?)",
                [(recipient, subject, body, _now()) for recipient in recipients],
            )
        return MailWritten(written=len(recipients))

    def write_bulk_mail(self, segment: str, subject: str, body: str) -> MailWritten:
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO outbox (recipient, subject, body, written_at)"
                " SELECT email, ?2, ?3, ?4 FROM customers WHERE ?1 = 'everyone' OR segment = ?1 ORDER BY customer_id",
                (segment, subject, body, _now()),
            )
            return MailWritten(written=cursor.rowcount)

    def delete(self, customer_id: str) -> CustomerDeleted:
        with self._transaction() as connection:
            orders = connection.execute("DELETE FROM orders WHERE customer_id = ?", (customer_id,)).rowcount
            if connection.execute("DELETE FROM customers WHERE customer_id = ?", (customer_id,)).rowcount == 0:
                raise ToolError(f"no customer {customer_id!r}")
        return CustomerDeleted(customer_id=customer_id, deleted_orders=orders)

    def _customer(self, customer_id: str) -> sqlite3.Row:
        rows = self._rows("SELECT * FROM customers WHERE customer_id = ?", (customer_id,))
        if not rows:
            raise ToolError(f"no customer {customer_id!r}; ids look like C-0042")
        return rows[0]


def _order(row: sqlite3.Row) -> Order:
    return Order(
        order_id=row["order_id"],
        placed_on=row["placed_on"],
        item=row["item"],
        total_cents=row["total_cents"],
        status=row["status"],
    )


def _card(row: sqlite3.Row) -> PaymentCard:
    return PaymentCard(number=row["card_number"], expiry=row["card_expiry"])


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise ToolError(f"{status!r} is not a status; statuses are {', '.join(STATUSES)}")


def _now() -> str:
    return datetime.now(UTC).isoformat()
