"""Bounds hold under concurrency and cannot be reset: records, steps, runs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp

from support.plane import META, PlaneProcess, crm_policies, crm_settings, eventually, running


def rows(database: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def at_once(plane: PlaneProcess, token: str, messages: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Send calls at the same time, each on a connection of its own; return their structured contents."""

    async def one(client: aiohttp.ClientSession, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        }
        params = {"name": tool, "arguments": arguments, "_meta": META}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with client.post(f"{plane.url}/mcp/crm", json=message, headers=headers) as response:
            return (await response.json())["result"]["structuredContent"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        return await asyncio.gather(*(one(client, tool, arguments) for tool, arguments in messages))


async def test_of_200_calls_at_once_exactly_ten_records_are_changed(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    # Every attempt is a step.
    policies = crm_policies(tmp_path, ("max_steps: 25", "max_steps: 1000"))
    with running(tmp_path, crm_settings(database, policies=str(policies))) as plane:
        token = plane.token()
        asked = [
            ("update_order_status", {"order_ids": [f"O-{number:04}-1"], "status": "cancelled"})
            for number in range(1, 201)
        ]
        answers = await at_once(plane, token, asked)
        [run] = plane.api("GET", "/v1/runs")["runs"]
        counters = plane.api("GET", f"/v1/runs/{run['id']}")["counters"]
    executed = [answer for answer in answers if answer.get("updated") == 1]
    refused = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert len(executed) == 10
    assert refused == ["constraint_violated"] * 190
    assert rows(database, "SELECT count(*) FROM audit_of_changes") == [(10,)]
    assert rows(database, "SELECT count(*) FROM calls WHERE tool = 'update_order_status'") == [(10,)]
    assert counters["records:crm/update_order_status"] == {"spent": 10, "reserved": 0}
    assert run["steps"] == 200


async def test_reconnecting_renewing_tokens_and_opening_runs_never_gets_a_second_runs_ceilings(
    crm_plane: PlaneProcess, tmp_path: Path
) -> None:
    codes: list[str] = []
    opened: list[int] = []
    executed = 0
    for attempt in range(50):
        token = crm_plane.token()  # a fresh token and a fresh session each time
        async with crm_plane.client(token, mode="legacy" if attempt % 2 else "auto") as client:
            result = await client.call_tool("read_customer_record", {"customer_id": "C-0001"})
        answer = crm_plane.http(
            "POST",
            "/v1/runs",
            json.dumps({"agent": "support-agent-v2"}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        opened.append(answer.status)
        if result.is_error:
            codes.append(result.structured_content["error"]["code"])
        else:
            executed += 1
    assert opened[0] == 401, "an agent's token must not open runs"
    assert set(opened) <= {401, 429}, "and those who try too often within a second are not even looked at"
    assert executed == 25
    assert codes == ["run_halted"] * 25
    assert len(crm_plane.api("GET", "/v1/runs")["runs"]) == 1
    assert rows(tmp_path / "crm.db", "SELECT count(*) FROM calls") == [(25,)]


def test_a_ceiling_cancels_what_is_in_flight_and_tells_the_on_call(tmp_path: Path) -> None:
    from support.odd import AGENT, odd_settings, pin, reached, write_policies

    execution = "max_steps: 3\n  on_budget_exceeded: {action: halt_and_escalate, notify: '#oncall-agents'}"
    pin(write_policies(tmp_path / "policies", execution=execution))
    with running(tmp_path, odd_settings(tmp_path)) as plane:
        token = plane.token(AGENT)
        hanging = asyncio.run(_halt_while_one_hangs(plane, token, tmp_path))
        assert hanging["error"]["code"] == "outcome_unknown"
        assert plane.call(token, "echo", {}, "odd")["error"]["code"] == "run_halted"
        [run] = plane.api("GET", "/v1/runs")["runs"]
        assert run["state"] == "halted"
        notices = tmp_path / "notices.jsonl"
        eventually(lambda: notices.exists() and notices.read_text().endswith("\n"), "the notice")
    assert [entry["tool"] for entry in reached(tmp_path)] == ["hang", "echo", "echo"]
    assert json.loads(notices.read_text().splitlines()[0])["event"] == "run_halted"


async def _halt_while_one_hangs(plane: PlaneProcess, token: str, folder: Path) -> dict[str, Any]:
    from support.odd import reached

    hanging = asyncio.create_task(asyncio.to_thread(plane.call, token, "hang", {}, "odd"))
    await asyncio.to_thread(eventually, lambda: reached(folder, "hang"), "the hanging call reached the upstream")
    for _ in range(3):  # the third attempt here is the fourth step, and halts
        await asyncio.to_thread(plane.call, token, "echo", {}, "odd")
    return await hanging
