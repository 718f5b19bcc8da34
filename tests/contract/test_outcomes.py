"""Outcomes: every permit ends in exactly one (I2); what is learnt later is a resolution of its own."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.errors import Code, Conflict, NotFound
from interlock.plane.commands import Admitted, DecidedAgain, Finding, Outcome, Settle
from support.store import SECOND, World, guard, permit, sealed


@pytest.mark.parametrize(
    ("outcome", "code", "state"),
    [
        ("succeeded", None, "succeeded"),
        ("succeeded", Code.RESULT_WITHHELD, "succeeded"),
        ("failed", Code.UPSTREAM_FAILED, "failed"),
        ("unknown", Code.OUTCOME_UNKNOWN, "unknown"),
        ("not_sent", Code.UNAVAILABLE, "failed"),
    ],
)
async def test_an_outcome_is_recorded_as_it_was(world: World, outcome: Outcome, code: Code | None, state: str) -> None:
    run = await world.run()
    call = await world.permitted(run)
    world.clock.advance(3)
    settled = await world.store.settle(Settle(call, outcome, code, (sealed("output", "it"),), {"omitted_bytes": 7}))
    assert (settled.first, settled.halted) == (True, None)
    [leaf] = world.leaves("outcome")
    assert (leaf["run"], leaf["call"], leaf["agent"]) == (run.id, call, "a")
    assert (leaf["outcome"], leaf.get("code"), leaf["omitted_bytes"]) == (outcome, code and str(code), 7)
    assert leaf["payloads"] == {"output": sealed("output", "it").commitment}
    shown = world.call(call)
    assert (shown["state"], shown["code"]) == (state, code and str(code))
    assert (shown["ended_at"], shown["last_leaf"]) == (world.clock.now_us(), leaf["seq"])
    assert world.seen(run).in_flight == 0
    assert world.reader.payload(call, "output") == sealed("output", "it").sealed


async def test_a_call_settles_once_and_a_second_answer_changes_nothing(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(5, 2)))
    assert (await world.settle(call)).first
    before = world.count()
    for outcome in ("failed", "unknown", "not_sent", "succeeded"):
        assert not (await world.settle(call, outcome)).first
    assert world.count() == before
    assert world.state(call) == "succeeded"
    assert world.used(run) == {"spent": 2, "reserved": 0}
    assert world.seen(run).in_flight == 0


async def test_of_many_answers_at_once_one_is_the_outcome(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(5)))
    answers = await asyncio.gather(*(world.settle(call) for _ in range(20)))
    assert [settled.first for settled in answers].count(True) == 1
    assert len(world.leaves("outcome")) == 1
    assert world.used(run) == {"spent": 1, "reserved": 0}


async def test_a_call_that_does_not_exist_cannot_settle(world: World) -> None:
    with pytest.raises(NotFound):
        await world.settle("call_nobody")
    assert world.count() == 0


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_a_late_answer_to_an_unknown_outcome_is_a_resolution(world: World, outcome: Outcome) -> None:
    run = await world.run()
    call = await world.unknown(run, "same")
    assert not (await world.settle(call, outcome)).first
    assert len(world.leaves("outcome")) == 1
    [leaf] = world.leaves("resolution")
    assert (leaf["call"], leaf["by"], leaf["late"], leaf["outcome"]) == (call, "interlock", True, outcome)
    assert leaf["payloads"] == {"output": sealed("output", call).commitment}
    assert (world.state(call), world.call(call)["finding"]) == ("unknown", "ran")
    # It happened, and its agent was told that nobody knows: what is sent again is held all the same.
    assert world.reader.repeats_unknown(run.id, "same")
    assert isinstance(await world.admit(run, digest="same"), DecidedAgain)


@pytest.mark.parametrize("outcome", ["unknown", "not_sent"])
async def test_only_an_answer_resolves_an_unknown_outcome(world: World, outcome: Outcome) -> None:
    run = await world.run()
    call = await world.unknown(run, "same")
    await world.settle(call, outcome)
    assert world.leaves("resolution") == []
    assert world.reader.repeats_unknown(run.id, "same")


# Leases and restarts --------------------------------------------------------------------------------


async def test_a_permit_whose_lease_is_over_ends_as_unknown(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(5, 2)), lease_s=30)
    lasting = await world.permitted(run, lease_s=31)
    world.clock.advance(29.999_999)
    assert (await world.store.expire_due()).unknown_calls == ()
    world.clock.advance(0.000_001)
    assert (await world.store.expire_due()).unknown_calls == (call,)
    assert (world.state(call), world.call(call)["code"]) == ("unknown", "outcome_unknown")
    [leaf] = world.leaves("outcome")
    assert (leaf["call"], leaf["outcome"], leaf["why"]) == (call, "unknown", "its lease ran out")
    assert world.used(run) == {"spent": 2, "reserved": 0}, "it may have run, so it stays spent"
    assert world.state(lasting) == "permitted"
    assert (await world.store.expire_due()).unknown_calls == ()


async def test_an_answer_after_the_lease_is_late(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, lease_s=30)
    world.clock.advance(30)
    await world.store.expire_due()
    assert not (await world.settle(call)).first
    assert len(world.leaves("outcome")) == len(world.leaves("resolution")) == 1


async def test_recovery_ends_the_permits_of_other_executors_as_unknown(world: World) -> None:
    run = await world.run()
    gone = [await world.permitted(run, permit(guard(9)), executor="exec_1") for _ in range(3)]
    settled = await world.permitted(run, executor="exec_1")
    await world.settle(settled)
    own = await world.permitted(run, executor="exec_2")
    world.reopen()
    assert sorted((await world.store.recover("exec_2")).calls) == sorted(gone)
    assert [world.state(call) for call in gone] == ["unknown"] * 3
    assert (world.state(settled), world.state(own)) == ("succeeded", "permitted")
    assert world.used(run) == {"spent": 3, "reserved": 0}
    assert world.seen(run).in_flight == 1
    assert {leaf["why"] for leaf in world.leaves("outcome") if leaf["outcome"] == "unknown"} == {"the plane restarted"}
    [started] = world.leaves("started")
    assert started["executor"] == "exec_2"
    assert (await world.store.recover("exec_2")).calls == ()


async def test_repeats_of_a_recovered_call_are_held(world: World) -> None:
    run = await world.run()
    await world.permitted(run, digest="same", executor="exec_1")
    await world.store.recover("exec_2")
    assert isinstance(await world.admit(run, digest="same"), DecidedAgain)


# Findings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ran", "finding"), [(True, "ran"), (False, "did_not_run")])
async def test_a_person_s_finding_resolves_an_unknown_outcome(world: World, ran: bool, finding: str) -> None:
    run = await world.run()
    call = await world.unknown(run, "same")
    await world.store.find_out(Finding(call, ran, "uid:7", (sealed("reason", "asked them"),)))
    [leaf] = world.leaves("resolution")
    assert (leaf["call"], leaf["by"], leaf["ran"]) == (call, "uid:7", ran)
    assert leaf["payloads"] == {"reason": sealed("reason", "asked them").commitment}
    assert (world.state(call), world.call(call)["finding"]) == ("unknown", finding)
    # What ran runs again only if a person approves that; what did not run may be sent again.
    assert world.reader.repeats_unknown(run.id, "same") is ran
    assert isinstance(await world.admit(run, digest="same"), DecidedAgain if ran else Admitted)
    assert len(world.leaves("outcome")) == 1, "a finding is no second outcome"


@pytest.mark.parametrize("how", ["a restart", "a lease"])
async def test_a_run_that_a_lapsed_permit_takes_over_its_clock_is_told(world: World, how: str) -> None:
    run = await world.run(max_wall_clock_us=4 * SECOND, notify="#oncall")
    await world.permitted(run, lease_s=5)
    world.clock.advance(6)
    if how == "a restart":
        halted = (await world.store.recover("exec_2")).halted
    else:
        halted = (await world.store.expire_due()).halted_runs
    assert [(found.id, found.state, found.notify) for found in halted] == [(run.id, "halted", "#oncall")]


async def test_a_finding_releases_nothing(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(5)))
    await world.settle(call, "unknown")
    await world.store.find_out(Finding(call, False, "uid:7"))
    assert world.used(run) == {"spent": 1, "reserved": 0}


async def test_only_an_unknown_outcome_can_be_found_out_and_only_once(world: World) -> None:
    run = await world.run()
    succeeded = await world.permitted(run)
    await world.settle(succeeded)
    flying = await world.permitted(run)
    unknown = await world.unknown(run, "same")
    await world.store.find_out(Finding(unknown, True, "uid:7"))
    before = world.count()
    with pytest.raises(NotFound):
        await world.store.find_out(Finding("call_nobody", True, "uid:7"))
    for call in (succeeded, flying, unknown):
        with pytest.raises(Conflict):
            await world.store.find_out(Finding(call, True, "uid:7"))
    assert world.count() == before


async def test_the_last_leaf_of_a_call_is_the_last_that_names_it(world: World) -> None:
    run = await world.run()
    late, found = await world.unknown(run, "one"), await world.unknown(run, "two")
    await world.settle(late, "succeeded")
    await world.store.find_out(Finding(found, True, "uid:7"))
    for call in (late, found):
        assert world.call(call)["last_leaf"] == world.reader.call_leaves(call)[-1][0]
