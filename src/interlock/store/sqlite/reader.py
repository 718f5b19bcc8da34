"""The read side on SQLite: point reads for the story of a call, listings for people."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import apsw

from interlock.core.canonical import JsonObject
from interlock.core.errors import StoreUnavailable
from interlock.plane.commands import Hold, Run
from interlock.plane.ports import CallFilter, Page
from interlock.store.sqlite.file import Database, open_reader
from interlock.store.sqlite.holds import HOLD_COLUMNS, HOLD_TABLES, hold_from_row
from interlock.store.sqlite.runs import IMPLICIT_RUN, RUN_COLUMNS, run_from_row

_CALL_COLUMNS = (
    "id, run, agent, upstream, tool, state, code, rule, ring, opened_at, ended_at, first_leaf, permit_leaf,"
    " last_leaf, finding"
)


class SqliteReader:
    """Queries on a read-only connection for each thread; each query sees one consistent state."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def _connection(self) -> Database:
        connection: Database | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
        return connection

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection().rows(sql, values)
        except apsw.Error as error:
            remedy = "Check the data folder and the disk."
            raise StoreUnavailable(f"The journal cannot be read ({error}).", remedy=remedy) from None

    def _row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        found = self._rows(sql, *values)
        return found[0] if found else None

    # For the story of a call ------------------------------------------------------------------------

    def run(self, run: str) -> Run | None:
        row = self._row(f"SELECT {RUN_COLUMNS} FROM run WHERE id = ?", run)
        return run_from_row(row) if row else None

    def implicit_run(self, agent: str) -> Run | None:
        row = self._row(IMPLICIT_RUN, agent)
        return run_from_row(row) if row else None

    def counter(self, run: str, name: str) -> int:
        row = self._row("SELECT spent + reserved FROM counter WHERE run = ? AND name = ?", run, name)
        return int(row[0]) if row else 0

    def repeats_unknown(self, run: str, digest: str) -> bool:
        return (
            self._row(
                "SELECT 1 FROM call WHERE run = ? AND digest = ? AND state = 'unknown'"
                " AND finding IS NOT 'did_not_run'",
                run,
                digest,
            )
            is not None
        )

    def payload(self, call: str, name: str) -> bytes | None:
        row = self._row(
            "SELECT p.sealed FROM leaf l JOIN payload p ON p.seq = l.seq WHERE l.call = ? AND p.name = ?"
            " ORDER BY l.seq DESC LIMIT 1",
            call,
            name,
        )
        return row[0] if row else None

    def run_payload(self, run: str, name: str) -> bytes | None:
        row = self._row(
            "SELECT p.sealed FROM leaf l JOIN payload p ON p.seq = l.seq"
            " WHERE l.run = ? AND l.call IS NULL AND p.name = ? ORDER BY l.seq LIMIT 1",
            run,
            name,
        )
        return row[0] if row else None

    def active_bundle(self) -> tuple[str, bytes] | None:
        row = self._row(
            "SELECT b.digest, b.content FROM activation a JOIN bundle b ON b.digest = a.digest"
            " ORDER BY a.leaf DESC LIMIT 1"
        )
        return (row[0], row[1]) if row else None

    def bundle(self, digest: str) -> bytes | None:
        row = self._row("SELECT content FROM bundle WHERE digest = ?", digest)
        return row[0] if row else None

    def hold(self, hold: str) -> Hold | None:
        row = self._row(f"SELECT {HOLD_COLUMNS} FROM {HOLD_TABLES} WHERE h.id = ?", hold)
        return hold_from_row(row) if row else None

    # For people -------------------------------------------------------------------------------------

    def counters(self, run: str) -> JsonObject:
        rows = self._rows("SELECT name, spent, reserved FROM counter WHERE run = ? ORDER BY name", run)
        return {name: {"spent": spent, "reserved": reserved} for name, spent, reserved in rows}

    def list_runs(self, agent: str | None, state: str | None, page: Page) -> list[JsonObject]:
        rows = self._rows(
            f"SELECT {RUN_COLUMNS} FROM run WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR state = ?2)"
            " AND (?3 IS NULL OR (opened_at, id) < (SELECT opened_at, id FROM run WHERE id = ?3))"
            " ORDER BY opened_at DESC, id DESC LIMIT ?4",
            agent,
            state,
            page.before,
            page.limit,
        )
        return [run_from_row(row).as_json() for row in rows]

    def list_calls(self, chosen: CallFilter, page: Page) -> list[JsonObject]:
        rows = self._rows(
            f"SELECT {_CALL_COLUMNS} FROM call WHERE (?1 IS NULL OR run = ?1) AND (?2 IS NULL OR agent = ?2)"
            " AND (?3 IS NULL OR upstream = ?3) AND (?4 IS NULL OR tool = ?4) AND (?5 IS NULL OR state = ?5)"
            " AND (?6 IS NULL OR id < ?6) ORDER BY id DESC LIMIT ?7",
            chosen.run,
            chosen.agent,
            chosen.upstream,
            chosen.tool,
            chosen.state,
            page.before,
            page.limit,
        )
        return [_call_json(row) for row in rows]

    def call(self, call: str) -> JsonObject | None:
        row = self._row(f"SELECT {_CALL_COLUMNS} FROM call WHERE id = ?", call)
        return _call_json(row) if row else None

    def call_leaves(self, call: str) -> list[tuple[int, JsonObject, dict[str, bytes]]]:
        found: list[tuple[int, JsonObject, dict[str, bytes]]] = []
        for seq, body in self._rows("SELECT seq, body FROM leaf WHERE call = ? ORDER BY seq", call):
            payloads = dict(self._rows("SELECT name, sealed FROM payload WHERE seq = ?", seq))
            found.append((seq, json.loads(body), payloads))
        return found

    def list_holds(self, state: str | None, page: Page) -> list[Hold]:
        rows = self._rows(
            f"SELECT {HOLD_COLUMNS} FROM {HOLD_TABLES} WHERE (?1 IS NULL OR h.state = ?1)"
            " AND (?2 IS NULL OR h.id < ?2) ORDER BY h.id DESC LIMIT ?3",
            state,
            page.before,
            page.limit,
        )
        return [hold_from_row(row) for row in rows]

    def leaves_after(self, seq: int, limit: int) -> list[JsonObject]:
        rows = self._rows("SELECT body FROM leaf WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)
        return [json.loads(body) for (body,) in rows]

    def halts(self) -> list[JsonObject]:
        rows = self._rows("SELECT scope, target, at, by, leaf FROM halt ORDER BY at")
        return [{"scope": s, "target": t, "at": at, "by": by, "leaf": leaf} for s, t, at, by, leaf in rows]

    def activations(self, page: Page) -> list[JsonObject]:
        rows = self._rows(
            "SELECT leaf, digest, at, by FROM activation WHERE ?1 IS NULL OR leaf < ?1 ORDER BY leaf DESC LIMIT ?2",
            int(page.before) if page.before else None,
            page.limit,
        )
        return [{"leaf": leaf, "bundle": digest, "at": at, "by": by} for leaf, digest, at, by in rows]

    def summary(self) -> JsonObject:
        states: dict[str, JsonObject] = {"call": {}, "run": {}, "hold": {}}
        for kind, state, number in self._rows("SELECT kind, state, number FROM tally WHERE number > 0"):
            states[kind][state] = number
        last = self._row("SELECT seq, at FROM leaf ORDER BY seq DESC LIMIT 1")
        return {
            "calls": states["call"],
            "runs": states["run"],
            "holds": states["hold"],
            "leaves": last[0] if last else 0,
            "last_leaf_at": last[1] if last else None,
            "halts": len(self.halts()),
        }


def _call_json(row: tuple[Any, ...]) -> JsonObject:
    names = ("id", "run", "agent", "upstream", "tool", "state", "code", "rule", "ring", "opened_at", "ended_at")
    leaves: JsonObject = {"first_leaf": row[11], "permit_leaf": row[12], "last_leaf": row[13], "finding": row[14]}
    found: JsonObject = dict(zip(names, row[:11], strict=True))
    return {**found, **leaves}
