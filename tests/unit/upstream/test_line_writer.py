"""A line is in the pipe or it is nowhere: none is sent late, and none that was given up becomes a message."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator

import pytest

from interlock.plane.ports import NoAnswer, NotSent
from interlock.upstream.line_writer import LineWriter

PATIENCE_S = 30.0
SOON_S = 0.02


class Pipe:
    """A pipe with a writer, whose other end is read only when the test says so."""

    def __init__(self) -> None:
        self.end, ours = os.pipe()
        os.set_blocking(self.end, False)
        # Where there is F_GETPIPE_SZ the size is known, and elsewhere it is that of common systems.
        self.size = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 65536
        self.writer = LineWriter(ours)

    async def write(self, line: bytes, start_within_s: float = PATIENCE_S, finish_within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.write(line, start_within_s, finish_within_s)

    async def fill(self) -> None:
        await self.write(b"x" * (self.size - 1))

    def read(self) -> bytes:
        """All that is in the pipe now."""
        found = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.end, 1 << 20):
                found += chunk
        return found


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    found = Pipe()
    yield found
    found.writer.close()
    with contextlib.suppress(OSError):
        os.close(found.end)


def _is_message(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


async def test_lines_are_in_the_pipe_when_they_are_written(pipe: Pipe) -> None:
    await pipe.write(b"one")
    await pipe.write(b"two", 0.0, 0.0)
    assert pipe.read() == b"one\ntwo\n"


async def test_a_line_for_which_there_is_no_room_in_time_is_never_sent(pipe: Pipe) -> None:
    await pipe.fill()
    with pytest.raises(NotSent, match="does not read"):
        await pipe.write(b"late", SOON_S)
    pipe.read()
    await pipe.write(b"next")
    assert pipe.read() == b"next\n"


async def test_a_line_that_is_cancelled_before_it_begins_is_never_sent(pipe: Pipe) -> None:
    await pipe.fill()
    writing = asyncio.create_task(pipe.write(b"late"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(NotSent, match="given up before its first byte"):
        await writing
    pipe.read()
    await pipe.write(b"next")
    assert pipe.read() == b"next\n"


async def test_a_line_larger_than_the_pipe_arrives_whole_and_others_wait_for_its_end(pipe: Pipe) -> None:
    large = b"x" * (3 * pipe.size)
    writing = asyncio.gather(pipe.write(large, SOON_S), *(pipe.write(b"%d" % number) for number in range(3)))
    found = b""
    while not writing.done():
        found += pipe.read()
        await asyncio.sleep(0)
    await writing
    assert found + pipe.read() == large + b"\n0\n1\n2\n"


@pytest.mark.parametrize("missing", [0, 1, 5000], ids=["only the line break", "a byte", "much"])
async def test_a_line_that_was_begun_and_given_up_never_becomes_a_message(pipe: Pipe, missing: int) -> None:
    message = b'{"id":1,"text":"' + b"x" * (pipe.size + missing - 18) + b'"}'
    assert len(message) == pipe.size + missing
    with pytest.raises(NoAnswer, match="does not read"):
        await pipe.write(message, PATIENCE_S, SOON_S)
    # Whatever is given up next, the cut line stays cut.
    with pytest.raises(NotSent):
        await pipe.write(b"{}", SOON_S)
    found = pipe.read()
    await pipe.write(b'{"id":2}')
    lines = (found + pipe.read()).splitlines()
    assert [_is_message(line) for line in lines] == [False, True]
    assert lines[-1] == b'{"id":2}'


async def test_a_pipe_that_nobody_can_read_any_more_is_broken_and_takes_nothing(pipe: Pipe) -> None:
    assert not pipe.writer.broken
    os.close(pipe.end)
    with pytest.raises(NotSent, match="closed its input"):
        await pipe.write(b"one")
    assert pipe.writer.broken


@pytest.mark.parametrize(("size", "found"), [(10, NotSent), (200_000, NoAnswer)])
@pytest.mark.parametrize("whose", ["reader", "writer"])
async def test_a_line_that_waits_when_an_end_is_closed_is_given_up(
    pipe: Pipe, size: int, found: type[Exception], whose: str
) -> None:
    if found is NotSent:
        await pipe.fill()
    writing = asyncio.create_task(pipe.write(b"x" * size))
    await asyncio.sleep(0)
    os.close(pipe.end) if whose == "reader" else pipe.writer.close()
    with pytest.raises(found, match="closed"):
        await writing


async def test_a_closed_writer_takes_nothing(pipe: Pipe) -> None:
    pipe.writer.close()
    pipe.writer.close()
    with pytest.raises(NotSent):
        await pipe.write(b"one")
