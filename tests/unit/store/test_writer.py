"""The one writer: batches with one commit, commands that fail alone, and what a broken disk does."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw
import pytest

from interlock.core.errors import StoreUnavailable
from interlock.core.journal.leaf import LeafKind
from interlock.store.sqlite import writer as writer_module
from interlock.store.sqlite.file import Database, open_reader
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.writer import MAX_BATCH, Transaction, Writer
from support.clock import SetClock


def _nothing(_tx: Transaction) -> None:
    pass


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def writer(folder: Path, clock: SetClock) -> Iterator[Writer]:
    found = Writer(folder / "journal.db", clock, _nothing)
    yield found
    found.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that the database is asked to run."""
    seen: list[str] = []
    rows = Database.rows

    def recorded(self: Database, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        seen.append(sql)
        return rows(self, sql, values)

    monkeypatch.setattr(Database, "rows", recorded)
    return seen


def _note(tx: Transaction) -> int:
    return append(tx, LeafKind.STARTED, {})


def _sequence(folder: Path) -> list[int]:
    database = open_reader(folder / "journal.db")
    found = [row[0] for row in database.rows("SELECT seq FROM leaf ORDER BY seq")]
    database.close()
    return found


class Gate:
    """A command that keeps the writer busy until the test lets it go on."""

    def __init__(self) -> None:
        self._entered, self._open = threading.Event(), threading.Event()

    def __call__(self, tx: Transaction) -> int:
        self._entered.set()
        assert self._open.wait(30)
        return _note(tx)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 30)

    def open(self) -> None:
        self._open.set()


async def _behind_a_gate(writer: Writer, *commands: Any) -> list[Any]:
    """Run commands that all came while the writer was busy, so that they form one batch."""
    gate = Gate()
    first = asyncio.create_task(writer.submit(gate))
    await gate.reached()
    waiting = [asyncio.create_task(writer.submit(command)) for command in commands]
    await asyncio.sleep(0)  # every task hands in its command
    gate.open()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


# Batches --------------------------------------------------------------------------------------------


async def test_commands_that_wait_together_are_committed_together(
    writer: Writer, folder: Path, statements: list[str]
) -> None:
    answers = await _behind_a_gate(writer, *[_note] * 100)
    assert answers == list(range(2, 102))
    assert statements.count("COMMIT") == 2, "one for the command that kept it busy, one for all the others"
    assert _sequence(folder) == list(range(1, 102))


async def test_a_batch_is_bounded(writer: Writer, statements: list[str]) -> None:
    await _behind_a_gate(writer, *[_note] * (MAX_BATCH + 1))
    assert statements.count("COMMIT") == 3


