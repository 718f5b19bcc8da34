"""Notices reach people where they can, one after the other, and never stop the plane."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interlock.core.canonical import JsonObject
from interlock.upstream import notices as module
from interlock.upstream.notices import Notices, NoticeTarget
from support.clock import SetClock
from support.web import Asked, Site, serving

EVENT: JsonObject = {"event": "run_halted", "run": "run_1"}


class Unhurried:
    """The module's asyncio, but for its sleeps: they are noted and take no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    unhurried = Unhurried()
    monkeypatch.setattr(module, "asyncio", unhurried)
    return unhurried.slept


Sender = Callable[..., Notices]


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    running: list[asyncio.Task[None]] = []

    def start(**targets: NoticeTarget) -> Notices:
        notices = Notices(targets, SetClock())
        running.append(asyncio.create_task(notices.run()))
        return notices

    yield start
    for task in running:
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), f"the sender died: {results}"


def _file(path: Path) -> NoticeTarget:
    return NoticeTarget("file", str(path))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_notice_to_a_file_is_a_line_of_json(sender: Sender, tmp_path: Path) -> None:
    notices = sender(oncall=_file(tmp_path / "notices"))
    notices.notify("oncall", {**EVENT, "why": "line\nbreak"})
    notices.notify("oncall", EVENT)
    await notices.drain(5)
    at = SetClock().now_us()
    assert _lines(tmp_path / "notices") == [
        {**EVENT, "why": "line\nbreak", "target": "oncall", "at": at},
        {**EVENT, "target": "oncall", "at": at},
    ]


async def test_every_notice_is_in_the_log(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    notices = sender(oncall=NoticeTarget("log", ""))
    with caplog.at_level(logging.WARNING, "interlock.notices"):
        notices.notify("oncall", EVENT)
        notices.notify("somebody that the settings do not know", EVENT)
    await notices.drain(5)
    assert [record.__dict__["notice"]["target"] for record in caplog.records] == [
        "oncall",
        "somebody that the settings do not know",
    ]


def _says(*statuses: int) -> Callable[[Asked, web.Request], Any]:
    """Answer with these statuses, one after the other and the last one for ever."""
    left = list(statuses)

    async def handle(_asked: Asked, _request: web.Request) -> web.StreamResponse:
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})

    return handle


async def _posted(site: Site, sender: Sender, path: Path) -> None:
    """Post one notice, then write one to a file, which proves that the sender goes on."""
    notices = sender(hook=NoticeTarget("webhook", site.url + "hook"), file=_file(path))
    notices.notify("hook", EVENT)
    notices.notify("file", EVENT)
    await notices.drain(20)
    assert len(_lines(path)) == 1


async def test_a_webhook_gets_the_event_as_json(sender: Sender, waits: list[float], tmp_path: Path) -> None:
    async with serving(_says(204)) as site:
        await _posted(site, sender, tmp_path / "notices")
    [asked] = site.asked
    assert (asked.method, asked.path, asked.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert asked.json == {**EVENT, "target": "hook", "at": SetClock().now_us()}
    assert waits == []


async def test_a_webhook_that_fails_is_tried_three_times_with_pauses(
    sender: Sender, waits: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(_says(500)) as site:
        await _posted(site, sender, tmp_path / "notices")
    assert len(site.asked) == 3
    assert waits == [2.0, 4.0]
    [said] = [str(record.__dict__["why"]) for record in caplog.records if record.levelname == "ERROR"]
    assert "HTTP 500" in said


async def test_a_webhook_that_recovers_gets_the_notice_once(sender: Sender, waits: list[float], tmp_path: Path) -> None:
    async with serving(_says(503, 200)) as site:
        await _posted(site, sender, tmp_path / "notices")
    assert len(site.asked) == 2
    assert waits == [2.0]


async def test_a_redirect_is_not_followed(sender: Sender, waits: list[float], tmp_path: Path) -> None:
    async with serving(_says(307)) as site:
        await _posted(site, sender, tmp_path / "notices")
    assert {asked.path for asked in site.asked} == {"/hook"}
    assert len(waits) == 2


async def test_a_webhook_that_hangs_up_is_tried_again(sender: Sender, waits: list[float], tmp_path: Path) -> None:
    async def hang_up(_asked: Asked, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(hang_up) as site:
        await _posted(site, sender, tmp_path / "notices")
    assert len(site.asked) == 3
    assert len(waits) == 2


UNUSABLE = {
    "nobody listens": NoticeTarget("webhook", "http://127.0.0.1:1/"),
    "no such host": NoticeTarget("webhook", "http://nowhere.invalid/"),
    "no URL": NoticeTarget("webhook", "http://[bad/"),
    "a label of the host is too long": NoticeTarget("webhook", "http://" + "a" * 70 + ".example/"),
    "no such folder": NoticeTarget("file", "/nowhere/at/all"),
    "a folder": NoticeTarget("file", "/"),
    "no path": NoticeTarget("file", "a\0b"),
}


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("target", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_a_notice_that_cannot_be_delivered_is_logged_and_the_next_one_is_sent(
    sender: Sender, tmp_path: Path, target: NoticeTarget, caplog: pytest.LogCaptureFixture
) -> None:
    notices = sender(broken=target, file=_file(tmp_path / "notices"))
    notices.notify("broken", EVENT)
    notices.notify("file", EVENT)
    await notices.drain(5)
    assert len(_lines(tmp_path / "notices")) == 1
    assert "notice not delivered" in caplog.messages


async def test_a_full_queue_drops_the_notice_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_QUEUE", 2)
    notices = Notices({"file": _file(tmp_path / "notices")}, SetClock())
    for number in range(4):
        notices.notify("file", {"number": number})
    assert caplog.messages.count("notice dropped: too many are waiting") == 2
    task = asyncio.create_task(notices.run())
    await notices.drain(5)
    task.cancel()
    assert [line["number"] for line in _lines(tmp_path / "notices")] == [0, 1]


async def test_draining_gives_up_in_time_and_says_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices({}, SetClock())
    notices.notify("oncall", EVENT)  # nobody sends
    await notices.drain(0.01)
    assert "notices not delivered at shutdown" in caplog.messages
