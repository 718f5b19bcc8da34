"""A real plane in a process of its own, started as a user would, and everything needed to poke at it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

ROOT = Path(__file__).resolve().parents[2]
CRM = ROOT / "examples" / "customer-operations"
START_TIMEOUT_S = 60.0
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class PlaneDied(Exception):
    """The plane ended, or did not get ready; the message has the end of its log."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PlaneProcess:
    """`interlock up` in a folder, on free ports. Settings are written by the test."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "interlock.yaml"
        # The kernel allows about 100 bytes for a socket's path; pytest's folders are longer.
        self._short = Path(f"/tmp/ilk-{os.getpid()}-{abs(hash(str(folder))) % 10**8}.sock")
        tree: dict[str, Any] = {
            "policies": str(CRM / "policies"),
            "notify": {"#oncall-agents": {"type": "file", "path": "notices.jsonl"}},
            **settings,
        }
        tree["gateway"] = {"listen": "127.0.0.1:0", **tree.get("gateway", {})}
        tree["operations"] = {"listen": "127.0.0.1:0", "socket": str(self._short), **tree.get("operations", {})}
        self.settings = tree
        self.write_settings()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.watch = ""

    def write_settings(self) -> None:
        self.config.write_text(json.dumps(self.settings, indent=1), "utf-8")

    # Life -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.folder / "plane.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self, *options: str, wrapper: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it listens."""
        command = [*wrapper, sys.executable, "-m", "interlock", "-c", str(self.config), "up", "--json", *options]
        log = (self.folder / "plane.log").open("ab")
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **(environment or {})}, cwd=self.folder
        )
        log.close()
        assert self._process.stdout is not None
        text = ""
        # The facts are printed once everything listens; an early end of the stream is an early end of the plane.
        while not text.rstrip().endswith("}"):
            line = self._process.stdout.readline()
            if not line:
                raise PlaneDied(f"exit {self._finish()}\n{text}\n{self.log[-4000:]}")
            text += line.decode()
        facts = json.loads(text)
        if "error" in facts:
            raise PlaneDied(f"exit {self._finish()}\n{text}\n{self.log[-4000:]}")
        self.url, self.watch = facts["gateway"], facts["watch"]

    def stop(self) -> int:
        """Ask it to stop and wait until it did."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._finish()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._finish()

    def _finish(self) -> int:
        assert self._process is not None
        code = self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        if self.running:
            self.stop()
        with suppress(FileNotFoundError):
            self._short.unlink()

    # Operating --------------------------------------------------------------------------------------

    @property
    def socket_path(self) -> Path:
        return Path(self.settings["operations"]["socket"])

    def operate(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One request on the operator socket."""
        connection = http.client.HTTPConnection("operator", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(60)
        connection.sock.connect(str(self.socket_path))
        try:
            connection.request(method, path, json.dumps(body).encode() if body is not None else None)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a request that must succeed."""
        answer = self.operate(method, path, body)
        assert answer.status < 400, answer.body
        return answer.json

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line against this plane."""
        command = [sys.executable, "-m", "interlock", "-c", str(self.config), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, timeout=120)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def token(self, agent: str = "support-agent-v2", **more: Any) -> str:
        return self.api("POST", "/v1/tokens", {"agent": agent, **more})["token"]

    def opener_token(self, *agents: str, name: str = "host") -> str:
        return self.api("POST", "/v1/tokens", {"opener": name, "agents": list(agents or ("support-agent-v2",))})[
            "token"
        ]

    # As an agent ------------------------------------------------------------------------------------

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One HTTP request to the gateway, byte for byte."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def rpc(self, token: str, body: Any, upstream: str = "crm", headers: Mapping[str, str] | None = None) -> Answer:
        """POST a JSON-RPC message (or raw bytes) in the modern era, with headers that agree with it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
        }
        if isinstance(body, dict):
            sent["Mcp-Method"] = str(body.get("method"))
            params: Any = body.get("params")
            if isinstance(params, dict) and "name" in params:
                sent["Mcp-Name"] = str(params["name"])
        return self.http("POST", f"/mcp/{upstream}", raw, {**sent, **(headers or {})})

    def call(self, token: str, tool: str, arguments: Any, upstream: str = "crm", **params: Any) -> Any:
        """One tools/call; returns the structured content, which is `{"error": …}` for a refusal by the plane."""
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": META, **params},
        }
        result = self.rpc(token, message, upstream).json["result"]
        return result.get("structuredContent") or result

    @asynccontextmanager
    async def client(
        self, token: str, upstream: str = "crm", mode: str = "auto", **options: Any
    ) -> AsyncGenerator[Any]:
        """The official client, connected through the gateway."""
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
            Client(streamable_http_client(f"{self.url}/mcp/{upstream}", http_client=http), mode=mode, **options) as it,
        ):
            yield it


@contextmanager
def running(
    folder: Path, settings: Mapping[str, Any], *options: str, wrapper: tuple[str, ...] = ()
) -> Generator[PlaneProcess]:
    """A plane that is started now, by a command before it if one is named, and stopped at the end."""
    plane = PlaneProcess(folder, settings)
    try:
        plane.start(*options, wrapper=wrapper)
        yield plane
    finally:
        plane.close()


def crm_settings(database: Path, **more: Any) -> dict[str, Any]:
    """Settings with the customer operations server behind the plane."""
    command = [sys.executable, str(CRM / "server" / "main.py"), "--database", str(database)]
    return {"upstreams": {"crm": {"command": command}}, **more}


def crm_policies(folder: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the example's policy files in `folder/policies`, with texts of the agent file replaced."""
    policies = folder / "policies"
    shutil.copytree(CRM / "policies", policies)
    agent = policies / "agents" / "support-agent.yaml"
    text = agent.read_text("utf-8")
    for written, instead in changes:
        assert written in text
        text = text.replace(written, instead)
    agent.write_text(text, "utf-8")
    return policies


def eventually(condition: Any, what: str, seconds: float = 20.0) -> Any:
    """Wait for something that another process does; fails with `what` if it never happens."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)
