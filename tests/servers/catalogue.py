"""Third-party MCP servers that tests put behind the plane: how each is started, and whether it is installed.

`tests/servers/install.sh` installs them. All speak stdio; none is started over HTTP, because server-everything
would listen on every interface.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).parents[2]
INSTALLED: Final = ROOT / ".cache" / "servers"

Needs = Literal["python", "node"]


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start.

    Attributes:
        environment: Variables on top of the caller's own.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ThirdPartyServer:
    """One server as it is installed.

    Attributes:
        name: Name of its package, without the scope.
        needs: What installs and runs it; the word that `install.sh` takes.
        program: The file that must exist.
        commands: Further programs that must be on the PATH.
        start: Given a directory of the test's own, prepares it and says how to start the server on it.
    """

    name: str
    needs: Needs
    program: Path
    commands: tuple[str, ...]
    start: Callable[[Path, Path], Launch] = field(repr=False)

    def missing(self) -> str | None:
        """A reason to skip, or None if the server can be started."""
        if not self.program.exists():
            return f"{self.name} is not installed; run `tests/servers/install.sh {self.needs}`"
        absent = [command for command in self.commands if shutil.which(command) is None]
        return f"{self.name} needs {', '.join(absent)} on the PATH" if absent else None

    def launch(self, scratch: Path) -> Launch:
        """Prepare the scratch directory, which must exist and be absolute, and return what to start."""
        return self.start(self.program, scratch)


def _git(program: Path, scratch: Path) -> Launch:
    repository = scratch / "repository"
    # The server refuses a path that is no repository. No template: the user's own hooks stay out of tests.
    subprocess.run(["git", "init", "--quiet", "--template=", "--initial-branch=main", repository], check=True)
    identity = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Test"), ("EMAIL", "test@example.com"))
    }
    return Launch((str(program), "--repository", str(repository)), identity)


def _time(program: Path, scratch: Path) -> Launch:
    del scratch  # it keeps nothing
    # Its tools' descriptions name the local time zone, and so would their pins.
    return Launch((str(program), "--local-timezone", "UTC"))


def _sqlite(program: Path, scratch: Path) -> Launch:
    return Launch((str(program), "--db-path", str(scratch / "server.db")))


def _everything(program: Path, scratch: Path) -> Launch:
    del scratch  # it keeps nothing
    return Launch(("node", str(program), "stdio"))


def _filesystem(program: Path, scratch: Path) -> Launch:
    files = scratch / "files"
    files.mkdir(exist_ok=True)
    return Launch(("node", str(program), str(files)))


def _memory(program: Path, scratch: Path) -> Launch:
    return Launch(("node", str(program)), {"MEMORY_FILE_PATH": str(scratch / "memory.jsonl")})


def _python(name: str, start: Callable[[Path, Path], Launch], *commands: str) -> ThirdPartyServer:
    program = INSTALLED / name / "bin" / f"mcp-server-{name}"
    return ThirdPartyServer(f"mcp-server-{name}", "python", program, commands, start)


def _node(name: str, start: Callable[[Path, Path], Launch]) -> ThirdPartyServer:
    program = INSTALLED / "node" / "node_modules" / "@modelcontextprotocol" / name / "dist" / "index.js"
    return ThirdPartyServer(name, "node", program, ("node",), start)


SERVERS: Final[Mapping[str, ThirdPartyServer]] = {
    server.name: server
    for server in (
        _python("git", _git, "git"),
        _python("time", _time),
        _python("sqlite", _sqlite),
        _node("server-everything", _everything),
        _node("server-filesystem", _filesystem),
        _node("server-memory", _memory),
    )
}
