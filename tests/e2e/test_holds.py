"""Holds survive everything that happens to processes, and end safely when nobody answers."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.odd import AGENT, odd_settings, pin, reached, write_policies
from support.plane import PlaneProcess, crm_policies, crm_settings, eventually, running

MAIL = {"to": ["customer-0042@example.com"], "subject": "Refund", "body": "Done."}


def held(plane: PlaneProcess, token: str, **params: Any) -> dict[str, Any]:
    return plane.call(token, "send_customer_email", MAIL, **params)["error"]


def outbox(folder: Path) -> int:
    if not (folder / "crm.db").exists():
        return 0  # the server was never even started
    connection = sqlite3.connect(f"file:{folder / 'crm.db'}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
    finally:
        connection.close()


def test_a_plane_killed_while_a_call_is_held_executes_it_exactly_once_after_approval(tmp_path: Path) -> None:
    plane = PlaneProcess(tmp_path, crm_settings(tmp_path / "crm.db"))
    try:
        plane.start()
        approval = held(plane, plane.token())["approval_id"]
        plane.kill()
        plane.start()
        token = plane.token()
        assert held(plane, token)["approval_id"] == approval
        plane.command("approvals", "approve", approval)
        plane.kill()
        plane.start()
        assert plane.call(plane.token(), "send_customer_email", MAIL) == {"written": 1}
        assert plane.call(plane.token(), "send_customer_email", MAIL) == {"written": 1}
    finally:
        plane.close()
    assert outbox(tmp_path) == 1


def test_people_are_told_of_a_call_that_waits(tmp_path: Path) -> None:
    settings = crm_settings(tmp_path / "crm.db", notify_approvals="#oncall-agents")
    with running(tmp_path, settings) as plane:
        approval = held(plane, plane.token())["approval_id"]
        notices = tmp_path / "notices.jsonl"
        line = eventually(
            lambda: notices.exists() and notices.read_text().endswith("\n") and notices.read_text(), "told"
        )
    assert json.loads(line)["approval"] == approval
    assert MAIL["body"] not in line


def test_a_hold_that_nobody_answers_expires_to_a_denial_also_across_a_restart(tmp_path: Path) -> None:
    policies = crm_policies(tmp_path, ("approval_timeout_seconds: 300", "approval_timeout_seconds: 1"))
    settings = crm_settings(tmp_path / "crm.db", policies=str(policies))
    plane = PlaneProcess(tmp_path, settings)
    try:
        plane.start()
        approval = held(plane, plane.token())["approval_id"]
        plane.stop()
        plane.start()

        def expired() -> bool:
            return plane.api("GET", f"/v1/approvals/{approval}")["state"] == "expired"

        eventually(expired, "the hold expires")
        late = plane.operate("POST", f"/v1/approvals/{approval}/verdict", {"approve": True})
        assert late.status == 409
        assert held(plane, plane.token())["code"] == "approval_expired"
        [call] = plane.api("GET", "/v1/calls?tool=send_customer_email")["calls"]
        assert (call["state"], call["code"]) == ("closed", "approval_expired")
    finally:
        plane.close()
    assert outbox(tmp_path) == 0


def test_a_deliberate_repeat_is_a_new_hold_and_a_refusal_tells_the_agent_why(crm_plane: PlaneProcess) -> None:
    token = crm_plane.token()
    first = held(crm_plane, token)
    crm_plane.command("approvals", "deny", first["approval_id"], "--reason", "wrong customer")
    refused = held(crm_plane, token)
    assert refused["code"] == "approval_denied"
    assert "wrong customer" in refused["message"]
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "interlock/idempotency-key": "second-try",
    }
    again = held(crm_plane, token, _meta=meta)
    assert again["code"] == "approval_pending"
    assert again["approval_id"] != first["approval_id"]


def test_a_change_of_the_rules_voids_an_approval_and_an_unrelated_change_does_not(tmp_path: Path) -> None:
    policies = crm_policies(tmp_path)
    agent = policies / "agents" / "support-agent.yaml"
    with running(tmp_path, crm_settings(tmp_path / "crm.db", policies=str(policies))) as plane:
        token = plane.token()
        approval = held(plane, token)["approval_id"]
        plane.command("approvals", "approve", approval)
        agent.write_text(agent.read_text().replace("max_records_per_run: 10", "max_records_per_run: 9"))
        plane.command("policy", "activate", "--reason", "another tool's limit")
        assert plane.api("GET", f"/v1/approvals/{approval}")["state"] == "approved"
        agent.write_text(agent.read_text().replace("approval_timeout_seconds: 300", "approval_timeout_seconds: 200"))
        plane.command("policy", "activate", "--reason", "this tool's rules")
        anew = held(plane, token)
        assert anew["code"] == "approval_pending"
        assert anew["approval_id"] != approval
        assert plane.api("GET", f"/v1/approvals/{approval}")["state"] == "void"
    assert outbox(tmp_path) == 0


@pytest.mark.parametrize("target", ["run", "agent", "all"])
def test_a_halt_stops_calls_in_flight_and_later_ones_until_it_is_lifted(tmp_path: Path, target: str) -> None:
    import asyncio

    pin(write_policies(tmp_path / "policies"))
    plane = PlaneProcess(tmp_path, odd_settings(tmp_path))

    async def halted_while_hanging(token: str) -> dict[str, Any]:
        hanging = asyncio.create_task(asyncio.to_thread(plane.call, token, "hang", {}, "odd"))
        await asyncio.to_thread(eventually, lambda: reached(tmp_path, "hang"), "the call is in flight")
        run = plane.api("GET", "/v1/runs")["runs"][0]["id"]
        named = {"run": run, "agent": AGENT, "all": "all"}[target]
        await asyncio.to_thread(plane.command, "halt", named, "--reason", "test")
        answer = await hanging
        plane.stop()
        plane.start()  # a halt survives a restart
        assert plane.call(plane.token(AGENT), "echo", {}, "odd")["error"]["code"] == "run_halted"
        plane.command("resume", named)
        return answer

    try:
        plane.start()
        answer = asyncio.run(halted_while_hanging(plane.token(AGENT)))
        assert answer["error"]["code"] == "outcome_unknown"
        assert plane.call(plane.token(AGENT), "echo", {"value": 1}, "odd") == {"echo": {"value": 1}}
    finally:
        plane.close()
    assert [entry["tool"] for entry in reached(tmp_path)] == ["hang", "echo"]
