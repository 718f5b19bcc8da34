"""The agents' door: what a message is charged before it is read, what is refused, and what that looks like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.mcp import HEADER_MISMATCH, METHOD_NOT_FOUND, PARSE_ERROR
from interlock.gateway.asgi import Message, Request
from interlock.gateway.lists import ToolLists
from interlock.gateway.mcp import McpEndpoint
from interlock.gateway.sessions import Sessions
from interlock.gateway.tools import CallExchange
from support import crm
from support.bundles import TEXT, TEXTS, definition
from support.inprocess import CALLER, InProcess, Limits, answer, in_process
from support.plane import META

BURST: Final = 10
UPDATE: Final[JsonObject] = {"order_ids": ["1"], "status": "refunded"}
MIRRORED: Final[JsonObject] = {"type": "string", "x-mcp-header": "Region"}


def files() -> dict[str, bytes]:
    """The example, where a tool that may be called and one that is blocked have a mirrored argument."""
    changed = [
        definition("update_order_status", {"order_ids": TEXTS, "status": TEXT, "region": MIRRORED}),
        definition("delete_customer_record", {"customer_id": TEXT, "region": MIRRORED}),
    ]
    names = [found["name"] for found in changed]
    return crm.files(definitions=[*changed, *(found for found in crm.DEFINITIONS if found["name"] not in names)])


@dataclass
class Answered:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    done: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> Any:
        """The structured error of a tool result."""
        return self.json["result"]["structuredContent"]["error"]


class Door:
    """The door, with a plane behind it."""

    def __init__(self, plane: InProcess) -> None:
        self.plane = plane
        self.exchange = CallExchange(plane.enforcer, plane.limits)
        sessions = Sessions(plane.sealer, plane.entropy)
        self.endpoint = McpEndpoint(
            plane.policy, ToolLists(plane.upstreams), sessions, self.exchange, plane.limits, 1_048_576
        )

    async def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        *,
        unread: bool = False,
        taking: Callable[[], Awaitable[object]] | None = None,
        run: str | None = None,
    ) -> Answered:
        """One request; `unread` fails if the body is asked for, `taking` is waited for once the answer is sent."""
        found, bodies = Answered(), [body]

        async def receive() -> Message:
            assert not unread, "the body was read"
            await asyncio.sleep(0)  # others are served while a body arrives
            if bodies:
                return {"type": "http.request", "body": bodies.pop()}
            return await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                found.status = message["status"]
                found.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            if found.body and taking is not None:
                await taking()
            found.body += message["body"]
            found.done = not message.get("more_body")

        wanted = {"accept": "application/json", "content-type": "application/json", **headers}
        request = Request(
            "POST", "/mcp/crm", {k: [v] for k, v in wanted.items()}, "", lambda: "structural", receive, send
        )
        await self.endpoint.handle(request, replace(CALLER, run=run), "crm")
        assert found.done
        return found

    async def modern(
        self, method: str, params: JsonObject | None = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answered:
        """A message of 2026-07-28 with headers that agree with it, but for those given."""
        filled = {**(params or {}), "_meta": META}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": filled}).encode()
        mirrors = {"mcp-protocol-version": "2026-07-28", "mcp-method": method, "mcp-name": str(filled.get("name"))}
        return await self.post(body, {**mirrors, **(headers or {})}, **more)

    async def call(self, tool: str, arguments: JsonObject, headers: Mapping[str, str] | None = None) -> Answered:
        return await self.modern("tools/call", {"name": tool, "arguments": arguments}, headers)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    with in_process(tmp_path, files=files, limits=Limits(rate=1, burst=BURST, concurrent=1)) as plane:
        await plane.policy.start("uid:7")
        yield Door(plane)


# Rates ----------------------------------------------------------------------------------------------

HANDSHAKE: Final[JsonObject] = {"protocolVersion": "2025-11-25"}
LIGHT: Final[dict[str, Callable[[Door], Awaitable[Answered]]]] = {
    "an initialize": lambda door: door.post(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HANDSHAKE}).encode(), {}
    ),
    "a list": lambda door: door.modern("tools/list"),
    "a discovery": lambda door: door.modern("server/discover"),
    "an unknown method": lambda door: door.modern("resources/read"),
    "a header that lies": lambda door: door.modern("tools/list", headers={"mcp-method": "ping"}),
    "no JSON": lambda door: door.post(b"{", {}),
    "a notification": lambda door: door.post(b'{"jsonrpc":"2.0","method":"x"}', {"mcp-protocol-version": "2026-07-28"}),
    "a message without a session": lambda door: door.post(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {}),
}


@pytest.mark.parametrize("send", LIGHT.values(), ids=LIGHT.keys())
async def test_every_message_is_charged_and_in_full_debt_none_is_read(
    door: Door, send: Callable[[Door], Awaitable[Answered]]
) -> None:
    for _ in range(2 * BURST):
        assert (await send(door)).status != 429
    refused = await door.modern("tools/list", unread=True, run="run_1")
    assert refused.status == 429
    assert refused.headers["retry-after"] == str(BURST + 1)
    assert refused.headers["content-type"] == "application/problem+json"
    message = refused.json["message"]
    assert refused.json == {
        "status": 429,
        "title": "rate limited",
        "detail": message,
        "code": "rate_limited",
        "message": message,
        "rule": None,
        "call_id": None,
        "run_id": "run_1",
        "retryable": True,
        "retry_after_ms": (BURST + 1) * 1000,
    }
    door.plane.clock.advance(BURST + 1)
    assert (await send(door)).status != 429


async def test_in_debt_a_call_gets_a_structured_refusal_and_nothing_is_recorded(door: Door) -> None:
    for _ in range(BURST):
        await door.modern("tools/list")
    before = door.plane.world.count()
    refused = await door.call("update_order_status", UPDATE)
    assert (refused.status, refused.refusal["code"], refused.refusal["retry_after_ms"]) == (200, "rate_limited", 1000)
    assert door.plane.world.count() == before
    door.plane.clock.advance(1)
    assert (await door.call("update_order_status", UPDATE)).json["result"]["structuredContent"] == {"done": True}


async def test_a_large_message_is_charged_by_its_size(door: Door) -> None:
    large: JsonObject = {**UPDATE, "order_ids": ["x" * 50_000]}
    assert (await door.call("update_order_status", large)).status == 200  # 4 of 10
    assert (await door.call("update_order_status", large)).status == 200
    assert (await door.call("update_order_status", large)).refusal["code"] == "rate_limited"


async def test_messages_that_arrived_together_are_not_all_read(door: Door) -> None:
    async def arrive() -> Answered:
        body = b"[" + b"0," * 5000
        return await door.post(body, {})

    answers = await asyncio.gather(*(arrive() for _ in range(5)))
    codes = [found.json.get("code") or found.json["error"]["code"] for found in answers]
    assert codes == [PARSE_ERROR, PARSE_ERROR, "rate_limited", "rate_limited", "rate_limited"]


async def test_a_message_of_too_many_values_is_a_malformed_call_and_a_step(door: Door) -> None:
    many: list[Json] = ["1"] * 20_000
    refused = await door.call("update_order_status", {**UPDATE, "order_ids": many})
    assert refused.refusal["code"] == "malformed_call"
    assert "more than 20000 values" in refused.refusal["message"]
    assert door.plane.run().steps == 1


# Answers that are not taken -------------------------------------------------------------------------


async def test_a_large_answer_that_is_not_taken_keeps_the_place_of_its_call(door: Door) -> None:
    door.plane.upstreams.answers(answer({"content": [{"type": "text", "text": "x" * 100_000}]}))
    sent, taken = asyncio.Event(), asyncio.Event()

    async def taking() -> None:
        sent.set()
        await taken.wait()

    params: JsonObject = {"name": "update_order_status", "arguments": UPDATE}
    slow = asyncio.create_task(door.modern("tools/call", params, taking=taking))
    await asyncio.wait_for(sent.wait(), 30)
    refused = await door.call("update_order_status", UPDATE)
    assert refused.refusal["code"] == "rate_limited"
    assert "in flight" in refused.refusal["message"]
    taken.set()
    assert len((await slow).body) > 100_000
    door.plane.upstreams.answers(answer({"content": []}))
    assert "error" not in (await door.call("update_order_status", UPDATE)).json["result"].get("structuredContent", {})


# Headers that mirror arguments ----------------------------------------------------------------------


async def test_a_mirrored_argument_is_compared_for_a_tool_that_is_listed(door: Door) -> None:
    arguments: JsonObject = {**UPDATE, "region": "eu"}
    assert (await door.call("update_order_status", arguments)).json["error"]["code"] == HEADER_MISMATCH
    told = await door.call("update_order_status", arguments, {"mcp-param-region": "eu"})
    assert told.json["result"]["structuredContent"] == {"done": True}


@pytest.mark.parametrize("tool", ["delete_customer_record", "no_such_tool"])
async def test_a_tool_that_is_not_listed_is_denied_like_one_that_does_not_exist(door: Door, tool: str) -> None:
    refused = await door.call(tool, {"customer_id": "1", "region": "eu"})
    assert refused.refusal["code"] == "policy_denied"
    assert door.plane.run().steps == 1


async def test_an_unknown_method_is_the_protocols_error(door: Door) -> None:
    assert (await door.modern("resources/read")).json["error"]["code"] == METHOD_NOT_FOUND
