"""A session settles the era and reads the whole list; whatever an upstream says, only tools come out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import UpstreamUnavailable
from interlock.core.mcp import LEGACY, META_VERSION, MODERN
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, SealedCall
from interlock.upstream.session import Session
from support.bundles import TEXT, definition

Script = Callable[[str, JsonObject], Any]
ERROR = {"code": -32601, "message": "Method not found"}


class ScriptedConnection:
    """Implements `upstream.connection.Connection` with a function from requests to results."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.alive = True
        self.asked: list[tuple[str, JsonObject]] = []
        self.notified: list[str] = []
        self.spoken: list[str | None] = []

    async def request(self, method: str, params: JsonObject, timeout_s: float) -> Answer:
        self.asked.append((method, params))
        found = self._script(method, params)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Answer):
            return found
        return Answer(None, found) if found is ERROR else Answer(encode(found), None)

    async def notify(self, method: str, params: JsonObject) -> None:
        self.notified.append(method)

    async def call(self, sealed: SealedCall, meta: JsonObject, on_progress: OnProgress | None) -> Answer:
        raise NotImplementedError

    def speak(self, version: str | None) -> None:
        self.spoken.append(version)

    async def close(self) -> None:
        self.alive = False


def _session(script: Script, protocol: str = "auto") -> tuple[Session, ScriptedConnection]:
    connection = ScriptedConnection(script)
    return Session("crm", connection, protocol, 5.0, lambda text: text.replace("s3cret", "[secret]")), connection


DISCOVERED = {
    "supportedVersions": ["2025-11-25", MODERN],
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "crm", "version": "2"}},
}
INITIALIZED = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "old\x1b crm", "version": "1"}}


def _modern(method: str, _params: JsonObject) -> Any:
    return DISCOVERED if method == "server/discover" else ERROR


def _old(method: str, _params: JsonObject) -> Any:
    return INITIALIZED if method == "initialize" else ERROR


# The era --------------------------------------------------------------------------------------------


async def test_a_modern_upstream_is_spoken_to_in_the_modern_way() -> None:
    session, connection = _session(_modern)
    await session.open()
    assert (session.protocol, session.server) == (MODERN, "crm 2")
    assert [method for method, _ in connection.asked] == ["server/discover"]
    assert connection.spoken == [MODERN]
    assert connection.notified == []


@pytest.mark.parametrize(
    "answer",
    [ERROR, {}, {"supportedVersions": "all"}, {"supportedVersions": ["2099-01-01"]}, Answer(b"[]", None)],
    ids=str,
)
async def test_any_other_answer_is_evidence_for_the_old_era(answer: Any) -> None:
    session, connection = _session(lambda method, _: answer if method == "server/discover" else INITIALIZED)
    await session.open()
    assert (session.protocol, session.server) == ("2025-06-18", "old crm 1")
    assert [method for method, _ in connection.asked] == ["server/discover", "initialize"]
    assert connection.spoken == [MODERN, None, "2025-06-18"]
    assert connection.notified == ["notifications/initialized"]


async def test_silence_is_evidence_for_the_old_era_too_unless_the_upstream_died_of_it() -> None:
    silent = NoAnswer("it did not answer")
    session, connection = _session(lambda method, _: silent if method == "server/discover" else INITIALIZED)
    await session.open()
    assert session.protocol == "2025-06-18"
    session, connection = _session(lambda method, _: silent if method == "server/discover" else INITIALIZED)
    connection.alive = False
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await session.open()


async def test_the_settings_may_name_the_era() -> None:
    session, connection = _session(_old, LEGACY)
    await session.open()
    assert [method for method, _ in connection.asked] == ["initialize"]
    session, connection = _session(_old, MODERN)
    with pytest.raises(UpstreamUnavailable, match=MODERN):
        await session.open()
    assert [method for method, _ in connection.asked] == ["server/discover"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ERROR, "refuses to initialize"),
        ({"protocolVersion": "2099-01-01"}, "not supported"),
        ({}, "not supported"),
        (Answer(b"not json", None), "not supported"),
        (NotSent("nobody listens"), "cannot be reached: nobody listens"),
        (NoAnswer("it did not answer"), "cannot be reached: it did not answer"),
    ],
    ids=str,
)
async def test_an_upstream_that_cannot_be_initialized_is_unavailable(answer: Any, said: str) -> None:
    session, _ = _session(lambda method, _: ERROR if method == "server/discover" else answer)
    with pytest.raises(UpstreamUnavailable, match=said):
        await session.open()


# The list -------------------------------------------------------------------------------------------


async def _opened(pages: Script, first: Script = _old) -> tuple[Session, ScriptedConnection]:
    session, connection = _session(
        lambda method, params: pages(method, params) if method == "tools/list" else first(method, params)
    )
    await session.open()
    connection.asked.clear()
    return session, connection


def _tools(*names: str) -> list[Any]:
    return [definition(name, {"id": TEXT}) for name in names]


