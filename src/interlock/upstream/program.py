"""Starting an upstream as a subprocess: an explicit environment, a process group of its own, pipes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlock.core.errors import UpstreamUnavailable
from interlock.upstream.line_writer import LineWriter


@dataclass(frozen=True, slots=True)
class Program:
    """What to start.

    Attributes:
        environment: The whole environment of the process, secrets included; nothing is inherited.
        redact: Blanks secrets in what the process writes to its standard error.
    """

    upstream: str
    argv: tuple[str, ...]
    cwd: Path
    environment: dict[str, str]
    max_line_bytes: int
    redact: Callable[[str], str]


class Pipes(asyncio.subprocess.SubprocessStreamProtocol):
    """What a process writes, and its end.

    `asyncio.subprocess.Process.wait` also waits for the pipes, which forked children may hold open.
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started, and the way to its input."""

    transport: asyncio.SubprocessTransport
    pipes: Pipes
    stdin: LineWriter


async def start(program: Program) -> Started:
    """Start the process. Raises UpstreamUnavailable."""
    loop = asyncio.get_running_loop()
    try:
        theirs, ours = os.pipe()
        stdin = LineWriter(ours)
        try:
            transport, pipes = await loop.subprocess_exec(
                lambda: Pipes(program.max_line_bytes, loop),
                *program.argv,
                stdin=theirs,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=program.cwd,
                env=program.environment,
                start_new_session=True,  # its own process group, and no terminal of ours
            )
        except BaseException:
            stdin.close()
            raise
        finally:
            os.close(theirs)
    except (OSError, ValueError) as error:
        raise UpstreamUnavailable(
            f"The upstream {program.upstream} cannot be started ({error}).",
            remedy="Check `command` and `cwd` in the settings.",
        ) from None
    return Started(transport, pipes, stdin)
