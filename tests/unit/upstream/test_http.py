"""Streamable HTTP: what is sent where, and what an answer (or none) means for the record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import JsonObject
from interlock.core.mcp import MODERN
from interlock.plane.ports import Answer, NoAnswer, NotSent, Progress, SealedCall
from interlock.upstream.connection import Hooks
from interlock.upstream.http import Endpoint, HttpConnection
from interlock.upstream.resolver import GuardedResolver
from support.bundles import TEXT, tool
from support.web import Asked, Handler, Site, serving

SEND = tool("send", {"to": TEXT, "region": {"type": "string", "x-mcp-header": "Region"}})
SECRET = {"Authorization": "Bearer s3cret"}


def _sealed(arguments: JsonObject | None = None, timeout_s: float = 10.0, start_within_s: float = 2.0) -> SealedCall:
    canonical = canonical_arguments(SEND, arguments or {"to": "é"}, additional=False)
    call = canonical_call("a", "run_1", SEND, canonical, {})
    return SealedCall("call_1", call, "p", SECRET, timeout_s, start_within_s)


class Client:
    """A connection, and what its hooks were told."""

    def __init__(self, url: str, max_bytes: int) -> None:
        self.list_changes = 0
        hooks = Hooks(list_changed=self._changed, late=lambda *_: None)
        self.connection = HttpConnection(Endpoint("crm", url, (), max_bytes, 8), dict(SECRET), hooks)

    def _changed(self) -> None:
        self.list_changes += 1

    async def call(self, on_progress: Callable[[Progress], None] | None = None, **sealed: Any) -> Answer:
        return await self.connection.call(_sealed(**sealed), {}, on_progress)


@asynccontextmanager
async def _client(handler: Handler, max_bytes: int = 100_000) -> AsyncGenerator[tuple[Client, Site]]:
    async with serving(handler) as site:
        client = Client(site.url + "mcp", max_bytes)
        client.connection.speak(MODERN)
        try:
            yield client, site
        finally:
            await client.connection.close()


def _answers(result: object, **headers: str) -> Handler:
    async def handle(asked: Asked, _request: web.Request) -> web.StreamResponse:
        if asked.method != "POST" or "id" not in asked.json:
            return web.Response(status=202)
        body = {"jsonrpc": "2.0", "id": asked.json["id"], "result": result}
        return web.json_response(body, headers=headers)

    return handle


def _says(status: int, body: bytes = b"", content_type: str = "text/html", **headers: str) -> Handler:
    async def handle(_asked: Asked, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    return handle


def _streams(*events: Any) -> Handler:
    """Send events; a number stands for the answer to the request, text is sent as it is."""

    async def handle(asked: Asked, request: web.Request) -> web.StreamResponse:
        if "method" not in asked.json or "id" not in asked.json:
            return web.Response(status=202)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            shown = (
                {"jsonrpc": "2.0", "id": asked.json["id"], "result": {"n": event}} if isinstance(event, int) else event
            )
            text = shown if isinstance(shown, str) else f"data: {json.dumps(shown)}\n\n"
            await response.write(text.encode())
        return response

    return handle


# What is sent ---------------------------------------------------------------------------------------


async def test_a_modern_call_mirrors_its_body_in_headers() -> None:
    async with _client(_answers({"content": []})) as (client, site):
        answer = await client.call(arguments={"to": "x", "region": "Zürich"})
    assert answer == Answer(b'{"content": []}', None)
    [asked] = site.asked
    sent = {
        name: asked.headers.get(name) for name in ("mcp-method", "mcp-name", "mcp-protocol-version", "authorization")
    }
    assert sent == {
        "mcp-method": "tools/call",
        "mcp-name": "send",
        "mcp-protocol-version": MODERN,
        "authorization": "Bearer s3cret",
    }
    assert asked.headers["mcp-param-region"] == "=?base64?WsO8cmljaA==?="
    assert asked.headers["accept"] == "application/json, text/event-stream"
    assert asked.json["params"]["arguments"] == {"to": "x", "region": "Zürich"}


async def test_an_older_session_carries_its_id_and_mirrors_nothing() -> None:
    async with _client(_answers({}, **{"Mcp-Session-Id": "s-1"})) as (client, site):
        client.connection.speak("2025-11-25")
        await client.connection.request("initialize", {}, 5)
        await client.call(arguments={"to": "x", "region": "eu"})
        await client.connection.notify("notifications/initialized", {})
    first, call, notice, end = site.asked
    assert "mcp-session-id" not in first.headers
    for asked in (call, notice, end):
        assert asked.headers["mcp-session-id"] == "s-1"
        assert asked.headers["mcp-protocol-version"] == "2025-11-25"
    assert not [name for name in call.headers if name.startswith(("mcp-name", "mcp-method", "mcp-param"))]
    assert end.method == "DELETE"


@pytest.mark.parametrize("session", ["x" * 1025, "a\tb"])
async def test_a_session_id_that_is_none_is_not_kept(session: str) -> None:
    async with _client(_answers({}, **{"Mcp-Session-Id": session})) as (client, site):
        client.connection.speak("2025-11-25")
        await client.connection.request("initialize", {}, 5)
        await client.call()
    assert "mcp-session-id" not in site.asked[1].headers


async def test_the_modern_wire_has_no_notifications_of_ours() -> None:
    async with _client(_answers({})) as (client, site):
        await client.connection.notify("notifications/initialized", {})
    assert site.asked == []


async def test_an_argument_with_a_header_of_any_type_can_be_sent() -> None:
    nullable = tool("send", {"to": TEXT, "region": {"type": ["string", "null"], "x-mcp-header": "Region"}})
    canonical = canonical_arguments(nullable, {"region": "eu"}, additional=False)
    sealed = SealedCall("call_1", canonical_call("a", "run_1", nullable, canonical, {}), "p", {}, 5.0, 2.0)
    async with _client(_answers({})) as (client, _):
        assert await client.connection.call(sealed, {}, None) == Answer(b"{}", None)


# What an answer means -------------------------------------------------------------------------------


async def test_a_json_rpc_error_is_an_answer_whatever_the_status() -> None:
    error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}'
    for status in (200, 400, 500):
        async with _client(_says(status, error, "application/json")) as (client, _):
            assert await client.call() == Answer(None, {"code": -32602, "message": "no"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with _client(_says(status, Location="/elsewhere")) as (client, site):
        answer = await client.call()
    assert {asked.path for asked in site.asked} == {"/mcp"}
    assert answer.error is not None
    assert "redirect" in str(answer.error["message"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 415, 429])
async def test_a_refusal_of_the_request_is_a_failure(status: int) -> None:
    async with _client(_says(status, b"<html>no</html>")) as (client, _):
        answer = await client.call()
    assert answer.error is not None
    assert str(status) in str(answer.error["message"])


@pytest.mark.parametrize("status", [200, 202, 500, 502, 503, 504])
async def test_a_response_that_says_nothing_of_the_call_leaves_the_outcome_unknown(status: int) -> None:
    """A proxy that lost the upstream; taken for a failure, the same call would be executed again unasked."""
    async with _client(_says(status, b"<html>gateway time-out</html>")) as (client, _):
        with pytest.raises(NoAnswer, match=str(status)):
            await client.call()


@pytest.mark.parametrize("outcome", ['"result":{}', '"error":{"code":-32603,"message":"no"}'])
async def test_an_answer_to_something_else_leaves_the_outcome_unknown(outcome: str) -> None:
    """As in a stream, where it is passed over."""
    body = f'{{"jsonrpc":"2.0","id":99,{outcome}}}'.encode()
    async with _client(_says(200, body, "application/json")) as (client, _):
        with pytest.raises(NoAnswer):
            await client.call()


async def test_nothing_was_sent_where_nobody_listens() -> None:
    async with _client(_answers({})) as (client, _):
        pass
    client = Client("http://127.0.0.1:1/mcp", 1000)
    with pytest.raises(NotSent, match="cannot be reached"):
        await client.call()
    await client.connection.close()


async def test_nothing_was_sent_to_a_name_that_leads_into_a_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_self: GuardedResolver, _address: str) -> bool:
        return False

    monkeypatch.setattr(GuardedResolver, "_allowed", refuses)
    client = Client("http://localhost:1/mcp", 1000)
    with pytest.raises(NotSent, match="private address"):
        await client.call()
    await client.connection.close()


async def test_nothing_was_sent_where_no_connection_is_made_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A permit is used soon or not at all, however long the call itself may take."""

    async def never(*_: object, **__: object) -> list[ResolveResult]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(GuardedResolver, "resolve", never)
    client = Client("http://localhost:1/mcp", 1000)
    with pytest.raises(NotSent, match="cannot be reached"):
        await client.call(start_within_s=0.05)
    await client.connection.close()


