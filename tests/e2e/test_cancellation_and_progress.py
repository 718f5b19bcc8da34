"""Cancellation reaches the upstream and progress reaches the client, in both eras."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.odd import AGENT, odd_settings, pin, reached, write_policies
from support.plane import META, PlaneProcess, eventually, running


@pytest.fixture(params=["modern", "legacy"])
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlaneProcess]:
    """A plane whose upstream speaks one of the eras."""
    pin(write_policies(tmp_path / "policies"))
    with running(tmp_path, odd_settings(tmp_path, "--era", request.param)) as it:
        yield it


def notifications(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "state").read_text().splitlines()]
    return [line for line in lines if line.get("notification") == "notifications/cancelled"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_progress_of_an_upstream_reaches_the_client(plane: PlaneProcess, mode: str) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with plane.client(plane.token(AGENT), "odd", mode=mode) as client:
        result = await client.call_tool("progress", {"value": 1}, progress_callback=note)
    assert result.structured_content == {"echo": {"value": 1}}
    assert seen == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


async def test_closing_the_stream_of_a_modern_call_cancels_it_upstream(plane: PlaneProcess, tmp_path: Path) -> None:
    headers = {
        "Authorization": f"Bearer {plane.token(AGENT)}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "hang",
    }
    params = {"name": "hang", "arguments": {}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with aiohttp.ClientSession(headers=headers) as client:
        asking = asyncio.create_task(client.post(f"{plane.url}/mcp/odd", json=message))
        await asyncio.to_thread(eventually, lambda: reached(tmp_path, "hang"), "the call is in flight")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await asyncio.to_thread(eventually, lambda: notifications(tmp_path), "the upstream is told")

    def unknown() -> bool:
        return [call["state"] for call in plane.api("GET", "/v1/calls")["calls"]] == ["unknown"]

    await asyncio.to_thread(eventually, unknown, "the outcome is recorded as unknown")


async def test_a_legacy_cancellation_cancels_and_a_mere_disconnect_does_not(
    plane: PlaneProcess, tmp_path: Path
) -> None:
    token = plane.token(AGENT)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}

    async with aiohttp.ClientSession(headers=headers) as client:
        start = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        opened = await client.post(f"{plane.url}/mcp/odd", json=_message(1, "initialize", start))
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
        slow = _message(7, "tools/call", {"name": "slow", "arguments": {}})
        asking = asyncio.create_task(client.post(f"{plane.url}/mcp/odd", json=slow, headers=session))
        await asyncio.to_thread(eventually, lambda: reached(tmp_path, "slow"), "the slow call is in flight")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert not notifications(tmp_path), "a lost connection is no cancellation in this era"
        hang = _message(8, "tools/call", {"name": "hang", "arguments": {}})
        asking = asyncio.create_task(client.post(f"{plane.url}/mcp/odd", json=hang, headers=session))
        await asyncio.to_thread(eventually, lambda: reached(tmp_path, "hang"), "the hanging call is in flight")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 8}}
        answer = await client.post(f"{plane.url}/mcp/odd", json=cancel, headers=session)
        assert answer.status == 202
        cancelled = await (await asking).json()
    assert cancelled["result"]["structuredContent"]["error"]["code"] == "outcome_unknown"
    await asyncio.to_thread(eventually, lambda: notifications(tmp_path), "the upstream is told")
    (tmp_path / "state.go").touch()

    def settled() -> bool:
        states = {call["tool"]: call["state"] for call in plane.api("GET", "/v1/calls")["calls"]}
        return states == {"slow": "succeeded", "hang": "unknown"}

    await asyncio.to_thread(eventually, settled, "the abandoned call ends as it really ended")


def _message(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
