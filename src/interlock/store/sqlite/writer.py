"""The one writer: a thread that runs commands in batches, one commit for each batch.

Callers await a future that resolves after the commit, so an answer means durable. Batches form by
themselves while a commit is being synced; waiting for more would only add latency (measured).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import apsw

from interlock.core.errors import InterlockError, StoreUnavailable
from interlock.plane.ports import Clock
from interlock.store.sqlite.file import Database, open_writer

_log = logging.getLogger("interlock.store")
T = TypeVar("T")
MAX_BATCH: Final = 256
_REOPEN_AFTER_S: Final = 1.0
_CLOCK_TOLERANCE_US: Final = 5_000_000

# After these the file itself is sound once the cause is gone; after any other error (a failed sync
# above all) nothing is known about what is on disk, and only a restart with its recovery may go on.
_RECOVERABLE: Final = (apsw.FullError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.BusyError, apsw.PermissionsError)
# These refuse one statement for what it says; the transaction and the file are as sound as before.
_REFUSED: Final = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError, apsw.SQLError)


class _Interference(Exception):
    """The file is not this plane's alone any more; what to do depends on what happened."""


class Transaction:
    """What a command sees while it runs: the connection, the time, and the next sequence."""

    def __init__(self, connection: Database, next_seq: int) -> None:
        self._connection = connection
        self.next_seq = next_seq
        self.now_us = 0
        self.clock_back_us = 0  # by how much the clock was found to have gone back just before this command

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.rows(sql, values)

    def row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        found = self._connection.rows(sql, values)
        return found[0] if found else None

    def run(self, sql: str, *values: Any) -> None:
        self._connection.rows(sql, values)


Command: TypeAlias = Callable[[Transaction], T]


