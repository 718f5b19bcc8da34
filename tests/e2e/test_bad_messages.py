"""JSON that is no request this plane serves: batches, notifications, odd ids, headers that lie, unknown methods, sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.plane import META
from support.scene import CALL, Scene

VERSION = "io.modelcontextprotocol/protocolVersion"


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def post(scene: Scene, era: str, body: Any) -> Any:
    return scene.modern(body) if era == "modern" else scene.legacy(body, scene.open_session())


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CALL.items() if name not in names}


INVALID_REQUESTS = {
    "a batch": [CALL, {**CALL, "id": 2}],
    "an empty batch": [],
    "a text": "tools/call",
    "a number": 1,
    "null": None,
    "an empty object": {},
    "no version": without("jsonrpc"),
    "another version": {**CALL, "jsonrpc": "1.0"},
    "a version that is a number": {**CALL, "jsonrpc": 2.0},
    "no method": without("method"),
    "a method that is a list": {**CALL, "method": ["tools/call"]},
    "a method that is null": {**CALL, "method": None},
    "a response": {"jsonrpc": "2.0", "id": 1, "result": {"content": []}},
    "an error response": {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
    "an id that is null": {**CALL, "id": None},
    "an id that is true": {**CALL, "id": True},
    "an id that is a fraction": {**CALL, "id": 1.5},
    "an id that is a double": {**CALL, "id": 1.0},
    "an id that is a list": {**CALL, "id": [1]},
    "an id that is an object": {**CALL, "id": {}},
    "an id that is very long": {**CALL, "id": "x" * 300},
    "a call as a notification": without("id"),
}


@pytest.mark.parametrize("body", INVALID_REQUESTS.values(), ids=INVALID_REQUESTS.keys())
def test_what_is_no_request_is_an_invalid_request_and_leaves_no_record(scene: Scene, era: str, body: Any) -> None:
    leaves = scene.leaves()
    with scene.nothing_executes():
        answer = post(scene, era, json.dumps(body).encode())
        assert answer.json["error"]["code"] == -32600
        assert answer.status == (400 if era == "modern" or answer.json["id"] is None else 200)
        assert scene.leaves() == leaves


@pytest.mark.parametrize("request_id", [0, -1, 2**63 - 1, "", "1", "\u0000", "ü😀", "x" * 256])
def test_an_id_of_any_kind_that_the_protocol_knows_comes_back_exactly(scene: Scene, era: str, request_id: Any) -> None:
    answer = post(scene, era, {**CALL, "id": request_id})
    assert answer.json["id"] == request_id
    assert type(answer.json["id"]) is type(request_id)
    assert answer.json["result"]["structuredContent"] == {"echo": {"value": 1}}


@pytest.mark.parametrize("params", [None, [], "x", 1, True], ids=["null", "a list", "a text", "a number", "true"])
def test_params_that_are_no_object_are_invalid(scene: Scene, era: str, params: Any) -> None:
    with scene.nothing_executes():
        answer = post(scene, era, {**CALL, "params": params})
        assert answer.json["error"]["code"] == -32602
        assert answer.json["id"] == 1


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"arguments": {}}, "policy_denied"),
        ({"name": None, "arguments": {}}, "policy_denied"),
        ({"name": ["echo"], "arguments": {}}, "policy_denied"),
        ({"name": "echo", "arguments": {}, "task": {"ttl": 1}}, "malformed_call"),
        ({"name": "echo", "arguments": {}, "inputResponses": {"a": {"approved": True}}}, "malformed_call"),
        ({"name": "echo", "arguments": {}, "_meta": {**META, "interlock/idempotency-key": 1}}, "malformed_call"),
        (
            {"name": "echo", "arguments": {}, "_meta": {**META, "interlock/idempotency-key": "x" * 129}},
            "malformed_call",
        ),
    ],
    ids=["no name", "name null", "name a list", "unknown member", "input responses", "key a number", "key too long"],
)
def test_call_parameters_of_the_wrong_shape_are_refused_and_recorded(
    scene: Scene, era: str, params: dict[str, Any], code: str
) -> None:
    with scene.nothing_executes():
        answer = post(scene, era, {**CALL, "params": {"_meta": META, **params}})
        error = answer.json["result"]["structuredContent"]["error"]
        assert error["code"] == code
        assert scene.last_call()["id"] == error["call_id"]


@pytest.mark.parametrize(
    "name",
    ["", " ", "ECHO", "echo ", "odd/echo", "echo\u0000", "\u0435cho", "e\u0301cho", "../echo", "a" * 100_000, "drop\ntable"],
    ids=["empty", "blank", "capitals", "trailing blank", "qualified", "NUL", "Cyrillic e", "combining", "dots", "long", "newline"],
)  # fmt: skip
def test_a_tool_that_is_not_there_is_denied_like_one_that_may_not_be_used(scene: Scene, era: str, name: str) -> None:
    with scene.nothing_executes():
        body = {**CALL, "params": {**CALL["params"], "name": name}}
        if era == "modern":
            import base64

            mirrored = f"=?base64?{base64.b64encode(name.encode()).decode()}?="
            answer = scene.modern(body, {"Mcp-Name": mirrored if len(name) < 1000 else "x"})
            if len(name) >= 1000:  # no header can carry it, so nothing can agree with it
                assert answer.json["error"]["code"] == -32020
                return
        else:
            answer = scene.legacy(body, scene.open_session())
        error = answer.json["result"]["structuredContent"]["error"]
        assert error["code"] == "policy_denied"
        call = scene.last_call()
        assert call["id"] == error["call_id"]
        assert len(call["tool"]) <= 128
        assert call["tool"].isprintable()


UNKNOWN_METHODS = [
    "tools/Call", "tools/call ", "tools/call\u0000", "resources/read", "prompts/get", "sampling/createMessage",
    "completion/complete", "logging/setLevel", "tasks/get", "x" * 5000, "",
]  # fmt: skip


@pytest.mark.parametrize("method", UNKNOWN_METHODS, ids=range(len(UNKNOWN_METHODS)))
def test_an_unknown_method_is_not_found(scene: Scene, era: str, method: str) -> None:
    with scene.nothing_executes():
        body = {**CALL, "method": method}
        if era == "modern":
            printable = method.strip() == method and method.isprintable()
            answer = scene.modern(body, {"Mcp-Method": method if printable else "x"})
            expected = (404, -32601) if printable else (400, -32020)
        else:
            answer, expected = scene.legacy(body, scene.open_session()), (200, -32601)
        assert (answer.status, answer.json["error"]["code"]) == expected


@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/whatever", "notifications/cancelled"])
def test_a_notification_is_acknowledged_and_does_nothing(scene: Scene, era: str, method: str) -> None:
    with scene.nothing_executes():
        body = {"jsonrpc": "2.0", "method": method, "params": {"requestId": 1, "_meta": META}}
        answer = post(scene, era, body)
        assert (answer.status, answer.body) == (202, b"")


# The headers of 2026-07-28 ------------------------------------------------------------------------------

MISMATCHES: dict[str, dict[str, str | None]] = {
    "no method": {"Mcp-Method": None},
    "another method": {"Mcp-Method": "tools/list"},
    "the method in capitals": {"Mcp-Method": "TOOLS/CALL"},
    "no name": {"Mcp-Name": None},
    "another name": {"Mcp-Name": "status-500"},
    "an empty name": {"Mcp-Name": ""},
    "a name in broken base64": {"Mcp-Name": "=?base64?ZWNo?="},
    "a name in base64 with stray bits": {"Mcp-Name": "=?base64?ZWNobx==?="},
    "a later version": {"MCP-Protocol-Version": "2027-01-01"},
    "an empty version": {"MCP-Protocol-Version": ""},
}


@pytest.mark.parametrize("headers", MISMATCHES.values(), ids=MISMATCHES.keys())
def test_headers_that_do_not_mirror_the_body_are_a_mismatch(scene: Scene, headers: dict[str, str | None]) -> None:
    leaves = scene.leaves()
    with scene.nothing_executes():
        answer = scene.modern(scene.message(), headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32020)
        assert scene.leaves() == leaves


@pytest.mark.parametrize("header", [None, "x", "Klara\r\n"], ids=["missing", "another value", "almost the value"])
def test_a_header_that_mirrors_an_argument_must_agree_with_it(scene: Scene, header: str | None) -> None:
    body = scene.message("mirrored", {"customer": "Klara"})
    headers = {"Mcp-Name": "mirrored", **({"Mcp-Param-Customer": header.strip() + "!"} if header else {})}
    with scene.nothing_executes():
        answer = scene.modern(body, headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32020)


def test_the_upstream_gets_headers_made_from_the_body_and_no_header_of_the_agent(scene: Scene) -> None:
    import base64

    nasty = "Klara\r\nX-Admin: yes"
    mirrored = f"=?base64?{base64.b64encode(nasty.encode()).decode()}?="
    headers = {"Mcp-Name": "mirrored", "Mcp-Param-Customer": mirrored, "Mcp-Param-Other": "x", "X-Admin": "yes"}
    answer = scene.modern(scene.message("mirrored", {"customer": nasty}), {**headers, "Cookie": "a=b"})
    assert answer.json["result"]["structuredContent"] == {"echo": {"customer": nasty}}
    assert scene.upstream is not None
    arrived = scene.upstream.reached[-1].headers
    assert arrived["mcp-param-customer"] == mirrored
    assert arrived["mcp-name"] == "mirrored"
    assert not arrived.keys() & {"x-admin", "cookie", "mcp-param-other", "authorization"}


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
def test_a_mirroring_header_that_appears_twice_is_a_mismatch(scene: Scene, name: str) -> None:
    from support.raw_http import exchange, request

    value = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo"}[name]
    body = json.dumps(scene.message()).encode()
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(scene.token, body, more=[(name, value)]))
        assert (answer.status, answer.json["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("version", ["2025-03-26", "2030-01-01", "1"])
def test_a_version_that_is_not_served_is_unsupported_or_the_other_eras(scene: Scene, version: str) -> None:
    body = scene.message()
    body["params"]["_meta"] = {**META, VERSION: version}
    with scene.nothing_executes():
        answer = scene.modern(body, {"MCP-Protocol-Version": version})
        assert answer.status == 400
        if version == "2025-03-26":  # the handshake era: a session is needed
            assert answer.json["code"] == "malformed_call"
        else:
            assert answer.json["error"]["code"] == -32022
            assert answer.json["error"]["data"] == {"supported": ["2026-07-28"], "requested": version}


@pytest.mark.parametrize("meta", [None, {}, {VERSION: "2026-07-28"}, [], "x"])
def test_a_request_without_its_envelope_has_invalid_params(scene: Scene, meta: Any) -> None:
    body = scene.message()
    body["params"]["_meta"] = meta
    with scene.nothing_executes():
        answer = scene.modern(body)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32602)
