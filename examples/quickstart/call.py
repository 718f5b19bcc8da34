"""One tools/call with the official MCP client: `call.py URL TOOL JSON`, the token in INTERLOCK_TOKEN."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, tool: str, arguments: str) -> None:
    headers = {"Authorization": f"Bearer {os.environ['INTERLOCK_TOKEN']}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool(tool, json.loads(arguments))
    if result.structured_content is not None:
        print(json.dumps(result.structured_content))
    else:
        print("\n".join(getattr(block, "text", str(block)) for block in result.content))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