@dataclass(slots=True)
class _Job:
    command: Command[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns the writing connection and the thread that uses it."""

    def __init__(self, path: Path, clock: Clock, on_clock_jump: Command[None]) -> None:
        """Open the file and start the thread.

        Args:
            path: The database file.
            clock: The store's clock.
            on_clock_jump: Runs before the first command after the clock went back by more than 5 s.
        """
        self._path, self._clock, self._on_clock_jump = path, clock, on_clock_jump
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: Database | None = open_writer(path)
        self._problem: StoreUnavailable | None = None
        self._recoverable = True
        self._failed_at = 0.0
        self._handing_in = threading.Lock()
        self._closed = False
        self._high_water_us, self._next_seq = self._read_position(self._connection)
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> StoreUnavailable | None:
        """Why nothing can be recorded at present; None while all is well."""
        return self._problem

    async def submit(self, command: Command[T]) -> T:
        """Run a command in the next batch; returns after its commit is durable.

        Raises:
            StoreUnavailable: nothing was written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        # Under a lock, so that nothing is queued behind the end and waits for ever.
        with self._handing_in:
            if self._closed:
                raise StoreUnavailable("The journal is closed.", remedy="The plane is stopping; start it again.")
            self._jobs.put(_Job(command, future, loop))
        return await future

    def close(self) -> None:
        """Finish what is queued and close the file; later commands are refused."""
        with self._handing_in:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        closing = False
        while not closing:
            batch: list[_Job] = []
            first = self._jobs.get()
            if first is None:
                break
            batch.append(first)
            while len(batch) < MAX_BATCH:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    closing = True
                    break
                batch.append(job)
            self._deliver(self._run(batch))
        if self._connection is not None:
            # The readers' connections are open, so closing alone would leave commits in the log beside the file.
            with contextlib.suppress(apsw.Error):
                self._connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    def _run(self, batch: list[_Job]) -> list[tuple[_Job, Any, BaseException | None]]:
        connection = self._usable_connection()
        if connection is None:
            return self._denied(batch)
        try:
            connection.rows("BEGIN IMMEDIATE")
            if (interference := connection.interference()) is not None:
                raise _Interference(interference)
            transaction = Transaction(connection, self._next_seq)
            answers = [self._run_one(connection, transaction, job) for job in batch]
            connection.rows("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever broke, a thread that ended would let every caller wait
            self._fail(error)
            return self._denied(batch)
        self._next_seq = transaction.next_seq
        return answers

    def _denied(self, batch: list[_Job]) -> list[tuple[_Job, Any, BaseException | None]]:
        """An error for each caller: one for all would keep the frames, and so the requests, of every one."""
        problem = self._problem
        assert problem is not None  # without a problem there is a connection
        return [(job, None, StoreUnavailable(problem.message, remedy=problem.remedy)) for job in batch]

    def _run_one(
        self, connection: Database, transaction: Transaction, job: _Job
    ) -> tuple[_Job, Any, BaseException | None]:
        """Run one command in its own savepoint: a command that raises leaves nothing behind."""
        now = self._clock.now_us()
        back = self._high_water_us - now
        # A small step back is smoothed over; a large one is taken as the new time and denies holds.
        transaction.clock_back_us = back if back > _CLOCK_TOLERANCE_US else 0
        transaction.now_us = now if transaction.clock_back_us else max(now, self._high_water_us)
        self._high_water_us = transaction.now_us
        if transaction.clock_back_us:
            _log.warning("the clock went back; what waits is denied", extra={"back_us": back})
            # Before the savepoint: it stands whatever becomes of the command that happened to meet it.
            self._on_clock_jump(transaction)
        seq = transaction.next_seq
        connection.rows("SAVEPOINT one")
        answer: Any = None
        problem: Exception | None = None
        try:
            answer = job.command(transaction)
        except _REFUSED as error:
            remedy = "The journal itself is sound; please report this."
            problem = StoreUnavailable(f"The command cannot be recorded ({error}).", remedy=remedy)
        except apsw.Error:
            raise  # the database, not the command: the whole batch fails
        except Exception as error:  # noqa: BLE001 - handed to the caller
            problem = error
        if problem is not None:
            connection.rows("ROLLBACK TO one")
            transaction.next_seq = seq
        connection.rows("RELEASE one")
        return job, answer, problem

    def _usable_connection(self) -> Database | None:
        """The connection, reopened after a recoverable failure once a second."""
        if self._problem is None:
            return self._connection
        if not self._recoverable or time.monotonic() - self._failed_at < _REOPEN_AFTER_S:
            return None
        self._failed_at = time.monotonic()
        try:
            self._connection = self._reopen()
        except InterlockError as error:
            self._problem = StoreUnavailable(error.message, remedy=error.remedy)
            return None
        except Exception:  # noqa: BLE001 - still failing; said once already
            return None
        self._problem = None
        return self._connection

    def _reopen(self) -> Database:
        """Open the same journal again: it must hold at least what was acknowledged (I10)."""
        connection = open_writer(self._path, create=False)
        try:
            connection.rows("BEGIN IMMEDIATE")
            connection.rows("CREATE TEMP TABLE IF NOT EXISTS probe (x)")
            connection.rows("COMMIT")
            high_water_us, next_seq = self._read_position(connection)
            if next_seq < self._next_seq:
                raise StoreUnavailable(
                    f"The database {self._path} lacks leaves that were acknowledged.",
                    remedy="Bring back the file (or volume) that the plane was started with.",
                )
        except BaseException:
            connection.close()
            raise
        self._high_water_us, self._next_seq = high_water_us, next_seq
        return connection

    def _fail(self, error: Exception) -> None:
        self._recoverable = isinstance(error, _RECOVERABLE)
        self._failed_at = time.monotonic()
        if isinstance(error, _Interference):
            remedy = (
                "Do not restart yet: the journal is complete in this process alone. Copy it from /proc/PID/fd and put"
                " it back, or, where another process wrote to it, end that one; then restart the plane."
            )
        elif self._recoverable:
            remedy = "Free space or restore write access; the plane tries again by itself."
        else:
            remedy = "Check the disk, then restart the plane; it recovers what was committed."
        self._problem = StoreUnavailable(f"The journal cannot be written ({error}).", remedy=remedy)
        if isinstance(error, _Interference) and self._connection is not None:
            # It stays open, because it may be the last way to the file.
            with contextlib.suppress(apsw.Error):
                self._connection.rollback()
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close()

    @staticmethod
    def _read_position(connection: Database) -> tuple[int, int]:
        # The last leaf, not the greatest time: after a clock jump the last leaf holds the time that counts.
        last = connection.rows("SELECT at, seq FROM leaf ORDER BY seq DESC LIMIT 1")
        return (int(last[0][0]), int(last[0][1]) + 1) if last else (0, 1)

    @staticmethod
    def _deliver(answers: list[tuple[_Job, Any, BaseException | None]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any, BaseException | None]]] = {}
        for answer in answers:
            by_loop.setdefault(answer[0].loop, []).append(answer)
        for loop, group in by_loop.items():
            # A loop that is gone took with it whoever waited.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, group)


def _resolve(answers: list[tuple[_Job, Any, BaseException | None]]) -> None:
    for job, value, error in answers:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(value)
