"""A canned MCP upstream (2026-07-28): a process of its own that answers from memory."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

from wire import CannedServer

TOOL: dict[str, Any] = {
    "name": "update_order_status",
    "description": "Set the status of orders.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "order_ids": {"type": "array", "items": {"type": "string"}},
            "status": {"type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["order_ids", "status"],
    },
}
_RESULT = {
    "content": [{"type": "text", "text": "x" * 400}],
    "structuredContent": {"updated": 2, "note": "y" * 200},
    "resultType": "complete",
}
_RESULT_TEXT = json.dumps(_RESULT)


def respond(message: dict[str, Any]) -> bytes:
    method, number = message.get("method"), json.dumps(message.get("id"))
    if method == "tools/call":
        return f'{{"jsonrpc":"2.0","id":{number},"result":{_RESULT_TEXT}}}'.encode()
    if method == "tools/list":
        result: dict[str, Any] = {"tools": [TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    else:
        result = {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "resultType": "complete",
            "ttlMs": 0,
            "cacheScope": "private",
        }
    return json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}).encode()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: CannedServer(respond), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
