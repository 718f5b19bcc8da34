"""An MCP server over HTTP that misbehaves on request, in the test's own process; standard library only.

Each tool is named after what it does to the plane. `reached` has every tools/call that really arrived, in
order, `methods` the method of every message, `strays` every request to a path that is not the endpoint. What
never ends by itself ends when the server is closed. `mood` makes the handshake or the list go wrong instead of a
call; `offered` is what it lists beside its own tools, or instead of those of the same name; such a tool of
another name answers as `echo` does.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.leaks import FORMS

FREE: dict[str, Any] = {"type": "object", "properties": {"value": {}, "form": {"type": "string"}}}
NAMES = (
    "echo",
    "sse",
    "redirect",
    "garbage",
    "page",
    "not-utf8",
    "huge",
    "bomb",
    "cut",
    "reset",
    "status-500",
    "status-502",
    "status-504",
    "status-404",
    "rpc-error",
    "rpc-error-400",
    "other-id",
    "list",
    "infinite-number",
    "twice",
    "silent",
    "slow-headers",
    "header-flood",
    "endless-stream",
    "flood-stream",
    "giant-event",
    "cut-stream",
    "asks-back",
    "leak",
    "leak-error",
    "leak-page",
    "misfit",
    "backtracking",
    "mirrored",
)
PROMISED: dict[str, Any] = {
    "type": "object",
    "properties": {"echo": {"type": "object", "properties": {"value": {"type": "integer"}}}},
    "required": ["echo"],
    "additionalProperties": False,
}
BACKTRACKING: dict[str, Any] = {"type": "object", "properties": {"value": {"type": "string", "pattern": "^(a+)+$"}}}
AGENT = "odd-agent"


def definitions() -> list[dict[str, Any]]:
    """What the server lists."""
    mirrored = {"type": "string", "x-mcp-header": "Customer"}
    special: dict[str, dict[str, Any]] = {
        "mirrored": {"inputSchema": {"type": "object", "properties": {"customer": mirrored}}},
        "misfit": {"outputSchema": PROMISED},
        "backtracking": {"inputSchema": BACKTRACKING},
    }
    listed = ({"name": name, "description": f"Does {name}.", "inputSchema": FREE} for name in NAMES)
    return [{**tool, **special.get(str(tool["name"]), {})} for tool in listed]


@dataclass(frozen=True)
class Reached:
    """One tools/call as it arrived."""

    tool: str
    arguments: dict[str, Any]
    headers: dict[str, str]
    meta: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class OddHttp:
    """The server and what it saw."""

    port: int
    era: str
    elsewhere: str = ""
    mood: str = "good"
    offered: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    reached: list[Reached] = field(default_factory=list[Reached])
    strays: list[str] = field(default_factory=list[str])
    methods: list[str] = field(default_factory=list[str])
    replies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    sessions: set[str] = field(default_factory=set[str])
    initialized: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def tools(self) -> list[str]:
        return [call.tool for call in self.reached]


@cache
def bomb() -> bytes:
    """256 MB of blanks as 260 KB of gzip."""
    return gzip.compress(b" " * 268_435_456, compresslevel=9)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    odd: OddHttp

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    # HTTP ---------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if self.path != "/mcp":
            self.odd.strays.append(f"POST {self.path}")
            self.answer(200, b"{}")
            return
        with suppress(OSError):  # the plane hung up, which is the point of many of these
            self.message(json.loads(body))

    def do_GET(self) -> None:
        self.odd.strays.append(f"GET {self.path}")
        self.answer(405, b"")

    def do_DELETE(self) -> None:
        self.answer(204, b"")

    def answer(
        self, status: int, body: bytes, kind: str = "application/json", more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> Callable[[bytes], object]:
        """Begin a stream that only the end of the connection ends."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return self.wfile.write

    def reply(self, number: Any, result: Any, more: Mapping[str, str] | None = None) -> None:
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode(), more=more)

    def error(self, status: int, number: Any, message: str) -> None:
        body = {"jsonrpc": "2.0", "id": number, "error": {"code": -32000, "message": message}}
        self.answer(status, json.dumps(body).encode())

    # MCP ----------------------------------------------------------------------------------------------

    def message(self, message: dict[str, Any]) -> None:
        method, number = message.get("method"), message.get("id")
        if method is None:
            self.odd.replies.append(message)
            self.answer(202, b"")
            return
        self.odd.methods.append(method)
        session = self.headers.get("Mcp-Session-Id")
        if self.odd.era == "legacy" and method != "initialize" and session not in self.odd.sessions:
            self.answer(404 if session else 400, b"no session", "text/plain")
        elif number is None:
            self.answer(202, b"")
        elif method == "tools/list":
            self.list(number, (message.get("params") or {}).get("cursor") or "")
        elif method == "tools/call":
            self.call(number, message["params"])
        else:
            self.handshake(method, number)

    def handshake(self, method: str, number: Any) -> None:
        mood = self.odd.mood
        if mood == "silent":
            self.odd.closing.wait()
        elif mood == "status":
            self.answer(503, b"down for maintenance", "text/plain")
        elif mood == "garbage":
            self.answer(200, b"<html>welcome</html>", "text/html")
        elif mood == "leaking":
            self.error(200, number, f"the key {self.credential()} was revoked")
        elif mood == "redirect":
            self.answer(307, b"", more={"Location": self.odd.elsewhere})
        elif method == "server/discover" and self.odd.era == "modern":
            facts = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
            self.reply(number, {**facts, "ttlMs": 0, "cacheScope": "private"})
        elif method == "initialize" and self.odd.era == "legacy":
            self.odd.initialized += 1
            session = f"session-{self.odd.initialized}"
            self.odd.sessions.add(session)
            facts = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
            self.reply(number, {**facts, "serverInfo": {"name": "odd", "version": "1"}}, {"Mcp-Session-Id": session})
        else:
            body = {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}}
            self.answer(404, json.dumps(body).encode())

    def list(self, number: Any, cursor: str) -> None:
        if self.odd.mood == "list-endless":
            page = int(cursor or "0")
            tools = [{"name": f"tool-{page}-{place}", "inputSchema": FREE} for place in range(40)]
            self.reply(number, {"tools": tools, "nextCursor": str(page + 1)})
        elif self.odd.mood == "list-flood":
            self.reply(number, {"tools": [{"name": f"t{place}"} for place in range(40_000)]})
        elif self.odd.mood == "list-huge":
            self.reply(number, {"tools": [], "padding": "x" * 10_000_000})
        elif self.odd.mood == "list-garbage":
            self.answer(200, b'{"jsonrpc":"2.0","id":%d,"result":{"tools":{"a":1,"a":2}}}' % number)
        elif self.odd.mood == "list-leaking":
            self.error(200, number, f"the key {self.credential()} may not list")
        else:
            instead = {tool.get("name") for tool in self.odd.offered}
            self.reply(number, {"tools": [t for t in definitions() if t["name"] not in instead] + self.odd.offered})

    def call(self, number: Any, params: dict[str, Any]) -> None:
        name, arguments = params["name"], params.get("arguments") or {}
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.odd.reached.append(Reached(name, arguments, headers, params.get("_meta") or {}))
        if name in ("echo", "mirrored", "backtracking") or name not in NAMES:
            self.reply(number, _result({"echo": arguments}))
        elif name == "misfit":
            self.reply(number, _result({"echo": ["of", "another", "type"], "salary": 90_000}))
        elif name.startswith("status-"):
            self.answer(int(name[7:]), b"it did not go well", "text/plain")
        elif name in _STREAMS:
            self.streamed(name, number)
        elif name.startswith("leak"):
            self.leak(name, number, str(arguments.get("form", "plain")))
        elif name in _WHOLE:
            self.whole(name, number)
        else:
            self.broken(name)

    def whole(self, name: str, number: Any) -> None:
        """Answers that are complete, and wrong."""
        head = b'{"jsonrpc":"2.0","id":%d,"result":' % number
        if name == "redirect":
            self.answer(307, b"", more={"Location": self.odd.elsewhere})
        elif name == "garbage":
            self.answer(200, b'{"jsonrpc": "2.0", "id": ')
        elif name == "page":
            self.answer(200, b"<html>please log in</html>", "text/html")
        elif name == "not-utf8":
            self.answer(200, head + b'{"content":[],"structuredContent":{"echo":"\xff"}}}')
        elif name == "rpc-error":
            self.error(200, number, "it does not work")
        elif name == "rpc-error-400":
            self.error(400, number, "it does not work")
        elif name == "other-id":
            self.reply(number + 1000, _result({"echo": "of another call"}))
        elif name == "list":
            self.reply(number, ["a", "list"])
        elif name == "infinite-number":
            self.answer(200, head + b'{"content":[],"structuredContent":{"echo":1e400}}}')
        elif name == "twice":
            self.answer(200, head + b'{"content":[],"structuredContent":{"echo":1},"structuredContent":{"echo":2}}}')

    def broken(self, name: str) -> None:
        """Answers that do not end, or end too early."""
        self.close_connection = True
        if name == "huge":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b" " * 1_000_000)
        elif name == "bomb":
            self.answer(200, bomb(), more={"Content-Encoding": "gzip"})
        elif name == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"jsonrpc": "2.0"')
        elif name == "silent":
            self.odd.closing.wait()
        elif name == "slow-headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.odd.closing.wait(0.05):
                self.wfile.write(b"a")
        elif name == "header-flood":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Flood: ")
            for _ in range(1000):
                self.wfile.write(b"a" * 1_000_000)

    def streamed(self, name: str, number: Any) -> None:
        write = self.stream()
        answer = _event({"jsonrpc": "2.0", "id": number, "result": _result({"echo": name})})
        if name == "sse":
            write(b": hello\r\n\r\n" + answer.replace(b"\n", b"\r\n"))
        elif name == "asks-back":
            write(_event({"jsonrpc": "2.0", "id": "q1", "method": "sampling/createMessage", "params": {}}))
            deadline = time.monotonic() + 10
            while not self.odd.replies and time.monotonic() < deadline:
                time.sleep(0.01)
            write(answer)
        elif name == "cut-stream":
            write(answer[: len(answer) // 2])
        elif name == "endless-stream":
            while not self.odd.closing.wait(0.05):
                write(b": still here\n\n")
        elif name == "flood-stream":
            notice = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 10_000}}
            for _ in range(100_000):
                write(_event(notice))
        elif name == "giant-event":
            write(b"data: ")
            for _ in range(1000):
                write(b"x" * 1_000_000)

    def leak(self, name: str, number: Any, form: str) -> None:
        text = FORMS[form](self.credential())
        if name == "leak-error":
            self.error(200, number, f"cannot log in with {text}")
        elif name == "leak-page":
            self.answer(500, f"cannot log in with {text}".encode(), "text/plain")
        else:
            # Escapes of JSON are part of some forms, so the text goes into the answer as it is.
            body = '{"content":[{"type":"text","text":"' + text + '"}],"structuredContent":{"note":"see the text"}}'
            self.answer(200, b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (number, body.encode()))

    def credential(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


_STREAMS = frozenset({"sse", "asks-back", "cut-stream", "endless-stream", "flood-stream", "giant-event"})
_WHOLE = frozenset(
    {
        "redirect",
        "garbage",
        "page",
        "not-utf8",
        "rpc-error",
        "rpc-error-400",
        "other-id",
        "list",
        "infinite-number",
        "twice",
    }
)


def _result(structured: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(structured)}], "structuredContent": structured}


