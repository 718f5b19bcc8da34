"""The upstream that everybody has: an MCP server on the official Python SDK, over HTTP."""

from __future__ import annotations

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("sdk-upstream", log_level="ERROR")


@server.tool()
def update_order_status(order_ids: list[str], status: str, note: str | None = None) -> dict[str, int]:
    """Set the status of orders."""
    del status, note
    return {"updated": len(order_ids)}


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=True, stateless_http=True)
