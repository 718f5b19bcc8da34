"""Frames of upstreams: decoded as little as possible, and never more than what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.mcp import INTERNAL_ERROR
from interlock.plane.ports import Answer, Progress
from interlock.upstream.frames import (
    NotAFrame,
    Notice,
    Reply,
    ServerRequest,
    call_frame,
    notification_frame,
    read_frame,
    reply_frame,
    request_frame,
)
from support.bundles import INTEGER, TEXT, tool
from support.examples import tries


def test_a_result_stays_the_bytes_that_it_was() -> None:
    raw = b'{ "content" : [ ],\t"x": 1.50, "x": "\\u0061" }'
    assert read_frame(b'{"jsonrpc":"2.0","id":7,"result":' + raw + b"}") == Reply(7, Answer(raw, None))


def test_an_error_is_reduced_to_its_code_and_whole_message() -> None:
    frame = read_frame(b'{"id":7,"error":{"code":-32602,"message":"' + b"x" * 3000 + b'","data":{"secret":1}}}')
    assert frame == Reply(7, Answer(None, {"code": -32602, "message": "x" * 3000}))


@pytest.mark.parametrize("error", ["null", "5", '"x"', "[]", "{}", '{"code":"x","message":5}', '{"code":1.5}'])
def test_an_error_of_any_shape_is_an_error(error: str) -> None:
    frame = read_frame(f'{{"id":7,"error":{error}}}'.encode())
    assert isinstance(frame, Reply)
    assert frame.answer.result is None
    assert frame.answer.error == {"code": INTERNAL_ERROR, "message": "the upstream answered with an error"}


@pytest.mark.parametrize("request_id", ["9", '"a"'])
def test_a_request_of_the_upstream_is_told_from_a_notification(request_id: str) -> None:
    found = read_frame(f'{{"id":{request_id},"method":"sampling/createMessage","params":{{}}}}'.encode())
    assert found == ServerRequest(json.loads(request_id), "sampling/createMessage")
    assert read_frame(b'{"method":"notifications/tools/list_changed"}') == Notice(
        "notifications/tools/list_changed", None
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"5",
        b"{}",
        b'{"id":7}',
        b'{"id":"7","result":{}}',
        b'{"id":null,"result":{}}',
        b'{"id":null,"error":{}}',
        b'{"id":true,"result":{}}',
        b'{"id":1.5,"result":{}}',
        b'{"result":{}}',
        b'{"id":7,"result":{}',
        b'{"id":7,"method":5}',
        b'{"id":99999999999999999999,"method":"ping"}',
        b'{"id":7,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff",
    ],
    ids=lambda data: ascii(data)[:40],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(NotAFrame):
        read_frame(data)


@tries(300)
@given(data=st.binary(max_size=80))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        read_frame(data)
    except NotAFrame:
        return


def _progress(params: Any) -> tuple[int, Progress] | None:
    found = read_frame(json.dumps({"method": "notifications/progress", "params": params}).encode())
    assert isinstance(found, Notice)
    return found.progress


def test_progress_is_read_with_its_number() -> None:
    assert _progress({"progressToken": 5, "progress": 0.5, "total": 2, "message": "half"}) == (
        5,
        Progress(0.5, 2.0, "half"),
    )
    assert _progress({"progressToken": 5, "progress": 1}) == (5, Progress(1.0, None, None))
    assert _progress({"progressToken": 5, "progress": 1, "message": "x" * 3000}) == (5, Progress(1.0, None, "x" * 3000))


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        {},
        {"progressToken": "5", "progress": 1},
        {"progressToken": 5},
        {"progressToken": 5, "progress": "x"},
        {"progressToken": 5, "progress": 1, "message": 5},
    ],
    ids=str,
)
def test_progress_that_cannot_be_read_is_none(params: Any) -> None:
    assert _progress(params) is None


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_progress_that_is_no_number_is_none(number: str) -> None:
    data = f'{{"method":"notifications/progress","params":{{"progressToken":5,"progress":{number}}}}}'.encode()
    try:
        found = read_frame(data)
    except NotAFrame:
        return
    assert isinstance(found, Notice)
    assert found.progress is None


def test_progress_of_another_notification_is_none() -> None:
    found = read_frame(b'{"method":"notifications/message","params":{"progressToken":5,"progress":1}}')
    assert found == Notice("notifications/message", None)


# Ours -----------------------------------------------------------------------------------------------


def test_requests_and_notifications_are_json_rpc() -> None:
    assert json.loads(request_frame(3, "tools/list", {"cursor": "c"})) == {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "tools/list",
        "params": {"cursor": "c"},
    }
    assert json.loads(notification_frame("notifications/cancelled", {"requestId": 3})) == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 3},
    }


def test_of_an_upstream_s_requests_only_a_ping_is_answered_with_a_result() -> None:
    assert json.loads(reply_frame(ServerRequest("x", "ping"))) == {"jsonrpc": "2.0", "id": "x", "result": {}}
    declined = json.loads(reply_frame(ServerRequest(5, "elicitation/create")))
    assert (declined["id"], declined["error"]["code"]) == (5, -32601)
    assert "result" not in declined


@pytest.mark.parametrize("meta", [{}, {"progressToken": 4}])
def test_a_call_carries_the_very_bytes_that_were_decided(meta: Any) -> None:
    pinned = tool("send", {"to": TEXT, "count": INTEGER})
    arguments = canonical_arguments(pinned, {"to": 'é"\n', "count": 1.0}, additional=False)
    frame = call_frame(7, canonical_call("a", "run_1", pinned, arguments, {}), meta)
    assert b'"arguments":' + arguments.canonical in frame
    assert b"\n" not in frame, "one line over a pipe"
    assert json.loads(frame) == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "send", "arguments": {"to": 'é"\n', "count": 1}} | ({"_meta": meta} if meta else {}),
    }


def test_the_plane_s_own_meta_wins_over_what_is_forwarded() -> None:
    pinned = tool("send", {})
    arguments = canonical_arguments(pinned, {}, additional=False)
    call = canonical_call("a", "run_1", pinned, arguments, {"progressToken": "theirs", "trace": "x"})
    sent = json.loads(call_frame(7, call, {"progressToken": 4}))
    assert sent["params"]["_meta"] == {"progressToken": 4, "trace": "x"}
