"""A clock that goes back: up to 5 s is smoothed over, more denies whatever waits."""

from __future__ import annotations

import pytest

from interlock.core.errors import Code, Conflict, NotFound
from interlock.plane.commands import Refused, Run
from support.store import SECOND, World


async def test_a_small_step_back_is_smoothed_over(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, "one")
    approved = await world.approved(run, "two")
    at = world.clock.now_us()
    world.clock.set_back(5)
    await world.deny(run)
    assert world.leaves("clock_jump") == []
    assert world.leaves()[-1]["at"] == at, "recorded time stands still instead of going back"
    assert (world.hold_state(hold), world.hold_state(approved)) == ("open", "approved")


async def test_a_jump_back_denies_every_hold_open_or_approved(world: World) -> None:
    run, other = await world.run(), await world.run("b")
    holds = [
        await world.hold(run, "one"),
        await world.approved(run, "two"),
        await world.hold(other, "three", auto_deny=False),
    ]
    denied = await world.verdict(await world.hold(run, "four"), approve=False)
    world.clock.set_back(5.000_001)
    await world.deny(run)
    assert [world.hold_state(hold) for hold in holds] == ["expired"] * 3
    assert world.hold_state(denied) == "denied"
    [jump] = world.leaves("clock_jump")
    assert jump["at"] == world.clock.now_us(), "the new time is taken"
    assert {leaf["why"] for leaf in world.leaves("hold_closed")} == {"the clock went backwards"}
    assert world.leaves("decision")[-1]["seq"] > jump["seq"]
    assert (world.seen(run).open_holds, world.seen(other).open_holds) == (0, 0)
    with pytest.raises(Conflict):
        await world.verdict(holds[0])


