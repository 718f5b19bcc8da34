"""Many at once: limits stay exact (I3), the sequence stays gap-free, an answer means durable."""

from __future__ import annotations

import asyncio

from interlock.core.errors import Code
from interlock.plane.commands import Admitted, Refused
from support.store import World, guard, permit


async def test_of_500_that_ask_at_once_exactly_the_limit_is_admitted(world: World) -> None:
    run = await world.run()
    answers = await asyncio.gather(*(world.admit(run, permit(guard(37))) for _ in range(500)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 37
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert {answer.code for answer in refused} == {Code.CONSTRAINT_VIOLATED}
    assert world.used(run) == {"spent": 0, "reserved": 37}
    assert world.seen(run).in_flight == 37
    assert world.seen(run).steps == 500
    assert [leaf["seq"] for leaf in world.leaves()] == list(range(1, 502))


async def test_amounts_fill_a_limit_without_ever_passing_it(world: World) -> None:
    run = await world.run()
    amounts = [7, 5, 3, 11] * 50
    answers = await asyncio.gather(*(world.admit(run, permit(guard(100, amount))) for amount in amounts))
    taken = sum(amount for amount, answer in zip(amounts, answers, strict=True) if isinstance(answer, Admitted))
    assert taken == world.reader.counter(run.id, "calls:crm/t")
    assert 100 - min(amounts) < taken <= 100


async def test_the_step_ceiling_is_exact_under_concurrency(world: World) -> None:
    run = await world.run(max_steps=25)
    answers = await asyncio.gather(*(world.admit(run) for _ in range(300)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 25
    halting = [answer for answer in answers if isinstance(answer, Refused) and answer.halted is not None]
    assert len(halting) == 1
    assert len(world.leaves("halt")) == 1
    assert len(world.leaves("decision")) == 25


async def test_places_that_calls_give_back_while_others_ask_are_used_and_never_twice(world: World) -> None:
    run = await world.run()
    sent = 0

    async def attempt(number: int) -> None:
        nonlocal sent
        record = world.record(run)
        answer = await world.admit(run, permit(guard(10)), record=record)
        if isinstance(answer, Admitted):
            was_sent = number % 3 == 0
            await world.settle(record.call, "succeeded" if was_sent else "not_sent")
            sent += was_sent

    for _ in range(10):
        await asyncio.gather(*(attempt(number) for number in range(30)))
    assert sent == 10
    assert world.used(run) == {"spent": 10, "reserved": 0}


async def test_what_was_answered_can_be_read_at_once(world: World) -> None:
    run = await world.run()

    async def attempt() -> None:
        record = world.record(run)
        admitted = await world.admit(run, record=record)
        assert isinstance(admitted, Admitted)
        assert world.state(record.call) == "permitted"
        await world.settle(record.call)
        assert world.state(record.call) == "succeeded"

    await asyncio.gather(*(attempt() for _ in range(50)))


async def test_commands_of_several_runs_do_not_mix(world: World) -> None:
    runs = [await world.run() for _ in range(10)]
    await asyncio.gather(*(world.admit(run, permit(guard(3))) for run in runs for _ in range(5)))
    for run in runs:
        assert world.used(run) == {"spent": 0, "reserved": 3}
        own = [leaf for leaf in world.leaves() if leaf.get("run") == run.id]
        assert [leaf.get("prev") or None for leaf in own] == [None, *(leaf["seq"] for leaf in own[:-1])]