async def test_an_upstream_that_hangs_up_leaves_the_outcome_unknown() -> None:
    async def hang_up(_asked: Asked, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with _client(hang_up) as (client, site):
        with pytest.raises(NoAnswer):
            await client.call()
    assert len(site.asked) == 1, "a call is never repeated"


async def test_an_upstream_that_does_not_answer_in_time_leaves_the_outcome_unknown() -> None:
    async with _client(_hangs()) as (client, _):
        with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
            await client.call(timeout_s=0.05)


def _hangs() -> Handler:
    async def handle(asked: Asked, _request: web.Request) -> web.StreamResponse:
        if asked.method == "POST" and "id" in asked.json:
            await asyncio.Event().wait()
        return web.Response(status=202)

    return handle


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_answer_beyond_the_bound_leaves_the_outcome_unknown(encoding: str) -> None:
    async def large(asked: Asked, _request: web.Request) -> web.StreamResponse:
        response = web.json_response({"jsonrpc": "2.0", "id": asked.json["id"], "result": {"x": "x" * 1_000_000}})
        if encoding == "gzip":
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async with _client(large, max_bytes=100_000) as (client, _):
        with pytest.raises(NoAnswer, match="larger than 100000"):
            await client.call()


async def test_a_call_on_a_closed_connection_is_not_sent() -> None:
    async with _client(_answers({})) as (client, site):
        await client.connection.close()
        assert not client.connection.alive
        with pytest.raises(NotSent):
            await client.call()
    assert site.asked == []


@pytest.mark.parametrize("status", [400, 404])
async def test_a_session_that_the_upstream_forgot_ends_the_connection(status: int) -> None:
    async def forgets(asked: Asked, request: web.Request) -> web.StreamResponse:
        if asked.method == "POST" and asked.json.get("method") == "initialize":
            return await _answers({}, **{"Mcp-Session-Id": "s-1"})(asked, request)
        return web.Response(status=status)

    async with _client(forgets) as (client, _):
        client.connection.speak("2025-11-25")
        await client.connection.request("initialize", {}, 5)
        assert client.connection.alive
        await client.call()
        assert not client.connection.alive


async def test_a_refused_argument_does_not_end_the_session() -> None:
    async def refuses(asked: Asked, request: web.Request) -> web.StreamResponse:
        if asked.method == "POST" and asked.json.get("method") == "initialize":
            return await _answers({}, **{"Mcp-Session-Id": "s-1"})(asked, request)
        number = asked.json["id"] if asked.method == "POST" and "id" in asked.json else 0
        return web.json_response({"id": number, "error": {"code": -32602, "message": "no"}}, status=400)

    async with _client(refuses) as (client, _):
        client.connection.speak("2025-11-25")
        await client.connection.request("initialize", {}, 5)
        assert await client.call() == Answer(None, {"code": -32602, "message": "no"})
        assert client.connection.alive


# Streams --------------------------------------------------------------------------------------------


async def test_a_stream_brings_progress_and_then_the_answer() -> None:
    seen: list[Progress] = []
    events = (
        {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 0.5}},
        {"method": "notifications/progress", "params": {"progressToken": 9, "progress": 0.7}},
        {"method": "notifications/tools/list_changed"},
        ": comment\n\n",
        "data: not json\n\n",
        {"jsonrpc": "2.0", "id": 77, "result": {"n": "another"}},
        7,
    )
    async with _client(_streams(*events)) as (client, site):
        answer = await client.call(seen.append)
    assert answer == Answer(b'{"n": 7}', None)
    assert seen == [Progress(0.5, None, None)]
    assert client.list_changes == 1
    assert site.asked[0].json["params"]["_meta"] == {"progressToken": 1}


