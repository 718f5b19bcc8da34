"""Runs: opening, the one implicit run of an agent, and how runs end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from interlock.core.errors import Code
from interlock.core.run import Ceilings
from interlock.plane.commands import Refused, Run
from support.store import MINUTE, World, sealed

DAY_S = 24 * 3600


async def test_a_run_is_readable_as_it_was_opened(world: World) -> None:
    ceilings = Ceilings(max_steps=3, max_wall_clock_us=5_000_000, max_cost_micro_usd=2_000_000)
    run = await world.run(ceilings=ceilings, opener="host", notify="#oncall", labels=("team=a", "x=y"))
    assert run == Run(
        id=run.id,
        agent="a",
        implicit=False,
        opener="host",
        state="open",
        opened_at_us=world.clock.now_us(),
        last_activity_us=world.clock.now_us(),
        ceilings=ceilings,
        steps=0,
        clock_used_us=0,
        clock_since_us=world.clock.now_us(),
        in_flight=0,
        open_holds=0,
        halt_reason=None,
        halted_at_us=None,
        notify="#oncall",
        labels=("team=a", "x=y"),
    )
    assert world.seen(run) == run
    assert world.reader.run("run_nobody") is None


async def test_opening_leaves_a_leaf_with_ceilings_and_what_no_meter_counts(world: World) -> None:
    ceilings = Ceilings(max_steps=3, max_tokens=100, max_cost_micro_usd=5)
    run = await world.run(ceilings=ceilings, payloads=(sealed("task", "mend it"),))
    [leaf] = world.leaves("run_opened")
    assert leaf["run"] == run.id
    assert leaf["agent"] == "a"
    assert leaf["opener"] == "host"
    assert leaf["ceilings"] == ceilings.as_json()
    assert leaf["unmetered"] == ["max_tokens", "max_cost_micro_usd"]
    assert leaf["payloads"] == {"task": sealed("task", "mend it").commitment}
    assert world.reader.run_payload(run.id, "task") == sealed("task", "mend it").sealed


async def test_every_explicit_opening_is_a_run_of_its_own(world: World) -> None:
    first, second = await world.run(), await world.run()
    assert first.id != second.id
    assert world.seen(first).state == world.seen(second).state == "open"


@pytest.mark.parametrize("implicit", [False, True])
async def test_an_agent_may_open_only_so_many_runs_of_a_kind_within_an_hour(world: World, implicit: bool) -> None:
    async def one() -> Run | Refused:
        opened = await world.open(implicit=implicit, max_per_hour=2)
        if implicit and isinstance(opened, Run):
            await world.store.end_run(opened.id, "done")
        return opened

    assert isinstance(await one(), Run)
    world.clock.advance(600)
    assert isinstance(await one(), Run)
    before = world.count()
    world.clock.advance(600)
    refused = await one()
    assert isinstance(refused, Refused)
    assert (refused.code, refused.rule, refused.recorded) == (Code.RATE_LIMITED, "interlock:max-runs-per-hour", False)
    assert refused.retry_after_ms == 2_400_000
    assert world.count() == before

    world.clock.advance(2400)
    assert isinstance(await one(), Run), "the first of them is an hour old"
    assert isinstance(await one(), Refused)


async def test_runs_of_the_other_kind_and_of_other_agents_do_not_count_against_the_hour(world: World) -> None:
    await world.run(max_per_hour=1)
    assert isinstance(await world.open(implicit=True, max_per_hour=1), Run)
    assert isinstance(await world.open("b", max_per_hour=1), Run)
    assert isinstance(await world.open(max_per_hour=1), Refused)


async def test_an_agent_has_one_implicit_run(world: World) -> None:
    first = await world.run(implicit=True)
    world.clock.advance(600)
    again = await world.run(implicit=True)
    assert again.id == first.id
    assert len(world.leaves("run_opened")) == 1
    other = await world.run("b", implicit=True)
    assert other.id != first.id


async def test_agents_that_race_for_their_implicit_run_get_the_same_one(world: World) -> None:
    runs = await asyncio.gather(*(world.run(implicit=True) for _ in range(50)))
    assert len({run.id for run in runs}) == 1


async def test_a_new_implicit_run_starts_only_after_the_last_was_idle(world: World) -> None:
    first = await world.run(implicit=True)
    world.clock.advance(600)
    await world.deny(first)
    world.clock.advance(899.999)
    assert (await world.run(implicit=True)).id == first.id, "15 minutes count from the last activity"
    world.clock.advance(0.001)
    second = await world.run(implicit=True)
    assert second.id != first.id
    assert world.seen(first).state == "ended"
    assert world.leaves("run_ended")[0]["why"] == "idle"
    assert second.steps == 0


async def test_a_call_in_flight_or_an_open_hold_keeps_an_implicit_run_from_being_idle(world: World) -> None:
    run = await world.run(implicit=True)
    call = await world.permitted(run, lease_s=100_000)
    world.clock.advance(3600)
    assert (await world.run(implicit=True)).id == run.id
    await world.settle(call)
    await world.hold(run, timeout_s=100_000)
    world.clock.advance(3600)
    assert (await world.run(implicit=True)).id == run.id


async def test_an_implicit_run_lives_at_most_24_hours(world: World) -> None:
    run = await world.run(implicit=True)
    for _ in range(24 * 6 - 1):
        world.clock.advance(600)
        await world.deny(run)
    assert (await world.run(implicit=True)).id == run.id
    world.clock.advance(600)
    assert (await world.run(implicit=True)).id != run.id
    assert world.leaves("run_ended")[0]["why"] == "24 hours"


@pytest.mark.parametrize("door", ["admit", "deny", "place"])
async def test_no_call_enters_a_run_of_24_hours(world: World, door: str) -> None:
    run = await world.run()
    world.clock.advance(DAY_S - 0.001)
    await world.deny(run)
    world.clock.advance(0.001)
    refused = await getattr(world, door)(run)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.rule, refused.recorded) == (Code.RUN_HALTED, "interlock:max-run-life", False)
    # Ending it is upkeep's, which knows what is in flight.
    assert (await world.store.expire_due()).ended_runs == (run.id,)
    assert world.seen(run).state == "ended"
    assert len(world.leaves("run_ended")) == 1


async def test_an_implicit_run_of_24_hours_with_calls_in_flight_is_ended_by_upkeep_alone(world: World) -> None:
    run = await world.run(implicit=True)
    await world.permitted(run, lease_s=2 * DAY_S)
    world.clock.advance(DAY_S)
    assert (await world.run(implicit=True)).id == run.id
    assert isinstance(await world.admit(run), Refused)
    assert (await world.store.expire_due()).ended_runs == (run.id,)
    assert (await world.run(implicit=True)).id != run.id


async def test_upkeep_ends_runs_of_24_hours(world: World) -> None:
    run = await world.run()
    world.clock.advance(DAY_S - 0.001)
    assert (await world.store.expire_due()).ended_runs == ()
    assert world.seen(run).state == "open"
    world.clock.advance(0.001)
    assert (await world.store.expire_due()).ended_runs == (run.id,)
    assert world.seen(run).state == "ended"
    assert (await world.store.expire_due()).ended_runs == ()


async def test_an_implicit_run_halted_at_a_ceiling_blocks_until_its_cool_down_is_over(world: World) -> None:
    run = await world.run(implicit=True, max_steps=1)
    await world.deny(run)
    await world.deny(run)
    assert world.seen(run).state == "halted"
    world.clock.advance(3599.999)
    blocked = await world.run(implicit=True)
    assert (blocked.id, blocked.state) == (run.id, "halted")
    world.clock.advance(0.001)
    fresh = await world.run(implicit=True)
    assert fresh.id != run.id
    assert (fresh.state, fresh.steps) == ("open", 0)
    assert world.seen(run).state == "ended", "resumed now, it would be a second one beside it"


async def test_a_person_s_halt_of_an_implicit_run_has_no_cool_down(world: World) -> None:
    run = await world.run(implicit=True)
    await world.halt("run", run.id)
    world.clock.advance(10 * 3600)
    blocked = await world.run(implicit=True)
    assert (blocked.id, blocked.state) == (run.id, "halted")
    await world.resume("run", run.id)
    assert (await world.run(implicit=True)).state == "open"


async def test_a_person_s_halt_outlasts_the_24_hours_of_an_implicit_run(world: World) -> None:
    """Only a person lifts it: the agent must not get a fresh run because a day went by."""
    run = await world.run(implicit=True)
    await world.halt("run", run.id)
    world.clock.advance(DAY_S + 1)
    await world.store.expire_due()
    blocked = await world.run(implicit=True)
    assert (blocked.id, blocked.state) == (run.id, "halted")


async def test_the_24_hours_of_an_implicit_run_do_not_cut_a_cool_down_short(world: World) -> None:
    run = await world.run(implicit=True, max_steps=1)
    world.clock.advance(DAY_S - 60)
    await world.deny(run)
    await world.deny(run)
    assert world.seen(run).state == "halted"
    world.clock.advance(120)
    await world.store.expire_due()
    blocked = await world.run(implicit=True)
    assert (blocked.id, blocked.state) == (run.id, "halted")


async def test_what_is_held_in_a_halted_run_is_held_for_24_hours_at_most(world: World) -> None:
    run = await world.run(implicit=True)
    hold = await world.hold(run, auto_deny=False)
    await world.halt("run", run.id)
    world.clock.advance(DAY_S - 1)
    assert (await world.store.expire_due()).closed_holds == ()
    world.clock.advance(1)
    assert [closed.id for closed in (await world.store.expire_due()).closed_holds] == [hold.id]
    assert world.hold_state(hold) == "void"


async def test_an_ended_run_takes_no_calls_and_no_halt(world: World) -> None:
    run = await world.run()
    await world.store.end_run(run.id, "done")
    before = world.count()
    for refused in (await world.admit(run), await world.deny(run), await world.place(run)):
        assert isinstance(refused, Refused)
        assert (refused.code, refused.rule, refused.recorded) == (Code.RUN_HALTED, "interlock:run-ended", False)
    assert world.count() == before


async def test_ending_a_run_twice_leaves_one_leaf(world: World) -> None:
    run = await world.run()
    await world.store.end_run(run.id, "done")
    await world.store.end_run(run.id, "done again")
    await world.store.end_run("run_nobody", "done")
    [leaf] = world.leaves("run_ended")
    assert (leaf["run"], leaf["why"]) == (run.id, "done")


async def test_a_permit_of_an_ended_run_still_gets_its_outcome(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run)
    await world.store.end_run(run.id, "done")
    assert (await world.settle(call)).first
    assert world.state(call) == "succeeded"
    assert (world.seen(run).state, world.seen(run).in_flight) == ("ended", 0)
    assert world.clock_us(run) == 0


async def test_calls_of_a_run_that_does_not_exist_are_refused_and_not_recorded(world: World) -> None:
    run = await world.run()
    nobody = replace(run, id="run_nobody")
    before = world.count()
    for refused in (await world.admit(nobody), await world.deny(nobody), await world.place(nobody)):
        assert isinstance(refused, Refused)
        assert (refused.code, refused.recorded) == (Code.RUN_HALTED, False)
    assert world.count() == before


async def test_the_implicit_run_that_has_not_ended_is_the_one_that_is_read(world: World) -> None:
    assert world.reader.implicit_run("a") is None
    first = await world.run(implicit=True)
    await world.run()
    assert (found := world.reader.implicit_run("a")) is not None
    assert found.id == first.id
    world.clock.advance(15 * 60)
    second = await world.run(implicit=True, idle_us=15 * MINUTE)
    assert (found := world.reader.implicit_run("a")) is not None
    assert found.id == second.id
    await world.store.end_run(second.id, "done")
    assert world.reader.implicit_run("a") is None
