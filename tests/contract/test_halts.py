"""Halts: no permit in the scope has a higher sequence (I4), until a person resumes it."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.errors import Code, Conflict, NotFound
from interlock.plane.commands import Admitted, HaltScope, Refused, Run
from support.store import SECOND, World, guard, permit, sealed

SCOPES: list[HaltScope] = ["run", "agent", "all"]


def _target(scope: HaltScope, run: Run) -> str:
    return {"run": run.id, "agent": run.agent, "all": "all"}[scope]


@pytest.mark.parametrize("scope", SCOPES)
async def test_nothing_enters_a_halted_scope_until_a_person_resumes_it(world: World, scope: HaltScope) -> None:
    run = await world.run()
    await world.halt(scope, _target(scope, run))
    before = world.count()
    for refused in (await world.admit(run), await world.deny(run), await world.place(run)):
        assert isinstance(refused, Refused)
        assert (refused.code, refused.recorded, refused.halted) == (Code.RUN_HALTED, False, None)
    assert (world.count(), world.seen(run).steps) == (before, 0)
    await world.resume(scope, _target(scope, run))
    assert isinstance(await world.admit(run), Admitted)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_halt_is_recorded_with_who_asked_and_which_runs_it_stopped(world: World, scope: HaltScope) -> None:
    run = await world.run(notify="#oncall")
    other = await world.run("b")
    ended = await world.run()
    await world.store.end_run(ended.id, "done")
    halted = await world.halt(scope, _target(scope, run))
    [leaf] = world.leaves("halt")
    assert (leaf["seq"], leaf["scope"], leaf["by"]) == (halted.seq, scope, "uid:7")
    assert leaf["payloads"] == {"reason": sealed("reason").commitment}
    stopped = {"run": {run.id}, "agent": {run.id}, "all": {run.id, other.id}}[scope]
    assert {stopped_run.id for stopped_run in halted.runs} == stopped
    assert next(stopped_run for stopped_run in halted.runs if stopped_run.id == run.id).notify == "#oncall"


@pytest.mark.parametrize("scope", ["agent", "all"])
async def test_halts_in_force_are_listed(world: World, scope: HaltScope) -> None:
    run = await world.run()
    assert world.reader.halts() == []
    halted = await world.halt(scope, _target(scope, run))
    [listed] = world.reader.halts()
    assert listed == {
        "scope": scope,
        "target": _target(scope, run),
        "at": world.clock.now_us(),
        "by": "uid:7",
        "leaf": halted.seq,
    }
    await world.resume(scope, _target(scope, run))
    assert world.reader.halts() == []


async def test_a_halt_stays_in_its_scope(world: World) -> None:
    run, sibling, other = await world.run(), await world.run(), await world.run("b")
    await world.halt("run", run.id)
    assert isinstance(await world.admit(sibling), Admitted)
    await world.halt("agent", "a")
    assert isinstance(await world.admit(sibling), Refused)
    assert isinstance(await world.admit(other), Admitted)
    await world.halt("all", "all")
    assert isinstance(await world.admit(other), Refused)


@pytest.mark.parametrize("scope", ["agent", "all"])
@pytest.mark.parametrize("implicit", [False, True])
async def test_no_run_is_opened_in_a_halted_scope(world: World, scope: HaltScope, implicit: bool) -> None:
    current = await world.run(implicit=True)
    await world.halt(scope, _target(scope, current))
    refused = await world.open(implicit=implicit)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.rule, refused.recorded) == (Code.RUN_HALTED, "interlock:halt", False)
    other = await world.open("b", implicit=implicit)
    assert isinstance(other, Run) == (scope == "agent")


async def test_overlapping_halts_are_lifted_one_by_one(world: World) -> None:
    run = await world.run()
    for scope in SCOPES:
        await world.halt(scope, _target(scope, run))
    for scope in SCOPES:
        assert isinstance(await world.admit(run), Refused)
        await world.resume(scope, _target(scope, run))
    assert isinstance(await world.admit(run), Admitted)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_is_halted_once_and_resumed_once(world: World, scope: HaltScope) -> None:
    run = await world.run()
    target = _target(scope, run)
    with pytest.raises((NotFound, Conflict)):
        await world.resume(scope, target)
    await world.halt(scope, target)
    with pytest.raises(Conflict):
        await world.halt(scope, target)
    await world.resume(scope, target)
    with pytest.raises((NotFound, Conflict)):
        await world.resume(scope, target)
    assert (len(world.leaves("halt")), len(world.leaves("resume"))) == (1, 1)


async def test_a_run_that_does_not_exist_or_has_ended_cannot_be_halted_or_resumed(world: World) -> None:
    run = await world.run()
    await world.store.end_run(run.id, "done")
    before = world.count()
    for command in (world.halt, world.resume):
        with pytest.raises(NotFound):
            await command("run", "run_nobody")
        with pytest.raises(Conflict):
            await command("run", run.id)
    assert world.count() == before


async def test_a_person_s_halt_says_so_in_the_run(world: World) -> None:
    run = await world.run()
    world.clock.advance(5)
    await world.halt("run", run.id)
    seen = world.seen(run)
    assert (seen.state, seen.halt_reason, seen.halted_at_us) == ("halted", "halted by uid:7", world.clock.now_us())
    await world.resume("run", run.id)
    seen = world.seen(run)
    assert (seen.state, seen.halt_reason, seen.halted_at_us) == ("open", None, None)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_permit_given_before_a_halt_still_gets_its_outcome(world: World, scope: HaltScope) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(2)))
    await world.halt(scope, _target(scope, run))
    assert (await world.settle(call)).first
    assert (world.state(call), world.used(run)["spent"]) == ("succeeded", 1)


async def test_an_approval_cannot_be_used_while_its_run_is_halted_and_can_after(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    await world.halt("run", run.id)
    assert (await world.refused(run, redeems=hold)).rule == "interlock:run-halted"
    assert world.hold_state(hold) == "approved"
    await world.resume("run", run.id)
    assert isinstance(await world.admit(run, redeems=hold), Admitted)


async def test_a_person_s_halt_replaces_a_ceiling_s_and_its_cool_down(world: World) -> None:
    run = await world.run(implicit=True, max_steps=1)
    for _ in range(2):
        await world.deny(run)
    assert world.seen(run).state == "halted"
    await world.halt("run", run.id)
    with pytest.raises(Conflict):
        await world.halt("run", run.id)
    assert world.seen(run).halt_reason == "halted by uid:7"
    world.clock.advance(3 * 3600)
    assert (await world.run(implicit=True)).id == run.id
    await world.resume("run", run.id)
    assert isinstance(await world.admit(run), Admitted)


async def test_a_run_that_a_ceiling_halted_and_that_has_ended_cannot_be_halted(world: World) -> None:
    run = await world.run(max_steps=1)
    for _ in range(2):
        await world.deny(run)
    await world.store.end_run(run.id, "done")
    with pytest.raises(Conflict):
        await world.halt("run", run.id)
    assert world.seen(run).state == "ended"


# A fresh allowance ----------------------------------------------------------------------------------


async def test_a_resumed_run_gets_as_many_steps_again_and_keeps_those_it_took(world: World) -> None:
    run = await world.run(max_steps=2)
    for _ in range(3):
        await world.deny(run)
    await world.resume("run", run.id)
    assert world.seen(run).steps == 2
    assert world.seen(run).ceilings.max_steps == 4
    [leaf] = world.leaves("resume")
    assert (leaf["scope"], leaf["by"], leaf["max_steps"]) == ("run", "uid:7", 4)
    for _ in range(2):
        assert (await world.deny(run)).rule == "interlock:default-deny"
    assert (await world.deny(run)).rule == "interlock:max_steps"
    await world.resume("run", run.id)
    assert world.seen(run).ceilings.max_steps == 6, "by its own ceiling, not by the raised one"


async def test_a_run_resumed_early_does_not_keep_what_it_had_left(world: World) -> None:
    run = await world.run(max_steps=10)
    await world.deny(run)
    await world.halt("run", run.id)
    await world.resume("run", run.id)
    assert world.seen(run).ceilings.max_steps == 11


async def test_a_resumed_run_gets_its_wall_clock_again(world: World) -> None:
    run = await world.run(max_wall_clock_us=10 * SECOND)
    world.clock.advance(12)
    await world.deny(run)
    world.clock.advance(1000)
    await world.resume("run", run.id)
    assert world.seen(run).ceilings.max_wall_clock_us == 22 * SECOND
    world.clock.advance(9.9)
    assert (await world.deny(run)).rule == "interlock:default-deny"
    world.clock.advance(0.1)
    assert (await world.deny(run)).rule == "interlock:max_wall_clock_seconds"


async def test_a_resumed_run_keeps_its_counters(world: World) -> None:
    run = await world.run(max_steps=1)
    await world.permitted(run, permit(guard(1)))
    await world.deny(run)
    await world.resume("run", run.id)
    assert (await world.refused(run, permit(guard(1)))).code == Code.CONSTRAINT_VIOLATED


async def test_a_run_without_ceilings_is_resumed_without_ceilings(world: World) -> None:
    run = await world.run()
    await world.halt("run", run.id)
    await world.resume("run", run.id)
    assert world.seen(run).ceilings == run.ceilings
    assert "max_steps" not in world.leaves("resume")[0]


async def test_a_halt_is_still_in_force_after_a_restart(world: World) -> None:
    run, other = await world.run(), await world.run("b")
    await world.halt("run", run.id)
    await world.halt("agent", "b")
    world.reopen()
    assert isinstance(await world.admit(run), Refused)
    assert isinstance(await world.admit(other), Refused)
    assert [halt["target"] for halt in world.reader.halts()] == ["b"]


@pytest.mark.parametrize("scope", SCOPES)
async def test_no_permit_has_a_higher_sequence_than_a_halt_that_raced_it(world: World, scope: HaltScope) -> None:
    run = await world.run()
    asked = [asyncio.create_task(world.admit(run)) for _ in range(100)]
    halting = asyncio.create_task(world.halt(scope, _target(scope, run)))
    asked += [asyncio.create_task(world.admit(run)) for _ in range(100)]
    answers = await asyncio.gather(*asked)
    halted = await halting
    given = [answer.seq for answer in answers if isinstance(answer, Admitted)]
    assert given, "some came first"
    assert max(given) < halted.seq
    assert len(given) < 200, "some came after"
