"""Halting: acknowledged when durable, felt at once, and told to people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code, StoreUnavailable
from interlock.plane.callers import CallError
from support import crm
from support.inprocess import CALLER, DONE, InProcess, in_process
from unit.plane.test_story import Failing

UPDATE: Final[JsonObject] = {"order_ids": ["1"], "status": "refunded"}
SCOPES = ["run", "agent", "all"]


def _target(plane: InProcess, scope: str) -> str:
    return {"run": plane.run().id, "agent": crm.AGENT, "all": "all"}[scope]


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_halt_cancels_what_is_in_flight_and_refuses_what_comes(plane: InProcess, scope: Any) -> None:
    plane.upstreams.hangs()
    flying = plane.flying("update_order_status", UPDATE)
    sealed = await flying.sent()
    await plane.stopping.halt(scope, _target(plane, scope), "uid:7", "enough")
    reply = await flying.task
    assert isinstance(reply, CallError)
    assert reply.code == Code.OUTCOME_UNKNOWN
    assert plane.world.state(sealed.call_id) == "unknown"
    assert (await plane.refused("update_order_status", UPDATE)).code == Code.RUN_HALTED
    assert len(plane.upstreams.executed) == 1

    await plane.stopping.resume(scope, _target(plane, scope), "uid:7", "mended")
    plane.upstreams.answers(DONE)
    await plane.result("update_order_status", {**UPDATE, "status": "cancelled"})


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_halt_that_cannot_be_recorded_stops_all_the_same_and_is_recorded_later(
    tmp_path: Path, scope: Any
) -> None:
    with in_process(
        tmp_path, store=lambda store: Failing(store, "halt", StoreUnavailable("the disk is full"))
    ) as plane:
        await plane.policy.start("uid:7")
        plane.upstreams.hangs()
        flying = plane.flying("update_order_status", UPDATE)
        await flying.sent()
        target = _target(plane, scope)
        with pytest.raises(StoreUnavailable, match=r"not recorded yet.*disk is full"):
            await plane.stopping.halt(scope, target, "uid:7", "enough")
        reply = await flying.task
        assert isinstance(reply, CallError)
        assert reply.code == Code.OUTCOME_UNKNOWN
        with pytest.raises(StoreUnavailable):
            await plane.stopping.record_pending()
        assert (await plane.refused("update_order_status", {**UPDATE, "order_ids": ["2"]})).code == Code.RUN_HALTED
        assert len(plane.upstreams.executed) == 1

        cast(Failing, plane.store).command = "none"
        await plane.stopping.record_pending()
        await plane.stopping.record_pending()
        [leaf] = plane.world.leaves("halt")
        assert (leaf["scope"], leaf["by"]) == (scope, "uid:7")
        assert (await plane.refused("update_order_status", UPDATE)).code == Code.RUN_HALTED


async def test_a_halt_that_is_not_recorded_yet_is_lifted_only_by_a_resume_that_is(tmp_path: Path) -> None:
    with in_process(
        tmp_path, store=lambda store: Failing(store, "halt", StoreUnavailable("the disk is full"))
    ) as plane:
        await plane.policy.start("uid:7")
        with pytest.raises(StoreUnavailable):
            await plane.stopping.halt("all", "all", "uid:7", "enough")
        with pytest.raises(StoreUnavailable):
            await plane.stopping.resume("all", "all", "uid:8", "go on")
        assert plane.stopping.is_stopped("run_any", crm.AGENT)
        [shown] = plane.stopping.unrecorded()
        assert (shown["scope"], shown["recorded"]) == ("all", False)

        cast(Failing, plane.store).command = "none"
        await plane.stopping.resume("all", "all", "uid:8", "go on")
        assert [leaf["by"] for leaf in (*plane.world.leaves("halt"), *plane.world.leaves("resume"))] == [
            "uid:7",
            "uid:8",
        ]
        assert plane.stopping.unrecorded() == []
        await plane.result("update_order_status", UPDATE)


async def test_a_run_whose_end_cannot_be_recorded_is_cancelled_all_the_same(tmp_path: Path) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, "end_run", StoreUnavailable("full"))) as plane:
        await plane.policy.start("uid:7")
        plane.upstreams.hangs()
        flying = plane.flying("update_order_status", UPDATE)
        await flying.sent()
        with pytest.raises(StoreUnavailable):
            await plane.stopping.end(plane.run().id, "ended by host")
        reply = await flying.task
        assert isinstance(reply, CallError)
        assert reply.code == Code.OUTCOME_UNKNOWN


async def test_what_an_ended_run_has_in_flight_is_cancelled(plane: InProcess) -> None:
    opened = await plane.world.run(crm.AGENT)
    plane.upstreams.hangs()
    flying = plane.flying("update_order_status", UPDATE, caller=replace(CALLER, run=opened.id))
    await flying.sent()
    await plane.stopping.end(opened.id, "ended by host")
    reply = await flying.task
    assert isinstance(reply, CallError)
    assert reply.code == Code.OUTCOME_UNKNOWN
    assert plane.world.seen(opened).state == "ended"


@pytest.mark.parametrize("scope", ["agent", "all"])
async def test_a_standing_halt_is_known_after_a_restart(tmp_path: Path, scope: Any) -> None:
    with in_process(tmp_path) as plane:
        await plane.policy.start("uid:7")
        await plane.result("update_order_status", UPDATE)
        await plane.stopping.halt(scope, _target(plane, scope), "uid:7", "enough")
    with in_process(tmp_path) as plane:
        await plane.policy.start("uid:7")
        assert plane.stopping.is_stopped("run_other", crm.AGENT)
        assert (await plane.refused("update_order_status", UPDATE)).code == Code.RUN_HALTED


async def test_a_failed_second_halt_does_not_lift_the_first(tmp_path: Path) -> None:
    with in_process(tmp_path) as plane:
        await plane.policy.start("uid:7")
        await plane.stopping.halt("agent", crm.AGENT, "uid:7", "enough")
    with in_process(tmp_path, store=lambda store: Failing(store, "halt", StoreUnavailable("full"))) as plane:
        with pytest.raises(StoreUnavailable):
            await plane.stopping.halt("agent", crm.AGENT, "uid:7", "again")
        assert plane.stopping.is_stopped("run_any", crm.AGENT)


async def test_who_is_named_to_be_told_is_told_of_a_halt(plane: InProcess) -> None:
    await plane.result("update_order_status", UPDATE)
    await plane.stopping.halt("run", plane.run().id, "uid:7", "a reason that is not sent on")
    [(target, event)] = plane.notifier.sent
    assert (target, event["run"], event["agent"]) == ("#oncall-agents", plane.run().id, crm.AGENT)
    assert "not sent on" not in str(event)


async def test_refusals_after_a_halt_are_counted_and_written_as_one_leaf(plane: InProcess) -> None:
    await plane.result("update_order_status", UPDATE)
    await plane.stopping.halt("run", plane.run().id, "uid:7", "enough")
    before = plane.world.count()
    for _ in range(20):
        await plane.refused("update_order_status", UPDATE)
    assert plane.world.count() == before
    await plane.refusals.flush()
    await plane.refusals.flush()
    [leaf] = plane.world.leaves()[before:]
    assert (leaf["run"], leaf["count"]) == (plane.run().id, 20)