async def test_a_request_of_the_upstream_is_declined_in_a_post_of_its_own() -> None:
    async with _client(_streams({"id": "s1", "method": "elicitation/create"}, 7)) as (client, site):
        await client.call()
    declined = next(asked.json for asked in site.asked if asked.json.get("id") == "s1")
    assert declined["error"]["code"] == -32601


async def test_a_request_of_the_upstream_is_answered_while_every_connection_is_in_use() -> None:
    """Each call in flight waits for its own ping to be answered, on as many connections as may be in flight."""
    answered = asyncio.Semaphore(0)
    pings = 0

    async def pinging(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal pings
        if "method" not in asked.json:
            answered.release()
            return web.Response(status=202)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pings += 1
        await response.write(f'data: {{"id": {pings}, "method": "ping"}}\n\n'.encode())
        await answered.acquire()
        await response.write(f'data: {{"id": {asked.json["id"]}, "result": {{}}}}\n\n'.encode())
        return response

    async with _client(pinging) as (client, _):
        assert await asyncio.gather(*(client.call() for _ in range(8))) == [Answer(b"{}", None)] * 8


async def test_a_stream_that_ends_without_an_answer_leaves_the_outcome_unknown() -> None:
    async with _client(_streams({"method": "notifications/message"})) as (client, _):
        with pytest.raises(NoAnswer, match="without an answer"):
            await client.call()


@pytest.mark.parametrize("events", [("data: " + "x" * 2000,), (": " + "x" * 500 + "\n",) * 100], ids=["event", "flood"])
async def test_a_stream_beyond_the_bound_leaves_the_outcome_unknown(events: tuple[str, ...]) -> None:
    async with _client(_streams(*events, 7), max_bytes=1000) as (client, _):
        with pytest.raises(NoAnswer):
            await client.call()


# Cancelling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "notices"), [(MODERN, 0), ("2025-11-25", 1)])
async def test_a_cancelled_call_is_cancelled_upstream_in_the_era_s_way(version: str, notices: int) -> None:
    async with _client(_hangs()) as (client, site):
        client.connection.speak(version)
        task = asyncio.create_task(client.call())
        while not site.asked:  # noqa: ASYNC110 (the site is in another thread)
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled = [asked.json for asked in site.asked[1:]]
    assert len(cancelled) == notices
    if notices:
        assert cancelled[0]["method"] == "notifications/cancelled"
        assert cancelled[0]["params"]["requestId"] == site.asked[0].json["id"]


@pytest.mark.parametrize("status", [302, 403, 500])
async def test_secrets_are_in_no_text_that_comes_out(status: int) -> None:
    async with _client(_says(status, b"oops")) as (client, _):
        try:
            said = str(await client.call())
        except NoAnswer as error:
            said = str(error)
    assert str(status) in said
    assert "s3cret" not in said
    assert "s3cret" not in repr(_sealed())
