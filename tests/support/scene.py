"""A running plane, an agent's token, and the upstream's own record of what reached it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.odd_http_upstream import AGENT, OddHttp, http_settings, odd_http, write_http_policies
from support.plane import META, Answer, PlaneProcess, running

CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"value": 1}, "_meta": META},
}
"""A good call; the modern era's headers for it are those that `Scene.modern` sends."""

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@dataclass
class Scene:
    """What a test of bad input needs: the door, and a witness behind it.

    Attributes:
        witness: Tools that reached the upstream, in order, by the upstream's own record.
        upstream: The misbehaving HTTP server, where there is one.
    """

    plane: PlaneProcess
    folder: Path
    token: str
    witness: Callable[[], list[str]]
    upstream: OddHttp | None = None
    _values: Iterator[int] = field(default_factory=itertools.count)

    def call(self, tool: str, arguments: Any = None, **params: Any) -> Any:
        """One tools/call of the agent; structured content, or `{"error": …}`."""
        return self.plane.call(self.token, tool, arguments if arguments is not None else {}, "odd", **params)

    def serves(self) -> None:
        """A good call, never sent before, gets its answer and reaches the upstream exactly once."""
        before, value = len(self.witness()), f"good {next(self._values)}"
        answer = self.call("echo", {"value": value})
        assert answer == {"echo": {"value": value}}, answer
        assert self.witness()[before:] == ["echo"]

    @contextmanager
    def nothing_executes(self) -> Generator[None]:
        """What happens inside does not reach the upstream, and the plane serves a good call afterwards."""
        before = self.witness()
        yield
        assert self.witness() == before, "something executed"
        self.serves()

    def message(self, tool: str = "echo", arguments: Any = None, **more: Any) -> dict[str, Any]:
        """A whole tools/call message of the modern era; `more` replaces its members."""
        params = {**CALL["params"], "name": tool}
        if arguments is not None:
            params["arguments"] = arguments
        return {**CALL, "params": params, **more}

    def modern(self, body: Any, headers: Mapping[str, str | None] | None = None, upstream: str = "odd") -> Answer:
        """POST a message (or raw bytes) as a client of 2026-07-28; a header of None is left out."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: dict[str, str | None] = {
            **JSON_HEADERS,
            "Authorization": f"Bearer {self.token}",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "echo",
            **(headers or {}),
        }
        return self.plane.http("POST", f"/mcp/{upstream}", raw, {k: v for k, v in sent.items() if v is not None})

    def open_session(self, token: str | None = None, upstream: str = "odd") -> str:
        """Initialize as a client of 2025-11-25; the session's id."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        headers = {**JSON_HEADERS, "Authorization": f"Bearer {token or self.token}"}
        return self.plane.http("POST", f"/mcp/{upstream}", json.dumps(body).encode(), headers).headers["mcp-session-id"]

    def legacy(self, body: Any, session: str, headers: Mapping[str, str] | None = None, token: str = "") -> Answer:
        """POST a message (or raw bytes) in a session of 2025-11-25."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            **JSON_HEADERS,
            "Authorization": f"Bearer {token or self.token}",
            "MCP-Protocol-Version": "2025-11-25",
            "Mcp-Session-Id": session,
            **(headers or {}),
        }
        return self.plane.http("POST", "/mcp/odd", raw, sent)

    def last_call(self) -> dict[str, Any]:
        """The newest recorded call."""
        return self.plane.api("GET", "/v1/calls?limit=1")["calls"][0]

    def run(self) -> dict[str, Any]:
        """The agent's newest run, with its counters."""
        [run] = self.plane.api("GET", f"/v1/runs?agent={AGENT}&limit=1")["runs"]
        return self.plane.api("GET", f"/v1/runs/{run['id']}")

    def leaves(self) -> int:
        """How long the journal is."""
        return self.plane.api("GET", "/v1/status")["leaves"]


@contextmanager
def http_scene(
    folder: Path, *, era: str = "modern", scoped: tuple[str, ...] = (), more: Mapping[str, Any] | None = None, **up: Any
) -> Generator[Scene]:
    """A plane with the misbehaving HTTP server behind it.

    Args:
        folder: Of the plane's files.
        era: Which one the upstream speaks.
        scoped: Tools whose results are cut to the field `echo`.
        more: Settings beside the upstream's.
        up: Settings of the upstream.
    """
    with odd_http(era) as odd:
        write_http_policies(folder / "policies", scoped=scoped)
        with running(folder, {**http_settings(folder, odd, **up), **(more or {})}) as plane:
            yield Scene(plane, folder, plane.token(AGENT), odd.tools, odd)
