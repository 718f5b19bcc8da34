"""kill -9 of the plane at random moments under load: nothing acknowledged is lost, nothing runs unrecorded.

INTERLOCK_KILLS sets how often it is killed; CI does it 50 times, `make test` a few.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import aiohttp

from support.odd import AGENT, odd_settings, pin, reached, write_policies
from support.plane import META, PlaneProcess

KILLS = int(os.environ.get("INTERLOCK_KILLS", "4"))
CALLERS = 24


class Load:
    """Callers that send numbered calls until the plane is gone, and remember what was acknowledged."""

    def __init__(self) -> None:
        self.sent: set[int] = set()
        self.acknowledged: set[int] = set()

    async def run(self, plane: PlaneProcess, kill_after_s: float) -> None:
        token = plane.token(AGENT)
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "echo",
        }
        async with aiohttp.ClientSession(headers=headers) as client:
            callers = [asyncio.create_task(self._call(client, plane.url)) for _ in range(CALLERS)]
            await asyncio.sleep(kill_after_s)  # the moment of the kill is the random input of this test
            await asyncio.to_thread(plane.kill)
            await asyncio.gather(*callers)

    async def _call(self, client: aiohttp.ClientSession, url: str) -> None:
        while True:
            number = len(self.sent)
            self.sent.add(number)
            params = {"name": "echo", "arguments": {"value": number}, "_meta": META}
            message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            try:
                async with client.post(f"{url}/mcp/odd", json=message) as response:
                    answer: dict[str, Any] = await response.json()
            except (aiohttp.ClientError, OSError, ValueError):
                return
            if not answer["result"].get("isError"):
                self.acknowledged.add(number)


def journal(plane: PlaneProcess) -> dict[int, dict[str, Any]]:
    """Every recorded call by its number, with the state that the plane tells."""
    found: dict[int, dict[str, Any]] = {}
    before = ""
    while True:
        page = plane.api("GET", f"/v1/calls?limit=500{before}")
        for call in page["calls"]:
            leaves = plane.api("GET", f"/v1/calls/{call['id']}")["leaves"]
            number = int(leaves[0]["payloads"]["input"]["value"])
            assert number not in found, "a call was recorded twice"
            found[number] = {**call, "kinds": [entry["leaf"]["kind"] for entry in leaves]}
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


def test_a_killed_plane_loses_nothing_and_counts_right(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    policies = write_policies(tmp_path / "policies")
    text = (policies / "agents" / "odd.yaml").read_text()
    limited = "    - name: odd/echo\n      constraints: {max_records_per_run: 10000000}\n"
    (policies / "agents" / "odd.yaml").write_text(text.replace("    - name: odd/echo\n", limited))
    pin(policies)
    plane = PlaneProcess(tmp_path, odd_settings(tmp_path))
    load = Load()
    try:
        for _ in range(KILLS):
            plane.start()
            asyncio.run(load.run(plane, moments.uniform(0.02, 0.6)))
        plane.start()
        recorded = journal(plane)
        run = plane.api("GET", "/v1/runs")["runs"]
        counters = plane.api("GET", f"/v1/runs/{run[0]['id']}")["counters"]["records:odd/echo"]
    finally:
        plane.close()
    assert len(run) == 1, "restarts must not open new runs"
    ran = [entry["arguments"]["value"] for entry in reached(tmp_path)]
    assert len(ran) == len(set(ran)), "a call reached the upstream twice"
    assert set(ran) <= recorded.keys(), "a call ran without a record"
    states = {number: call["state"] for number, call in recorded.items()}
    assert all(states[number] in ("succeeded", "unknown") for number in ran)
    assert {number for number, state in states.items() if state == "succeeded"} <= set(ran)
    assert all(states[number] == "succeeded" for number in load.acknowledged), "an acknowledged outcome was lost"
    assert set(states.values()) <= {"succeeded", "unknown", "failed"}, "a permit has no outcome"
    assert all(call["kinds"].count("outcome") == 1 for call in recorded.values())
    unknown = sum(state == "unknown" for state in states.values())
    assert len(ran) <= counters["spent"] <= len(ran) + unknown
    assert counters["reserved"] == 0
    print(json.dumps({"kills": KILLS, "recorded": len(recorded), "ran": len(ran), "unknown": unknown}))
    assert len(load.acknowledged) > KILLS, "the load never got going; the test shows nothing"
