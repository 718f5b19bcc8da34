"""The journal: gap-free, chained within a run, and untouched by commands that fail."""

from __future__ import annotations

import asyncio

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code, NotFound
from interlock.core.journal.leaf import Payload
from interlock.plane.commands import Admitted, CallRecord, Finding, Refusals, Run
from support.store import World, guard, permit, sealed


async def _a_bit_of_everything(world: World) -> tuple[Run, Run]:
    one, two = await world.run(max_steps=3), await world.run("b")
    await world.activate()
    await world.settle(await world.permitted(one, permit(guard(5))))
    await world.deny(two)
    hold = await world.approved(one)
    await world.admit(one, redeems=hold)
    await world.unknown(two, "same")
    await world.settle(hold.call)
    await world.hold(two, timeout_s=1)
    await world.halt("agent", "b")
    world.clock.advance(2)
    await world.store.expire_due()
    await world.resume("agent", "b")
    await world.deny(one)
    await world.deny(one)
    await world.store.record_refusals(Refusals(one.id, Code.RUN_HALTED, 4, 0))
    await world.store.end_run(two.id, "done")
    await world.store.recover("exec_2")
    return one, two


async def test_the_sequence_has_no_gaps_and_time_never_goes_back_in_it(world: World) -> None:
    await _a_bit_of_everything(world)
    leaves = world.leaves()
    assert [leaf["seq"] for leaf in leaves] == list(range(1, len(leaves) + 1))
    times = [leaf["at"] for leaf in leaves]
    assert times == sorted(times)


async def test_the_leaves_of_a_run_point_back_at_each_other(world: World) -> None:
    for run in await _a_bit_of_everything(world):
        own = [leaf for leaf in world.leaves() if leaf.get("run") == run.id]
        assert [leaf.get("prev") or None for leaf in own] == [None, *(leaf["seq"] for leaf in own[:-1])]
    assert all("prev" not in leaf for leaf in world.leaves() if "run" not in leaf)


async def test_a_reopened_record_is_the_same_and_goes_on_where_it_stopped(world: World) -> None:
    one, two = await _a_bit_of_everything(world)

    def everything() -> JsonObject:
        return {
            "leaves": list(world.leaves()),
            "runs": [world.seen(run).as_json() for run in (one, two)],
            "calls": list(world.calls()),
            "counters": [world.reader.counters(run.id) for run in (one, two)],
            "halts": list(world.reader.halts()),
            "summary": world.reader.summary(),
        }

    before = everything()
    world.reopen()
    assert everything() == before
    await world.run()
    assert [leaf["seq"] for leaf in world.leaves()] == list(range(1, len(world.leaves()) + 1))


async def test_an_open_run_goes_on_after_a_restart_as_if_nothing_had_happened(world: World) -> None:
    run = await world.run(max_steps=3)
    call = await world.permitted(run, permit(guard(2)))
    hold = await world.approved(run)
    world.reopen()
    assert (await world.settle(call)).first
    assert isinstance(await world.admit(run, permit(guard(2)), redeems=hold), Admitted)
    assert (await world.refused(run, permit(guard(2)))).code == Code.CONSTRAINT_VIOLATED
    assert (await world.refused(run)).rule == "interlock:max_steps"
    own = [leaf for leaf in world.leaves() if leaf.get("run") == run.id]
    assert [leaf.get("prev") or None for leaf in own] == [None, *(leaf["seq"] for leaf in own[:-1])]


async def test_leaves_are_read_in_order_from_any_place(world: World) -> None:
    await _a_bit_of_everything(world)
    everything = world.leaves()
    assert world.reader.leaves_after(0, 3) == everything[:3]
    assert world.reader.leaves_after(5, 4) == everything[5:9]
    assert world.reader.leaves_after(len(everything), 4) == []


async def test_the_leaves_of_a_call_come_with_their_payloads(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    await world.admit(run, redeems=hold)
    await world.settle(hold.call)
    kinds = [(leaf["kind"], payloads) for _, leaf, payloads in world.reader.call_leaves(hold.call)]
    record = {name: sealed(name, hold.call).sealed for name in ("input", "facts")}
    assert kinds == [
        ("hold", record),
        ("verdict", {"reason": sealed("reason", hold.id).sealed}),
        ("decision", record),
        ("outcome", {"output": sealed("output", hold.call).sealed}),
    ]
    assert world.reader.call_leaves("call_nobody") == []


async def test_of_payloads_with_one_name_a_call_s_latest_is_read(world: World) -> None:
    run = await world.run()
    call = await world.unknown(run, "same")
    await world.store.find_out(Finding(call, True, "uid:7", (sealed("output", "found"),)))
    assert world.reader.payload(call, "output") == sealed("output", "found").sealed
    assert world.reader.payload(call, "nothing") is None


async def test_a_leaf_carries_commitments_and_never_the_payload(world: World) -> None:
    run = await world.run()
    await world.permitted(run)
    assert not any("sealed input" in str(leaf) for leaf in world.leaves())


async def test_refusals_after_a_halt_are_one_leaf(world: World) -> None:
    run = await world.run()
    since = world.clock.now_us()
    world.clock.advance(5)
    await world.store.record_refusals(Refusals(run.id, Code.RUN_HALTED, 70, since))
    [leaf] = world.leaves("refusals")
    assert (leaf["run"], leaf["agent"], leaf["code"], leaf["count"], leaf["since"]) == (
        run.id,
        "a",
        "run_halted",
        70,
        since,
    )


async def test_refusals_of_a_run_that_does_not_exist_are_recorded_without_one(world: World) -> None:
    await world.store.record_refusals(Refusals("run_nobody", Code.RUN_HALTED, 2, 0))
    [leaf] = world.leaves("refusals")
    assert "run" not in leaf
    assert leaf["count"] == 2


# Commands that fail ---------------------------------------------------------------------------------


async def test_a_command_that_raises_leaves_no_gap_and_spoils_nobody_else_s(world: World) -> None:
    run = await world.run()
    answers = await asyncio.gather(
        *(world.deny(run) if number % 2 else world.settle("call_nobody") for number in range(100)),
        return_exceptions=True,
    )
    assert [isinstance(answer, NotFound) for answer in answers] == [number % 2 == 0 for number in range(100)]
    assert [leaf["seq"] for leaf in world.leaves()] == list(range(1, 52))
    assert world.seen(run).steps == 50


@pytest.mark.parametrize("door", ["admit", "deny"])
async def test_a_command_that_cannot_be_written_fails_alone_and_leaves_nothing(world: World, door: str) -> None:
    """Half of it was written when it failed: nothing of that may stay, and the store goes on."""
    run = await world.run()
    twice = (Payload("input", b"one", "1"), Payload("input", b"two", "2"))
    record = CallRecord("call_1", run.id, "a", "crm", "t", "", "d", "structural", twice)
    before = world.count()
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the adapter's own
        await (world.admit(run, permit(guard(5)), record=record) if door == "admit" else world.deny(run, record=record))
    assert world.store.problem is None
    assert (world.count(), world.seen(run).steps, world.reader.counters(run.id)) == (before, 0, {})
    assert world.reader.call("call_1") is None
    await world.permitted(run)
    assert [leaf["seq"] for leaf in world.leaves()] == list(range(1, world.count() + 1))


async def test_an_identifier_that_is_taken_fails_that_command_alone(world: World) -> None:
    run = await world.run()
    before = world.count()
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the adapter's own
        await world.run(run=run.id)
    assert world.store.problem is None
    assert world.count() == before
    assert world.seen(run) == run
    await world.run()
