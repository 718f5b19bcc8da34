"""Admission: the order of its checks, steps and ceilings, guards on locked counters, deciding again."""

from __future__ import annotations

import pytest

from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.core.policy.rules import NO_PERMIT, UNKNOWN_OUTCOME, Rule
from interlock.plane.commands import Admitted, Counters, DecidedAgain, Fresh, Hold, Refused, Superseded
from support.store import BUNDLE, SECOND, SLICE, World, denial, guard, holding, permit, sealed

OTHER = Rule("a/other", "limit", "agents/a.yaml", 7, "max_records_per_run", "Few records.")


async def test_a_permit_is_durable_when_it_is_given_and_says_everything(world: World) -> None:
    run = await world.run()
    record = world.record(run, "digest")
    admitted = await world.admit(run, permit(guard(5, 2)), record=record, lease_s=7, executor="exec_9")
    assert isinstance(admitted, Admitted)
    [leaf] = world.leaves("decision")
    assert leaf == {
        "v": 1,
        "kind": "decision",
        "seq": admitted.seq,
        "at": world.clock.now_us(),
        "prev": 1,
        "run": run.id,
        "call": record.call,
        "agent": "a",
        "upstream": "crm",
        "tool": "t",
        "pin": "sha256:pin",
        "ring": "structural",
        "verdict": "permit",
        "rules": ["a/tools.allowed[0]"],
        "bundle": BUNDLE,
        "slice": SLICE,
        "executor": "exec_9",
        "lease": world.clock.now_us() + 7 * SECOND,
        "reserves": {"calls:crm/t": 2},
        "payloads": {payload.name: payload.commitment for payload in record.payloads},
    }
    assert (world.seen(run).in_flight, world.seen(run).steps) == (1, 1)
    call = world.call(record.call)
    assert (call["state"], call["permit_leaf"], call["first_leaf"]) == ("permitted", admitted.seq, admitted.seq)
    assert world.reader.payload(record.call, "input") == sealed("input", record.call).sealed


async def test_a_permit_says_how_much_wall_clock_is_left(world: World) -> None:
    unlimited, limited = await world.run(), await world.run(max_wall_clock_us=10 * SECOND)
    world.clock.advance(4)
    without, within = await world.admit(unlimited), await world.admit(limited)
    assert isinstance(without, Admitted)
    assert isinstance(within, Admitted)
    assert without.clock_left_us is None
    assert within.clock_left_us == 6 * SECOND


async def test_a_denial_is_a_recorded_step_that_names_its_rule(world: World) -> None:
    run = await world.run()
    rule = Rule("a/blocked", "blocked", "agents/a.yaml", 9, "blocked", "It is blocked.", "something else")
    refused = await world.deny(run, denial(rule))
    assert refused == Refused(
        Code.POLICY_DENIED, "It is blocked.", "a/blocked", recorded=True, accepted="something else"
    )
    [leaf] = world.leaves("decision")
    assert (leaf["verdict"], leaf["code"], leaf["rules"]) == ("deny", "policy_denied", ["a/blocked"])
    assert (world.seen(run).steps, world.seen(run).in_flight) == (1, 0)
    [call] = world.calls()
    assert (call["state"], call["code"], call["rule"]) == ("denied", "policy_denied", "a/blocked")
    assert call["ended_at"] == world.clock.now_us()


# Steps ----------------------------------------------------------------------------------------------


async def test_the_step_ceiling_admits_exactly_its_number_and_the_next_call_halts_the_run(world: World) -> None:
    run = await world.run(max_steps=3, notify="#oncall")
    for _ in range(3):
        await world.permitted(run)
    refused = await world.refused(run)
    assert (refused.code, refused.rule, refused.recorded) == (Code.RUN_HALTED, "interlock:max_steps", True)
    assert "3 steps" in refused.reason
    assert refused.halted == world.seen(run)
    assert world.seen(run).state == "halted"
    assert world.seen(run).steps == 3, "a step that was not taken does not count"
    [leaf] = world.leaves("halt")
    assert (leaf["scope"], leaf["by"], leaf["ceiling"], leaf["notify"]) == ("run", "interlock", "max_steps", "#oncall")
    assert len(world.leaves("decision")) == 3


