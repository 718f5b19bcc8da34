"""Connections that only lie there: agents may have to wait, people who stop things may not."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from support.plane import crm_settings, running

# A common soft limit, which the plane may raise, and one that it may not.
SOFT_AND_HARD = ("prlimit", "--nofile=1024:4096")
HARD = ("prlimit", "--nofile=1100:1100")


def _silent(stack: ExitStack, url: str, count: int) -> int:
    """Open connections that say nothing; how many the plane keeps."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    found: list[socket.socket] = []
    for _ in range(count):
        found.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=10)))
    kept = 0
    for connection in found:
        connection.settimeout(0.001)
        try:
            kept += connection.recv(1) != b""
        except TimeoutError:
            kept += 1
        except ConnectionError:
            pass
    return kept


def test_silent_connections_take_nothing_that_people_need(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        settings = crm_settings(tmp_path / "crm.db", gateway={"max_connections": 600})
        with ExitStack() as stack:
            plane = stack.enter_context(running(tmp_path, settings, wrapper=SOFT_AND_HARD))
            kept = _silent(stack, plane.url, 2500)
            assert kept <= 600
            assert plane.api("POST", "/v1/halts", {"target": "all", "scope": "all", "reason": "enough"})
            assert plane.command("status").returncode == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_the_limit_cannot_be_raised_agents_get_fewer_connections(tmp_path: Path) -> None:
    with running(tmp_path, crm_settings(tmp_path / "crm.db"), wrapper=HARD) as plane, ExitStack() as stack:
        assert "allows fewer connections than gateway.max_connections" in plane.log
        assert _silent(stack, plane.url, 200) <= 76
        assert plane.command("halt", "all", "--reason", "enough").returncode == 0
