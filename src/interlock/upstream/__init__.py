"""Outbound: systems behind the plane. Here MCP, over stdio and Streamable HTTP, in both eras."""
