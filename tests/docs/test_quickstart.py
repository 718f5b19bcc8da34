"""The quickstart, followed literally: every block as it stands, in order, by somebody who has nothing but a clone.

What is exchanged: the ports 7600 and 7601, because tests run beside each other. What is handed over from this machine:
its `PATH` without the environment that the tests run in, and how it reaches the package indexes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.blocks import Block, blocks
from support.plane import ROOT

_NEEDED = ("git", "node", "npm")
_MISSING = [name for name in _NEEDED if shutil.which(name) is None]
# Certificates, proxies and indexes of the package clients.
_CLIENTS = re.compile(r"PIP_|UV_|NPM_|NODE_EXTRA|SSL_|\w+_CA_|\w+_CERT|\w+_PROXY", re.IGNORECASE)


@pytest.fixture
def guide() -> Iterator[Guide]:
    if not (ROOT / ".git").exists():
        pytest.skip("the quickstart begins in a clone, and this is none")
    # A home folder is short, as the path of a socket in it has to be; pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        guide = Guide(Path(folder))
        try:
            yield guide
        finally:
            guide.end()


@pytest.mark.skipif(bool(_MISSING), reason=f"the quickstart needs {', '.join(_MISSING)}")
def test_the_quickstart_works_as_it_is_written(guide: Guide) -> None:
    for block in blocks(ROOT / "docs" / "quickstart.md"):
        guide.follow(block)
    told = guide.told
    assert "Successfully wrote to notes/today.md" in told
    assert told.count("constraint_violated") >= 1
    assert "policy_denied" in told
    assert "approval_pending" in told
    assert "Add hello" in told.split("approved  ", 1)[1], "the approved commit is in the log"
    assert "run_halted" in told
    assert "cooperative: note-taker" in told


def test_the_servers_of_the_quickstart_are_the_ones_that_the_other_tests_use() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    [git] = re.findall(r"mcp-server-git==\S+", text)
    [files] = re.findall(r"@modelcontextprotocol/server-filesystem@([0-9.]+)", text)
    assert f"{git} " in (ROOT / "requirements" / "servers-git.txt").read_text("utf-8")
    assert f'server-filesystem": "{files}"' in (ROOT / "tests" / "servers" / "package.json").read_text("utf-8")


class Guide:
    """A newcomer with an empty home folder who copies the blocks into terminals, opened in a clone."""

    def __init__(self, folder: Path) -> None:
        self._home, self._clone = folder / "home", folder / "clone"
        self._home.mkdir()
        _clone_to(self._clone)
        self._environment = _environment(self._home)
        self._ports = {"7600": str(free_port()), "7601": str(free_port())}
        self._plane: subprocess.Popen[bytes] | None = None
        self._log = folder / "plane.log"
        self._state = folder / "state"
        self.told = ""

    def follow(self, block: Block) -> None:
        text = block.text
        for written, free in self._ports.items():
            text = text.replace(written, free)
        if (name := block.value("file")) is not None:
            if name == "interlock.yaml":
                text += "".join(
                    f"{listener}: {{listen: '127.0.0.1:{port}'}}\n"
                    for listener, port in zip(("gateway", "operations"), self._ports.values(), strict=True)
                )
            (self._home / "plane" / name).write_text(text)
        elif block.value("terminal") == "plane":
            self._start_plane(text)
        elif block.language == "sh":
            self._run(text, block.line)

    def _start_plane(self, text: str) -> None:
        with self._log.open("wb") as log:
            self._plane = subprocess.Popen(
                ["bash", "-c", text.replace("interlock up", "exec interlock up")],
                env=self._environment,
                cwd=self._clone,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while "is up" not in self._log.read_text():
            assert self._plane.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the plane did not start"
            time.sleep(0.05)

    def _run(self, text: str, line: int) -> None:
        """Run a block in the first terminal: exported variables, functions and the folder stay."""
        script = (
            f"set -eu\n[ -f {self._state} ] && . {self._state}\n{text}\n"
            f"{{ declare -px; declare -f; echo cd $PWD; }} > {self._state}\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            env=self._environment,
            cwd=self._clone,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.told += done.stdout + done.stderr
        log = self._log.read_text()[-2000:] if self._plane else ""
        assert done.returncode == 0, f"docs/quickstart.md:{line}\n{done.stdout}\n{done.stderr}\n{log}"

    def end(self) -> None:
        if self._plane is not None:
            self._plane.terminate()
            self._plane.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _clone_to(folder: Path) -> None:
    """What `git clone` would bring, with changes that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _environment(home: Path) -> dict[str, str]:
    own = str(Path(sys.executable).parent)
    found = {name: value for name, value in os.environ.items() if _CLIENTS.match(name)}
    found["PATH"] = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != own)
    return {**found, "HOME": str(home), "LANG": "C.UTF-8"}
