"""What the read side costs: steps of SQLite's virtual machine, which no machine's speed changes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from interlock.store.sqlite.reader import SqliteReader
from support.store import ADAPTERS, World


@contextmanager
def counted_steps() -> Generator[list[int]]:
    """Count the steps of connections that are opened inside."""
    steps = [0]

    def step() -> bool:
        steps[0] += 1
        return False

    def hook(connection: Any) -> None:
        connection.set_progress_handler(step, 1)

    apsw.connection_hooks.append(hook)
    try:
        yield steps
    finally:
        apsw.connection_hooks.remove(hook)


def _cost_of_a_summary(folder: Path) -> int:
    with counted_steps() as steps:
        reader = SqliteReader(folder / "journal.db")
        reader.summary()
        opened = steps[0]
        reader.summary()
        return steps[0] - opened


async def test_a_summary_costs_the_same_however_many_calls_there_are(tmp_path: Path) -> None:
    world = World(ADAPTERS["sqlite"], tmp_path)
    try:
        run = await world.run()

        async def some(number: int) -> None:
            for _ in range(number):
                await world.settle(await world.permitted(run))
                await world.deny(run)

        await some(2)
        few = _cost_of_a_summary(tmp_path)
        await some(100)
        assert few > 0
        assert _cost_of_a_summary(tmp_path) == few
    finally:
        world.close()
