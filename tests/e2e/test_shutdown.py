"""A plane that is asked to stop finishes what it owes to people."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from support.odd import AGENT, odd_settings, pin, write_policies
from support.plane import PlaneProcess, eventually, running

RUNS = 3


def _halt_a_run(plane: PlaneProcess, opener: str) -> str:
    """Open a run of one step and try a second one; the run's id."""
    headers = {"Authorization": f"Bearer {opener}", "Content-Type": "application/json"}
    opened = plane.http("POST", "/v1/runs", json.dumps({"agent": AGENT}).encode(), headers)
    assert opened.status < 300, opened.body
    for _ in range(2):
        plane.call(opened.json["token"], "echo", {}, "odd")
    return opened.json["run"]


def test_notices_that_wait_are_delivered_before_the_plane_ends(tmp_path: Path) -> None:
    execution = "max_steps: 1\n  on_budget_exceeded: {action: halt_and_escalate, notify: '#oncall-agents'}"
    pin(write_policies(tmp_path / "policies", execution=execution))
    # Whoever writes to it waits until somebody reads: the first notice is being sent, the others wait.
    os.mkfifo(tmp_path / "notices.jsonl")
    with running(tmp_path, {**odd_settings(tmp_path), "log": {"level": "info"}}) as plane:
        opener = plane.opener_token(AGENT)
        halted = [_halt_a_run(plane, opener) for _ in range(RUNS)]
        os.kill(plane.pid, signal.SIGTERM)
        eventually(lambda: '"draining"' in plane.log, "the plane drains")
        reader = os.open(tmp_path / "notices.jsonl", os.O_RDWR)
        try:
            assert plane.stop() == 0
            lines = os.read(reader, 65536)  # what a pipe holds outlives its writers
        finally:
            os.close(reader)
    assert [json.loads(line)["run"] for line in lines.splitlines()] == halted
