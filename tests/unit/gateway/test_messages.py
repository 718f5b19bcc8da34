"""Inbound messages: one exact meaning, or the protocol's error; a call without one is an attempt all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock.core.canonical import MAX_VALUES, Json
from interlock.core.mcp import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR
from interlock.gateway.messages import IDEMPOTENCY_META, CallParams, Rpc, RpcError, call_params, read_message, weight
from interlock.gateway.rendering import rpc_error, rpc_result
from support.examples import tries


def _message(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call"} | members).encode()


def _error(body: bytes) -> RpcError:
    with pytest.raises(RpcError) as refused:
        read_message(body)
    return refused.value


def test_a_request_is_read() -> None:
    body = _message(id="x", method="tools/list", params={"cursor": "c"})
    assert read_message(body) == Rpc("x", "tools/list", {"cursor": "c"}, body)


def test_a_message_without_an_id_is_a_notification() -> None:
    assert read_message(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').id is None


def test_params_may_be_left_out() -> None:
    assert read_message(_message(method="ping")).params == {}


@pytest.mark.parametrize("request_id", [0, -1, 2**63 - 1, "", "x" * 256, "é"])
def test_an_id_is_a_short_text_or_an_integer(request_id: int | str) -> None:
    assert read_message(_message(id=request_id)).id == request_id


@pytest.mark.parametrize("request_id", [None, True, 1.5, [], {}, "x" * 257], ids=str)
def test_any_other_id_is_refused_and_not_echoed(request_id: object) -> None:
    error = _error(_message(id=request_id))
    assert (error.code, error.request_id) == (INVALID_REQUEST, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", PARSE_ERROR),
        (b"not json", PARSE_ERROR),
        (b"\xff", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', PARSE_ERROR),
        (b"[" * 100_000, PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":1,"x":2}}', PARSE_ERROR),
        (b"null", INVALID_REQUEST),
        (b"5", INVALID_REQUEST),
        (b'"tools/call"', INVALID_REQUEST),
        (b"[]", INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":2.0,"id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}', INVALID_PARAMS),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_no_message_gets_the_protocol_s_error(body: bytes, code: int) -> None:
    assert _error(body).code == code


def test_an_error_answers_to_the_id_as_soon_as_it_is_known() -> None:
    assert _error(b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}').request_id == 7
    assert _error(b'{"jsonrpc":"2.0","id":7}').request_id == 7


def test_the_weight_of_a_message_grows_with_its_bytes_and_its_values() -> None:
    assert weight(b"") == 1
    assert weight(_message(params={"name": "send", "arguments": {"to": ["a"] * 50}})) == 1
    assert weight(b'"' + b"," * 16_382 + b'"') == 2
    assert weight(b"[" + b"0," * 4999 + b"0]") == 1 + 10
    assert weight(b"[" + b"0," * 524_000 + b"0]") == 1 + 63 + MAX_VALUES // 500, "what is not decoded is not paid for"


# Calls without an exact meaning ---------------------------------------------------------------------


INEXACT = {
    "a key twice": '{"to": "a", "to": "b"}',
    "a key twice, deeper": '{"x": [{"y": 1, "y": 1}]}',
    "not a number": '{"x": NaN}',
    "infinite": '{"x": -Infinity}',
    "beyond a double": '{"x": 1e999}',
    "beyond 64 bit": '{"x": 18446744073709551616}',
    "half a character": '{"x": "\\ud800"}',
    "reserved": '{"__extn": {"fn": "decimal", "arg": "1"}}',
    "too many values": '{"x": [' + "0," * MAX_VALUES + "0]}",
    "too deep": '{"x":' + "[" * 40 + "]" * 40 + "}",
}


@pytest.mark.parametrize("arguments", INEXACT.values(), ids=INEXACT.keys())
def test_a_call_without_an_exact_meaning_is_malformed_but_a_call(arguments: str) -> None:
    body = (
        f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"send","arguments":{arguments}}}}}'.encode()
    )
    rpc = read_message(body)
    assert (rpc.id, rpc.method, rpc.params, rpc.raw, rpc.tool) == (7, "tools/call", {}, body, "send")
    assert rpc.malformed
    params = call_params(rpc)
    assert (params.name, params.arguments, params.malformed) == ("send", None, rpc.malformed)
    assert (params.progress_token, params.idempotency_key) == (None, "")


@pytest.mark.parametrize("arguments", INEXACT.values(), ids=INEXACT.keys())
def test_another_method_without_an_exact_meaning_is_a_parse_error(arguments: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{arguments}}}'.encode()
    assert _error(body).code == PARSE_ERROR


@pytest.mark.parametrize("name", ["5", "null", '{"a":1}', '"\\ud800"'])
def test_a_malformed_call_s_tool_is_named_only_where_it_can_be(name: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":{name},"arguments":{{"x":NaN}}}}}}'
    assert read_message(body.encode()).tool == ""
    assert read_message(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":NaN}').tool == ""


@pytest.mark.parametrize("request_id", [str(2**63), str(-(2**63) - 1), "9" * 200, '"\\ud800"', "1e999"])
def test_whatever_id_is_taken_can_be_answered_to(request_id: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{{"name":"send"}}}}'.encode()
    try:
        rpc = read_message(body)
    except RpcError as error:
        json.loads(rpc_error(error))
    else:
        assert rpc.id is not None
        assert json.loads(rpc_result(rpc.id, b"{}"))["id"] == rpc.id


@tries(200)
@given(body=st.binary(max_size=200))
@example(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"tools/call"}')
@example('{"jsonrpc":"2.0","id":1,"method":"tools/call"}'.encode("utf-16"))
def test_no_bytes_break_the_door(body: bytes) -> None:
    try:
        read_message(body)
    except RpcError as error:
        json.loads(rpc_error(error))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@tries(200)
@given(
    message=st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0"), "method": st.just("tools/call")},
        optional={
            "id": json_values,
            "params": json_values
            | st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(("name", "arguments", "_meta", "task"), json_values),
            ),
        },
    )
)
def test_no_call_breaks_the_door(message: dict[str, Json]) -> None:
    try:
        params = call_params(read_message(json.dumps(message).encode()))
    except RpcError:
        return
    assert (params.arguments is None) == (params.malformed is not None)


# Parameters of a call -------------------------------------------------------------------------------


def _params(**params: Any) -> CallParams:
    return call_params(read_message(_message(params=params)))


def test_the_parameters_of_a_call_are_read() -> None:
    meta = {"progressToken": 5, IDEMPOTENCY_META: "again", "io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    assert _params(name="send", arguments={"to": ["a"]}, _meta=meta) == CallParams("send", {"to": ["a"]}, 5, "again")
    assert _params(name="send") == CallParams("send", {}, None, "")
    assert _params(name="send", _meta={"progressToken": "p"}).progress_token == "p"


@pytest.mark.parametrize("params", [{}, {"name": 5}, {"name": None}, {"name": ["send"]}], ids=str)
def test_a_call_that_names_no_tool_is_malformed(params: dict[str, Any]) -> None:
    assert _params(**params) == CallParams("", None, None, "", "params.name is not text")


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"arguments": []}, "params.arguments is not an object"),
        ({"arguments": None}, "params.arguments is not an object"),
        ({"arguments": "{}"}, "params.arguments is not an object"),
        ({"_meta": []}, "params._meta is not an object"),
        ({"_meta": {IDEMPOTENCY_META: 5}}, f"{IDEMPOTENCY_META} is not a short text"),
        ({"_meta": {IDEMPOTENCY_META: "x" * 129}}, f"{IDEMPOTENCY_META} is not a short text"),
        ({"inputResponses": {}}, "params has the member 'inputResponses', which is not supported"),
        ({"task": {}, "zebra": 1}, "params has the member 'task', which is not supported"),
    ],
    ids=str,
)
def test_a_call_with_parameters_of_another_shape_is_malformed(params: dict[str, Any], problem: str) -> None:
    found = _params(name="send", **params)
    assert (found.name, found.arguments, found.malformed) == ("send", None, problem)


@pytest.mark.parametrize("token", [True, 1.5, None, [], {}], ids=str)
def test_a_progress_token_of_another_type_is_none(token: object) -> None:
    params = _params(name="send", _meta={"progressToken": token})
    assert params.progress_token is None
    assert params.malformed is None


def test_a_malformed_call_keeps_its_idempotency_key() -> None:
    params = _params(name="send", arguments=[], _meta={IDEMPOTENCY_META: "again"})
    assert (params.malformed, params.idempotency_key) == ("params.arguments is not an object", "again")
