"""/v1/runs: a host application opens runs, with what it may say and nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interlock.core.run import Ceilings
from interlock.gateway.asgi import Message, Request, Response
from interlock.gateway.runs_api import RunsApi
from support import crm
from support.inprocess import IDENTITY, InProcess, in_process
from support.store import SECOND


@dataclass(frozen=True)
class Host:
    """An authenticated run opener."""

    subject: str = "host"
    agents: tuple[str, ...] = (crm.AGENT, "another")


HOST = Host()


class Door:
    """The door, with a plane behind it."""

    def __init__(self, plane: InProcess) -> None:
        self.plane = plane
        self.minted: list[tuple[str, str, str]] = []
        self.api = RunsApi(plane.policy, plane.runs, plane.stopping, plane.reader, self._mint)

    def _mint(self, identity: str, agent: str, run: str) -> tuple[str, int]:
        self.minted.append((identity, agent, run))
        return f"token {len(self.minted)}", 1234

    async def ask(self, method: str, path: str, body: bytes = b"", opener: Host = HOST) -> Response:
        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(_message: Message) -> None:
            raise AssertionError("the caller sends")

        request = Request(method, path, {}, "peer", lambda: "structural", receive, send)
        return await self.api.handle(request, opener, path, 1_000_000)

    async def open(self, opener: Host = HOST, **members: Any) -> Response:
        return await self.ask("POST", "", json.dumps({"agent": crm.AGENT} | members).encode(), opener)

    async def opened(self, **members: Any) -> dict[str, Any]:
        response = await self.open(**members)
        assert response.status == 201, response.body
        return json.loads(response.body)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    with in_process(tmp_path) as plane:
        await plane.policy.start("uid:7")
        yield Door(plane)


def _problem(response: Response) -> tuple[int, str]:
    body = json.loads(response.body)
    assert response.content_type == b"application/problem+json"
    assert body["status"] == response.status
    assert body["detail"] == body["message"]
    assert body.keys() >= {"title", "rule", "call_id", "run_id", "retryable"}
    return response.status, body["code"]


async def test_an_opened_run_comes_with_a_token_bound_to_it(door: Door) -> None:
    opened = await door.opened(task="Refund order 7", labels={"team": "support", "app": "desk"})
    run = door.plane.reader.run(opened["run"])
    assert run is not None
    assert (run.agent, run.opener, run.implicit, run.labels) == (
        crm.AGENT,
        "host",
        False,
        ("app=desk", "team=support"),
    )
    assert door.plane.runs.task(run.id) == "Refund order 7"
    assert opened["token"] == "token 1"
    assert opened["token_expires_at"] == 1234
    assert door.minted == [(IDENTITY, crm.AGENT, run.id)]
    assert opened["ceilings"] == run.ceilings.as_json()
    assert opened["unmetered"] == ["max_tokens", "max_cost_micro_usd"]


async def test_two_openings_are_two_runs(door: Door) -> None:
    assert (await door.opened())["run"] != (await door.opened())["run"]


async def test_an_opener_may_narrow_the_ceilings_and_never_widen_them(door: Door) -> None:
    narrowed = await door.opened(ceilings={"max_steps": 3, "max_wall_clock_seconds": 10})
    widened = await door.opened(ceilings={"max_steps": 3_000, "max_wall_clock_seconds": 10_000})
    own = Ceilings(25, 50_000, 120 * SECOND, 2_000_000)
    assert narrowed["ceilings"] == Ceilings(3, 50_000, 10 * SECOND, 2_000_000).as_json()
    assert widened["ceilings"] == own.as_json()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"agent": None}, "`agent` is missing or not text"),
        ({"agent": 5}, "`agent` is missing or not text"),
        ({"surprise": 1}, "unknown member 'surprise'"),
        ({"task": 5}, "`task` is not a text"),
        ({"task": "x" * 16_385}, "`task` is not a text of at most 16384"),
        ({"labels": []}, "`labels` is not an object"),
        ({"labels": {str(number): "x" for number in range(33)}}, "`labels` is not an object of at most 32"),
        ({"labels": {"a=b": "x"}}, "a label is not a short text"),
        ({"labels": {"a": 5}}, "a label is not a short text"),
        ({"labels": {"a" * 65: "x"}}, "a label is not a short text"),
        ({"labels": {"a": "x" * 257}}, "a label is not a short text"),
        ({"ceilings": 5}, "`ceilings` is not an object"),
        ({"ceilings": {"max_tokens_per_run": 5}}, "unknown ceiling 'max_tokens_per_run'"),
        ({"ceilings": {"max_steps": 0}}, "`max_steps` is not a whole number of at least 1"),
        ({"ceilings": {"max_steps": -1}}, "`max_steps` is not a whole number"),
        ({"ceilings": {"max_steps": True}}, "`max_steps` is not a whole number"),
        ({"ceilings": {"max_steps": 1.5}}, "`max_steps` is not a whole number"),
        ({"ceilings": {"max_wall_clock_seconds": None}}, "`max_wall_clock_seconds` is not a whole number"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_cannot_be_meant_is_refused_and_opens_nothing(
    door: Door, members: dict[str, Any], said: str
) -> None:
    before = door.plane.world.count()
    response = await door.open(**members)
    assert _problem(response) == (400, "malformed_call")
    assert said in json.loads(response.body)["detail"]
    assert door.plane.world.count() == before
    assert door.minted == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"agent":"a","agent":"b"}', b'{"agent":"a","x":NaN}', b"\xff"])
async def test_a_body_that_is_no_exact_object_is_refused(door: Door, body: bytes) -> None:
    assert _problem(await door.ask("POST", "", body)) == (400, "malformed_call")


async def test_the_longest_task_and_labels_that_are_allowed_are_kept(door: Door) -> None:
    opened = await door.opened(task="x" * 16_384, labels={"a" * 64: "x" * 256})
    assert door.plane.runs.task(opened["run"]) == "x" * 16_384


async def test_a_run_without_task_has_none(door: Door) -> None:
    assert door.plane.runs.task((await door.opened())["run"]) is None
    assert door.plane.runs.task((await door.opened(task=None))["run"]) is None


async def test_an_opener_opens_runs_only_for_its_agents(door: Door) -> None:
    assert _problem(await door.open(Host(agents=("another",)))) == (403, "policy_denied")
    assert _problem(await door.open(agent="another")) == (403, "agent_not_active")


async def test_nothing_is_opened_before_a_policy_is_active(tmp_path: Path) -> None:
    with in_process(tmp_path) as plane:
        assert _problem(await Door(plane).open()) == (503, "unavailable")


async def test_over_the_hourly_number_of_runs_the_door_says_when_to_come_back(door: Door) -> None:
    for _ in range(100):
        await door.opened()
    door.plane.clock.advance(600)
    response = await door.open()
    assert _problem(response) == (429, "rate_limited")
    assert response.headers == ((b"retry-after", b"3000"),)


async def test_a_halted_agent_gets_no_run(door: Door) -> None:
    await door.plane.stopping.halt("agent", crm.AGENT, "uid:7", "because")
    response = await door.open()
    assert _problem(response) == (403, "run_halted")
    assert response.headers == ()


# One run --------------------------------------------------------------------------------------------


async def test_a_run_can_be_looked_at(door: Door) -> None:
    run = (await door.opened(ceilings={"max_steps": 2}))["run"]
    await door.plane.stopping.halt("run", run, "uid:7", "because")
    shown = json.loads((await door.ask("GET", f"/{run}")).body)
    assert (shown["run"], shown["agent"], shown["state"], shown["steps"]) == (run, crm.AGENT, "halted", 0)
    assert shown["halt_reason"] == "halted by uid:7"
    assert "token" not in shown


async def test_the_token_of_a_run_is_renewed_until_the_run_has_ended(door: Door) -> None:
    run = (await door.opened())["run"]
    renewed = await door.ask("POST", f"/{run}/token")
    assert json.loads(renewed.body) == {"run": run, "token": "token 2", "token_expires_at": 1234}
    assert door.minted[-1] == (IDENTITY, crm.AGENT, run)
    ended = await door.ask("POST", f"/{run}/end")
    assert json.loads(ended.body) == {"run": run, "state": "ended"}
    assert door.plane.world.leaves("run_ended")[0]["why"] == "ended by host"
    refused = await door.ask("POST", f"/{run}/token")
    assert _problem(refused) == (409, "run_halted")
    assert json.loads(refused.body)["run_id"] == run
    assert len(door.minted) == 2


@pytest.mark.parametrize("opener", [Host(subject="another host"), Host(agents=("another",))])
@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/token"), ("POST", "/end")])
async def test_a_run_of_somebody_else_s_does_not_exist(door: Door, opener: Host, method: str, action: str) -> None:
    run = (await door.opened())["run"]
    assert _problem(await door.ask(method, f"/{run}{action}", opener=opener)) == (404, "not_found")
    assert _problem(await door.ask(method, f"/run_nobody{action}")) == (404, "not_found")
    found = door.plane.reader.run(run)
    assert found is not None
    assert found.state == "open"


@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/token"), ("POST", "/end")])
async def test_an_implicit_run_is_no_host_s_whatever_the_host_is_called(door: Door, method: str, action: str) -> None:
    await door.plane.call("update_order_status", {"order_ids": ["o"], "status": "cancelled"})
    run = door.plane.run()
    assert run.opener == "implicit"
    response = await door.ask(method, f"/{run.id}{action}", opener=Host(subject="implicit"))
    assert _problem(response) == (404, "not_found")
    assert door.plane.run().state == "open"


@pytest.mark.parametrize(
    ("method", "action"), [("GET", "/token"), ("GET", "/end"), ("POST", ""), ("DELETE", ""), ("POST", "/token/more")]
)
async def test_other_actions_on_a_run_do_not_exist(door: Door, method: str, action: str) -> None:
    run = (await door.opened())["run"]
    assert _problem(await door.ask(method, f"/{run}{action}")) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_runs_are_opened_by_post_alone(door: Door, method: str) -> None:
    response = await door.ask(method, "")
    assert (response.status, response.headers) == (405, ((b"allow", b"POST"),))
