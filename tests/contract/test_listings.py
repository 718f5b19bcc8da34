"""The read side: listings in pages, newest first; bundles; the summary."""

from __future__ import annotations

from interlock.core.canonical import JsonObject
from interlock.plane.commands import Activate
from interlock.plane.ports import CallFilter, Page
from support.store import World, guard, permit, sealed


async def test_runs_are_listed_in_pages_newest_first(world: World) -> None:
    runs = [await world.run() for _ in range(3)]  # at one moment
    for _ in range(4):
        world.clock.advance(1)
        runs.append(await world.run())
    found: list[JsonObject] = []
    before = None
    while page := world.reader.list_runs(None, None, Page(2, before)):
        assert len(page) <= 2
        found += page
        before = str(page[-1]["id"])
    assert [run["id"] for run in found] == sorted((run.id for run in runs), reverse=True)
    assert found[0] == world.seen(runs[-1]).as_json()


async def test_runs_are_listed_by_agent_and_state(world: World) -> None:
    one, two, other = await world.run(), await world.run(), await world.run("b")
    await world.halt("run", two.id)

    def ids(agent: str | None, state: str | None) -> set[object]:
        return {str(run["id"]) for run in world.reader.list_runs(agent, state, Page())}

    assert ids(None, None) == {one.id, two.id, other.id}
    assert ids("a", None) == {one.id, two.id}
    assert ids("a", "open") == {one.id}
    assert ids(None, "halted") == {two.id}
    assert ids("nobody", None) == set()


async def test_calls_are_listed_in_pages_newest_first(world: World) -> None:
    run = await world.run()
    calls: list[str] = []
    for _ in range(7):
        world.clock.advance(1)
        calls.append(await world.permitted(run))
    found: list[object] = []
    before = None
    while page := world.reader.list_calls(CallFilter(), Page(3, before)):
        assert len(page) <= 3
        found += [call["id"] for call in page]
        before = str(page[-1]["id"])
    assert found == calls[::-1]


async def test_calls_are_listed_by_what_they_have_in_common(world: World) -> None:
    run, other = await world.run(), await world.run("b")
    one = world.record(run, tool="one")
    await world.admit(run, record=one)
    two = world.record(run, tool="two")
    await world.admit(run, record=two)
    await world.settle(two.call)
    three = world.record(other, tool="one")
    await world.admit(other, record=three)

    def ids(**chosen: str) -> set[object]:
        return {call["id"] for call in world.calls(**chosen)}

    assert ids() == {one.call, two.call, three.call}
    assert ids(run=run.id) == ids(agent="a") == {one.call, two.call}
    assert ids(tool="one") == {one.call, three.call}
    assert ids(tool="one", agent="a") == {one.call}
    assert ids(state="succeeded") == {two.call}
    assert ids(upstream="crm") == ids()
    assert ids(upstream="other") == set()


async def test_a_call_is_shown_with_what_became_of_it(world: World) -> None:
    run = await world.run()
    record = world.record(run)
    opened = world.clock.now_us()
    await world.admit(run, record=record)
    world.clock.advance(2)
    await world.settle(record.call)
    assert world.call(record.call) == {
        "id": record.call,
        "run": run.id,
        "agent": "a",
        "upstream": "crm",
        "tool": "t",
        "state": "succeeded",
        "code": None,
        "rule": "a/tools.allowed[0]",
        "ring": "structural",
        "opened_at": opened,
        "ended_at": world.clock.now_us(),
        "first_leaf": 2,
        "permit_leaf": 2,
        "last_leaf": 3,
        "finding": None,
    }
    assert world.reader.call("call_nobody") is None


async def test_holds_are_listed_in_pages_by_state(world: World) -> None:
    run = await world.run()
    holds = []
    for number in range(5):
        world.clock.advance(1)
        holds.append(await world.hold(run, f"digest {number}"))
    approved = await world.verdict(holds[2])
    found = []
    before = None
    while page := world.reader.list_holds(None, Page(2, before)):
        found += page
        before = page[-1].id
    assert [hold.id for hold in found] == [hold.id for hold in holds[::-1]]
    assert world.reader.list_holds("approved", Page()) == [approved]
    assert len(world.reader.list_holds("open", Page())) == 4


async def test_counters_are_shown_by_name(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(9, 2)))
    await world.permitted(run, permit(guard(9, 3, "records:crm/t")))
    await world.settle(call)
    assert world.reader.counters(run.id) == {
        "calls:crm/t": {"spent": 2, "reserved": 0},
        "records:crm/t": {"spent": 0, "reserved": 3},
    }


async def test_every_bundle_that_was_ever_active_is_kept(world: World) -> None:
    assert world.reader.active_bundle() is None
    first = await world.store.activate(Activate("sha256:1", b"one", "uid:7", (sealed("reason"),)))
    assert world.reader.active_bundle() == ("sha256:1", b"one")
    world.clock.advance(1)
    second = await world.store.activate(Activate("sha256:2", b"two", "uid:8"))
    world.clock.advance(1)
    third = await world.store.activate(Activate("sha256:1", b"one", "uid:7"))
    assert world.reader.active_bundle() == ("sha256:1", b"one")
    assert (world.reader.bundle("sha256:1"), world.reader.bundle("sha256:2")) == (b"one", b"two")
    assert world.reader.bundle("sha256:3") is None
    world.reopen()
    assert world.reader.active_bundle() == ("sha256:1", b"one")
    leaves = world.leaves("activation")
    assert [(leaf["seq"], leaf["bundle"], leaf["by"]) for leaf in leaves] == [
        (first, "sha256:1", "uid:7"),
        (second, "sha256:2", "uid:8"),
        (third, "sha256:1", "uid:7"),
    ]
    assert leaves[0]["payloads"] == {"reason": sealed("reason").commitment}
    history = world.reader.activations(Page(2))
    assert [(row["leaf"], row["bundle"], row["by"]) for row in history] == [
        (third, "sha256:1", "uid:7"),
        (second, "sha256:2", "uid:8"),
    ]
    assert [row["leaf"] for row in world.reader.activations(Page(2, str(second)))] == [first]


async def test_the_summary_counts_what_there_is(world: World) -> None:
    empty = world.reader.summary()
    assert empty == {"calls": {}, "runs": {}, "holds": {}, "leaves": 0, "last_leaf_at": None, "halts": 0}
    run, other = await world.run(), await world.run("b")
    await world.settle(await world.permitted(run))
    await world.permitted(run)
    await world.deny(run)
    await world.hold(run, "one")
    await world.approved(run, "two")
    await world.halt("run", other.id)
    world.clock.advance(3)
    await world.halt("all", "all")
    summary = world.reader.summary()
    assert summary == {
        "calls": {"succeeded": 1, "permitted": 1, "denied": 1, "held": 2},
        "runs": {"open": 1, "halted": 1},
        "holds": {"open": 1, "approved": 1},
        "leaves": world.count(),
        "last_leaf_at": world.clock.now_us(),
        "halts": 1,
    }


async def test_the_task_of_a_run_is_its_own_and_not_a_call_s(world: World) -> None:
    run = await world.run(payloads=(sealed("task", "mend it"),))
    await world.permitted(run)
    assert world.reader.run_payload(run.id, "input") is None
    assert world.reader.run_payload(run.id, "task") == sealed("task", "mend it").sealed
    assert world.reader.run_payload("run_nobody", "task") is None
