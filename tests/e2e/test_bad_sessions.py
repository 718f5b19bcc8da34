"""Sessions of 2025-11-25 that are forged, foreign, over, or never began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.odd_http_upstream import AGENT, http_settings, odd_http, write_http_policies
from support.plane import running
from support.scene import CALL, Scene


@pytest.mark.parametrize("session", ["", "x", "A" * 200, "A" * 2000, "../../etc", "%00", "=", "e30", "\xff\xfe"])
def test_a_forged_session_does_not_exist(scene: Scene, session: str) -> None:
    with scene.nothing_executes():
        answer = scene.legacy(CALL, session)
        assert answer.status == (404 if session else 400)
        headers = {"Authorization": f"Bearer {scene.token}", "Mcp-Session-Id": session}
        deleted = scene.plane.http("DELETE", "/mcp/odd", None, headers)
        assert deleted.status == 404


def test_a_session_of_another_agent_or_upstream_does_not_exist(tmp_path: Path) -> None:
    with odd_http() as odd:
        policies = write_http_policies(tmp_path / "policies")
        agent = json.loads((policies / "agents" / "odd.yaml").read_text())
        agent["agent"] = {"id": "other-agent", "identity": "other@example"}
        (policies / "agents" / "other.yaml").write_text(json.dumps(agent))
        lock = json.loads((policies / "tools.lock").read_text())
        lock["upstreams"]["second"] = {"protocol": "2026-07-28", "server": "", "tools": {}}
        (policies / "tools.lock").write_text(json.dumps(lock))
        with running(tmp_path, http_settings(tmp_path, odd)) as plane:
            scene = Scene(plane, tmp_path, plane.token(AGENT), odd.tools, odd)
            mine, other = scene.open_session(), plane.token("other-agent")
            theirs, elsewhere = scene.open_session(other), scene.open_session(upstream="second")
            with scene.nothing_executes():
                for session, token in ((theirs, ""), (mine, other), (elsewhere, "")):
                    assert scene.legacy(CALL, session, token=token).status == 404
                cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
                assert scene.legacy(cancel, theirs).status == 404
            assert scene.legacy(CALL, mine).status == 200


def test_an_ended_session_stays_ended_however_it_is_spelled(scene: Scene) -> None:
    session = scene.open_session()
    headers = {"Authorization": f"Bearer {scene.token}", "Mcp-Session-Id": session}
    assert scene.legacy(CALL, session).status == 200
    assert scene.plane.http("DELETE", "/mcp/odd", None, headers).status == 204
    with scene.nothing_executes():
        for spelled in (session, session + "=", session + "!", "." + session, session[:8] + "*" + session[8:]):
            assert scene.legacy(CALL, spelled).status == 404, spelled
        assert scene.plane.http("DELETE", "/mcp/odd", None, headers).status == 404


def test_a_call_without_a_session_is_told_to_initialize(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {scene.token}", "Content-Type": "application/json", "Accept": "*/*"}
    with scene.nothing_executes():
        answer = scene.plane.http("POST", "/mcp/odd", json.dumps(CALL).encode(), headers)
        assert (answer.status, answer.json["code"]) == (400, "malformed_call")


@pytest.mark.parametrize("version", [None, 1, [], {}])
def test_an_initialize_without_a_version_has_invalid_params(scene: Scene, version: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": version}}
    with scene.nothing_executes():
        answer = scene.legacy(body, "")
        assert answer.json["error"]["code"] == -32602
        assert "mcp-session-id" not in answer.headers
