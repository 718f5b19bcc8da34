"""Holds: joined, decided, used once, closed by time; a verdict executes nothing (I5)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from interlock.core.errors import Code, Conflict, NotFound
from interlock.plane.commands import Admitted, Fresh, Hold, Outcome, Refused
from support.store import BUNDLE, GATED, SECOND, SLICE, World, guard, permit, sealed

OTHER_SLICE = "sha256:other"


async def test_a_hold_is_recorded_with_what_it_binds_to(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, "digest", timeout_s=120)
    now = world.clock.now_us()
    assert hold == Hold(
        id=hold.id,
        call=hold.call,
        run=run.id,
        agent="a",
        upstream="crm",
        tool="t",
        digest="digest",
        slice=SLICE,
        rules=("a/approval",),
        state="open",
        created_at_us=now,
        expires_at_us=now + 120 * SECOND,
        auto_deny=True,
        decided_at_us=None,
        decided_by=None,
        redeem_until_us=None,
        call_state="held",
    )
    assert world.reader.hold(hold.id) == hold
    [leaf] = world.leaves("hold")
    assert {name: leaf[name] for name in ("hold", "call", "run", "verdict", "code", "rules", "bundle", "slice")} == {
        "hold": hold.id,
        "call": hold.call,
        "run": run.id,
        "verdict": "hold",
        "code": "approval_pending",
        "rules": [GATED.id],
        "bundle": BUNDLE,
        "slice": SLICE,
    }
    assert (leaf["expires"], leaf["auto_deny"]) == (hold.expires_at_us, True)
    assert leaf["payloads"] == {name: sealed(name, hold.call).commitment for name in ("input", "facts")}
    assert (world.seen(run).steps, world.seen(run).open_holds, world.seen(run).in_flight) == (1, 1, 0)
    assert world.state(hold.call) == "held"
    assert world.reader.hold("hold_nobody") is None


# Joining --------------------------------------------------------------------------------------------


async def test_the_same_call_joins_its_open_hold_and_takes_no_step(world: World) -> None:
    run = await world.run(max_steps=1)
    hold = await world.hold(run)
    before = world.count()
    for _ in range(3):
        world.clock.advance(10)
        assert await world.hold(run) == hold
    assert world.count() == before
    assert (world.seen(run).steps, world.seen(run).open_holds) == (1, 1)
    assert len(world.calls()) == 1


async def test_callers_that_race_for_one_call_share_one_hold(world: World) -> None:
    run = await world.run()
    holds = await asyncio.gather(*(world.hold(run) for _ in range(50)))
    assert len({hold.id for hold in holds}) == 1
    assert world.seen(run).steps == 1


async def test_another_call_another_key_and_another_run_are_holds_of_their_own(world: World) -> None:
    run, other = await world.run(), await world.run()
    holds = [
        await world.hold(run),
        await world.hold(run, "another"),
        await world.hold(run, key="again"),
        await world.hold(other),
    ]
    assert len({hold.id for hold in holds}) == 4
    assert len({hold.call for hold in holds}) == 4
    assert (await world.hold(run, key="again")).id == holds[2].id


async def test_an_approved_hold_is_what_the_same_call_gets(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    assert await world.hold(run) == hold
    assert hold.state == "approved"


# Verdicts -------------------------------------------------------------------------------------------


async def test_a_verdict_is_recorded_with_who_gave_it_and_executes_nothing(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run)
    world.clock.advance(20)
    decided = await world.verdict(hold)
    now = world.clock.now_us()
    assert (decided.state, decided.decided_by, decided.decided_at_us) == ("approved", "uid:7", now)
    assert decided.redeem_until_us == now + 300 * SECOND
    assert decided.call_state == "held"
    [leaf] = world.leaves("verdict")
    assert (leaf["hold"], leaf["call"], leaf["approve"], leaf["by"]) == (hold.id, hold.call, True, "uid:7")
    assert (leaf["slice"], leaf["redeem_until"]) == (SLICE, decided.redeem_until_us)
    assert leaf["payloads"] == {"reason": sealed("reason", hold.id).commitment}
    assert world.leaves("decision") == []
    assert (world.seen(run).in_flight, world.seen(run).open_holds) == (0, 0)
    assert world.reader.counters(run.id) == {}


async def test_a_denial_ends_the_call_and_stands_for_the_rest_of_the_run(world: World) -> None:
    run, other = await world.run(), await world.run()
    hold = await world.hold(run)
    decided = await world.verdict(hold, approve=False)
    assert (decided.state, decided.call_state, decided.redeem_until_us) == ("denied", "closed", None)
    assert world.call(hold.call)["code"] == "approval_denied"
    world.clock.advance(10 * 3600)
    again = await world.hold(run)
    assert (again.id, again.state) == (hold.id, "denied")
    assert (await world.hold(run, key="deliberate")).state == "open"
    assert (await world.hold(other)).state == "open"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
async def test_a_hold_is_decided_once(world: World, first: bool, second: bool) -> None:
    run = await world.run()
    hold = await world.hold(run)
    await world.verdict(hold, approve=first)
    with pytest.raises(Conflict):
        await world.verdict(hold, approve=second)
    assert len(world.leaves("verdict")) == 1
    assert world.hold_state(hold) == ("approved" if first else "denied")


async def test_of_many_verdicts_at_once_one_counts(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run)
    answers = await asyncio.gather(
        *(world.verdict(hold, approve=number % 2 == 0) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, Hold) for answer in answers) == 1
    assert len(world.leaves("verdict")) == 1


async def test_a_verdict_on_nothing_is_refused(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run)
    with pytest.raises(NotFound):
        await world.verdict(replace(hold, id="hold_nobody"))


async def test_a_verdict_after_the_expiry_is_refused_and_the_hold_stays_a_denial(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    world.clock.advance(60)
    with pytest.raises(Conflict, match="expired"):
        await world.verdict(hold)
    assert world.leaves("verdict") == []
    assert [closed.id for closed in (await world.store.expire_due()).closed_holds] == [hold.id]
    assert world.hold_state(hold) == "expired"


async def test_a_verdict_a_moment_before_the_expiry_counts(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    world.clock.advance(59.999_999)
    assert (await world.verdict(hold)).state == "approved"


# Redeeming ------------------------------------------------------------------------------------------


async def test_an_approval_is_used_by_the_call_it_was_given_for(world: World) -> None:
    run = await world.run(max_steps=1)
    hold = await world.approved(run)
    admitted = await world.admit(run, permit(guard(5, 2)), redeems=hold)
    assert isinstance(admitted, Admitted)
    [leaf] = world.leaves("decision")
    assert (leaf["call"], leaf["verdict"], leaf["redeems"]) == (hold.call, "permit", hold.id)
    assert leaf["reserves"] == {"calls:crm/t": 2}
    assert world.used(run) == {"spent": 0, "reserved": 2}
    assert (world.hold_state(hold), world.state(hold.call)) == ("redeemed", "permitted")
    assert world.call(hold.call)["permit_leaf"] == admitted.seq
    assert (world.seen(run).steps, world.seen(run).in_flight) == (1, 1), "the hold was the step"
    await world.settle(hold.call)
    assert world.state(hold.call) == "succeeded"
    assert world.used(run) == {"spent": 2, "reserved": 0}


async def test_of_two_that_race_for_one_approval_one_executes(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    answers = await asyncio.gather(*(world.admit(run, permit(guard(9)), redeems=hold) for _ in range(20)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert {(refused.code, refused.rule, refused.recorded) for refused in refusals} == {
        (Code.APPROVAL_EXPIRED, "interlock:approval", False)
    }
    assert len(refusals) == 19
    assert len(world.leaves("decision")) == 1
    assert world.used(run) == {"spent": 0, "reserved": 1}


@pytest.mark.parametrize("ending", ["open", "denied", "expired", "redeemed"])
async def test_only_an_approved_hold_can_be_used(world: World, ending: str) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    if ending == "denied":
        await world.verdict(hold, approve=False)
    elif ending == "expired":
        world.clock.advance(60)
        await world.store.expire_due()
    elif ending == "redeemed":
        await world.verdict(hold)
        await world.admit(run, redeems=hold)
        await world.settle(hold.call)
    assert world.hold_state(hold) == ending
    before = world.count()
    refused = await world.refused(run, redeems=hold)
    assert (refused.code, refused.recorded) == (Code.APPROVAL_EXPIRED, False)
    assert (world.count(), world.hold_state(hold)) == (before, ending)


async def test_an_approval_is_of_no_use_to_another_call(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    for record in (world.record(run, hold.digest), world.record(run, "another digest", call=hold.call)):
        assert (await world.refused(run, record=record, redeems=hold)).code == Code.APPROVAL_EXPIRED
    assert world.hold_state(hold) == "approved"
    assert isinstance(await world.admit(run, redeems=hold), Admitted)


async def test_an_approval_is_used_within_300_seconds_or_it_lapses(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.advance(299.999_999)
    assert (await world.hold(run)).state == "approved"
    world.clock.advance(0.000_001)
    refused = await world.refused(run, redeems=hold)
    assert (refused.code, refused.recorded) == (Code.APPROVAL_EXPIRED, True)
    assert (world.hold_state(hold), world.state(hold.call)) == ("expired", "closed")
    assert world.leaves("decision") == []


async def test_an_approval_can_be_used_until_the_last_moment(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.advance(299.999_999)
    assert isinstance(await world.admit(run, redeems=hold), Admitted)


async def test_an_approval_given_under_other_rules_is_void(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    refused = await world.refused(run, permit(slice_digest=OTHER_SLICE), redeems=hold)
    assert (refused.code, refused.recorded) == (Code.APPROVAL_EXPIRED, True)
    assert (world.hold_state(hold), world.state(hold.call)) == ("void", "closed")
    [leaf] = world.leaves("hold_closed")
    assert (leaf["hold"], leaf["state"]) == (hold.id, "void")
    fresh = await world.hold(run, slice_digest=OTHER_SLICE)
    assert (fresh.state, fresh.id != hold.id) == ("open", True)


async def test_a_fresh_decision_s_slice_is_the_one_an_approval_must_fit(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    fresh = Fresh(permit(slice_digest=OTHER_SLICE), sealed("facts"))
    refused = await world.refused(run, redeems=hold, decide_again=lambda _: fresh)
    assert (refused.code, world.hold_state(hold)) == (Code.APPROVAL_EXPIRED, "void")


async def test_a_guard_denies_an_approved_call_too_and_uses_the_approval_up(world: World) -> None:
    run = await world.run()
    await world.permitted(run, permit(guard(1)))
    hold = await world.approved(run)
    refused = await world.refused(run, permit(guard(1)), redeems=hold)
    assert (refused.code, refused.rule, refused.recorded) == (Code.CONSTRAINT_VIOLATED, "a/limit", True)
    assert (world.state(hold.call), world.call(hold.call)["code"]) == ("denied", "constraint_violated")
    assert world.leaves("decision")[-1]["redeems"] == hold.id
    assert (await world.refused(run, redeems=hold)).code == Code.APPROVAL_EXPIRED
    assert world.used(run) == {"spent": 0, "reserved": 1}


# A change of the rules ------------------------------------------------------------------------------


@pytest.mark.parametrize("approve", [False, True])
async def test_a_change_of_the_slice_voids_a_waiting_hold_and_the_call_is_held_anew(
    world: World, approve: bool
) -> None:
    run = await world.run()
    hold = await world.hold(run)
    if approve:
        await world.verdict(hold)
    fresh = await world.hold(run, slice_digest=OTHER_SLICE)
    assert (fresh.state, fresh.slice) == ("open", OTHER_SLICE)
    assert fresh.id != hold.id
    assert (world.hold_state(hold), world.state(hold.call)) == ("void", "closed")
    assert world.seen(run).open_holds == 1
    with pytest.raises(Conflict):
        await world.verdict(hold)


async def test_another_change_of_the_bundle_keeps_a_hold(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run)
    assert (await world.hold(run, slice_digest=SLICE)).id == hold.id


# Time -----------------------------------------------------------------------------------------------


async def test_a_hold_that_nobody_decides_is_denied_in_time(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    world.clock.advance(59.999_999)
    assert (await world.store.expire_due()).closed_holds == ()
    world.clock.advance(0.000_001)
    assert [closed.id for closed in (await world.store.expire_due()).closed_holds] == [hold.id]
    assert (world.hold_state(hold), world.state(hold.call)) == ("expired", "closed")
    assert world.call(hold.call)["code"] == "approval_expired"
    assert world.seen(run).open_holds == 0
    [leaf] = world.leaves("hold_closed")
    assert (leaf["hold"], leaf["state"], leaf["why"]) == (hold.id, "expired", "nobody decided in time")
    assert (await world.store.expire_due()).closed_holds == ()


async def test_a_poll_finds_an_expired_hold_before_upkeep_does(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    world.clock.advance(60)
    polled = await world.hold(run)
    assert (polled.id, polled.state) == (hold.id, "expired")
    assert world.seen(run).open_holds == 0
    assert (await world.store.expire_due()).closed_holds == ()


async def test_a_poll_finds_an_unused_approval_before_upkeep_does(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.advance(300)
    assert (await world.hold(run)).state == "expired"
    assert world.hold_state(hold) == "expired"


async def test_upkeep_closes_an_approval_that_was_not_used(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    world.clock.advance(300)
    assert [closed.id for closed in (await world.store.expire_due()).closed_holds] == [hold.id]
    assert world.hold_state(hold) == "expired"
    assert world.leaves("hold_closed")[0]["why"] == "the approval was not used in time"


async def test_an_expiry_answers_for_ten_minutes_and_then_the_call_is_held_anew(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60)
    world.clock.advance(60)
    await world.store.expire_due()
    world.clock.advance(599.999_999)
    assert (await world.hold(run)).state == "expired"
    assert world.seen(run).steps == 1
    world.clock.advance(0.000_001)
    fresh = await world.hold(run)
    assert (fresh.state, fresh.id != hold.id) == ("open", True)
    assert world.seen(run).steps == 2


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "unknown", "not_sent"])
async def test_a_used_approval_answers_until_ten_minutes_after_the_call_ended(world: World, outcome: Outcome) -> None:
    run = await world.run()
    hold = await world.approved(run)
    await world.admit(run, redeems=hold, lease_s=100_000)
    world.clock.advance(3600)
    flying = await world.hold(run)
    assert (flying.id, flying.state, flying.call_state) == (hold.id, "redeemed", "permitted")
    await world.settle(hold.call, outcome)
    world.clock.advance(599.999_999)
    ended = await world.hold(run)
    state = "failed" if outcome == "not_sent" else outcome
    assert (ended.id, ended.state, ended.call_state) == (hold.id, "redeemed", state)
    world.clock.advance(0.000_001)
    assert (await world.hold(run)).id != hold.id


async def test_under_other_rules_a_stored_result_is_not_shown_and_the_call_is_held_anew(world: World) -> None:
    run = await world.run()
    hold = await world.approved(run)
    assert isinstance(await world.admit(run, redeems=hold), Admitted)
    flying = await world.hold(run, slice_digest="sha256:other")
    assert (flying.id, flying.call_state) == (hold.id, "permitted")
    await world.settle(hold.call)
    assert (await world.hold(run)).id == hold.id
    anew = await world.hold(run, slice_digest="sha256:other")
    assert (anew.id != hold.id, anew.state) == (True, "open")


async def test_a_hold_that_is_not_denied_by_time_is_escalated_once_and_stays(world: World) -> None:
    run = await world.run()
    hold = await world.hold(run, timeout_s=60, auto_deny=False)
    world.clock.advance(60)
    due = await world.store.expire_due()
    assert ([escalated.id for escalated in due.escalated_holds], due.closed_holds) == ([hold.id], ())
    assert (await world.store.expire_due()).escalated_holds == ()
    world.clock.advance(3600)
    assert (await world.hold(run)).state == "open"
    assert (await world.verdict(hold)).state == "approved"


async def test_a_hold_ends_with_its_run(world: World) -> None:
    run, other = await world.run(), await world.run()
    waiting = await world.hold(run, "one", auto_deny=False)
    approved = await world.approved(run, "two")
    elsewhere = await world.hold(other, "three")
    await world.store.end_run(run.id, "done")
    due = await world.store.expire_due()
    assert {closed.id for closed in due.closed_holds} == {waiting.id, approved.id}
    assert world.hold_state(waiting) == world.hold_state(approved) == "void"
    assert world.hold_state(elsewhere) == "open"
    assert world.seen(run).open_holds == 0
    assert {leaf["why"] for leaf in world.leaves("hold_closed")} == {"the run ended"}


async def test_what_upkeep_reports_as_closed_is_as_it_was_closed(world: World) -> None:
    run = await world.run()
    await world.hold(run, timeout_s=60)
    world.clock.advance(60)
    [closed] = (await world.store.expire_due()).closed_holds
    assert (closed.state, closed.call_state) == ("expired", "closed")
