"""What `make run` shows: a plane, a real MCP server behind it, and an agent that only does what it is told."""
