"""The environments that the infrastructure example runs, and their history, in the server's own SQLite database.

Names are compared byte for byte: no spelling of "production" but the one that policies name reaches it.
"""

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mcp.server.mcpserver.exceptions import ToolError
from typing_extensions import TypedDict  # pydantic refuses typing's before Python 3.12

_BUSY_TIMEOUT_S: Final = 30.0
_SERVICES: Final = ("database", "gateway", "inventory", "payments")
_SEEDED_AT: Final = "2026-01-05T08:00:00+00:00"
_SCHEMA: Final = """
CREATE TABLE environments (name TEXT PRIMARY KEY, created_at TEXT NOT NULL) STRICT;
CREATE TABLE services (
    environment TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'failing', 'provisioning')),
    restarts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (environment, name)
) STRICT;
CREATE TABLE settings (
    environment TEXT NOT NULL REFERENCES environments ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (environment, key)
) STRICT;
-- What was done to environments; it outlives them.
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    environment TEXT NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('created', 'deleted', 'restarted', 'configured')),
    detail TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
-- Every tools/call that reached the server, written before anything is done about it.
CREATE TABLE calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    received_at TEXT NOT NULL
) STRICT;
"""


class Service(TypedDict):
    """One service of an environment: running, failing or provisioning."""

    name: str
    status: str
    restarts: int


class Event(TypedDict):
    """Something that was done to an environment."""

    number: int
    operation: str
    detail: str
    at: str


class EnvironmentSummary(TypedDict):
    """One environment in a list."""

    environment: str
    status: str
    services: int


class Environments(TypedDict):
    """Every environment that exists."""

    environments: list[EnvironmentSummary]


class Environment(TypedDict):
    """One environment; its history also tells of earlier ones with the same name."""

    environment: str
    status: str
    created_at: str
    services: list[Service]
    settings: dict[str, str]
    history: list[Event]


class Restarted(TypedDict):
    """A restarted service."""

    environment: str
    service: str
    previous_status: str
    status: str


class Applied(TypedDict):
    """The settings of an environment after a change."""

    environment: str
    settings: dict[str, str]


class Deleted(TypedDict):
    """What a deletion took away."""

    environment: str
    deleted_services: int


