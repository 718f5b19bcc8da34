"""Fixtures that every suite may use."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support.plane import PlaneProcess, crm_settings, running


@pytest.fixture
def crm_plane(tmp_path: Path) -> Iterator[PlaneProcess]:
    """A plane with the customer operations server and the example's policy."""
    with running(tmp_path, crm_settings(tmp_path / "crm.db")) as plane:
        yield plane


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be skipped: a missing component is a failure there, and says so."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