@pytest.mark.parametrize("door", ["admit", "deny", "place"])
async def test_every_attempted_call_is_a_step_whatever_became_of_it(world: World, door: str) -> None:
    run = await world.run(max_steps=1)
    first = await getattr(world, door)(run, **({"digest": "one"} if door == "place" else {}))
    if isinstance(first, Refused):
        assert (door, first.rule, first.recorded) == ("deny", NO_PERMIT.id, True)
    else:
        assert isinstance(first, Admitted if door == "admit" else Hold)
    assert world.seen(run).steps == 1
    second = await getattr(world, door)(run, **({"digest": "two"} if door == "place" else {}))
    assert isinstance(second, Refused)
    assert second.rule == "interlock:max_steps"
    assert world.seen(run).state == "halted"


async def test_a_call_that_a_guard_denies_is_a_step(world: World) -> None:
    run = await world.run()
    await world.refused(run, permit(guard(0)))
    assert world.seen(run).steps == 1


async def test_a_run_without_a_step_ceiling_counts_its_steps_all_the_same(world: World) -> None:
    run = await world.run()
    for _ in range(5):
        await world.deny(run)
    assert world.seen(run).steps == 5


async def test_after_a_halt_refusals_are_not_recorded_one_by_one(world: World) -> None:
    run = await world.run(max_steps=1)
    await world.deny(run)
    await world.deny(run)
    before, steps = world.count(), world.seen(run).steps
    for refused in (await world.admit(run), await world.deny(run), await world.place(run)):
        assert isinstance(refused, Refused)
        assert (refused.code, refused.rule, refused.recorded) == (Code.RUN_HALTED, "interlock:run-halted", False)
        assert refused.halted is None, "only the command that halted it says so"
        assert "max_steps" in refused.reason
    assert world.count() == before
    assert world.seen(run).steps == steps


# The order of the checks ----------------------------------------------------------------------------


async def test_a_halt_is_seen_before_ceilings_counters_and_holds(world: World) -> None:
    run = await world.run(max_steps=1)
    hold = await world.approved(run, "held")
    await world.halt("agent", "a")

    def never(_counters: Counters) -> Fresh:
        raise AssertionError("nothing is decided in a halted scope")

    for refused in (
        await world.refused(run, permit(guard(0)), decide_again=never),
        await world.refused(run, redeems=hold),
    ):
        assert (refused.rule, refused.recorded) == ("interlock:halt", False)
    assert world.seen(run).state == "open"
    assert world.hold_state(hold) == "approved"


async def test_no_permit_is_given_under_a_bundle_that_was_replaced(world: World) -> None:
    run = await world.run(max_steps=1)
    hold = await world.approved(run, "held")
    await world.activate("sha256:next")
    before = world.count()

    def never(_counters: Counters) -> Fresh:
        raise AssertionError("the rules of a replaced bundle decide nothing")

    for answer in (
        await world.admit(run, permit(guard(0)), decide_again=never),
        await world.admit(run, redeems=hold),
    ):
        assert answer == Superseded("sha256:next")
    assert world.count() == before
    assert (world.seen(run).steps, world.seen(run).state) == (1, "open")
    assert world.hold_state(hold) == "approved"


async def test_the_bundle_in_force_is_the_one_that_was_activated_last(world: World) -> None:
    run = await world.run()
    for digest in ("sha256:one", "sha256:two", "sha256:one"):
        await world.activate(digest)
    assert await world.admit(run, permit(bundle="sha256:two")) == Superseded("sha256:one")
    await world.permitted(run, permit(bundle="sha256:one"))


async def test_a_halted_run_is_halted_whatever_the_bundle(world: World) -> None:
    run = await world.run()
    await world.activate("sha256:next")
    await world.halt("run", run.id)
    assert (await world.refused(run)).rule == "interlock:run-halted"


async def test_a_spent_wall_clock_is_seen_before_the_step_ceiling(world: World) -> None:
    run = await world.run(max_steps=1, max_wall_clock_us=SECOND)
    await world.deny(run)
    world.clock.advance(1)
    assert (await world.deny(run)).rule == "interlock:max_wall_clock_seconds"


async def test_deciding_again_comes_before_the_step_is_taken(world: World) -> None:
    run = await world.run(max_steps=1)
    await world.deny(run)
    again = await world.admit(run, decide_again=lambda _: Fresh(denial(), sealed("facts")))
    assert isinstance(again, DecidedAgain)
    assert world.seen(run).state == "open"


async def test_the_step_ceiling_comes_before_the_guards(world: World) -> None:
    run = await world.run(max_steps=1)
    await world.deny(run)
    assert (await world.refused(run, permit(guard(0)))).rule == "interlock:max_steps"


# Guards and counters --------------------------------------------------------------------------------


