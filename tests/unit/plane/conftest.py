"""A plane in process with the example's policy in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.inprocess import InProcess, in_process


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[InProcess]:
    with in_process(tmp_path) as started:
        await started.policy.start("uid:7")
        yield started
