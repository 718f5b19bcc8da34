"""The wall clock of a run: it stands still exactly while a call is held and nothing is in flight."""

from __future__ import annotations

import pytest

from interlock.core.errors import Code
from interlock.plane.commands import Admitted, Refused
from support.store import SECOND, World


async def test_the_clock_runs_from_the_opening(world: World) -> None:
    run = await world.run()
    world.clock.advance(7)
    assert world.clock_us(run) == 7 * SECOND
    await world.deny(run)
    world.clock.advance(3)
    assert world.clock_us(run) == 10 * SECOND


async def test_the_clock_stands_still_while_a_call_is_held_and_nothing_is_in_flight(world: World) -> None:
    run = await world.run()
    world.clock.advance(1)
    call = await world.permitted(run, lease_s=1000)
    world.clock.advance(2)
    hold = await world.hold(run, "one", timeout_s=10_000)
    world.clock.advance(4)
    assert world.clock_us(run) == 7 * SECOND, "another call is in flight"
    await world.settle(call)
    world.clock.advance(100)
    assert world.clock_us(run) == 7 * SECOND, "held, and nothing in flight"
    await world.hold(run, "one")
    world.clock.advance(100)
    assert world.clock_us(run) == 7 * SECOND, "a poll changes nothing"
    second = await world.permitted(run, lease_s=1000)
    world.clock.advance(8)
    assert world.clock_us(run) == 15 * SECOND, "in flight again"
    await world.settle(second)
    world.clock.advance(100)
    assert world.clock_us(run) == 15 * SECOND
    await world.verdict(hold)
    world.clock.advance(16)
    assert world.clock_us(run) == 31 * SECOND, "decided, so nothing is held"


async def test_the_clock_stands_still_until_the_last_of_several_holds_is_closed(world: World) -> None:
    run = await world.run()
    first, _second = await world.hold(run, "one"), await world.hold(run, "two", timeout_s=60)
    world.clock.advance(30)
    await world.verdict(first, approve=False)
    world.clock.advance(30)
    assert world.clock_us(run) == 0
    await world.store.expire_due()
    world.clock.advance(5)
    assert world.clock_us(run) == 5 * SECOND


async def test_a_denied_call_while_another_is_held_does_not_start_the_clock(world: World) -> None:
    run = await world.run()
    await world.hold(run)
    world.clock.advance(10)
    await world.deny(run)
    world.clock.advance(10)
    assert world.clock_us(run) == 0


async def test_the_clock_runs_while_an_approved_call_is_in_flight(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    assert isinstance(await world.admit(run, redeems=hold), Admitted)
    world.clock.advance(9)
    assert world.clock_us(run) == 9 * SECOND
    await world.settle(hold.call)
    world.clock.advance(1)
    assert world.clock_us(run) == 10 * SECOND


@pytest.mark.parametrize("door", ["admit", "deny", "place"])
async def test_a_spent_clock_halts_the_run_at_the_next_call(world: World, door: str) -> None:
    run = await world.run(max_wall_clock_us=10 * SECOND, notify="#oncall")
    world.clock.advance(9.999_999)
    await world.deny(run)
    world.clock.advance(0.000_001)
    refused = await getattr(world, door)(run)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.rule, refused.recorded) == (
        Code.RUN_HALTED,
        "interlock:max_wall_clock_seconds",
        True,
    )
    assert refused.halted == world.seen(run)
    assert (world.seen(run).state, world.seen(run).steps) == ("halted", 1)
    assert "10 seconds" in str(world.seen(run).halt_reason)
    [leaf] = world.leaves("halt")
    assert (leaf["ceiling"], leaf["by"], leaf["notify"]) == ("max_wall_clock_seconds", "interlock", "#oncall")


async def test_a_clock_that_ran_out_in_flight_halts_the_run_when_the_call_settles(world: World) -> None:
    run = await world.run(max_wall_clock_us=10 * SECOND)
    first, second = await world.permitted(run), await world.permitted(run)
    world.clock.advance(9)
    assert (await world.settle(first)).halted is None
    world.clock.advance(1)
    settled = await world.settle(second)
    assert settled.first
    assert settled.halted == world.seen(run)
    assert world.seen(run).state == "halted"
    assert world.state(second) == "succeeded"


async def test_a_run_is_halted_by_its_clock_once(world: World) -> None:
    run = await world.run(max_wall_clock_us=10 * SECOND)
    first, second = await world.permitted(run), await world.permitted(run)
    world.clock.advance(10)
    assert (await world.settle(first)).halted is not None
    assert (await world.settle(second)).halted is None
    assert len(world.leaves("halt")) == 1


async def test_time_spent_waiting_for_a_person_does_not_halt(world: World) -> None:
    run = await world.run(max_wall_clock_us=10 * SECOND)
    hold = await world.hold(run, timeout_s=10_000)
    world.clock.advance(5000)
    await world.verdict(hold)
    world.clock.advance(9)
    admitted = await world.admit(run, redeems=hold)
    assert isinstance(admitted, Admitted)
    assert admitted.clock_left_us == SECOND


async def test_the_clock_of_a_halted_run_stands_still(world: World) -> None:
    run = await world.run(max_wall_clock_us=100 * SECOND)
    world.clock.advance(10)
    await world.halt("run", run.id)
    world.clock.advance(1000)
    assert world.clock_us(run) == 10 * SECOND
    await world.resume("run", run.id)
    world.clock.advance(5)
    assert world.clock_us(run) == 15 * SECOND


async def test_a_call_that_settles_after_a_halt_does_not_start_the_clock(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run)
    world.clock.advance(3)
    await world.halt("run", run.id)
    world.clock.advance(3)
    await world.settle(call)
    world.clock.advance(3)
    assert world.clock_us(run) == 3 * SECOND


async def test_a_run_resumed_with_a_held_call_keeps_its_clock_still(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=10_000)
    await world.halt("run", run.id)
    await world.resume("run", run.id)
    world.clock.advance(50)
    assert world.clock_us(run) == 0
    await world.verdict(hold)
    world.clock.advance(5)
    assert world.clock_us(run) == 5 * SECOND
