"""Opening the database file: the library's version, pragmas, ownership and migrations."""

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path
from typing import Any, Final

import apsw

from interlock.core.errors import StoreRefused, StoreUnavailable

MINIMUM_SQLITE: Final = (3, 51, 3)
"""Earlier versions can corrupt the database when the write-ahead log is reset under a reader."""
APPLICATION_ID: Final = 0x49_4C_4B_31  # "ILK1"


def check_library() -> None:
    """Refuse an SQLite that is known to lose data."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < MINIMUM_SQLITE:
        wanted = ".".join(map(str, MINIMUM_SQLITE))
        raise StoreRefused(
            f"SQLite {apsw.sqlite_lib_version()} has a known data-loss defect; at least {wanted} is needed.",
            remedy="Install the locked `apsw`, which brings its own SQLite.",
        )


class Database:
    """One connection. A thin shell over apsw, whose own type stubs are incomplete."""

    def __init__(self, path: Path, *, readonly: bool, create: bool = True) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
        if create and not readonly:
            flags |= apsw.SQLITE_OPEN_CREATE
        self._connection: Any = apsw.Connection(str(path), flags=flags)
        self._connection.set_busy_timeout(2000)
        self._path = path
        self._file = (0, 0)
        self._version = 0

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, or a script without values, to its end."""
        # .fetchall(): apsw stops at the first row otherwise, and a script after its first statement.
        found: list[tuple[Any, ...]] = self._connection.execute(sql, values or None).fetchall()
        return found

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def watch(self) -> None:
        """Remember the file as it is now, for `interference`."""
        status = self._path.stat()
        self._file = (status.st_dev, status.st_ino)
        self._version = int(self.value("PRAGMA data_version"))

    def interference(self) -> str | None:
        """What others did to the file since `watch`; None if only this connection wrote to it.

        SQLite goes on writing to a file that was removed: what is committed there is lost with the process.
        """
        try:
            status = self._path.stat()
        except OSError:
            return "the file was removed"
        if (status.st_dev, status.st_ino) != self._file:
            return "the file was replaced"
        # Changes with what other connections write, a checkpoint that empties the log among it.
        return None if self.value("PRAGMA data_version") == self._version else "another process writes to the file"

    def rollback(self) -> None:
        if not self._connection.getautocommit():
            self.rows("ROLLBACK")

    def close(self) -> None:
        self._connection.close(True)


def open_writer(path: Path, *, create: bool = True) -> Database:
    """Open the file for the one writer, durable on every commit.

    Args:
        path: The database file.
        create: Whether to make it where it does not exist.

    Raises:
        StoreRefused: it is not this plane's database, or not one that this release can use.
        StoreUnavailable: it cannot be opened for writing.
    """
    check_library()
    try:
        created = create and not path.exists()
        database = Database(path, readonly=False, create=create)
        try:
            if created:
                path.chmod(0o600)
            _prepare(database)
            database.watch()
        except BaseException:
            database.close()
            raise
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreRefused(f"{path} is no usable database ({error}).", remedy="Restore a backup.") from error
    except apsw.Error as error:
        raise StoreUnavailable(
            f"The database {path} cannot be opened for writing ({error}).",
            remedy="Check free space, permissions and mount options.",
        ) from error
    return database


def open_reader(path: Path) -> Database:
    """Open the file for queries."""
    return Database(path, readonly=True)


def _prepare(database: Database) -> None:
    _check_ours(database)
    database.rows("PRAGMA journal_mode = wal")
    # FULL: a commit returns after the log was synced; what was acknowledged survives power loss (I10).
    database.rows("PRAGMA synchronous = full")
    database.rows("PRAGMA wal_autocheckpoint = 1000")
    _migrate(database)


def _check_ours(database: Database) -> None:
    """Refuse whatever is neither ours nor empty, before anything is written to it."""
    mark = database.value("PRAGMA application_id")
    used = mark or database.value("PRAGMA user_version") or database.value("SELECT count(*) FROM sqlite_schema")
    if used and mark != APPLICATION_ID:
        raise StoreRefused("The file is another application's database.", remedy="Choose another data_dir.")


def _migrate(database: Database) -> None:
    scripts: list[tuple[str, str]] = _migrations()
    version = int(database.value("PRAGMA user_version"))
    if version > len(scripts):
        raise StoreRefused(
            f"The database has schema {version}; this release knows {len(scripts)}.",
            remedy="Start the newer release, or restore the backup from before the upgrade.",
        )
    for number, (name, text) in enumerate(scripts[version:], start=version + 1):
        database.rows("BEGIN IMMEDIATE")
        try:
            database.rows(text)
            database.rows(
                "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT, checksum TEXT) STRICT"
            )
            database.rows("INSERT INTO migration VALUES (?, ?, ?)", (number, name, _checksum(text)))
            database.rows(f"PRAGMA user_version = {number}")
            database.rows(f"PRAGMA application_id = {APPLICATION_ID}")
            database.rows("COMMIT")
        except BaseException:
            database.rollback()
            raise
    for number, name, checksum in database.rows("SELECT number, name, checksum FROM migration ORDER BY number"):
        if _checksum(scripts[int(number) - 1][1]) != checksum:
            raise StoreRefused(
                f"Migration {name} differs from the one that made this database.",
                remedy="Use the release that made it; released migrations never change.",
            )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _migrations() -> list[tuple[str, str]]:
    folder = importlib.resources.files("interlock.store.sqlite") / "migrations"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(name, str((folder / name).read_text("utf-8"))) for name in names]