async def test_every_page_of_a_list_is_read() -> None:
    pages = {None: {"tools": _tools("a", "b"), "nextCursor": "2"}, "2": {"tools": _tools("c"), "nextCursor": ""}}
    session, connection = await _opened(lambda _, params: pages[params.get("cursor")])  # type: ignore[index]
    listing = await session.list_tools()
    assert listing.definitions == {name: encode(definition(name, {"id": TEXT})) for name in "abc"}
    assert listing.refused == {}
    assert [params.get("cursor") for _, params in connection.asked] == [None, "2"]


async def test_a_list_without_end_is_given_up() -> None:
    session, connection = await _opened(lambda *_: {"tools": [], "nextCursor": "again"})
    with pytest.raises(UpstreamUnavailable, match="more than 100 pages"):
        await session.list_tools()
    assert len(connection.asked) == 100


@pytest.mark.parametrize("name", ["t{}", "the same"], ids=["different names", "one name"])
@pytest.mark.parametrize(("on_a_page", "asked"), [(900, 3), (2001, 1), (50_000, 1)])
async def test_a_flood_of_tools_is_given_up_wherever_it_comes(on_a_page: int, asked: int, name: str) -> None:
    count = iter(range(10**9))
    session, connection = await _opened(
        lambda *_: {"tools": [{"name": name.format(next(count))} for _ in range(on_a_page)], "nextCursor": "more"}
    )
    with pytest.raises(UpstreamUnavailable, match="more than 2000 tools"):
        await session.list_tools()
    assert len(connection.asked) == asked


async def test_the_most_that_is_read_is_read() -> None:
    session, _ = await _opened(lambda *_: {"tools": [{"name": f"t{number}"} for number in range(2000)]})
    assert len((await session.list_tools()).definitions) == 2000


@pytest.mark.parametrize(("size", "asked"), [(3_000_000, 3), (9_000_000, 1)])
async def test_a_list_of_too_many_bytes_is_given_up_whatever_they_are(size: int, asked: int) -> None:
    session, connection = await _opened(lambda *_: {"tools": [], "_meta": {"x": "x" * size}, "nextCursor": "more"})
    with pytest.raises(UpstreamUnavailable, match="more than 8388608 bytes"):
        await session.list_tools()
    assert len(connection.asked) == asked


@pytest.mark.parametrize(("first", "modern"), [(_modern, True), (_old, False)])
async def test_in_the_modern_era_every_request_carries_its_envelope(first: Script, modern: bool) -> None:
    session, connection = await _opened(lambda *_: {"tools": []}, first)
    await session.list_tools()
    [(_, params)] = connection.asked
    meta: Any = params.get("_meta", {})
    assert (meta.get(META_VERSION) == MODERN) == modern


async def test_a_name_that_is_listed_twice_is_nobody_s_also_across_pages() -> None:
    pages = {None: {"tools": _tools("a", "b", "a"), "nextCursor": "2"}, "2": {"tools": _tools("a", "c")}}
    session, _ = await _opened(lambda _, params: pages[params.get("cursor")])  # type: ignore[index]
    listing = await session.list_tools()
    assert list(listing.definitions) == ["b", "c"]
    assert listing.refused == {"a": "the name is listed twice"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ERROR, "Method not found"),
        (NotSent("nobody listens"), "nobody listens"),
        (NoAnswer("it did not answer"), "it did not answer"),
        (Answer(b"[]", None), "cannot be read"),
        (Answer(b"{}", None), "cannot be read"),
        (Answer(b'{"tools":[}', None), "cannot be read"),
        (Answer(b'{"tools":"tools"}', None), "cannot be read"),
        (Answer(b'{"tools":[],"nextCursor":5}', None), "cannot be read"),
        (Answer(b'{"tools":[{"name":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", None), "cannot be read"),
    ],
    ids=str,
)
async def test_what_is_no_list_is_none(answer: Any, said: str) -> None:
    session, _ = await _opened(lambda *_: answer)
    with pytest.raises(UpstreamUnavailable, match=said):
        await session.list_tools()


async def test_an_empty_list_may_be_written_as_null() -> None:
    session, _ = await _opened(lambda *_: {"tools": None, "nextCursor": None})
    assert (await session.list_tools()).definitions == {}


@pytest.mark.parametrize("method", ["initialize", "tools/list"])
async def test_what_an_upstream_says_of_its_own_credential_is_blanked(method: str) -> None:
    told = Answer(None, {"code": -1, "message": f"cannot log in with s3cret\n\x1b[2J {'x' * 5000}"})

    def script(asked: str, params: JsonObject) -> Any:
        return told if asked == method else _old(asked, params)

    session, _ = _session(script, "2025-11-25")

    async def open_and_list() -> None:
        await session.open()
        await session.list_tools()

    with pytest.raises(UpstreamUnavailable) as caught:
        await open_and_list()
    assert "cannot log in with [secret]" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 700
