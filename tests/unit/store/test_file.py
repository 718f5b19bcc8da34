"""The database file: made for us alone, migrated forward in steps, refused where it is not ours."""

from __future__ import annotations

import stat
from pathlib import Path

import apsw
import pytest

from interlock.core.errors import StoreRefused, StoreUnavailable
from interlock.store.sqlite import file
from interlock.store.sqlite.file import APPLICATION_ID, Database, open_reader, open_writer

SECOND_STEP = ("0002_more.sql", "CREATE TABLE more (x INTEGER) STRICT; INSERT INTO more VALUES (7);")


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "journal.db"


def _scripts() -> list[tuple[str, str]]:
    return file._migrations()  # pyright: ignore[reportPrivateUsage]


def _release_with(monkeypatch: pytest.MonkeyPatch, scripts: list[tuple[str, str]]) -> None:
    monkeypatch.setattr(file, "_migrations", lambda: scripts)


def _alter(path: Path, *statements: str) -> None:
    database = Database(path, readonly=False)
    for statement in statements:
        database.rows(statement)
    database.close()


def test_a_fresh_file_is_closed_to_others_and_carries_our_mark(path: Path) -> None:
    database = open_writer(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert database.value("PRAGMA application_id") == APPLICATION_ID
    assert database.value("PRAGMA user_version") == len(_scripts())
    assert database.value("PRAGMA journal_mode") == "wal"
    assert database.value("PRAGMA synchronous") == 2, "full: every commit is synced"
    names = [name for name, _ in _scripts()]
    assert [row[0] for row in database.rows("SELECT name FROM migration ORDER BY number")] == names
    database.close()


def test_opening_again_changes_nothing(path: Path) -> None:
    open_writer(path).close()
    before = path.read_bytes()
    open_writer(path).close()
    assert path.read_bytes() == before


def test_a_newer_release_adds_its_steps_and_keeps_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_writer(path).close()
    _alter(path, "INSERT INTO leaf VALUES (1, 2, 'started', NULL, NULL, NULL, x'7b7d')")
    _release_with(monkeypatch, [*_scripts(), SECOND_STEP])
    database = open_writer(path)
    assert database.value("PRAGMA user_version") == len(_scripts())
    assert database.value("SELECT x FROM more") == 7
    assert database.value("SELECT at FROM leaf") == 2
    database.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_writer(path).close()
    before = len(_scripts())
    broken = ("0002_broken.sql", "CREATE TABLE more (x INTEGER); INSERT INTO nowhere VALUES (1);")
    with monkeypatch.context() as patched:
        _release_with(patched, [*_scripts(), broken])
        with pytest.raises(StoreUnavailable):
            open_writer(path)
    database = open_writer(path)
    assert database.value("PRAGMA user_version") == before
    assert database.rows("SELECT name FROM sqlite_schema WHERE name = 'more'") == []
    database.close()


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    open_writer(path).close()
    _alter(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreRefused, match="schema 99"):
        open_writer(path)


def test_a_file_made_by_a_migration_that_has_changed_since_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_writer(path).close()
    [(name, text), *more] = _scripts()
    _release_with(monkeypatch, [(name, text + "-- innocent\n"), *more])
    with pytest.raises(StoreRefused, match=name):
        open_writer(path)


@pytest.mark.parametrize(
    "marks",
    [
        ("PRAGMA application_id = 1234", "PRAGMA user_version = 1"),
        ("PRAGMA application_id = 0", "PRAGMA user_version = 1"),
        ("PRAGMA application_id = 1234",),
        (),
    ],
    ids=["marked", "unmarked with a version", "marked without a version", "unmarked"],
)
def test_another_application_s_database_is_refused_and_left_alone(path: Path, marks: tuple[str, ...]) -> None:
    _alter(path, "CREATE TABLE theirs (x)", *marks)
    with pytest.raises(StoreRefused, match="another application"):
        open_writer(path)
    database = open_reader(path)
    assert database.rows("SELECT name FROM sqlite_schema") == [("theirs",)]
    assert database.value("PRAGMA journal_mode") == "delete"
    database.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, whatever its name says" * 200, b"SQLite format 3\0" + b"x" * 5000]
)
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreRefused, match="no usable database"):
        open_writer(path)
    assert path.read_bytes() == content


def test_a_place_where_nothing_can_be_written_is_said(folder: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_writer(folder / "nowhere" / "journal.db")


@pytest.mark.parametrize(
    ("version", "accepted"), [("3.51.2", False), ("3.40.1", False), ("3.51.3", True), ("4.0.0", True)]
)
def test_an_sqlite_that_loses_data_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: str, accepted: bool
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    if accepted:
        open_writer(path).close()
        return
    with pytest.raises(StoreRefused, match=version):
        open_writer(path)
    assert not path.exists()


def test_a_reader_cannot_write(path: Path) -> None:
    open_writer(path).close()
    reader = open_reader(path)
    with pytest.raises(apsw.ReadOnlyError):
        reader.rows("DELETE FROM leaf")
    reader.close()


def test_a_reader_makes_no_file(path: Path) -> None:
    with pytest.raises(apsw.CantOpenError):
        open_reader(path)
    assert not path.exists()


def test_a_script_runs_to_its_end(path: Path) -> None:
    database = open_writer(path)
    database.rows("CREATE TABLE one (x); INSERT INTO one VALUES (1); SELECT x FROM one; INSERT INTO one VALUES (2)")
    assert database.rows("SELECT x FROM one") == [(1,), (2,)]
    database.close()
