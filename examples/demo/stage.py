"""The stage: starts the plane as a user would, tells the story as it happens, and checks every step of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_MARKER = ".interlock-demo"
_START_TIMEOUT_S = 60


class StoryFailed(Exception):
    """Something did not go as the story says."""


@dataclass(frozen=True)
class Scenario:
    """One story.

    Attributes:
        upstream: Id of the upstream in the policy files.
        agent: Id of the agent.
        folder: Its folder under examples/.
        next_steps: Commands to try afterwards, each with what it does.
    """

    title: str
    upstream: str
    agent: str
    folder: str
    story: Callable[[Stage], Coroutine[Any, Any, None]]
    next_steps: Sequence[tuple[str, str]]


class Stage:
    """A plane in a folder of its own, with the scenario's server behind it."""

    def __init__(self, scenario: Scenario, root: Path, folder: Path, port: int) -> None:
        self.scenario, self.root, self.folder = scenario, root, folder
        self.database = folder / f"{scenario.upstream}.db"
        self.config = folder / "interlock.yaml"
        self.gateway = f"http://127.0.0.1:{port}"
        self._port = port
        self._plane: subprocess.Popen[bytes] | None = None
        self._socket_folder: str | None = None
        self._step = 0
        self._color = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    # Starting and stopping --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._clean_folder()
        self._write_settings()
        print(f"\n{self._paint('1', self.scenario.title)}\n")
        log = (self.folder / "plane.log").open("wb")
        self._plane = subprocess.Popen([*self._interlock(), "up"], stdout=log, stderr=log, start_new_session=True)
        log.close()
        self._wait_until_ready()
        policies = self._shown(self.root / "examples" / self.scenario.folder / "policies")
        print(f"The plane is up: agents reach the server {self.scenario.upstream!r} only through")
        print(f"  {self.gateway}/mcp/{self.scenario.upstream}")
        print(f"Its policy files: {policies}\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._plane is not None and self._plane.poll() is None:
            self._plane.send_signal(signal.SIGTERM)
            try:
                self._plane.wait(30)
            except subprocess.TimeoutExpired:
                self._plane.kill()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _clean_folder(self) -> None:
        """Begin anew, but delete only what an earlier demo made."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / _MARKER).exists():
                raise StoryFailed(f"{self.folder} is not empty and was not made by this demo")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARKER).touch()

    def _write_settings(self) -> None:
        source = self.root / "examples" / self.scenario.folder
        socket = self.folder / "data" / "operator.sock"
        if len(str(socket)) > 100:  # a socket's path is short by nature
            self._socket_folder = tempfile.mkdtemp(prefix="interlock-")
            socket = Path(self._socket_folder) / "operator.sock"
        settings = {
            "policies": str(source / "policies"),
            "gateway": {"listen": f"127.0.0.1:{self._port}"},
            "operations": {"listen": f"127.0.0.1:{self._port + 1}", "socket": str(socket)},
            "notify": {"#oncall-agents": {"type": "file", "path": "notices.jsonl"}},
            "upstreams": {
                self.scenario.upstream: {
                    "command": [sys.executable, str(source / "server" / "main.py"), "--database", str(self.database)]
                }
            },
        }
        # JSON is YAML; this is the settings file that a person would write, made by a program.
        self.config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")

    def _wait_until_ready(self) -> None:
        assert self._plane is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._plane.poll() is not None:
                log = (self.folder / "plane.log").read_text("utf-8", "replace")
                raise StoryFailed(f"the plane did not start:\n{textwrap.indent(log[-2000:], '  ')}")
            try:
                with urllib.request.urlopen(f"{self.gateway}/readyz", timeout=2) as response:
                    if response.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise StoryFailed("the plane did not become ready")

    def wait(self) -> None:
        """Keep the plane up until somebody presses Ctrl-C."""
        assert self._plane is not None
        print("The plane stays up. Stop it with Ctrl-C.")
        self._plane.wait()

    # Telling ----------------------------------------------------------------------------------------

    def step(self, text: str) -> None:
        self._step += 1
        print(f"{self._paint('1', f'{self._step:2}')}  {text}")

    def call(self, tool: str, arguments: dict[str, Any]) -> None:
        print(f"      agent   {tool} {_short(json.dumps(arguments), 96)}")

    def permitted(self, text: str) -> None:
        print(f"      plane   {self._paint('32', 'permit')}  {text}")

    def held(self, text: str) -> None:
        print(f"      plane   {self._paint('33', 'hold')}    {text}")

    def denied(self, error: dict[str, Any]) -> None:
        word = "halted" if error["code"] == "run_halted" else "deny"
        print(f"      plane   {self._paint('31', word.ljust(6))}  {error['code']}: {_short(error['message'], 150)}")

    def fact(self, text: str) -> None:
        print(f"              {text}")

    def expect(self, condition: bool, what: str) -> None:
        """The story is checked while it is told: what does not hold ends it with an error."""
        if not condition:
            raise StoryFailed(what)

    def say_next(self, steps: Sequence[tuple[str, str]]) -> None:
        print(f"\n{self._paint('1', 'Try next')}, while the plane is up (`make run` without --once):\n")
        command = f"  {self._shown(Path(sys.executable).parent / 'interlock')} -c {self._shown(self.config)}"
        for what, why in steps:
            print(f"{command} {what}")
            print(f"      {why}")
        print()

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text

    def _shown(self, path: Path) -> str:
        """A path as one would type it here."""
        relative = os.path.relpath(path)
        return relative if len(relative) < len(str(path)) else str(path)

    # Operating --------------------------------------------------------------------------------------

    def _interlock(self) -> list[str]:
        return [sys.executable, "-m", "interlock", "-c", str(self.config)]

    def operator(self, *arguments: str) -> dict[str, Any]:
        """Run a command as the operator, on the real command line; return its JSON."""
        done = subprocess.run([*self._interlock(), *arguments, "--json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StoryFailed(f"`interlock {' '.join(arguments)}` failed: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def open_run(self, task: str) -> dict[str, Any]:
        """Open a run as the host application does: with a credential that the agent never holds."""
        opener = self.operator("token", "--opener", "demo-host", "--agent", self.scenario.agent)["token"]
        request = urllib.request.Request(
            f"{self.gateway}/v1/runs",
            json.dumps({"agent": self.scenario.agent, "task": task}).encode(),
            {"Authorization": f"Bearer {opener}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def upstream_rows(self, sql: str, *values: object) -> list[Any]:
        """Look into the upstream's own database: what really reached it and what it really did."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
            rows = connection.execute(sql, values).fetchall()
        connection.close()
        return rows

    def notices(self) -> list[dict[str, Any]]:
        """Notices that reached the on-call file, waiting a moment for the last one."""
        path = self.folder / "notices.jsonl"
        deadline = time.monotonic() + 10
        # The file is there a moment before its first line is.
        while not (text := path.read_text("utf-8") if path.exists() else "").endswith("\n"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return [json.loads(line) for line in text.splitlines()]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
