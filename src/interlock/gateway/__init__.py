"""Inbound for agents and host applications: MCP over HTTP, and runs for those that open them."""
