"""Upstreams as real processes: whatever one does, callers learn what became of their call and nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.errors import UpstreamUnavailable
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, Progress, SealedCall
from interlock.upstream import stdio as module
from interlock.upstream.connection import Hooks
from interlock.upstream.link import Credentials, UpstreamConfig, connect
from interlock.upstream.program import Program
from interlock.upstream.stdio import StdioConnection
from support.bundles import TEXT, tool

SEND = tool("send", {"to": TEXT})
PATIENCE_S = 30.0
"""Far more than anything here takes; a test that gets there found a hang."""

SERVER = """
import json, os, signal, sys, time
# Held by every process that is forked from here: its reader sees the end when the last one is gone.
life = open(sys.argv[1], "w")
def say(**message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
def ask():
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit(0)
def stay():
    while True:
        signal.pause()
def leave_a_child():
    ready, done = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(done, b"x")
        stay()
    os.read(ready, 1)
"""


class Upstream:
    """A connection to a program, what its hooks were told, and how its processes end."""

    def __init__(self, connection: StdioConnection, life: asyncio.Task[bytes]) -> None:
        self.connection, self._life = connection, life
        self.late: asyncio.Queue[tuple[str, Answer]] = asyncio.Queue()
        self.list_changes = 0

    async def call(
        self,
        on_progress: OnProgress | None = None,
        *,
        to: str = "x",
        timeout_s: float = 60.0,
        start_within_s: float = PATIENCE_S,
    ) -> Answer:
        canonical = canonical_arguments(SEND, {"to": to}, additional=False)
        call = canonical_call("a", "run_1", SEND, canonical, {})
        sealed = SealedCall("call_1", call, "p", {}, timeout_s, start_within_s)
        async with asyncio.timeout(PATIENCE_S):
            return await self.connection.call(sealed, {}, on_progress)

    async def gone(self) -> bytes:
        """Wait until the process and all that it forked are gone; what they wrote to `life`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._life


def _result(answer: Answer) -> Any:
    assert answer.result is not None
    return msgspec.json.decode(answer.result)


Start = Callable[..., Awaitable[Upstream]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setattr(module, "_GRACE_S", 0.5)
    started: list[Upstream] = []

    async def begin(code: str, max_line_bytes: int = 100_000, redact: Any = str, **environment: str) -> Upstream:
        life = tmp_path / f"life{len(started)}"
        os.mkfifo(life)
        watching = asyncio.create_task(asyncio.to_thread(life.read_bytes))
        argv = (sys.executable, "-c", SERVER + code, str(life))
        program = Program("crm", argv, tmp_path, environment, max_line_bytes, redact)
        found: list[Upstream] = []

        def list_changed() -> None:
            found[0].list_changes += 1

        hooks = Hooks(list_changed=list_changed, late=lambda call, answer: found[0].late.put_nowait((call, answer)))
        found.append(Upstream(await StdioConnection.open(program, hooks), watching))
        started.extend(found)
        return found[0]

    yield begin
    for upstream in started:
        await upstream.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(upstream.connection.pid, signal.SIGKILL)
        await upstream.gone()


ECHO = """
while True:
    message = ask()
    if "id" in message:
        say(id=message["id"], result=message["params"].get("arguments", {}))
"""


# Talking --------------------------------------------------------------------------------------------


async def test_calls_in_flight_get_their_own_answers(start: Start) -> None:
    upstream = await start("""
calls = [ask() for _ in range(3)]
for call in reversed(calls):
    say(id=call["id"], result=call["params"]["arguments"])
stay()
""")
    answers = await asyncio.gather(*(upstream.call(to=name) for name in "abc"))
    assert [_result(answer) for answer in answers] == [{"to": "a"}, {"to": "b"}, {"to": "c"}]


async def test_an_error_is_an_answer(start: Start) -> None:
    upstream = await start('say(id=ask()["id"], error={"code": -32000, "message": "it does not work"}); stay()')
    assert await upstream.call() == Answer(None, {"code": -32000, "message": "it does not work"})
    assert upstream.connection.alive


async def test_of_its_own_requests_a_ping_is_answered_and_others_are_declined(start: Start) -> None:
    upstream = await start("""
call = ask()
say(id="p", method="ping")
say(id=5, method="sampling/createMessage", params={})
answers = [ask(), ask()]
say(id=call["id"], result={"answers": answers})
stay()
""")
    ping, sampling = _result(await upstream.call())["answers"]
    assert (ping["id"], ping["result"]) == ("p", {})
    assert (sampling["id"], sampling["error"]["code"]) == (5, -32601)


async def test_progress_reaches_whoever_listens_and_a_change_is_announced(start: Start) -> None:
    upstream = await start("""
call = ask()
token = call["params"]["_meta"]["progressToken"]
say(method="notifications/progress", params={"progressToken": token, "progress": 1, "total": 2})
say(method="notifications/progress", params={"progressToken": token + 1, "progress": 9})
say(method="notifications/tools/list_changed")
say(id=call["id"], result={})
stay()
""")
    seen: list[Progress] = []
    await upstream.call(seen.append)
    assert seen == [Progress(1.0, 2.0, None)]
    assert upstream.list_changes == 1


async def test_a_listener_that_fails_leaves_nobody_waiting(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    upstream = await start("""
call = ask()
say(method="notifications/progress", params={"progressToken": call["params"]["_meta"]["progressToken"], "progress": 1})
stay()
""")

    def fails(_progress: Progress) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(NoAnswer):
        await upstream.call(fails)
    await upstream.gone()
    assert "message of an upstream not handled" in caplog.messages


CANCELLED = 'call = ask(); notice = ask(); say(id=call["id"], result=notice); stay()'


async def test_a_cancelled_call_is_cancelled_upstream_and_its_answer_is_a_late_one(start: Start) -> None:
    upstream = await start('say(method="notifications/tools/list_changed"); ' + CANCELLED)
    task = asyncio.create_task(upstream.call())
    while not upstream.list_changes:  # noqa: ASYNC110 (a counter, without an event)
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    call, answer = await asyncio.wait_for(upstream.late.get(), PATIENCE_S)
    assert call == "call_1"
    assert _result(answer)["method"] == "notifications/cancelled"
    assert _result(answer)["params"] == {"requestId": 1}


async def test_a_call_without_an_answer_in_time_is_unknown_and_cancelled_upstream(start: Start) -> None:
    upstream = await start(CANCELLED)
    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
        await upstream.call(timeout_s=0.05)
    _, answer = await asyncio.wait_for(upstream.late.get(), PATIENCE_S)
    assert _result(answer)["method"] == "notifications/cancelled"
    assert upstream.connection.alive


# Starting -------------------------------------------------------------------------------------------


async def test_nothing_of_the_plane_s_environment_reaches_the_process(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANE_SECRET", "s3cret")
    upstream = await start('say(id=ask()["id"], result=dict(os.environ)); stay()', TOKEN="t")
    environment = _result(await upstream.call())
    assert environment.pop("TOKEN") == "t"
    assert set(environment) <= {"LC_CTYPE"}, "set by the interpreter itself"


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [(("/nowhere/at/all",), "/"), (("/",), "/"), (("a\0b",), "/"), ((sys.executable,), "/nowhere")],
    ids=["no such file", "a folder", "no path", "no such working folder"],
)
async def test_what_cannot_be_started_is_unavailable(argv: tuple[str, ...], cwd: str) -> None:
    hooks = Hooks(list_changed=lambda: None, late=lambda *_: None)
    with pytest.raises(UpstreamUnavailable, match="cannot be started"):
        await StdioConnection.open(Program("crm", argv, Path(cwd), {}, 1000, str), hooks)


@pytest.mark.parametrize("code", ["stay()", "signal.signal(signal.SIGTERM, signal.SIG_IGN); leave_a_child(); stay()"])
async def test_a_process_that_never_answers_is_unavailable_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    life = tmp_path / "life"
    os.mkfifo(life)
    watching = asyncio.create_task(asyncio.to_thread(life.read_bytes))
    config = UpstreamConfig(
        id="crm",
        command=(sys.executable, "-c", SERVER + code, str(life)),
        cwd=tmp_path,
        environment={},
        per_agent=True,
        url=None,
        networks=(),
        protocol="auto",
        call_timeout_s=60,
        start_timeout_s=1,
        max_bytes=100_000,
        max_in_flight=4,
    )
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await connect(config, Credentials({}, str), Hooks(list_changed=lambda: None, late=lambda *_: None))
    await asyncio.wait_for(watching, PATIENCE_S)


# Dying ----------------------------------------------------------------------------------------------


async def test_a_process_that_dies_in_a_call_leaves_its_outcome_unknown_and_takes_no_other(start: Start) -> None:
    upstream = await start("ask(); os._exit(3)")
    with pytest.raises(NoAnswer, match="ended"):
        await upstream.call()
    assert not upstream.connection.alive
    with pytest.raises(NotSent, match="gone"):
        await upstream.call()


async def test_a_process_that_dies_takes_its_children_along_and_leaves_nobody_waiting(start: Start) -> None:
    """They may hold its pipes open, and would then look like an upstream that thinks."""
    upstream = await start("ask(); leave_a_child(); os._exit(3)")
    with pytest.raises(NoAnswer, match="ended"):
        await upstream.call()
    assert not upstream.connection.alive
    await upstream.gone()


@pytest.mark.parametrize("child", ["", "leave_a_child(); "])
async def test_an_answer_with_the_last_breath_counts(start: Start, child: str) -> None:
    upstream = await start(f'{child}say(id=ask()["id"], result={{}}); os._exit(0)')
    assert await upstream.call() == Answer(b"{}", None)


async def test_a_process_that_closes_its_output_is_ended(start: Start) -> None:
    upstream = await start("ask(); os.close(1); stay()")
    with pytest.raises(NoAnswer, match="closed its output"):
        await upstream.call()
    await upstream.gone()


async def test_a_process_that_closes_its_input_is_ended(start: Start) -> None:
    upstream = await start('call = ask(); os.close(0); say(id=call["id"], result={}); stay()')
    await upstream.call()
    # The first one may reach the pipe before its end is noticed.
    with contextlib.suppress(NoAnswer, NotSent):
        await upstream.call()
    with pytest.raises(NotSent):
        await upstream.call()
    await upstream.gone()


async def test_the_group_is_not_signalled_again_once_it_was_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id may be another's by then."""
    upstream = await start("ask(); os._exit(3)")
    with pytest.raises(NoAnswer):
        await upstream.call()
    await upstream.gone()
    with monkeypatch.context() as patch:
        signalled: list[object] = []
        patch.setattr(os, "killpg", lambda *arguments: signalled.append(arguments))
        await upstream.connection.close()
    assert signalled == []


# Misbehaving ----------------------------------------------------------------------------------------


async def test_a_line_without_end_ends_the_process(start: Start) -> None:
    upstream = await start("ask()\nwhile True: sys.stdout.write('x' * 65536)")
    with pytest.raises(NoAnswer, match="over 100000 bytes"):
        await upstream.call()
    await upstream.gone()


async def test_lines_that_are_no_messages_are_passed_over(start: Start) -> None:
    upstream = await start("""
while True:
    call = ask()
    for _ in range(60):
        print("a library that prints")
    say(id=call["id"] + 1000, result={})
    say(id=call["id"], result={})
""")
    for _ in range(4):
        assert await upstream.call() == Answer(b"{}", None)


@pytest.mark.parametrize("line", ["garbage", "[]", '{"id":null,"result":{}}', '{"id":1e400,"result":{}}'])
async def test_nothing_but_garbage_ends_the_process(start: Start, line: str) -> None:
    upstream = await start(f"ask()\nwhile True: print({line!r})")
    with pytest.raises(NoAnswer, match="no messages"):
        await upstream.call()
    await upstream.gone()


async def test_a_flood_of_messages_lets_others_work(start: Start) -> None:
    upstream = await start("""
call = ask()
while True:
    sys.stdout.write('{"method":"notifications/message"}\\n' * 1000)
""")
    with pytest.raises(NoAnswer, match="did not answer"):
        await upstream.call(timeout_s=0.5)


async def test_a_call_that_a_process_does_not_take_in_time_never_reaches_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NOTICE_TIMEOUT_S", 0.05)
    upstream = await start("""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
say(method="notifications/tools/list_changed")
signal.sigwait([signal.SIGUSR1])
seen = []
while True:
    try:
        message = ask()
    except ValueError:
        continue
    if message["method"] == "tools/call":
        seen.append(message["params"]["arguments"]["to"])
        say(id=message["id"], result={"seen": seen})
""")
    while not upstream.list_changes:  # noqa: ASYNC110 (a counter, without an event)
        await asyncio.sleep(0.001)
    with pytest.raises(NoAnswer, match="does not read"):
        await upstream.call(to="begun" * 50_000, timeout_s=0.05)
    for timeout_s in (60.0, 0.01):
        with pytest.raises(NotSent, match="does not read"):
            await upstream.call(to="given up", timeout_s=timeout_s, start_within_s=0.05)
    with pytest.raises(NotSent, match="does not read"):
        await upstream.connection.request("ping", {}, 0.01)
    assert upstream.connection.alive
    os.kill(upstream.connection.pid, signal.SIGUSR1)
    assert _result(await upstream.call(to="in time")) == {"seen": ["in time"]}


async def test_what_it_says_on_standard_error_blocks_nobody_and_is_logged_without_secrets(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    logged = asyncio.Event()

    def redact(text: str) -> str:
        if text.startswith("last"):
            logged.set()
        return text.replace("s3cret", "[secret]")

    caplog.set_level(logging.DEBUG, "interlock.upstream")
    upstream = await start(
        """
call = ask()
sys.stderr.write("x" * 1_000_000 + "\\n")
sys.stderr.write("y" * 4093 + "s3cret\\nlast\\n")
sys.stderr.flush()
say(id=call["id"], result={})
stay()
""",
        redact=redact,
    )
    await upstream.call()
    await asyncio.wait_for(logged.wait(), PATIENCE_S)
    texts = [str(record.__dict__["text"]) for record in caplog.records if record.message == "upstream says"]
    assert texts[-1] == "last"
    assert all(len(text) <= 4096 for text in texts)
    assert not [text for text in texts if "s3c" in text]


# Closing --------------------------------------------------------------------------------------------


async def test_closing_lets_a_process_end_by_itself(start: Start) -> None:
    upstream = await start("""
try:
    while True: say(id=ask()["id"], result={})
finally:
    life.write("goodbye")
""")
    await upstream.call()
    await upstream.connection.close()
    assert await upstream.gone() == b"goodbye"


async def test_closing_asks_a_process_that_stays(start: Start) -> None:
    upstream = await start("""
def told(*_):
    life.write("told")
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
say(id=ask()["id"], result={})
stay()
""")
    await upstream.call()
    await upstream.connection.close()
    assert await upstream.gone() == b"told"


async def test_closing_kills_what_listens_to_nothing_and_all_that_it_forked(start: Start) -> None:
    upstream = await start("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
leave_a_child()
say(id=ask()["id"], result={})
stay()
""")
    await upstream.call()
    await upstream.connection.close()
    await upstream.gone()
    assert not upstream.connection.alive


async def test_closing_kills_the_children_of_a_process_that_ends_by_itself(start: Start) -> None:
    upstream = await start("leave_a_child()" + ECHO)
    await upstream.call()
    await upstream.connection.close()
    await upstream.gone()


async def test_closing_leaves_no_call_waiting(start: Start) -> None:
    upstream = await start('ask(); say(method="notifications/tools/list_changed"); stay()')
    task = asyncio.create_task(upstream.call())
    while not upstream.list_changes:  # noqa: ASYNC110 (a counter, without an event)
        await asyncio.sleep(0.001)
    await upstream.connection.close()
    with pytest.raises(NoAnswer):
        await task
    with pytest.raises(NotSent, match="closed"):
        await upstream.connection.request("ping", {}, 1)
