"""Answers on the wire: the upstream's result byte for byte, but for what the two eras differ in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.core.errors import Code
from interlock.gateway.messages import RpcError
from interlock.gateway.rendering import progress_event, rpc_error, rpc_result, sse, tool_result
from interlock.plane.callers import CallError, CallResult
from interlock.plane.ports import Progress


def _result(body: bytes, *, modern: bool, replayed: bool = False) -> Any:
    return json.loads(tool_result(CallResult(body, "call_1", "run_1", replayed), modern=modern))


def test_a_result_is_spliced_into_its_answer_as_it_is() -> None:
    assert rpc_result('a"b', b'{ "x" : 1.50 }') == b'{"jsonrpc":"2.0","id":"a\\"b","result":{ "x" : 1.50 }}'


@pytest.mark.parametrize("data", [None, {"supported": ["x"]}])
def test_an_error_is_answered_with_its_id_and_data(data: Any) -> None:
    answer = json.loads(rpc_error(RpcError(-32601, "Method not found", 7, data)))
    assert answer["id"] == 7
    assert answer["error"] == {"code": -32601, "message": "Method not found"} | ({"data": data} if data else {})


@pytest.mark.parametrize(
    ("modern", "body"), [(False, b'{"content" : []}'), (True, b'{"content" : [],"resultType":"complete"}')]
)
def test_a_result_of_the_same_era_passes_byte_for_byte(modern: bool, body: bytes) -> None:
    assert tool_result(CallResult(body, "call_1", "run_1"), modern=modern) == body


def test_the_member_that_differs_between_the_eras_is_added_or_taken_away() -> None:
    assert _result(b'{"content":[]}', modern=True) == {"content": [], "resultType": "complete"}
    assert _result(b'{"content":[],"resultType":"complete"}', modern=False) == {"content": []}


@pytest.mark.parametrize(
    "inner",
    [
        b'{"structuredContent":{"resultType":"mine"}}',
        b'{"structuredContent":{"x":"resultType"}}',
        b'{"content":[{"type":"text","text":"say \\"resultType\\""}]}',
    ],
)
@pytest.mark.parametrize("modern", [False, True])
def test_a_result_that_only_speaks_of_that_member_deeper_down_is_not_mistaken(inner: bytes, modern: bool) -> None:
    expected = json.loads(inner) | ({"resultType": "complete"} if modern else {})
    assert _result(inner, modern=modern) == expected


@pytest.mark.parametrize("modern", [False, True])
def test_a_replayed_result_says_so_beside_what_its_meta_says(modern: bool) -> None:
    for meta, kept in ((b"", {}), (b',"_meta":{"x":1}', {"x": 1})):
        found = _result(b'{"content":[]' + meta + b"}", modern=modern, replayed=True)
        assert found["_meta"] == kept | {"interlock/replayed": True}
        assert found["content"] == []
        assert ("resultType" in found) == modern


@pytest.mark.parametrize("meta", [b"null", b"5", b'"text"', b"[1]"])
def test_a_replayed_result_with_a_strange_meta_is_still_answered(meta: bytes) -> None:
    found = _result(b'{"content":[],"_meta":' + meta + b"}", modern=True, replayed=True)
    assert found["_meta"] == {"interlock/replayed": True}


@pytest.mark.parametrize("modern", [False, True])
def test_a_refusal_is_a_tool_result_that_a_model_can_act_on(modern: bool) -> None:
    error = CallError(Code.APPROVAL_PENDING, "Wait.", "a/rule", "call_1", "run_1", "hold_1", 2000)
    found = json.loads(tool_result(error, modern=modern))
    assert found.pop("resultType", None) == ("complete" if modern else None)
    assert found == {
        "isError": True,
        "content": [{"type": "text", "text": "approval_pending: Wait."}],
        "structuredContent": {
            "error": {
                "code": "approval_pending",
                "message": "Wait.",
                "rule": "a/rule",
                "call_id": "call_1",
                "run_id": "run_1",
                "retryable": True,
                "approval_id": "hold_1",
                "retry_after_ms": 2000,
            }
        },
    }


def test_a_refusal_says_only_what_there_is_to_say() -> None:
    error = CallError(Code.POLICY_DENIED, "No.", None, None, None).as_json()
    assert error == {
        "code": "policy_denied",
        "message": "No.",
        "rule": None,
        "call_id": None,
        "run_id": None,
        "retryable": False,
    }


def _event(event: bytes) -> Any:
    name, data, *rest = event.split(b"\n")
    assert name == b"event: message"
    assert rest == [b"", b""]
    return json.loads(data.removeprefix(b"data: "))


def test_progress_carries_the_client_s_own_token() -> None:
    assert _event(progress_event("p", Progress(1.0, None, None))) == {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": "p", "progress": 1},
    }
    full = _event(progress_event(5, Progress(0.5, 2.0, "half\nway")))
    assert full["params"] == {"progressToken": 5, "progress": 0.5, "total": 2, "message": "half\nway"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_result_with_line_breaks_is_one_event(end: bytes) -> None:
    assert sse(b'{"a":' + end + b"1}") == b'event: message\ndata: {"a":\ndata: 1}\n\n'
