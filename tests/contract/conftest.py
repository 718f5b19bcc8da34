"""The store under test, once for each adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.store import ADAPTERS, World

_MEMORY = Path("/dev/shm")


@pytest.fixture(params=ADAPTERS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """An empty record; in memory where the machine has such a folder, since nothing here pulls the plug."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = World(ADAPTERS[request.param], Path(folder))
        try:
            yield world
        finally:
            world.close()
