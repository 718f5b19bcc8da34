"""What the machine's disk can do: syncs a second, and raw group commits on SQLite with 64 appends each."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw


def measure(folder: Path | None = None) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(dir=folder))
    return {"fsync_per_second": _fsyncs(place / "f"), "raw_group_commit": _group_commits(place / "g.db")}


def _fsyncs(path: Path, seconds: float = 1.0) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        os.pwrite(descriptor, b"x" * 4096, 0)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return round(count / seconds)


def _group_commits(path: Path, seconds: float = 2.0, batch: int = 64) -> dict[str, int]:
    connection: Any = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = wal").fetchall()
    connection.execute("PRAGMA synchronous = full").fetchall()
    connection.execute("CREATE TABLE leaf (seq INTEGER PRIMARY KEY, body BLOB)").fetchall()
    body, commits, end = b"x" * 600, 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection.execute("BEGIN IMMEDIATE").fetchall()
        for _ in range(batch):
            connection.execute("INSERT INTO leaf (body) VALUES (?)", (body,)).fetchall()
        connection.execute("COMMIT").fetchall()
        commits += 1
    connection.close()
    return {"commits_per_second": round(commits / seconds), "appends_per_second": round(commits * batch / seconds)}
