"""Sessions of the handshake era: sealed ids that carry their own state, bound to one agent and upstream.

Nothing is stored, so a session survives a restart of the plane. A session is a transport matter only:
runs, counters and rights never hang on it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from interlock.core.canonical import encode
from interlock.core.errors import InterlockError
from interlock.plane.ports import Entropy, Sealer

_CONTEXT: Final = "mcp-session"
_MAX_ID: Final = 1024
_MAX_ENDED: Final = 10_000


@dataclass(frozen=True, slots=True)
class McpSession:
    """One client's session.

    Attributes:
        version: The negotiated revision.
    """

    id: str
    agent: str
    upstream: str
    version: str


class Sessions:
    """Makes and reads session ids."""

    def __init__(self, sealer: Sealer, entropy: Entropy) -> None:
        self._sealer, self._entropy = sealer, entropy
        self._ended: OrderedDict[str, None] = OrderedDict()

    def open(self, agent: str, upstream: str, version: str) -> McpSession:
        nonce = self._entropy.take(8).hex()
        content = encode({"agent": agent, "upstream": upstream, "version": version, "nonce": nonce})
        sealed = self._sealer.seal(_CONTEXT, "state", content).sealed
        return McpSession(_spelled(sealed), agent, upstream, version)

    def find(self, session_id: str, agent: str, upstream: str) -> McpSession | None:
        """The session, if it is ours, was not ended, and belongs to this agent and upstream."""
        if len(session_id) > _MAX_ID or session_id in self._ended:
            return None
        try:
            sealed = base64.urlsafe_b64decode(session_id + "=" * (-len(session_id) % 4))
            if _spelled(sealed) != session_id:
                return None  # base64 has many spellings; only one of them can be remembered as ended
            state = json.loads(self._sealer.open(_CONTEXT, "state", sealed))
        except (InterlockError, ValueError, binascii.Error):
            return None
        if state["agent"] != agent or state["upstream"] != upstream:
            return None
        return McpSession(session_id, agent, upstream, state["version"])

    def end(self, session: McpSession) -> None:
        self._ended[session.id] = None
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)


def _spelled(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
