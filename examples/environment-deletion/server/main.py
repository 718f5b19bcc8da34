"""Environments and their services as an MCP server, over stdio or, with `--http PORT`, over HTTP on 127.0.0.1.

It knows nothing of Interlock and enforces nothing: whoever reaches it may delete production.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field
from state import Applied, Deleted, Environment, Environments, EnvironmentSummary, Infrastructure, Restarted

EnvironmentName = Annotated[str, Field(description="Name of the environment, such as staging.")]

_READ = ToolAnnotations(read_only_hint=True)
_WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=False)
_DESTROY = ToolAnnotations(read_only_hint=False, destructive_hint=True)


def build_server(infrastructure: Infrastructure) -> MCPServer[Any]:
    """The server with its tools."""

    async def note_calls(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        # Here rather than in the tools: a call that fails validation has reached the server too.
        if ctx.method == "tools/call" and ctx.params is not None:
            arguments: Mapping[str, object] = ctx.params.get("arguments") or {}
            await to_thread.run_sync(infrastructure.note_call, str(ctx.params.get("name")), arguments)
        return await call_next(ctx)

    server = MCPServer[Any](
        "infrastructure",
        version="1.0.0",
        instructions="Look at environments, restart services, change settings, create and delete environments.",
        log_level="WARNING",
        middleware=[note_calls],
    )

    @server.tool(annotations=_READ)
    def list_environments() -> Environments:
        """List every environment with its status."""
        return infrastructure.list_all()

    @server.tool(annotations=_READ)
    def describe_environment(environment: EnvironmentName) -> Environment:
        """Show the services, settings and history of an environment."""
        return infrastructure.describe(environment)

    @server.tool(annotations=_WRITE)
    def restart_service(
        environment: EnvironmentName, service: Annotated[str, Field(description="Name of the service.")]
    ) -> Restarted:
        """Restart one service of an environment; the others keep running."""
        return infrastructure.restart(environment, service)

    @server.tool(annotations=_WRITE)
    def apply_configuration(
        environment: EnvironmentName,
        settings: Annotated[dict[str, str], Field(description="Settings to add or replace.")],
    ) -> Applied:
        """Change settings of an environment; those not named stay as they are."""
        return infrastructure.configure(environment, settings)

    @server.tool(annotations=_WRITE)
    def create_environment(environment: EnvironmentName) -> EnvironmentSummary:
        """Create an environment with freshly provisioned, empty services."""
        return infrastructure.create(environment)

    @server.tool(annotations=_DESTROY)
    def delete_environment(environment: EnvironmentName) -> Deleted:
        """Delete an environment with all its services and their data, for good."""
        return infrastructure.delete(environment)

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="The environment-deletion example's infrastructure as an MCP server.")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file; created and filled if missing")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve http://127.0.0.1:PORT/mcp instead of stdio")
    options = parser.parse_args()
    server = build_server(Infrastructure(options.database))
    if options.http is None:
        server.run("stdio")
    else:
        print(f"infrastructure: http://127.0.0.1:{options.http}/mcp", file=sys.stderr)
        server.run("streamable-http", host="127.0.0.1", port=options.http)


if __name__ == "__main__":
    main()
