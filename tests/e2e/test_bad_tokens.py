"""Tokens that are missing, garbage, forged, expired, of the wrong kind, or for what is not there any more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.forged import Forger, part, parts
from support.odd_http_upstream import AGENT
from support.plane import Answer, eventually
from support.raw_http import exchange, request
from support.scene import Scene, http_scene

MANY = {"limits": {"unauthenticated_per_second": 1_000_000, "calls_per_second": 1_000_000, "burst": 1_000_000}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with http_scene(tmp_path_factory.mktemp("plane"), more=MANY) as found:
        found.serves()
        yield found


@pytest.fixture(scope="module")
def forger(scene: Scene) -> Forger:
    return Forger(scene.folder / "data", scene.plane.url)


def attempt(scene: Scene, token: str | None, path: str = "/mcp/odd", body: bytes | None = None) -> Answer:
    """One call with this bearer token."""
    raw = json.dumps(scene.message()).encode() if body is None else body
    [answer] = exchange(scene.plane, request(token, raw, line=f"POST {path} HTTP/1.1"))
    return answer


def is_refused(answer: Answer, token: str | None = None) -> None:
    """401, the documented problem, a challenge, and not a word of the token."""
    assert answer.status == 401, answer.body
    assert answer.json["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    if token and len(token) > 8:
        assert token not in answer.body.decode()


GARBAGE: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "one part": "garbage",
    "two parts": "a.b",
    "three parts": "a.b.c",
    "dots": "....",
    "five parts": "a.b.c.d.e",
    "not ASCII": "é.é.é",
    "long": "x" * 4000,
    "longer than any token": "x" * 20_000,
    "a header that is a list": f"{part([])}.e30.AAAA",
    "a header that is null": f"{part(None)}.e30.AAAA",
    "a header nested deeply": f"{part(b'[' * 2500)}.e30.AAAA",
    "a header that is not UTF-8": f"{part(bytes([255, 254]))}.e30.AAAA",
    "no algorithm": f"{part({})}.e30.AAAA",
    "an algorithm that is a list": f"{part({'alg': ['ES256']})}.e30.AAAA",
    "a crit that is a number": f"{part({'alg': 'ES256', 'crit': 1})}.e30.AAAA",
    "a crit that nobody knows": f"{part({'alg': 'ES256', 'crit': ['x']})}.e30.AAAA",
    "a crit that is null": f"{part({'alg': 'ES256', 'crit': None})}.e30.AAAA",
    "b64 switched off": f"{part({'alg': 'ES256', 'b64': False, 'crit': ['b64']})}.e30.AAAA",
    "a key of its own": f"{part({'alg': 'ES256', 'jwk': {'kty': 'oct', 'k': 'AAAA'}})}.e30.AAAA",
    "a kid that is a path": f"{part({'alg': 'ES256', 'kid': '../../dev/null'})}.e30.AAAA",
    "an encrypted token": f"{part({'alg': 'dir', 'enc': 'A128GCM'})}....",
}


@pytest.mark.parametrize("token", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("path", ["/mcp/odd", "/v1/runs"])
def test_garbage_is_no_token(scene: Scene, token: str | None, path: str) -> None:
    leaves = scene.leaves()
    with scene.nothing_executes():
        is_refused(attempt(scene, token, path), token)
        assert scene.leaves() == leaves, "what is not authenticated is not recorded"


@pytest.mark.parametrize(
    "authorization",
    ["Basic dXNlcjpwYXNz", "Bearer", "bearer", "Bearer:{}", "Token {}", "{}", "Bearer {} {}", "Bearer {},Bearer {}", "Digest {}"],
)  # fmt: skip
def test_a_valid_token_in_another_scheme_is_no_credential(scene: Scene, authorization: str) -> None:
    value = authorization.replace("{}", scene.token)
    with scene.nothing_executes():
        body = json.dumps(scene.message()).encode()
        [answer] = exchange(scene.plane, request(None, body, more=[("Authorization", value)]))
        is_refused(answer)


def test_two_credentials_are_none(scene: Scene) -> None:
    body = json.dumps(scene.message()).encode()
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(scene.token, body, more=[("Authorization", f"Bearer {scene.token}")]))
        is_refused(answer)


def test_a_token_in_the_query_the_body_or_a_cookie_is_no_credential(scene: Scene) -> None:
    body = json.dumps({**scene.message(), "access_token": scene.token}).encode()
    line = f"POST /mcp/odd?access_token={scene.token} HTTP/1.1"
    with scene.nothing_executes():
        [answer] = exchange(scene.plane, request(None, body, line=line, more=[("Cookie", f"token={scene.token}")]))
        is_refused(answer, scene.token)
    assert scene.token not in scene.plane.log


FORGED: dict[str, Callable[[Forger], str]] = {
    "no algorithm and no signature": lambda f: f.unsigned("none"),
    "NONE in capitals": lambda f: f.unsigned("NONE"),
    "ES256 without a signature": lambda f: f.unsigned("ES256"),
    "HS256 with the public key as PEM": lambda f: f.hmac_with_public_key("PEM"),
    "HS256 with the public key as JSON": lambda f: f.hmac_with_public_key("JSON"),
    "a foreign key": lambda f: f.sign(key=f.foreign),
    "a foreign key that brings itself": lambda f: f.sign(key=f.foreign, jwk=f.foreign.as_dict(private=False), kid=None),
    "a signature of zeros": lambda f: f.sign().rpartition(".")[0] + "." + part(bytes(64)),
    "a cut signature": lambda f: f.sign()[:-4],
    "another plane's name": lambda f: f.sign(f.claims(iss="http://evil.example")),
    "another plane's audience": lambda f: f.sign(f.claims(aud="http://evil.example/mcp")),
    "no audience": lambda f: f.sign(f.claims(aud=None)),
    "several audiences": lambda f: f.sign(f.claims(aud=[f"{f.url}/mcp", f"{f.url}/v1/runs"])),
    "the audience of the other door": lambda f: f.sign(f.claims(aud=f"{f.url}/v1/runs")),
    "no issuer": lambda f: f.sign(f.claims(iss=None)),
    "expired": lambda f: f.sign(f.claims(iat=int(time.time()) - 700, exp=int(time.time()) - 1)),
    "no expiry": lambda f: f.sign(f.claims(exp=None)),
    "an expiry that is a text": lambda f: f.sign(f.claims(exp="9999999999")),
    "an expiry that is not finite": lambda f: f.sign(json.dumps(f.claims(exp=float("inf"))).encode()),
    "a life of a year": lambda f: f.sign(f.claims(exp=int(time.time()) + 31_536_000)),
    "from the future": lambda f: f.sign(f.claims(iat=int(time.time()) + 600, exp=int(time.time()) + 900)),
    "no kind": lambda f: f.sign(f.claims(interlock={"agents": [AGENT]})),
    "an unknown kind": lambda f: f.sign(f.claims(interlock={"kind": "operator", "agents": [AGENT]})),
    "no agent": lambda f: f.sign(f.claims(interlock={"kind": "agent", "agents": []})),
    "two agents": lambda f: f.sign(f.claims(interlock={"kind": "agent", "agents": [AGENT, AGENT]})),
    "no word of ours": lambda f: f.sign(f.claims(interlock=None)),
    "another type": lambda f: f.sign(typ="JWT"),
    "no type": lambda f: f.sign(typ=None),
    "claims that are a list": lambda f: f.sign(b"[]"),
    "claims that are no JSON": lambda f: f.sign(b"\xff"),
}  # fmt: skip


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused_even_with_the_planes_own_key(
    scene: Scene, forger: Forger, make: Callable[[Forger], str]
) -> None:
    token = make(forger)
    with scene.nothing_executes():
        is_refused(attempt(scene, token), token)
        is_refused(attempt(scene, token), token)  # not because of a cache


def test_the_forger_can_make_a_token_that_is_accepted(scene: Scene, forger: Forger) -> None:
    assert attempt(scene, forger.sign()).status == 200


@pytest.mark.parametrize("at", range(3), ids=["header", "claims", "signature"])
def test_a_token_with_any_part_altered_is_refused(scene: Scene, at: int) -> None:
    pieces = scene.token.split(".")
    middle = len(pieces[at]) // 2
    other = "A" if pieces[at][middle] != "A" else "B"
    pieces[at] = pieces[at][:middle] + other + pieces[at][middle + 1 :]
    with scene.nothing_executes():
        is_refused(attempt(scene, ".".join(pieces)))


def test_a_token_is_refused_from_its_expiry_on(scene: Scene) -> None:
    token = scene.plane.token(AGENT, ttl_seconds=1)
    expires = parts(token)[1]["exp"]
    answer = eventually(lambda: (a := attempt(scene, token)).status == 401 and a, "the token expired")
    assert time.time() >= expires
    with scene.nothing_executes():
        is_refused(attempt(scene, token), token)
    assert "expired" in answer.json["detail"]


def test_a_token_of_one_kind_opens_no_other_door(scene: Scene) -> None:
    opener = scene.plane.opener_token(AGENT)
    with scene.nothing_executes():
        is_refused(attempt(scene, opener), opener)
        opened = attempt(scene, scene.token, "/v1/runs", json.dumps({"agent": AGENT}).encode())
        is_refused(opened, scene.token)


def test_a_run_openers_token_opens_no_run_of_another_agent_and_sees_no_run_of_another_opener(scene: Scene) -> None:
    opener, other = scene.plane.opener_token(AGENT), scene.plane.opener_token(AGENT, name="somebody-else")
    opened = attempt(scene, opener, "/v1/runs", json.dumps({"agent": AGENT, "task": "mine alone"}).encode())
    run = opened.json["run"]
    with scene.nothing_executes():
        for method, path in (("GET", ""), ("POST", "/token"), ("POST", "/end")):
            headers = {"Authorization": f"Bearer {other}"}
            answer = scene.plane.http(method, f"/v1/runs/{run}{path}", b"", headers)
            assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert scene.plane.api("GET", f"/v1/runs/{run}")["state"] == "open"


def test_the_token_of_an_ended_run_calls_nothing_and_is_not_renewed(scene: Scene) -> None:
    opener = {"Authorization": f"Bearer {scene.plane.opener_token(AGENT)}", "Content-Type": "application/json"}
    opened = scene.plane.http("POST", "/v1/runs", json.dumps({"agent": AGENT}).encode(), opener).json
    run, token = opened["run"], opened["token"]
    assert scene.plane.call(token, "echo", {"value": "in the run"}, "odd") == {"echo": {"value": "in the run"}}
    assert scene.plane.http("POST", f"/v1/runs/{run}/end", b"", opener).status == 200
    with scene.nothing_executes():
        error = scene.plane.call(token, "echo", {"value": "after it"}, "odd")["error"]
        assert (error["code"], error["run_id"]) == ("run_halted", run)
        assert "ended" in error["message"]
        renewed = scene.plane.http("POST", f"/v1/runs/{run}/token", b"", opener)
        assert (renewed.status, renewed.json["code"]) == (409, "run_halted")
        assert scene.plane.operate("POST", "/v1/tokens", {"agent": "nobody"}).status == 404


@pytest.mark.parametrize("change", ["the agent is gone", "the identity is another's"])
def test_a_valid_token_of_an_agent_that_is_not_in_the_active_bundle_calls_nothing(tmp_path: Path, change: str) -> None:
    with http_scene(tmp_path) as scene:
        scene.serves()
        before, session = scene.witness(), scene.open_session()
        file = tmp_path / "policies" / "agents" / "odd.yaml"
        agent: dict[str, Any] = json.loads(file.read_text())
        changed = {"id": "successor"} if change == "the agent is gone" else {"identity": "successor@example"}
        file.write_text(json.dumps({**agent, "agent": {**agent["agent"], **changed}}))
        opener = scene.plane.opener_token(AGENT)
        scene.plane.command("policy", "activate", "--reason", change)
        for answer in (scene.modern(scene.message()), scene.legacy(scene.message(), session)):
            assert (answer.status, answer.json["code"]) == (403, "agent_not_active")
        if change == "the agent is gone":
            opened = attempt(scene, opener, "/v1/runs", json.dumps({"agent": AGENT}).encode())
            assert (opened.status, opened.json["code"]) == (403, "agent_not_active")
        assert scene.witness() == before
        scene.token = scene.plane.token("successor" if change == "the agent is gone" else AGENT)
        scene.serves()


def test_a_flood_of_refused_tokens_is_slowed_and_locks_nobody_out(tmp_path: Path) -> None:
    with http_scene(tmp_path, more={"limits": {"unauthenticated_per_second": 1}}) as scene:
        leaves = scene.leaves()
        slowed = eventually(
            lambda: (a := attempt(scene, "garbage")).status == 429 and a, "the second refusal of a second is slowed"
        )
        assert slowed.json["code"] == "rate_limited"
        assert slowed.headers["retry-after"] == "1"
        assert scene.leaves() == leaves
        for _ in range(50):
            assert attempt(scene, "garbage").status in (401, 429)
            scene.serves()
