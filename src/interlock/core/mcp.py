"""The words of the Model Context Protocol that both sides of the plane use.

Two eras: 2025-11-25 and before (`initialize`, sessions) and 2026-07-28 (stateless, every request carries
its envelope in `_meta`). Sources: the specification's revisions of those dates.
"""

from __future__ import annotations

from typing import Final

from interlock.core.canonical import JsonObject

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT: Final = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022

HTTP_STATUS: Final[dict[int, int]] = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""Status of a JSON-RPC error in the modern era; what is not listed is 200."""


def implementation(version: str) -> JsonObject:
    """What Interlock says of itself."""
    return {"name": "interlock", "title": "Interlock", "version": version}


def modern_meta(version: str) -> JsonObject:
    """The envelope that a 2026-07-28 request of ours carries; we offer no client capabilities."""
    return {META_VERSION: MODERN, META_CLIENT: implementation(version), META_CAPABILITIES: {}}