async def test_a_guard_admits_up_to_its_limit_and_denies_the_call_that_would_pass_it(world: World) -> None:
    run = await world.run()
    for _ in range(3):
        await world.permitted(run, permit(guard(10, 3)))
    refused = await world.refused(run, permit(guard(10, 3)))
    assert refused == Refused(
        Code.CONSTRAINT_VIOLATED,
        "Few calls. 9 of 10 are used, this call would take 3.",
        "a/limit",
        recorded=True,
        accepted="at most a few calls; 1 left",
    )
    assert world.used(run) == {"spent": 0, "reserved": 9}
    assert world.seen(run).state == "open", "a limit denies the call, it does not halt the run"
    await world.permitted(run, permit(guard(10)))
    assert world.reader.counter(run.id, "calls:crm/t") == 10


async def test_a_guard_s_denial_is_recorded_with_what_was_used(world: World) -> None:
    run = await world.run()
    await world.permitted(run, permit(guard(2, 2)))
    record = world.record(run)
    await world.admit(run, permit(guard(2)), record=record)
    leaf = world.leaves("decision")[-1]
    assert leaf["call"] == record.call
    assert (leaf["verdict"], leaf["code"], leaf["rules"], leaf["used"]) == (
        "deny",
        "constraint_violated",
        ["a/limit"],
        2,
    )
    assert "reserves" not in leaf
    assert world.state(record.call) == "denied"
    assert world.call(record.call)["rule"] == "a/limit"


async def test_a_permit_reserves_and_an_outcome_spends(world: World) -> None:
    run = await world.run()
    calls = [await world.permitted(run, permit(guard(9, amount))) for amount in (1, 2, 3)]
    assert world.used(run) == {"spent": 0, "reserved": 6}
    await world.settle(calls[0], "succeeded")
    await world.settle(calls[1], "failed", Code.UPSTREAM_FAILED)
    assert world.used(run) == {"spent": 3, "reserved": 3}
    await world.settle(calls[2], "unknown", Code.OUTCOME_UNKNOWN)
    assert world.used(run) == {"spent": 6, "reserved": 0}


async def test_only_a_call_that_was_not_sent_gives_back_what_it_reserved(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(guard(2, 2)))
    await world.refused(run, permit(guard(2, 2)))
    await world.settle(call, "not_sent", Code.UNAVAILABLE)
    assert world.used(run) == {"spent": 0, "reserved": 0}
    assert world.state(call) == "failed"
    await world.permitted(run, permit(guard(2, 2)))


async def test_a_denied_call_reserves_nothing_even_of_counters_that_had_room(world: World) -> None:
    run = await world.run()
    roomy, full = guard(10, 1, "calls:crm/t"), guard(1, 2, "records:crm/t", OTHER)
    refused = await world.refused(run, permit(roomy, full))
    assert refused.rule == "a/other"
    assert world.reader.counters(run.id) == {}


async def test_the_first_guard_that_does_not_fit_is_named(world: World) -> None:
    run = await world.run()
    refused = await world.refused(run, permit(guard(0, rule=OTHER), guard(0)))
    assert refused.rule == "a/other"


@pytest.mark.parametrize("limits", [(2, 5), (5, 2)])
async def test_of_two_guards_on_one_counter_the_narrower_holds_and_the_call_counts_once(
    world: World, limits: tuple[int, int]
) -> None:
    run = await world.run()
    decision = permit(guard(limits[0]), guard(limits[1], rule=OTHER))
    await world.permitted(run, decision)
    await world.permitted(run, decision)
    assert world.reader.counter(run.id, "calls:crm/t") == 2
    assert (await world.refused(run, decision)).rule == ("a/limit" if limits[0] == 2 else "a/other")


async def test_counters_are_kept_where_rules_read_them_without_a_limit(world: World) -> None:
    run = await world.run()
    call = await world.permitted(run, permit(counts={"records:crm/t": 4, "calls:crm/t": 1}))
    assert world.used(run, "records:crm/t") == {"spent": 0, "reserved": 4}
    await world.settle(call)
    assert world.used(run, "records:crm/t") == {"spent": 4, "reserved": 0}
    assert world.used(run, "calls:crm/t") == {"spent": 1, "reserved": 0}


async def test_a_limit_that_is_set_in_the_middle_of_a_run_counts_what_the_run_did_before(world: World) -> None:
    run = await world.run()
    await world.settle(await world.permitted(run, permit(counts={"calls:crm/t": 1, "records:crm/t": 12})))
    await world.permitted(run, permit(counts={"calls:crm/t": 1, "records:crm/t": 2}))
    refused = await world.refused(run, permit(guard(14, 1, "records:crm/t")))
    assert "14 of 14 are used" in refused.reason
    await world.permitted(run, permit(guard(15, 1, "records:crm/t")))


