"""A scripted agent: the official MCP client, a token, and no judgement of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from demo.stage import Stage


class Agent:
    """Calls tools and hands back what it got: the structured result, or the structured error."""

    def __init__(self, client: Client, stage: Stage) -> None:
        self._client, self._stage = client, stage

    async def tools(self) -> list[str]:
        return sorted(tool.name for tool in (await self._client.list_tools()).tools)

    async def call(self, tool: str, arguments: dict[str, Any], *, quietly: bool = False) -> dict[str, Any]:
        """Make a call; `{"error": …}` comes back where the plane (or the tool) refuses."""
        if not quietly:
            self._stage.call(tool, arguments)
        result = await self._client.call_tool(tool, arguments)
        content: dict[str, Any] = result.structured_content or {}
        if result.is_error and "error" not in content:
            return {"error": {"code": "tool_error", "message": str(result.content)}}
        return content


@asynccontextmanager
async def agent(stage: Stage, token: str) -> AsyncGenerator[Agent]:
    """An agent with this token, connected to the scenario's upstream through the plane."""
    url = f"{stage.gateway}/mcp/{stage.scenario.upstream}"
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield Agent(client, stage)
