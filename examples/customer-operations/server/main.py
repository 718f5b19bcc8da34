"""Customer operations as an MCP server, over stdio or, with `--http PORT`, over streamable HTTP on 127.0.0.1.

It knows nothing of Interlock and enforces nothing: whoever reaches it may read cards and delete customers.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field
from records import (
    CustomerDeleted,
    CustomerRecord,
    MailWritten,
    RawPayment,
    RecentOrders,
    Records,
    StatusUpdate,
)

CustomerId = Annotated[str, Field(description="Customer id, such as C-0042.")]
Subject = Annotated[str, Field(description="Subject line.")]
Body = Annotated[str, Field(description="Plain text.")]
Segment = Literal["everyone", "standard", "business", "trial"]

_READ = ToolAnnotations(read_only_hint=True)
_WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
_DESTROY = ToolAnnotations(read_only_hint=False, destructive_hint=True)


def build_server(records: Records) -> MCPServer[Any]:
    """The server with its tools."""

    async def note_calls(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        # Here rather than in the tools: a call that fails validation has reached the server too.
        if ctx.method == "tools/call" and ctx.params is not None:
            arguments: Mapping[str, object] = ctx.params.get("arguments") or {}
            await to_thread.run_sync(records.note_call, str(ctx.params.get("name")), arguments)
        return await call_next(ctx)

    server = MCPServer[Any](
        "customer-operations",
        version="1.0.0",
        instructions="Look up customers and orders, change the status of orders, write to customers.",
        log_level="WARNING",
        middleware=[note_calls],
    )

    @server.tool(annotations=_READ)
    def read_customer_record(
        customer_id: CustomerId,
        fields: Annotated[
            list[str] | None,
            Field(description="Fields to return besides customer_id; all of them if left out."),
        ] = None,
    ) -> CustomerRecord:
        """Read one customer: order history, contact information, payment card, internal notes, credit score."""
        return records.read(customer_id, fields)

    @server.tool(annotations=_READ)
    def list_recent_orders(
        limit: Annotated[int, Field(ge=1, le=200, description="How many orders to return.")] = 20,
        status: Annotated[str | None, Field(description="Only orders with this status.")] = None,
    ) -> RecentOrders:
        """List orders, newest first."""
        return records.recent_orders(limit, status)

    @server.tool(annotations=_WRITE)
    def update_order_status(
        order_ids: Annotated[list[str], Field(description="Order ids, such as O-0042-1.")],
        status: Annotated[str, Field(description="pending, processing, shipped, delivered, cancelled or refunded.")],
    ) -> StatusUpdate:
        """Set the status of orders: all of them, or none if one does not exist."""
        return records.update_status(order_ids, status)

    @server.tool(annotations=_WRITE)
    def send_customer_email(
        to: Annotated[list[str], Field(description="E-mail addresses.")], subject: Subject, body: Body
    ) -> MailWritten:
        """Send one e-mail to each of the given addresses."""
        return records.write_mail(to, subject, body)

    @server.tool(annotations=_WRITE)
    def bulk_send_email(segment: Segment, subject: Subject, body: Body) -> MailWritten:
        """Send an e-mail to every customer of a segment."""
        return records.write_bulk_mail(segment, subject, body)

    @server.tool(annotations=_READ)
    def access_payment_raw(customer_id: CustomerId) -> RawPayment:
        """Read the unmasked payment card of a customer."""
        return records.raw_payment(customer_id)

    @server.tool(annotations=_DESTROY)
    def delete_customer_record(customer_id: CustomerId) -> CustomerDeleted:
        """Delete a customer and all orders of theirs, for good."""
        return records.delete(customer_id)

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="The customer-operations example as an MCP server.")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file; created and filled if missing")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve http://127.0.0.1:PORT/mcp instead of stdio")
    options = parser.parse_args()
    server = build_server(Records(options.database))
    if options.http is None:
        server.run("stdio")
    else:
        print(f"customer-operations: http://127.0.0.1:{options.http}/mcp", file=sys.stderr)
        server.run("streamable-http", host="127.0.0.1", port=options.http)


if __name__ == "__main__":
    main()
