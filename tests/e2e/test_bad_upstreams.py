"""Upstreams that die, hang, flood, redirect, lie, leak, or offer definitions made to hurt whoever reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import odd
from support.leaks import FORMS, SECRET
from support.odd_http_upstream import odd_http
from support.plane import Answer, PlaneProcess, eventually, running
from support.scene import Scene, http_scene

HANG_S = 30
"""Far beyond the upstream's time-out of these tests, and short of waiting for ever."""
FAST: dict[str, Any] = {"call_timeout_seconds": 3, "start_timeout_seconds": 3, "max_result_bytes": 1_000_000}


def secret_of(folder: Path, **where: str) -> list[dict[str, Any]]:
    path = folder / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return [{"from": {"file": str(path)}, **where}]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("http")
    secrets = secret_of(folder, header="Authorization", prefix="Bearer ")
    with http_scene(folder, scoped=("misfit", "twice", "infinite-number"), secrets=secrets, **FAST) as found:
        found.serves()
        yield found


def ended(scene: Scene, tool: str, error: dict[str, Any]) -> dict[str, Any]:
    """The recorded call of an error, which is about this tool and has the error's code."""
    call = scene.plane.api("GET", f"/v1/calls/{error['call_id']}")
    assert (call["tool"], call["code"]) == (tool, error["code"])
    assert scene.run()["in_flight"] == 0
    return call


