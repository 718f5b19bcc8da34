"""What is stored of a leaf: its exact canonical bytes, once, and columns that say the same."""

from __future__ import annotations

import json
from pathlib import Path

from interlock.core.canonical import encode
from interlock.core.errors import Code
from interlock.store.sqlite.file import open_reader
from support.store import World, guard, open_sqlite, permit


async def _some_history(world: World) -> None:
    run = await world.run()
    await world.settle(await world.permitted(run, permit(guard(5))), "failed", Code.UPSTREAM_FAILED)
    await world.admit(run, redeems=await world.approved(run))
    await world.halt("agent", "a")


def _rows(folder: Path) -> list[tuple[object, ...]]:
    database = open_reader(folder / "journal.db")
    found = database.rows("SELECT seq, at, kind, run, call, agent, body FROM leaf ORDER BY seq")
    database.close()
    return found


async def test_leaves_are_stored_as_canonical_bytes_with_columns_that_agree(folder: Path) -> None:
    world = World(open_sqlite, folder)
    await _some_history(world)
    world.close()
    rows = _rows(folder)
    assert len(rows) == 7
    for seq, at, kind, run, call, agent, body in rows:
        assert isinstance(body, bytes)
        leaf = json.loads(body)
        assert encode(leaf) == body
        assert (leaf["seq"], leaf["at"], leaf["kind"], leaf["v"]) == (seq, at, kind, 1)
        assert (leaf.get("run"), leaf.get("call"), leaf.get("agent")) == (run, call, agent)
        assert None not in leaf.values()


async def test_bytes_once_stored_are_never_rewritten(folder: Path) -> None:
    world = World(open_sqlite, folder)
    await _some_history(world)
    before = _rows(folder)
    world.reopen()
    await world.resume("agent", "a")
    await _some_history(world)
    await world.store.recover("exec_2")
    world.close()
    assert _rows(folder)[: len(before)] == before