def _event(message: dict[str, Any]) -> bytes:
    return b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"


@contextmanager
def odd_http(era: str = "modern") -> Generator[OddHttp]:
    """Serve on a free port of 127.0.0.1 until the end of the block."""
    odd = OddHttp(0, era)
    handler = type("Handler", (_Handler,), {"odd": odd})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    odd.port = server.server_address[1]
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    try:
        yield odd
    finally:
        odd.closing.set()
        server.shutdown()
        serving.join()
        server.socket.close()


def write_http_policies(folder: Path, *, scoped: tuple[str, ...] = ()) -> Path:
    """Files that allow every tool of the server, pinned; results of the `scoped` ones are cut to `echo`."""
    from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
    from interlock.core.tool import pinned_tool

    (folder / "agents").mkdir(parents=True)
    (folder / "tools").mkdir()
    entries = [{"name": f"odd/{name}", **({"scope": ["echo"]} if name in scoped else {})} for name in NAMES]
    agent = {"agent": {"id": AGENT, "identity": "odd@example"}, "tools": {"allowed": entries}}
    (folder / "agents" / "odd.yaml").write_text(json.dumps({**agent, "execution": {"max_steps": 1_000_000}}))
    effects = {name: {"effect": "reversible"} for name in NAMES}
    (folder / "tools" / "odd.yaml").write_text(json.dumps({"upstream": "odd", "tools": effects}))
    tools = tuple(pinned_tool("odd", definition) for definition in definitions())
    (folder / LOCK_NAME).write_bytes(write_lock({"odd": PinnedUpstream("odd", "2026-07-28", "odd 1", tools)}))
    return folder


def http_settings(folder: Path, odd: OddHttp, **upstream: Any) -> dict[str, Any]:
    """Settings for a plane in `folder` with the server behind it."""
    return {
        "policies": str(folder / "policies"),
        "upstreams": {"odd": {"url": odd.url, **upstream}},
        "limits": {"calls_per_second": 1_000_000, "burst": 1_000_000},
        "log": {"level": "debug"},
    }