def knows_no_secret(plane: PlaneProcess, folder: Path) -> None:
    """No file of the plane but the secret's own has it: not the log, not the journal."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secret":
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in json.dumps(plane.api("GET", "/v1/status"))


# Answers over HTTP --------------------------------------------------------------------------------------

FAILED, UNKNOWN = ("upstream_failed", "failed"), ("outcome_unknown", "unknown")
ANSWERS = {
    "garbage": UNKNOWN,
    "page": UNKNOWN,
    "not-utf8": FAILED,
    "list": FAILED,
    "other-id": UNKNOWN,
    "rpc-error": FAILED,
    "rpc-error-400": FAILED,
    "status-404": FAILED,
    "status-500": UNKNOWN,
    "status-502": UNKNOWN,
    "status-504": UNKNOWN,
    "huge": UNKNOWN,
    "bomb": UNKNOWN,
    "cut": UNKNOWN,
    "reset": UNKNOWN,
    "cut-stream": UNKNOWN,
    "flood-stream": UNKNOWN,
    "giant-event": UNKNOWN,
    "header-flood": UNKNOWN,
}


@pytest.mark.parametrize(("tool", "how"), ANSWERS.items(), ids=ANSWERS.keys())
def test_what_is_no_answer_is_a_failure_or_unknown_and_is_asked_for_once(
    scene: Scene, tool: str, how: tuple[str, str]
) -> None:
    before = len(scene.witness())
    error = scene.call(tool)["error"]
    assert (error["code"], error["retryable"]) == (how[0], False)
    assert ended(scene, tool, error)["state"] == how[1]
    assert scene.witness()[before:] == [tool]
    scene.serves()


def test_upstreams_that_never_finish_are_given_up_at_the_deadline_while_others_are_served(scene: Scene) -> None:
    tools = ["silent", "slow-headers", "endless-stream"]
    with ThreadPoolExecutor(len(tools)) as pool:
        waiting = [pool.submit(scene.call, tool) for tool in tools]
        eventually(lambda: set(tools) <= set(scene.witness()), "the calls reached the upstream")
        assert scene.call("echo", {"value": "meanwhile"}) == {"echo": {"value": "meanwhile"}}
        errors = [call.result(HANG_S)["error"] for call in waiting]
    for tool, error in zip(tools, errors, strict=True):
        assert error["code"] == "outcome_unknown"
        assert ended(scene, tool, error)["state"] == "unknown"
    scene.serves()


def test_a_redirect_is_not_followed_and_takes_no_credential_along(scene: Scene) -> None:
    assert scene.upstream is not None
    with odd_http() as thief:
        for elsewhere in (thief.url, f"http://127.0.0.1:{thief.port}/collect", "/elsewhere"):
            scene.upstream.elsewhere = elsewhere
            error = scene.call("redirect")["error"]
            assert error["code"] == "upstream_failed"
            assert "redirect" in error["message"]
        assert (thief.reached, thief.strays) == ([], [])
    assert scene.upstream.strays == []
    scene.serves()


def test_an_upstream_that_asks_back_is_declined_and_answers_in_the_end(scene: Scene) -> None:
    assert scene.upstream is not None
    assert scene.call("asks-back") == {"echo": "asks-back"}
    assert scene.upstream.replies[-1]["error"]["code"] == -32601
    assert scene.call("sse") == {"echo": "sse"}


def test_a_result_that_is_not_what_the_tool_promised_shows_no_more_than_the_granted_fields(scene: Scene) -> None:
    assert scene.call("misfit") == {"echo": ["of", "another", "type"]}
    body = scene.modern(scene.message("twice"), {"Mcp-Name": "twice"}).body
    assert json.loads(body)["result"]["structuredContent"] == {"echo": 2}
    assert body.count(b'"structuredContent"') == 1, "the result has one reading"


def test_a_number_that_no_double_holds_is_not_passed_on_as_something_that_is_no_json(scene: Scene) -> None:
    body = scene.modern(scene.message("infinite-number"), {"Mcp-Name": "infinite-number"}).body
    assert b"Infinity" not in body
    assert json.loads(body)["result"]["structuredContent"]["error"]["code"] == "result_not_projectable"


# Credentials --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "code"),
    [("leak", "result_withheld"), ("leak-error", "upstream_failed"), ("leak-page", "outcome_unknown")],
)
def test_an_upstream_that_tells_its_credential_tells_nobody(scene: Scene, tool: str, code: str) -> None:
    for name, spell in FORMS.items():
        message = scene.message(tool, {"form": name})
        body = scene.modern(message, {"Mcp-Name": tool}).body
        error = json.loads(body)["result"]["structuredContent"]["error"]
        assert error["code"] == code, name
        assert spell(SECRET).encode() not in body, name
        assert SECRET not in json.dumps(json.loads(body)), name
        shown = scene.plane.operate("GET", f"/v1/calls/{error['call_id']}").body
        assert spell(SECRET).encode() not in shown, name
    knows_no_secret(scene.plane, scene.folder)
    scene.serves()


# Handshakes and lists -----------------------------------------------------------------------------------

MOODS = ["silent", "status", "garbage", "leaking", "redirect", "list-garbage", "list-leaking", "list-huge"]


def test_an_upstream_that_cannot_be_connected_executes_nothing_and_is_tried_again(tmp_path: Path) -> None:
    secrets = secret_of(tmp_path, header="Authorization", prefix="Bearer ")
    with odd_http() as thief, http_scene(tmp_path, era="legacy", secrets=secrets, **FAST) as scene:
        upstream = scene.upstream
        assert upstream is not None
        upstream.elsewhere = thief.url
        for mood in MOODS:
            eventually(lambda: scene.call("echo", {"value": "again"}) == {"echo": {"value": "again"}}, "it is back")
            upstream.sessions.clear()
            upstream.mood = mood
            assert scene.call("echo")["error"]["code"] == "upstream_failed", "the session that it forgot"
            before = scene.witness()
            for _ in range(2):
                error = scene.call("echo")["error"]
                assert (error["code"], error["retryable"]) == ("unavailable", True), mood
                assert SECRET not in json.dumps(error)
            asked = scene.plane.operate("POST", "/v1/tools/discover", {"upstream": "odd"})
            assert (asked.status, asked.json["code"]) == (502, "upstream_unavailable"), mood
            assert SECRET not in json.dumps(asked.json), mood
            assert scene.witness() == before
            upstream.mood = "good"
        eventually(lambda: scene.call("echo", {"value": "end"}) == {"echo": {"value": "end"}}, "it is back")
        assert (thief.reached, thief.strays, upstream.strays) == ([], [], [])
        knows_no_secret(scene.plane, tmp_path)


def references(depth: int) -> dict[str, Any]:
    """A small schema that is twice as large with every step that is followed."""
    pair = [[{"$ref": f"#/$defs/d{step + 1}"}] * 2 for step in range(depth)]
    steps: dict[str, Any] = {f"d{step}": {"allOf": both} for step, both in enumerate(pair)}
    return {"type": "object", "$defs": {**steps, f"d{depth}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"value": schema}}
    return schema


def hostile_schemas(url: str) -> dict[str, dict[str, Any]]:
    def value(schema: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"value": schema}}

    return {
        "expands": references(40),
        "is-its-own": {"type": "object", "$ref": "#"},
        "fetches": value({"$ref": f"{url}/schema.json"}),
        "fetches-its-dialect": {"$schema": f"{url}/dialect.json", **value({})},
        "fetches-by-id": {"$id": f"{url}/id.json", **value({"$ref": "other.json"})},
        "reads-a-file": value({"$ref": "file:///etc/passwd"}),
        "refers-back": value({"type": "string", "pattern": r"(a+)+\1$"}),
        "looks-ahead": value({"type": "string", "pattern": "(?=(a+)+$)b"}),
        "large-pattern": value({"type": "string", "pattern": "(((a{1,900}){1,900}){1,900})"}),
        "large": value({"enum": ["x" * 300_000]}),
        "dynamic": {"$dynamicAnchor": "d", **value({"$dynamicRef": "#d"})},
    }


def test_hostile_definitions_are_not_pinned_nothing_is_fetched_and_the_rest_is_pinned(tmp_path: Path) -> None:
    with odd_http() as site, http_scene(tmp_path) as scene:
        upstream = scene.upstream
        assert upstream is not None
        schemas = hostile_schemas(f"http://127.0.0.1:{site.port}")
        upstream.offered = [
            {"name": name, "description": "Hostile.", "inputSchema": schema} for name, schema in schemas.items()
        ]
        upstream.offered += [
            {"name": "twin", "inputSchema": {"type": "object"}},
            {"name": "twin", "inputSchema": {"type": "object"}, "description": "The other one."},
            {"name": "esc\u001b[2Jape", "inputSchema": {"type": "object"}},
            {"name": "no-schema"},
            {"inputSchema": {"type": "object"}},
        ]
        shown = scene.plane.command("tools", "pin", "odd", "--yes").stdout
        for name in [*schemas, "twin"]:
            assert f"! {name}  cannot be pinned" in shown, name
        assert "\u001b" not in shown
        lock = json.loads((tmp_path / "policies" / "tools.lock").read_text())
        assert not set(lock["upstreams"]["odd"]["tools"]) & {*schemas, "twin", "no-schema", "esc\u001b[2Jape"}
        assert "echo" in lock["upstreams"]["odd"]["tools"]
        assert (site.strays, site.reached, upstream.strays) == ([], [], [])
        scene.plane.command("policy", "activate", "--reason", "the rest")
        scene.serves()


def _discovered(scene: Scene) -> Answer:
    return scene.plane.operate("POST", "/v1/tools/discover", {"upstream": "odd"})


def test_a_definition_that_is_nested_too_deep_or_has_no_exact_meaning_is_refused_alone(scene: Scene) -> None:
    assert scene.upstream is not None
    before = len(_discovered(scene).json["tools"])
    scene.upstream.offered = [
        {"name": "nested", "inputSchema": nested(300)},
        {"name": "beyond", "inputSchema": {"type": "object"}, "_meta": {"x": 2**70}},
    ]
    try:
        asked = _discovered(scene)
    finally:
        scene.upstream.offered = []
    assert "nested deeper" in asked.json["refused"]["nested"]
    assert "beyond 64 bit" in asked.json["refused"]["beyond"]
    assert len(asked.json["tools"]) == before
    scene.serves()


@pytest.mark.parametrize("mood", ["list-endless", "list-flood"])
def test_a_list_beyond_the_caps_is_no_list(scene: Scene, mood: str) -> None:
    assert scene.upstream is not None
    scene.upstream.mood = mood
    try:
        asked = _discovered(scene)
    finally:
        scene.upstream.mood = "good"
    assert (asked.status, asked.json["code"]) == (502, "upstream_unavailable")
    assert "has more than" in asked.json["detail"]
    scene.serves()


def test_a_pattern_made_to_backtrack_costs_nothing(scene: Scene) -> None:
    with scene.nothing_executes():
        error = scene.call("backtracking", {"value": "a" * 100_000 + "!"})["error"]
        assert error["code"] == "malformed_call"
    assert scene.call("backtracking", {"value": "aaa"}) == {"echo": {"value": "aaa"}}


def test_a_pinned_tool_whose_definition_turned_hostile_is_unavailable_alone(tmp_path: Path) -> None:
    with http_scene(tmp_path, **FAST) as scene:
        assert scene.upstream is not None
        scene.upstream.offered = [{"name": "echo", "description": "Does echo.", "inputSchema": references(40)}]
        error = scene.call("echo")["error"]
        assert (error["code"], error["retryable"]) == ("tool_changed", False)
        assert scene.witness() == []
        assert scene.call("sse") == {"echo": "sse"}


# Over stdio ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("stdio")
    policies = odd.write_policies(folder / "policies")
    odd.pin(policies)
    settings = odd.odd_settings(folder, secrets=secret_of(folder, env="ODD_SECRET"), **FAST)
    settings["upstreams"]["odd"]["start_timeout_seconds"] = 20
    with running(folder, {**settings, "log": {"level": "debug"}}) as plane:
        found = Scene(plane, folder, plane.token(odd.AGENT), lambda: [call["tool"] for call in odd.reached(folder)])
        found.serves()
        yield found


PROCESS_ANSWERS = {
    "die": UNKNOWN,
    "hang": UNKNOWN,
    "flood": UNKNOWN,
    "garbage": UNKNOWN,
    "error": FAILED,
    "notjson": FAILED,
}


@pytest.mark.parametrize(("tool", "how"), PROCESS_ANSWERS.items(), ids=PROCESS_ANSWERS.keys())
def test_a_process_that_does_not_answer_is_a_failure_or_unknown_and_the_next_call_is_served(
    process_scene: Scene, tool: str, how: tuple[str, str]
) -> None:
    before = len(process_scene.witness())
    error = process_scene.call(tool)["error"]
    assert (error["code"], error["retryable"]) == (how[0], False)
    assert ended(process_scene, tool, error)["state"] == how[1]
    assert process_scene.witness()[before:] == [tool]
    process_scene.serves()


def test_a_process_that_tells_its_credential_tells_nobody(process_scene: Scene) -> None:
    answer = process_scene.plane.rpc(process_scene.token, process_scene.message("leak"), "odd")
    assert answer.json["result"]["structuredContent"]["error"]["code"] == "result_withheld"
    assert SECRET not in json.dumps(answer.json)
    knows_no_secret(process_scene.plane, process_scene.folder)


def test_a_process_that_dies_takes_its_other_calls_with_it_and_nothing_is_sent_twice(process_scene: Scene) -> None:
    before = len(process_scene.witness())
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(process_scene.call, "hang", {"value": "with the dying one"})
        eventually(lambda: process_scene.witness()[before:] == ["hang"], "the first call arrived")
        assert process_scene.call("die", {"value": "now"})["error"]["code"] == "outcome_unknown"
        assert waiting.result(HANG_S)["error"]["code"] == "outcome_unknown"
    assert process_scene.witness()[before:] == ["hang", "die"]
    process_scene.serves()


def test_a_program_that_is_not_there_or_ends_at_once_executes_nothing(tmp_path: Path) -> None:
    policies = odd.write_policies(tmp_path / "policies")
    odd.pin(policies)
    settings = odd.odd_settings(tmp_path, **FAST)
    for command in (["/nowhere/to/be/found"], ["true"], ["sh", "-c", "yes"]):
        settings["upstreams"]["odd"]["command"] = command
        with running(tmp_path, settings) as plane:
            token = plane.token(odd.AGENT)
            error = plane.call(token, "echo", {}, "odd")["error"]
            assert (error["code"], error["retryable"]) == ("unavailable", True), command
            assert plane.api("GET", "/v1/calls?limit=1")["calls"][0]["state"] == "denied"