async def test_the_command_that_meets_the_jump_already_finds_the_holds_denied(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.set_back(60)
    refused = await world.refused(run, redeems=hold)
    assert (refused.code, refused.recorded) == (Code.APPROVAL_EXPIRED, False)


async def test_a_jump_is_acted_upon_even_where_the_command_that_meets_it_fails(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.set_back(60)
    with pytest.raises(NotFound):
        await world.settle("call_nobody")
    await world.deny(run)
    assert world.hold_state(hold) == "expired"
    assert len(world.leaves("clock_jump")) == 1


async def test_a_jump_is_met_once(world: World) -> None:
    run = await world.run()
    world.clock.set_back(60)
    for _ in range(3):
        await world.deny(run)
    hold = await world.hold(run)
    world.clock.advance(1)
    await world.deny(run)
    assert len(world.leaves("clock_jump")) == 1
    assert world.hold_state(hold) == "open"


async def test_a_clock_set_back_between_two_starts_is_a_jump(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run)
    world.clock.set_back(60)
    world.reopen()
    await world.store.recover("exec_2")
    assert world.hold_state(hold) == "expired"
    assert len(world.leaves("clock_jump")) == 1


async def test_a_jump_is_not_met_again_at_the_next_start(world: World) -> None:
    run = await world.run()
    world.clock.set_back(3600)
    hold = await world.hold(run)
    world.clock.advance(10)
    world.reopen()
    await world.store.recover("exec_2")
    assert len(world.leaves("clock_jump")) == 1
    assert world.hold_state(hold) == "open"


async def test_a_call_held_after_a_jump_is_joined_and_can_be_approved(world: World) -> None:
    """Its hold is newer than one from before the jump, whatever the clock said then."""
    run = await world.run()
    await world.hold(run)
    world.clock.set_back(3600)
    assert (await world.hold(run)).state == "expired"
    world.clock.advance(601)
    fresh = await world.hold(run, timeout_s=10_000)
    assert fresh.state == "open"
    world.clock.advance(1)
    assert (await world.hold(run, timeout_s=10_000)).id == fresh.id
    await world.verdict(fresh)
    assert (await world.hold(run)).state == "approved"


async def test_a_jump_back_gives_no_run_more_wall_clock_than_its_ceiling(world: World) -> None:
    run = await world.run(max_wall_clock_us=120 * SECOND)
    world.clock.advance(60)
    await world.deny(run)
    world.clock.set_back(3600)
    await world.deny(run)
    world.clock.advance(120)
    refused = await world.deny(run)
    assert isinstance(refused, Refused)
    assert refused.rule == "interlock:max_wall_clock_seconds"


async def test_an_implicit_run_opened_after_a_jump_is_the_current_one(world: World) -> None:
    """Were an older run with a later time taken for it, every call would open a run with ceilings of its own."""
    first = await world.run(implicit=True)
    await world.store.end_run(first.id, "done")
    world.clock.set_back(3600)
    second = await world.run(implicit=True)
    assert second.id != first.id
    for _ in range(3):
        world.clock.advance(1)
        assert (await world.run(implicit=True)).id == second.id
    assert (found := world.reader.implicit_run("a")) is not None
    assert found.id == second.id


async def test_a_jump_back_does_not_prolong_idleness_cool_down_the_hour_or_the_day(world: World) -> None:
    idle, halted = await world.run(implicit=True), await world.run("b", implicit=True, max_steps=1)
    await world.run("c", max_per_hour=1)
    for _ in range(2):
        await world.deny(halted)
    long = await world.run("d")
    world.clock.advance(600)
    await world.deny(long)
    world.clock.set_back(24 * 3600)
    await world.store.expire_due()
    world.clock.advance(299)
    assert (await world.run(implicit=True)).id == idle.id
    world.clock.advance(1)
    assert (await world.run(implicit=True)).id != idle.id
    world.clock.advance(3600 - 901)
    assert (await world.run("b", implicit=True)).id == halted.id
    assert isinstance(await world.open("c", max_per_hour=1), Refused)
    world.clock.advance(1)
    assert (await world.run("b", implicit=True)).id != halted.id
    assert isinstance(await world.open("c", max_per_hour=1), Run)
    world.clock.advance(23 * 3600 - 1)
    assert (await world.deny(long)).rule == "interlock:default-deny"
    world.clock.advance(1)
    assert (await world.deny(long)).rule == "interlock:max-run-life"


async def test_a_jump_back_does_not_prolong_for_how_long_a_hold_answers(world: World) -> None:
    """An expired hold answers for its call for ten minutes, a redeemed one for ten minutes after its call ended."""
    run = await world.run()
    expired = await world.hold(run, "expired", timeout_s=1)
    redeemed = await world.approved(run, "redeemed")
    await world.admit(run, redeems=redeemed)
    world.clock.advance(1)
    await world.store.expire_due()
    await world.settle(redeemed.call)
    world.clock.advance(300)
    await world.deny(run)
    world.clock.set_back(23 * 3600)
    await world.deny(run)
    world.clock.advance(299)
    for hold, digest in ((expired, "expired"), (redeemed, "redeemed")):
        assert (await world.hold(run, digest)).id == hold.id
    world.clock.advance(1)
    for digest in ("expired", "redeemed"):
        assert (await world.hold(run, digest)).state == "open"


async def test_what_had_answered_long_enough_before_a_jump_does_not_answer_again(world: World) -> None:
    run = await world.run()
    redeemed = await world.approved(run)
    await world.admit(run, redeems=redeemed)
    await world.settle(redeemed.call)
    world.clock.advance(3900)
    await world.deny(run)
    world.clock.set_back(3600)
    assert (await world.hold(run)).state == "open"


async def test_a_jump_back_prolongs_no_lease(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, lease_s=30)
    world.clock.set_back(3600)
    world.clock.advance(30)
    await world.store.expire_due()
    world.clock.advance(29)
    assert (await world.store.expire_due()).unknown_calls == ()
    world.clock.advance(1)
    assert (await world.store.expire_due()).unknown_calls == (call,)