async def test_nobody_is_answered_before_the_commit(
    writer: Writer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, committing, go_on = Database.rows, threading.Event(), threading.Event()

    def slow(self: Database, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if sql == "COMMIT":
            committing.set()
            assert go_on.wait(30)
        return rows(self, sql, values)

    monkeypatch.setattr(Database, "rows", slow)
    answer = asyncio.create_task(writer.submit(_note))
    assert await asyncio.to_thread(committing.wait, 30)
    assert not answer.done()
    go_on.set()
    assert await answer == 1
    assert _sequence(folder) == [1]


async def test_a_command_that_raises_is_undone_alone(writer: Writer, folder: Path) -> None:
    def fails(tx: Transaction) -> None:
        _note(tx)
        _note(tx)
        raise KeyError("mine")

    one, failed, two = await _behind_a_gate(writer, _note, fails, _note)
    assert (one, two) == (2, 3)
    assert isinstance(failed, KeyError)
    assert _sequence(folder) == [1, 2, 3]


async def test_a_caller_that_went_away_does_not_disturb_the_others(writer: Writer, folder: Path) -> None:
    gate = Gate()
    first = asyncio.create_task(writer.submit(gate))
    await gate.reached()
    gone, stays = asyncio.create_task(writer.submit(_note)), asyncio.create_task(writer.submit(_note))
    await asyncio.sleep(0)
    gone.cancel()
    gate.open()
    assert await stays == 3
    assert gone.cancelled()
    await first
    assert _sequence(folder) == [1, 2, 3]


def test_a_loop_that_is_gone_does_not_stop_the_writer(writer: Writer, folder: Path) -> None:
    gate = Gate()

    async def leave() -> None:
        task = asyncio.create_task(writer.submit(gate))
        await gate.reached()
        task.cancel()

    asyncio.run(leave())
    gate.open()

    async def come() -> int:
        return await writer.submit(_note)

    assert asyncio.run(come()) == 2
    assert _sequence(folder) == [1, 2]


async def test_each_command_sees_the_time_at_which_it_runs(writer: Writer, clock: SetClock) -> None:
    def now(tx: Transaction) -> int:
        return tx.now_us

    start = clock.now_us()
    assert await writer.submit(now) == start
    clock.advance(3)
    assert await writer.submit(now) == start + 3_000_000
    clock.set_back(2)
    assert await writer.submit(now) == start + 3_000_000, "time does not go back"


# Closing --------------------------------------------------------------------------------------------


async def test_closing_finishes_what_was_handed_in(folder: Path, clock: SetClock) -> None:
    writer = Writer(folder / "journal.db", clock, _nothing)
    gate = Gate()
    tasks = [asyncio.create_task(writer.submit(command)) for command in (gate, _note, _note)]
    await gate.reached()
    gate.open()
    await asyncio.to_thread(writer.close)
    assert await asyncio.gather(*tasks) == [1, 2, 3]


async def test_a_command_after_the_end_is_refused_instead_of_waiting_for_ever(folder: Path, clock: SetClock) -> None:
    writer = Writer(folder / "journal.db", clock, _nothing)
    writer.close()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(1):
            await writer.submit(_note)


# Failures of the disk -------------------------------------------------------------------------------


def _breaks(error: type[apsw.Error]) -> Any:
    def command(tx: Transaction) -> None:
        _note(tx)
        raise error("it broke")

    return command


@pytest.fixture
def _reopens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_REOPEN_AFTER_S", 0.0)


async def test_a_disk_that_fails_fails_the_whole_batch_and_nothing_of_it_stays(writer: Writer, folder: Path) -> None:
    answers = await _behind_a_gate(writer, _note, _breaks(apsw.IOError), _note)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert _sequence(folder) == [1]
    assert writer.problem is not None


@pytest.mark.usefixtures("_reopens_at_once")
async def test_after_a_failed_sync_only_a_restart_goes_on(writer: Writer, folder: Path) -> None:
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="restart") as failed:
            await writer.submit(_breaks(apsw.IOError))
        assert failed.value.code == "store_unavailable"
    assert writer.problem is not None
    assert _sequence(folder) == []


@pytest.mark.parametrize("error", [apsw.FullError, apsw.ReadOnlyError, apsw.BusyError, apsw.CantOpenError])
@pytest.mark.usefixtures("_reopens_at_once")
async def test_the_writer_goes_on_by_itself_where_the_file_is_sound(
    writer: Writer, folder: Path, error: type[apsw.Error]
) -> None:
    await writer.submit(_note)
    with pytest.raises(StoreUnavailable, match="by itself"):
        await writer.submit(_breaks(error))
    assert writer.problem is not None
    assert await writer.submit(_note) == 2
    assert writer.problem is None
    assert _sequence(folder) == [1, 2]


@pytest.mark.usefixtures("_reopens_at_once")
async def test_a_really_full_database_denies_and_recovers(writer: Writer, folder: Path) -> None:
    await writer.submit(_note)

    def fills(tx: Transaction) -> None:
        tx.run("PRAGMA max_page_count = 1")  # no more pages than there are
        _note(tx)
        tx.run("INSERT INTO bundle VALUES ('x', zeroblob(10000000), 1)")

    with pytest.raises(StoreUnavailable, match="full"):
        await writer.submit(fills)
    assert _sequence(folder) == [1]
    assert await writer.submit(_note) == 2


async def test_a_failing_writer_tries_the_disk_once_a_second_and_not_at_every_call(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable):
        await writer.submit(_breaks(apsw.FullError))
    opened: list[Path] = []

    def refuses(path: Path, **_: bool) -> Database:
        opened.append(path)
        raise StoreUnavailable("still full")

    monkeypatch.setattr(writer_module, "open_writer", refuses)
    time = [1000.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(writer, "_failed_at", time[0])
    tries: list[int] = []
    for later in (0.5, 0.49, 0.01, 0.5, 0.5):
        time[0] += later
        with pytest.raises(StoreUnavailable):
            await writer.submit(_note)
        tries.append(len(opened))
    assert tries == [0, 0, 1, 1, 2]


@pytest.mark.usefixtures("_reopens_at_once")
async def test_a_writer_that_recovers_does_not_begin_an_empty_journal(writer: Writer, folder: Path) -> None:
    """Where the file is gone (an unmounted volume, say), what was acknowledged is gone with it: that is no recovery."""
    await writer.submit(_note)
    with pytest.raises(StoreUnavailable):
        await writer.submit(_breaks(apsw.CantOpenError))
    _empty(folder)
    with pytest.raises(StoreUnavailable):
        await writer.submit(_note)
    assert not (folder / "journal.db").exists()


@pytest.mark.usefixtures("_reopens_at_once")
async def test_a_writer_does_not_go_on_with_a_journal_that_lacks_what_was_acknowledged(
    writer: Writer, folder: Path, clock: SetClock
) -> None:
    await writer.submit(_note)
    with pytest.raises(StoreUnavailable):
        await writer.submit(_breaks(apsw.CantOpenError))
    _empty(folder)
    Writer(folder / "journal.db", clock, _nothing).close()
    with pytest.raises(StoreUnavailable, match="lacks"):
        await writer.submit(_note)
    assert "lacks" in str(writer.problem)
    assert _sequence(folder) == []


async def test_whatever_breaks_in_the_writer_is_said_and_nobody_waits_for_ever(folder: Path, clock: SetClock) -> None:
    def breaks(_tx: Transaction) -> None:
        raise ZeroDivisionError

    writer = Writer(folder / "journal.db", clock, breaks)
    await writer.submit(_note)
    clock.set_back(60)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="restart"):
            async with asyncio.timeout(30):
                await writer.submit(_note)
    assert writer.problem is not None
    await asyncio.to_thread(writer.close)
    assert _sequence(folder) == [1]


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


async def test_a_failing_writer_keeps_nothing_of_the_calls_it_denies(writer: Writer) -> None:
    """One error object for everybody would collect the frames, and so the requests, of all of them."""
    with pytest.raises(StoreUnavailable):
        await writer.submit(_breaks(apsw.IOError))

    async def denied() -> int:
        with pytest.raises(StoreUnavailable) as failed:
            await writer.submit(_note)
        return _length(failed.value.__traceback__)

    lengths = [await denied() for _ in range(5)]
    assert len(set(lengths)) == 1, lengths


def _length(traceback: TracebackType | None) -> int:
    count = 0
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


# Others at the file -----------------------------------------------------------------------------------


async def _write(writer: Writer) -> None:
    await writer.submit(_nothing)


@pytest.mark.parametrize("how", ["removed", "replaced", "removed with its folder"])
async def test_nothing_is_acknowledged_that_a_removed_file_would_take_with_it(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    writer = Writer(folder / "journal.db", SetClock(), _nothing)
    try:
        await _write(writer)
        if how == "replaced":
            shutil.copy(folder / "journal.db", folder / "copy")
            (folder / "copy").replace(folder / "journal.db")
        elif how == "removed":
            (folder / "journal.db").unlink()
        else:
            shutil.rmtree(folder)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="the file was re"):
                await _write(writer)
        assert writer.problem is not None
    finally:
        writer.close()


async def test_a_second_writer_is_noticed_and_nothing_more_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writer = Writer(path, SetClock(), _nothing)
    other = apsw.Connection(str(path))
    try:
        await _write(writer)
        other.execute("CREATE TABLE foreign_table (x)").fetchall()
        with pytest.raises(StoreUnavailable, match="another process writes to the file"):
            await _write(writer)
        assert writer.problem is not None
    finally:
        other.close()
        writer.close()
