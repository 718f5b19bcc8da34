"""HTTP that is odd, hostile or slow: paths, names, origins, floods of headers, and two readings of one message."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.odd_http_upstream import AGENT
from support.plane import PlaneProcess
from support.raw_http import connect, exchange, request
from support.scene import Scene, http_scene

MEGABYTE = b"a" * 1_000_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with http_scene(tmp_path_factory.mktemp("plane"), more={"gateway": {"max_body_bytes": 65_536}}) as found:
        found.serves()
        yield found


def call_bytes(scene: Scene) -> bytes:
    return json.dumps(scene.message()).encode()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
def test_other_methods_are_not_allowed_or_end_a_session_that_is_not_there(
    scene: Scene, method: str, version: str
) -> None:
    headers = {"Authorization": f"Bearer {scene.token}", "MCP-Protocol-Version": version}
    with scene.nothing_executes():
        answer = scene.plane.http(method, "/mcp/odd", call_bytes(scene), headers)
        if method == "DELETE" and version == "2025-11-25":
            assert answer.status == 404
        else:
            assert answer.status == 405
            assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/mcp/", 404), ("/mcp/odd/", 404), ("/mcp/odd/..", 404), ("/mcp/../v1/runs", 404), ("/mcp/ODD", 404),
        ("/mcp/%6fdd/x", 404), ("/mcp/odd%00", 404), ("/mcp/%2e%2e/odd", 404), ("/mcp/odd%2f", 404), ("/mcp/%ff%fe", 404),
        ("/mcp/%C3%B6dd", 404), ("/mcp//odd", 404), ("/mcp/odd;x=1", 404), ("/mcp/nowhere", 404), ("/mcp/%zz", 404),
        ("//mcp/odd", 404), ("/MCP/odd", 404), ("/mcp", 404), ("/", 404), ("/v1/status", 404), ("/v1/tokens", 404),
        ("/v1/policy/activate", 404), ("/v1/halts", 404), ("/metrics", 404),
    ],
)  # fmt: skip
def test_a_path_that_is_no_door_leads_nowhere(scene: Scene, path: str, status: int) -> None:
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(scene.token, call_bytes(scene), line=f"POST {path} HTTP/1.1"))
        assert answer.status == status
        assert answer.json["code"] == "not_found"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:7600", "127.0.0.1.evil.example", "", "[", "[::1", "]",
     "[::1%25lo]:x", "localhost@evil.example", "a b", "0.0.0.0", "evil.example#localhost"],
)  # fmt: skip
def test_a_name_that_is_not_the_planes_is_misdirected(scene: Scene, host: str) -> None:
    with scene.nothing_executes():
        head = request(scene.token, call_bytes(scene), drop=["Host"], more=[("Host", host)])
        [answer] = exchange(scene.plane, head)
        assert answer.status == 421, answer.body
        assert answer.json["code"] == "unauthenticated"


def test_every_refusal_of_the_door_has_the_members_of_a_refused_call(scene: Scene) -> None:
    good = call_bytes(scene)
    refused = [
        exchange(scene.plane, request(scene.token, good, line="POST /nowhere HTTP/1.1")),
        exchange(scene.plane, request(scene.token, good, drop=["Host"])),
        exchange(scene.plane, request(scene.token, good, more=[("Origin", "http://evil.example")])),
        exchange(scene.plane, request(None, good)),
        exchange(scene.plane, request(scene.token, b"", more=[("Content-Length", "99999999")], length=False)),
        exchange(scene.plane, request(scene.token, good, drop=["MCP-Protocol-Version"])),
    ]
    codes = [
        (404, "not_found"), (421, "unauthenticated"), (403, "unauthenticated"), (401, "unauthenticated"),
        (413, "malformed_call"), (400, "malformed_call"),
    ]  # fmt: skip
    for [answer], (status, code) in zip(refused, codes, strict=True):
        found = answer.json
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status, found["status"], found["code"], found["title"]) == (
            status, status, code, code.replace("_", " "),
        )  # fmt: skip
        assert found["detail"] == found["message"]
        assert (found["rule"], found["call_id"], found["run_id"], found["retryable"]) == (None, None, None, False)


def test_two_names_or_none_are_misdirected(scene: Scene) -> None:
    with scene.nothing_executes():
        [twice] = exchange(scene.plane, request(scene.token, call_bytes(scene), more=[("Host", "localhost")]))
        [none] = exchange(scene.plane, request(scene.token, call_bytes(scene), drop=["Host"]))
        assert (twice.status, none.status) == (421, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost", "file://", "*"])
def test_a_browsers_origin_is_refused_unless_it_was_invited(scene: Scene, origin: str) -> None:
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(scene.token, call_bytes(scene), more=[("Origin", origin)]))
        assert (answer.status, answer.json["code"]) == (403, "unauthenticated")


@pytest.mark.parametrize(
    ("drop", "more", "status"),
    [
        ("Content-Type", [], 415),
        ("Content-Type", [("Content-Type", "text/plain")], 415),
        ("Content-Type", [("Content-Type", "application/x-www-form-urlencoded")], 415),
        ("Content-Type", [("Content-Type", "multipart/form-data; boundary=x")], 415),
        ("Content-Type", [("Content-Type", "application/json-rpc")], 415),
        ("", [("Content-Type", "application/json")], 415),
        ("Accept", [], 406),
        ("Accept", [("Accept", "text/html")], 406),
        ("Accept", [("Accept", "text/event-stream")], 406),
    ],
)
def test_a_body_or_an_answer_of_another_type_is_refused(
    scene: Scene, drop: str, more: list[tuple[str, str]], status: int
) -> None:
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(scene.token, call_bytes(scene), drop=[drop], more=more))
        assert answer.status == status


def framed(scene: Scene, name: str) -> bytes:
    """A call whose frame two servers could read differently, or that is no HTTP at all."""
    body = call_bytes(scene)
    length, chunked = f"{len(body):x}".encode(), ("Transfer-Encoding", "chunked")
    chunks = length + b"\r\n" + body + b"\r\n0\r\n\r\n"
    plain = request(scene.token, body)
    return {
        "a length and chunks": request(scene.token, chunks, more=[chunked], length=True),
        "two lengths": request(scene.token, body, more=[("Content-Length", "5")]),
        "the same length twice": request(scene.token, body, more=[("Content-Length", str(len(body)))]),
        "a negative length": request(scene.token, body, more=[("Content-Length", "-1")], length=False),
        "a length with a sign": request(scene.token, body, more=[("Content-Length", f"+{len(body)}")], length=False),
        "an unknown encoding": request(scene.token, chunks, more=[("Transfer-Encoding", "xchunked")], length=False),
        "a chunk of impossible size": request(scene.token, b"f" * 40 + b"\r\n", more=[chunked], length=False),
        "bare line feeds": plain.replace(b"\r\n", b"\n"),
        "a blank before the colon": plain.replace(b"Accept:", b"Accept :"),
        "a folded header": plain.replace(b"Accept: ", b"Accept:\r\n "),
        "NUL in a header": plain.replace(b"Accept: ", b"X: a\x00b\r\nAccept: "),
        "bytes in the path": plain.replace(b"/mcp/odd", b"/mcp/\xff"),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500,
        "a tunnel": b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "too many headers": plain.replace(b"Accept: ", b"X: y\r\n" * 120 + b"Accept: "),
        "a large header": plain.replace(b"Accept: ", b"X: " + b"y" * 40_000 + b"\r\nAccept: "),
        "a long path": plain.replace(b"/mcp/odd", b"/mcp/odd?" + b"x" * 40_000),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["a length and chunks", "two lengths", "the same length twice", "a negative length", "a length with a sign",
     "an unknown encoding", "a chunk of impossible size", "bare line feeds", "a blank before the colon", "a folded header",
     "NUL in a header", "bytes in the path", "HTTP/2", "TLS", "a tunnel", "too many headers", "a large header", "a long path"],
)  # fmt: skip
def test_a_frame_with_two_readings_or_none_is_a_bad_request_and_ends_the_connection(scene: Scene, name: str) -> None:
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, framed(scene, name))
        assert answer.status == 400
        assert answer.headers["connection"] == "close"


def test_a_request_hidden_in_the_body_of_a_refused_one_is_not_read_as_a_request(scene: Scene) -> None:
    hidden = request(scene.token, call_bytes(scene))
    outer = request(None, hidden, drop=["Connection"])
    with scene.nothing_executes(), connect(scene.plane, 2) as connection:
        connection.sendall(outer)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_a_credential_after_the_body_is_no_credential(scene: Scene) -> None:
    body = call_bytes(scene)
    chunks = (
        f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\nAuthorization: Bearer " + scene.token.encode() + b"\r\n\r\n"
    )
    head = request(None, b"", more=[("Transfer-Encoding", "chunked")], length=False)
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, head + chunks)
        assert answer.status == 401


def memory(plane: PlaneProcess) -> int:
    """Resident megabytes."""
    status = Path(f"/proc/{plane.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


FLOODS = {
    "a header without end": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Flood: ",
    "a header name without end": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX",
    "a path without end": b"GET /",
    "a header after the body": b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    "a chunk's extension without end": b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;",
}


@pytest.mark.parametrize("beginning", FLOODS.values(), ids=FLOODS.keys())
def test_whoever_floods_headers_is_cut_off_before_it_costs_time_or_memory(scene: Scene, beginning: bytes) -> None:
    before, taken = memory(scene.plane), 0
    with scene.nothing_executes():
        with suppress(ConnectionError), connect(scene.plane) as connection:
            connection.sendall(beginning)
            while taken < 256:
                connection.sendall(MEGABYTE)
                taken += 1
        # What was taken and never read lies in the kernel's buffers for the connection.
        assert taken < 32, "the plane hung up"
        assert memory(scene.plane) - before < 24


def test_whoever_never_finishes_is_hung_up_on_while_others_are_served(scene: Scene) -> None:
    with connect(scene.plane, 40) as answered, connect(scene.plane, 0.5) as silent:
        answered.sendall(b"POST /mcp/odd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{")
        silent.sendall(b"POST /mcp/odd HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        with scene.nothing_executes():
            assert answered.recv(65536).startswith(b"HTTP/1.1 401")
            answered.sendall(b" ")  # part of a body that nobody waits for
            hung_up, deadline = False, time.monotonic() + 35
            while not hung_up and time.monotonic() < deadline:
                try:
                    silent.sendall(b"a")
                    hung_up = silent.recv(100) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    hung_up = True
            assert hung_up
            while answered.recv(65536):  # a connection that stays open is a time-out here
                pass


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_call"),
        (b"[]", 400, "malformed_call"),
        (b'{"agent": "odd-agent", "agent": "odd-agent"}', 400, "malformed_call"),
        (b'{"agent": 1}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "ceilings": {"max_steps": 0}}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "ceilings": {"max_steps": 1.0}}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "ceilings": {"max_cost_usd": 1}}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "labels": {"a=b": "c"}}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "task": "\\ud800"}', 400, "malformed_call"),
        (b'{"agent": "odd-agent", "admin": true}', 400, "malformed_call"),
        (b'{"agent": "root"}', 403, "policy_denied"),
        (b'{"agent": "odd-agent", "task": "' + b"x" * 70_000 + b'"}', 413, "malformed_call"),
    ],
)
def test_a_malformed_request_for_a_run_opens_none(scene: Scene, body: bytes, status: int, code: str) -> None:
    headers = {"Authorization": f"Bearer {scene.plane.opener_token(AGENT)}", "Content-Type": "application/json"}
    runs = len(scene.plane.api("GET", "/v1/runs")["runs"])
    with scene.nothing_executes():
        answer = scene.plane.http("POST", "/v1/runs", body, headers)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert len(scene.plane.api("GET", "/v1/runs")["runs"]) == runs


@pytest.mark.parametrize(
    "path",
    ["/v1/journal?after=%C2%B2", "/v1/journal?after=99999999999999999999", "/v1/journal?after=-1", "/v1/journal?wait=.",
     "/v1/calls?limit=%C2%B2", "/v1/calls?limit=0", "/v1/calls?limit=1e3", "/v1/policy/history?before=x"],
)  # fmt: skip
def test_an_operators_typing_error_is_a_bad_request_and_no_crash(scene: Scene, path: str) -> None:
    answer = scene.plane.operate("GET", path)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    scene.serves()