def _seed(path: Path) -> None:
    """Make the database whole before anyone can open it; the first of several servers wins."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        fresh = Path(scratch) / "seed.db"
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
            for name in ("production", "staging"):
                _create(connection, name, "running", _SEEDED_AT)
                connection.execute("INSERT INTO settings VALUES (?, 'log_level', 'info')", (name,))
            # The trouble that the example's agent is sent to fix: one service, nothing more.
            connection.execute(
                "UPDATE services SET status = 'failing' WHERE environment = 'production' AND name = 'payments'"
            )
            connection.execute("COMMIT")
        try:
            os.link(fresh, path)
        except FileExistsError:
            return


def _create(connection: sqlite3.Connection, environment: str, status: str, at: str) -> None:
    connection.execute("INSERT INTO environments VALUES (?, ?)", (environment, at))
    for service in _SERVICES:
        connection.execute(
            "INSERT INTO services (environment, name, status) VALUES (?, ?, ?)", (environment, service, status)
        )
    _record(connection, environment, "created", f"{len(_SERVICES)} services {status}", at)


def _record(connection: sqlite3.Connection, environment: str, operation: str, detail: str, at: str) -> None:
    connection.execute(
        "INSERT INTO history (environment, operation, detail, at) VALUES (?, ?, ?, ?)",
        (environment, operation, detail, at),
    )


class Infrastructure:
    """The environments. Several processes may use the same file; within one, calls take turns."""

    def __init__(self, path: Path) -> None:
        _seed(path)
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

    def note_call(self, tool: str, arguments: Mapping[str, object]) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO calls (tool, arguments, received_at) VALUES (?, ?, ?)",
                (tool, json.dumps(arguments, sort_keys=True), _now()),
            )

    def list_all(self) -> Environments:
        with self._transaction() as connection:
            names = [row["name"] for row in connection.execute("SELECT name FROM environments ORDER BY name")]
            summaries: list[EnvironmentSummary] = []
            for name in names:
                services = _services(connection, name)
                summaries.append(
                    EnvironmentSummary(environment=name, status=_status_of(services), services=len(services))
                )
        return Environments(environments=summaries)

    def describe(self, environment: str) -> Environment:
        with self._transaction() as connection:
            created_at = _existing(connection, environment)
            services = _services(connection, environment)
            history = connection.execute(
                "SELECT number, operation, detail, at FROM history WHERE environment = ? ORDER BY number",
                (environment,),
            ).fetchall()
            return Environment(
                environment=environment,
                status=_status_of(services),
                created_at=created_at,
                services=services,
                settings=_settings(connection, environment),
                history=[
                    Event(number=row["number"], operation=row["operation"], detail=row["detail"], at=row["at"])
                    for row in history
                ],
            )

    def restart(self, environment: str, service: str) -> Restarted:
        with self._transaction() as connection:
            _existing(connection, environment)
            found = {known["name"]: known["status"] for known in _services(connection, environment)}
            if service not in found:
                raise ToolError(f"{environment} has no service {service!r}; it has {', '.join(found)}")
            connection.execute(
                "UPDATE services SET status = 'running', restarts = restarts + 1 WHERE environment = ? AND name = ?",
                (environment, service),
            )
            _record(connection, environment, "restarted", service, _now())
        return Restarted(environment=environment, service=service, previous_status=found[service], status="running")

    def configure(self, environment: str, settings: Mapping[str, str]) -> Applied:
        with self._transaction() as connection:
            _existing(connection, environment)
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(environment, key, value) for key, value in settings.items()],
            )
            _record(connection, environment, "configured", ", ".join(sorted(settings)), _now())
            return Applied(environment=environment, settings=_settings(connection, environment))

    def delete(self, environment: str) -> Deleted:
        with self._transaction() as connection:
            _existing(connection, environment)
            services = len(_services(connection, environment))
            connection.execute("DELETE FROM environments WHERE name = ?", (environment,))
            _record(connection, environment, "deleted", f"{services} services and all their data", _now())
        return Deleted(environment=environment, deleted_services=services)

    def create(self, environment: str) -> EnvironmentSummary:
        """New services come up empty and take their time; what a deletion took does not come back."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM environments WHERE name = ?", (environment,)).fetchone():
                raise ToolError(f"the environment {environment!r} exists already")
            _create(connection, environment, "provisioning", _now())
        return EnvironmentSummary(environment=environment, status="provisioning", services=len(_SERVICES))


def _existing(connection: sqlite3.Connection, environment: str) -> str:
    """When the environment was created; refuses one that does not exist."""
    row = connection.execute("SELECT created_at FROM environments WHERE name = ?", (environment,)).fetchone()
    if row is None:
        raise ToolError(f"there is no environment {environment!r}")
    return row["created_at"]


def _services(connection: sqlite3.Connection, environment: str) -> list[Service]:
    rows = connection.execute(
        "SELECT name, status, restarts FROM services WHERE environment = ? ORDER BY name", (environment,)
    ).fetchall()
    return [Service(name=row["name"], status=row["status"], restarts=row["restarts"]) for row in rows]


def _settings(connection: sqlite3.Connection, environment: str) -> dict[str, str]:
    rows = connection.execute("SELECT key, value FROM settings WHERE environment = ? ORDER BY key", (environment,))
    return {row["key"]: row["value"] for row in rows}


def _status_of(services: list[Service]) -> str:
    """The worst of its services."""
    present = {service["status"] for service in services}
    return next((status for status in ("failing", "provisioning") if status in present), "running")


def _now() -> str:
    return datetime.now(UTC).isoformat()
