"""The incident: the shortest fix is to delete production and create it again. Here it is not possible."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from mcp import Client, StdioServerParameters

from demo.agent import Agent, agent
from demo.stage import Scenario, Stage

_PRODUCTION = {"environment": "production"}


async def story(stage: Stage) -> None:
    await _without_the_plane(stage)
    stage.step("The same agent, behind the plane. The task is the same: payments in production fail, fix it.")
    run = stage.open_run("payments in production fail; fix it")
    async with agent(stage, run["token"]) as coder:
        await _look(stage, coder)
        error = await _delete(stage, coder)
        await _repair(stage, coder, error)
        await _staging(stage, coder)
    _account(stage)


async def _without_the_plane(stage: Stage) -> None:
    stage.step("Without a plane: the agent has operator rights on a copy of the environments.")
    copy = stage.folder / "copy-without-plane.db"
    server = stage.root / "examples" / stage.scenario.folder / "server" / "main.py"
    program = StdioServerParameters(command=sys.executable, args=[str(server), "--database", str(copy)])
    async with Client(program) as client:
        stage.call("delete_environment", _PRODUCTION)
        result = await client.call_tool("delete_environment", _PRODUCTION)
    stage.expect(not result.is_error, f"on the copy nothing should have stopped it: {result}")
    gone = _rows(copy, "SELECT count(*) FROM environments WHERE name = 'production'")[0][0] == 0
    stage.expect(gone, "on the copy production should be gone")
    stage.fact("production is gone. The model worked as designed; every step of it can be observed afterwards.")


async def _look(stage: Stage, coder: Agent) -> None:
    stage.step("It looks around.")
    found = await coder.call("describe_environment", _PRODUCTION)
    failing = [service["name"] for service in found["services"] if service["status"] == "failing"]
    stage.permitted(f"production is {found['status']}, failing: {', '.join(failing)}")
    stage.expect(failing == ["payments"], f"payments should be failing: {found}")


async def _delete(stage: Stage, coder: Agent) -> dict[str, Any]:
    stage.step("The shortest fix: delete production, create it again.")
    error = (await coder.call("delete_environment", _PRODUCTION)).get("error", {})
    stage.expect(error.get("code") == "policy_denied", f"the deletion should be denied: {error}")
    stage.denied(error)
    stage.fact(f"rule {error['rule']}; no approval could lift it")
    return error


async def _repair(stage: Stage, coder: Agent, error: dict[str, Any]) -> None:
    stage.step("The denial says what would be accepted. The agent does that instead.")
    stage.expect("restart_service" in error["message"], "the denial should name the way that is open")
    arguments = {"environment": "production", "service": "payments"}
    done = await coder.call("restart_service", arguments)
    stage.expect(done.get("status") == "running", f"payments should run again: {done}")
    stage.permitted(f"payments: {done['previous_status']} → {done['status']}")


async def _staging(stage: Stage, coder: Agent) -> None:
    stage.step("Elsewhere deletion is not impossible, it is a person's decision.")
    held = (await coder.call("delete_environment", {"environment": "staging"})).get("error", {})
    stage.expect(held.get("code") == "approval_pending", f"the deletion should be held: {held}")
    stage.held(held["message"])
    stage.operator("approvals", "deny", held["approval_id"], "--reason", "staging is in use")
    stage.fact("person: interlock approvals deny … --reason 'staging is in use'")
    denied = (await coder.call("delete_environment", {"environment": "staging"})).get("error", {})
    stage.expect(denied.get("code") == "approval_denied", f"the verdict should stand: {denied}")
    stage.denied(denied)


def _account(stage: Stage) -> None:
    stage.step("What the server's own database says.")
    deleted = stage.upstream_rows("SELECT environment FROM history WHERE operation = 'deleted'")
    reached = [row[0] for row in stage.upstream_rows("SELECT tool FROM calls ORDER BY number")]
    stage.expect(not deleted, f"nothing should have been deleted: {deleted}")
    stage.expect("delete_environment" not in reached, f"no deletion should have reached the server: {reached}")
    stage.fact(f"calls that reached it: {', '.join(reached)}; production was never gone")


def _rows(path: object, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


SCENARIO = Scenario(
    title="Interlock: the deleted environment",
    upstream="infrastructure",
    agent="coding-agent",
    folder="environment-deletion",
    story=story,
    next_steps=(
        ("calls list", "every attempt, with the rule that decided it"),
        (
            """policy explain coding-agent delete_environment -a '{"environment": "production"}' --approved""",
            "that even an approval does not permit it",
        ),
        ("policy show", "what is in force"),
    ),
)
