"""Tool calls that have no single exact meaning, or do not fit their tool (03-policy, "The canonical request")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plane import META
from support.scene import Scene, http_scene

ENVELOPE = json.dumps(META)
MAX_BODY = 20_000

# Arguments as text, so that what no JSON library would write can be sent.
INEXACT = {
    "a key twice": '{"value": 1, "value": 2}',
    "a key twice, spelled differently": '{"value": 1, "\\u0076alue": 2}',
    "a key twice, deep inside": '{"value": [[{"a": {"b": 1, "b": 1}}]]}',
    "NaN": '{"value": NaN}',
    "Infinity": '{"value": Infinity}',
    "minus Infinity": '{"value": -Infinity}',
    "a number beyond a double": '{"value": 1e400}',
    "an integer just beyond 64 bit": '{"value": 9223372036854775808}',
    "an integer just below 64 bit": '{"value": -9223372036854775809}',
    "an integer of 5,000 digits": '{"value": ' + "9" * 4000 + "}",
    "the first half of a surrogate pair": '{"value": "\\ud800"}',
    "the second half of a surrogate pair": '{"value": "\\udc00 "}',
    "half of a surrogate pair in a key": '{"value": {"\\udfff": 1}}',
    "33 levels": '{"value": ' + "[" * 30 + "]" * 30 + "}",
    "900 levels": '{"value": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    "Cedar's escape for other types": '{"value": {"__extn": {"fn": "decimal", "arg": "1.0"}}}',
    "Cedar's escape for entities": '{"value": [{"__entity": {"type": "Agent", "id": "root"}}]}',
    "an escaped spelling of Cedar's escape": '{"value": {"\\u005f_entity": 1}}',
}
UNFIT = {
    "an argument that is not declared": ('{"value": 1, "admin": true}', "declares no argument 'admin'"),
    "an argument that differs by case": ('{"Value": 1}', "declares no argument 'Value'"),
    "an argument with a look-alike letter": ('{"v\\u0430lue": 1}', "declares no argument"),
    "an argument with an invisible letter": ('{"value\\u200b": 1}', "declares no argument"),
    "a wrong type": ('{"form": 1}', "form"),
    "an integer beyond 2^53 where none is asked for": ('{"value": 9007199254740993}', "2^53"),
    "a list": ("[]", "not an object"),
    "a text": ('"value"', "not an object"),
    "null": ("null", "not an object"),
    "true": ("true", "not an object"),
}
NO_JSON = {
    "nothing": b"",
    "blanks": b"   ",
    "half of a message": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"',
    "two messages": b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}{"jsonrpc": "2.0", "id": 2, "method": "ping"}',
    "a trailing comma": b'{"jsonrpc": "2.0", "id": 1, "method": "ping",}',
    "single quotes": b"{'jsonrpc': '2.0'}",
    "a comment": b'{"jsonrpc": "2.0", /* hello */ "id": 1, "method": "ping"}',
    "bytes that are not UTF-8": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\xff"}}',
    "an overlong UTF-8 sequence": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\xc0\xaf"}}',
    "a raw control character": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call\n"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "nesting beyond any parser": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ' + b"[" * 9000,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("plane")
    with http_scene(folder, more={"gateway": {"max_body_bytes": MAX_BODY}}) as found:
        found.serves()
        yield found


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def sent(scene: Scene, era: str, arguments: str, *, head: str = '"jsonrpc": "2.0", "id": 1') -> tuple[int, bytes]:
    """Send a tools/call with these arguments, as text; status and body of the answer."""
    params = f'{{"name": "echo", "arguments": {arguments}, "_meta": {ENVELOPE}}}'
    body = f'{{{head}, "method": "tools/call", "params": {params}}}'.encode()
    answer = scene.modern(body) if era == "modern" else scene.legacy(body, scene.open_session())
    return answer.status, answer.body


@pytest.mark.parametrize("arguments", INEXACT.values(), ids=INEXACT.keys())
def test_a_call_without_one_exact_meaning_is_refused_and_recorded(scene: Scene, era: str, arguments: str) -> None:
    with scene.nothing_executes():
        status, body = sent(scene, era, arguments)
        assert status == 200
        answer = json.loads(body)
        assert answer["id"] == 1
        error = answer["result"]["structuredContent"]["error"]
        assert answer["result"]["isError"] is True
        assert error["code"] == "malformed_call"
        assert error["retryable"] is False
        call = scene.last_call()
    assert (call["id"], call["state"], call["code"]) == (error["call_id"], "denied", "malformed_call")
    assert call["permit_leaf"] is None


@pytest.mark.parametrize(("arguments", "said"), UNFIT.values(), ids=UNFIT.keys())
def test_arguments_that_do_not_fit_the_pinned_schema_are_refused_and_recorded(
    scene: Scene, era: str, arguments: str, said: str
) -> None:
    with scene.nothing_executes():
        status, body = sent(scene, era, arguments)
        error = json.loads(body)["result"]["structuredContent"]["error"]
        assert (status, error["code"]) == (200, "malformed_call")
        assert said in error["message"]
        assert scene.last_call()["id"] == error["call_id"]


@pytest.mark.parametrize(
    "arguments", [INEXACT[name] for name in ("NaN", "900 levels", "an integer just beyond 64 bit")]
)
def test_the_record_of_a_malformed_call_can_be_shown(scene: Scene, arguments: str) -> None:
    with scene.nothing_executes():
        _, body = sent(scene, "modern", arguments)
        call = json.loads(body)["result"]["structuredContent"]["error"]["call_id"]
        shown = scene.plane.operate("GET", f"/v1/calls/{call}")
        assert shown.status == 200, shown.body
        assert shown.json["leaves"][0]["payloads"]["input"], "what was sent is evidence"
        assert call in scene.plane.command("calls", "show", call).stdout


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
def test_a_body_that_is_no_json_is_a_parse_error(scene: Scene, era: str, body: bytes) -> None:
    with scene.nothing_executes():
        answer = scene.modern(body) if era == "modern" else scene.legacy(body, scene.open_session())
        assert answer.status == 400
        assert answer.json["error"]["code"] == -32700
        assert answer.json["id"] is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_body_in_another_encoding_is_never_executed(scene: Scene, encoding: str) -> None:
    with scene.nothing_executes():
        answer = scene.modern(json.dumps(scene.message()).encode(encoding))
        code = answer.json["error"]["code"] if "error" in answer.json else None
        refused = answer.json["result"]["structuredContent"]["error"]["code"] if code is None else None
        assert (code, refused) in ((-32700, None), (None, "malformed_call"))


@pytest.mark.parametrize(
    "head",
    [
        '"jsonrpc": "2.0", "id": 1, "id": 2',
        '"jsonrpc": "2.0", "id": 1, "method": "ping"',
        '"jsonrpc": "2.0", "id": 1, "params": {"name": "echo"}',
    ],
    ids=["the id", "the method", "the params"],
)
def test_a_member_of_the_message_that_appears_twice_executes_nothing(scene: Scene, era: str, head: str) -> None:
    with scene.nothing_executes():
        status, body = sent(scene, era, '{"value": 1}', head=head)
        assert status == 200
        assert json.loads(body)["result"]["structuredContent"]["error"]["code"] == "malformed_call"


def test_an_id_that_is_no_64_bit_integer_is_an_invalid_request_and_not_a_crash(scene: Scene, era: str) -> None:
    with scene.nothing_executes():
        status, body = sent(scene, era, '{"value": 1}', head='"jsonrpc": "2.0", "id": 99999999999999999999')
        assert status in (200, 400), body
        answer = json.loads(body)
        assert "error" in answer or answer["result"]["structuredContent"]["error"]["code"] == "malformed_call"


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(scene: Scene, chunked: bool) -> None:
    import http.client

    body = json.dumps(scene.message(arguments={"value": "x" * MAX_BODY})).encode()
    host, _, port = scene.plane.url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    headers = {"Authorization": f"Bearer {scene.token}", "Content-Type": "application/json", "Accept": "*/*"}
    with scene.nothing_executes():
        pieces = (body[start : start + 4096] for start in range(0, len(body), 4096))
        connection.request("POST", "/mcp/odd", pieces if chunked else body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (413, "malformed_call")
        connection.close()


def test_a_body_of_exactly_the_limit_is_read(scene: Scene) -> None:
    body = json.dumps(scene.message()).encode()
    answer = scene.modern(body + b" " * (MAX_BODY - len(body)))
    assert answer.json["result"]["structuredContent"] == {"echo": {"value": 1}}
    assert scene.modern(body + b" " * (MAX_BODY + 1 - len(body))).status == 413


def test_every_malformed_attempt_is_a_step_and_takes_nothing_else(scene: Scene) -> None:
    scene.serves()
    before = scene.run()
    for arguments in (*INEXACT.values(), *(text for text, _ in UNFIT.values())):
        sent(scene, "modern", arguments)
    after = scene.run()
    assert after["steps"] - before["steps"] == len(INEXACT) + len(UNFIT)
    assert after["counters"] == before["counters"]
    assert after["in_flight"] == 0