async def test_counters_belong_to_one_run(world: World) -> None:
    first, second = await world.run(), await world.run()
    await world.permitted(first, permit(guard(1)))
    await world.refused(first, permit(guard(1)))
    await world.permitted(second, permit(guard(1)))
    assert world.reader.counter("run_nobody", "calls:crm/t") == 0


# Deciding again -------------------------------------------------------------------------------------


async def test_rules_that_read_counters_see_the_locked_values(world: World) -> None:
    run = await world.run()
    await world.settle(await world.permitted(run, permit(counts={"calls:crm/t": 1, "records:crm/t": 3})))
    await world.permitted(run, permit(counts={"calls:crm/t": 1, "records:crm/t": 4}))
    await world.permitted(run, permit(counts={"calls:crm/other": 1}))
    seen: list[Counters] = []

    def again(counters: Counters) -> Fresh:
        seen.append(counters)
        return Fresh(permit(), sealed("facts", "fresh"))

    await world.permitted(run, decide_again=again)
    assert seen == [Counters(steps=3, calls=2, records=7)]


async def test_a_fresh_permit_s_guards_counts_and_facts_take_the_place_of_the_first_ones(world: World) -> None:
    run = await world.run()
    record = world.record(run)
    fresh = Fresh(permit(guard(3, 2, "records:crm/t"), slice_digest="sha256:other"), sealed("facts", "fresh"))
    admitted = await world.admit(run, permit(guard(0)), record=record, decide_again=lambda _: fresh)
    assert isinstance(admitted, Admitted)
    [leaf] = world.leaves("decision")
    assert leaf["reserves"] == {"records:crm/t": 2}
    assert leaf["slice"] == "sha256:other"
    assert leaf["payloads"] == {
        "input": sealed("input", record.call).commitment,
        "facts": sealed("facts", "fresh").commitment,
    }
    assert world.reader.payload(record.call, "facts") == sealed("facts", "fresh").sealed


@pytest.mark.parametrize("decision", [denial(), holding()], ids=["deny", "hold"])
async def test_a_call_that_is_not_permitted_on_the_locked_values_leaves_nothing(
    world: World, decision: Decision
) -> None:
    run = await world.run()
    before = world.count()
    answer = await world.admit(run, decide_again=lambda _: Fresh(decision, sealed("facts")))
    assert answer == DecidedAgain(decision)
    assert world.count() == before
    assert world.seen(run).steps == 0
    assert world.calls() == []


async def test_a_decision_that_fails_under_the_lock_fails_that_command_alone(world: World) -> None:
    run = await world.run()
    before = world.count()

    def crash(_counters: Counters) -> Fresh:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.admit(run, decide_again=crash)
    assert (world.count(), world.seen(run).steps) == (before, 0)
    await world.permitted(run)


# Repeats of unknown outcomes ------------------------------------------------------------------------


async def test_a_repeat_of_an_unknown_outcome_is_held_instead_of_executed(world: World) -> None:
    run = await world.run()
    await world.unknown(run, "same")
    assert world.reader.repeats_unknown(run.id, "same")
    before = world.count()
    answer = await world.admit(run, permit(guard(9)), digest="same")
    assert isinstance(answer, DecidedAgain)
    assert (answer.decision.verdict, answer.decision.code) == ("hold", Code.APPROVAL_PENDING)
    assert answer.decision.rules == (UNKNOWN_OUTCOME,)
    assert (answer.decision.bundle, answer.decision.slice) == (BUNDLE, SLICE)
    assert answer.decision.facts["repeats_unknown"] is True
    assert world.count() == before


async def test_an_idempotent_tool_may_repeat_an_unknown_outcome(world: World) -> None:
    run = await world.run()
    await world.unknown(run, "same")
    assert isinstance(await world.admit(run, digest="same", idempotent=True), Admitted)


async def test_only_the_same_call_of_the_same_run_is_a_repeat(world: World) -> None:
    run, other = await world.run(), await world.run()
    await world.unknown(run, "same")
    assert isinstance(await world.admit(run, digest="another"), Admitted)
    assert isinstance(await world.admit(other, digest="same"), Admitted)
    assert not world.reader.repeats_unknown(other.id, "same")


async def test_an_approved_repeat_of_an_unknown_outcome_is_executed(world: World) -> None:
    run = await world.run()
    await world.unknown(run, "same")
    hold = await world.approved(run, "same")
    assert isinstance(await world.admit(run, redeems=hold), Admitted)
