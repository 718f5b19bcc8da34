"""From the door to the permit: whatever goes wrong on the way is a denial, and nothing executes (I1, I7)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code, Conflict, SecretUnavailable, StoreUnavailable
from interlock.plane.callers import CallError, CallResult, Cancellation
from interlock.plane.commands import Verdict
from interlock.plane.ports import Answer, OnProgress, SealedCall, Store
from support import crm
from support.inprocess import CALLER, DONE, InProcess, Limits, answer, in_process

UPDATE: Final[JsonObject] = {"order_ids": ["1"], "status": "refunded"}


class Failing:
    """A store whose one command raises; everything else is the real one's."""

    def __init__(self, store: Store, command: str, error: Exception) -> None:
        self._store, self.command, self._error = store, command, error
        self.lasting = True
        """Whether the store says that it cannot record anything at all."""

    @property
    def problem(self) -> Exception | None:
        return self._error if self.lasting and self.command != "none" else None

    def __getattr__(self, name: str) -> Any:
        if name != self.command:
            return getattr(self._store, name)

        async def fail(*_: object) -> None:
            raise self._error

        return fail


async def test_the_permit_is_durable_before_the_first_byte(plane: InProcess) -> None:
    seen: list[object] = []

    async def look(sealed: SealedCall, _progress: OnProgress | None) -> Answer:
        seen.extend((plane.world.state(sealed.call_id), [leaf["kind"] for leaf in plane.world.leaves()][-1]))
        return answer(DONE)

    plane.upstreams.behaviour = look
    reply = await plane.result("update_order_status", UPDATE)
    assert seen == ["permitted", "decision"]
    assert plane.world.state(reply.call_id) == "succeeded"
    assert [leaf["kind"] for leaf in plane.world.leaves()][-2:] == ["decision", "outcome"]


async def test_what_is_sent_is_the_canonical_call_and_not_what_came_in(plane: InProcess) -> None:
    await plane.result("update_order_status", {"status": "refunded", "order_ids": ["1"]}, raw=b"anything else")
    [sealed] = plane.upstreams.executed
    assert sealed.call.arguments.canonical == b'{"order_ids":["1"],"status":"refunded"}'


@pytest.mark.parametrize("command", ["open_run", "admit"])
@pytest.mark.parametrize("error", [StoreUnavailable("full"), RuntimeError("a defect"), MemoryError()])
async def test_a_plane_that_fails_before_the_permit_executes_nothing(
    tmp_path: Path, command: str, error: Exception
) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, command, error)) as plane:
        await plane.policy.start("uid:7")
        refused = await plane.refused("update_order_status", UPDATE)
    assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])
    assert "full" not in refused.message
    assert "defect" not in refused.message


@pytest.mark.parametrize(
    ("command", "tool", "arguments"),
    [
        ("refuse", "delete_customer_record", {"customer_id": "1"}),
        ("place_hold", "send_customer_email", {"to": ["a@b.c"]}),
    ],
)
async def test_a_plane_that_cannot_record_a_refusal_says_that_and_executes_nothing(
    tmp_path: Path, command: str, tool: str, arguments: JsonObject
) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, command, StoreUnavailable("full"))) as plane:
        await plane.policy.start("uid:7")
        refused = await plane.refused(tool, arguments)
    assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])


async def test_no_active_policy_is_no_agent(tmp_path: Path) -> None:
    with in_process(tmp_path) as plane:
        assert (await plane.refused("update_order_status", UPDATE)).code == Code.AGENT_NOT_ACTIVE
        assert plane.upstreams.executed == []


@pytest.mark.parametrize("caller", [replace(CALLER, agent="another"), replace(CALLER, identity="another@myco.iam")])
async def test_a_token_of_an_agent_that_the_policy_does_not_know_so_is_no_agent(plane: InProcess, caller: Any) -> None:
    refused = await plane.refused("update_order_status", UPDATE, caller=caller)
    assert (refused.code, plane.upstreams.executed) == (Code.AGENT_NOT_ACTIVE, [])


async def test_a_tool_that_is_not_allowed_cannot_be_told_from_one_that_is_not_there(plane: InProcess) -> None:
    answers = [
        await plane.refused("attach_file", {"path": "a"}),
        await plane.refused("attach_file", {"nonsense": 1}),
        await plane.refused("attach_file", None, malformed="duplicate key"),
        await plane.refused("no_such_tool", {}),
        await plane.refused("update_order_status", UPDATE, upstream="no-such-upstream"),
    ]
    assert {(found.code, found.message, found.rule) for found in answers} == {
        (answers[0].code, answers[0].message, answers[0].rule)
    }
    assert answers[0].code == Code.POLICY_DENIED


async def test_every_attempt_is_a_step_also_one_that_is_refused(plane: InProcess) -> None:
    await plane.refused("no_such_tool", {})
    await plane.refused("update_order_status", {"order_ids": "not a list", "status": "refunded"})
    await plane.refused("update_order_status", None, malformed="duplicate key 'status'")
    await plane.result("update_order_status", UPDATE)
    assert plane.run().steps == 4


async def test_a_malformed_call_is_recorded_as_it_came_and_says_what_is_wrong(plane: InProcess) -> None:
    raw = b'{"status":"a","status":"b"}'
    refused = await plane.refused("update_order_status", None, malformed="duplicate key 'status'", raw=raw)
    assert (refused.code, plane.upstreams.executed) == (Code.MALFORMED_CALL, [])
    assert "duplicate key 'status'" in refused.message
    assert refused.call_id is not None
    assert plane.opened(refused.call_id, "input") == raw


async def test_without_its_secret_an_upstream_is_not_called(plane: InProcess) -> None:
    plane.secrets.problem = SecretUnavailable("the file /secret/place cannot be read")
    refused = await plane.refused("update_order_status", UPDATE)
    assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])
    assert "/secret/place" not in refused.message
    assert plane.world.used(plane.run()) == {"spent": 0, "reserved": 0}


async def test_an_upstream_that_cannot_be_reached_costs_a_step_and_no_count(plane: InProcess) -> None:
    plane.upstreams.unavailable = "connection refused by 10.1.2.3"
    refused = await plane.refused("update_order_status", UPDATE)
    assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])
    assert "10.1.2.3" not in refused.message
    assert plane.run().steps == 1
    assert plane.reader.counter(plane.run().id, "records:crm/update_order_status") == 0


async def test_a_change_that_only_connecting_finds_stops_the_call(plane: InProcess) -> None:
    plane.upstreams.live_changed = {"update_order_status"}
    refused = await plane.refused("update_order_status", UPDATE)
    assert (refused.code, plane.upstreams.executed) == (Code.TOOL_CHANGED, [])
    plane.upstreams.live_changed = set()
    plane.upstreams.changed = set()
    await plane.result("update_order_status", UPDATE)


async def test_a_changed_tool_is_told_only_to_who_may_call_it(plane: InProcess) -> None:
    plane.upstreams.changed = {"delete_customer_record"}
    assert (await plane.refused("delete_customer_record", {"customer_id": "1"})).code == Code.POLICY_DENIED


async def test_a_call_cancelled_before_its_permit_gets_none(plane: InProcess) -> None:
    cancellation = Cancellation()
    cancellation.cancel("the client went away")
    await plane.refused("update_order_status", UPDATE, cancellation=cancellation)
    assert plane.upstreams.executed == []
    assert plane.world.leaves("decision") == []


async def test_beyond_its_rate_an_agent_is_refused_and_nothing_is_recorded(tmp_path: Path) -> None:
    with in_process(tmp_path, limits=Limits(rate=2, burst=3)) as plane:
        await plane.policy.start("uid:7")
        for _ in range(3):
            await plane.result("update_order_status", UPDATE)
        before = plane.world.count()
        refused = await plane.refused("update_order_status", UPDATE)
        assert (refused.code, refused.retry_after_ms) == (Code.RATE_LIMITED, 500)
        assert plane.world.count() == before
        plane.clock.advance(0.5)
        await plane.result("update_order_status", UPDATE)
        await plane.refused("update_order_status", UPDATE)


async def test_beyond_its_calls_in_flight_an_agent_is_refused_until_one_ends(tmp_path: Path) -> None:
    with in_process(tmp_path, limits=Limits(concurrent=1)) as plane:
        await plane.policy.start("uid:7")
        plane.upstreams.hangs()
        flying = plane.flying("update_order_status", UPDATE)
        await flying.sent()
        assert (await plane.refused("update_order_status", UPDATE)).code == Code.RATE_LIMITED
        flying.cancellation.cancel("enough")
        await flying.task
        plane.upstreams.answers(DONE)
        await plane.result("update_order_status", {**UPDATE, "order_ids": ["2"]})


async def test_a_token_bound_to_a_run_that_does_not_exist_or_is_another_s_is_refused(plane: InProcess) -> None:
    other = await plane.world.run("another")
    for run in ("run_01", other.id):
        refused = await plane.refused("update_order_status", UPDATE, caller=replace(CALLER, run=run))
        assert (refused.code, plane.upstreams.executed) == (Code.RUN_HALTED, [])
    assert plane.world.seen(other).steps == 0


async def test_the_meter_sees_each_call_once(plane: InProcess) -> None:
    await plane.result("update_order_status", UPDATE)
    await plane.refused("no_such_tool", {})
    await plane.refused("send_customer_email", {"to": ["a@b.c"]})
    assert [result for _, result in plane.meter.calls] == ["succeeded", "policy_denied", "approval_pending"]
    assert crm.AGENT not in str(plane.meter.calls)


async def test_a_poll_that_comes_while_another_redeems_is_told_of_that_one(plane: InProcess) -> None:
    mail: JsonObject = {"to": ["a@b.c"], "subject": "s", "body": "b"}
    hold = (await plane.refused("send_customer_email", mail)).approval_id
    assert hold is not None
    await plane.store.give_verdict(Verdict(hold, approve=True, by="uid:7", payloads=()))
    replies = await asyncio.gather(*(plane.call("send_customer_email", mail) for _ in range(3)))
    assert len(plane.upstreams.executed) == 1
    for reply in replies:
        assert isinstance(reply, CallResult) or reply.code == Code.APPROVAL_PENDING


async def test_people_are_told_once_of_a_call_that_waits_and_not_what_is_in_it(plane: InProcess) -> None:
    mail: JsonObject = {"to": ["a@b.c"], "subject": "s", "body": "hunter2"}
    held = await plane.refused("send_customer_email", mail)
    await plane.refused("send_customer_email", mail)
    [(target, event)] = plane.notifier.sent
    assert (target, event["event"], event["approval"]) == ("approvers", "approval_pending", held.approval_id)
    assert (event["agent"], event["tool"], event["run"]) == (crm.AGENT, "send_customer_email", plane.run().id)
    assert "hunter2" not in str(event)


async def test_an_approval_of_a_call_whose_rules_changed_is_refused(tmp_path: Path) -> None:
    files = crm.files()
    with in_process(tmp_path, files=lambda: dict(files)) as plane:
        await plane.policy.start("uid:7")
        hold = (await plane.refused("send_customer_email", {"to": ["a@b.c"]})).approval_id
        assert hold is not None
        changed = crm.AGENT_FILE.replace("requires_approval: true", "constraints: {max_calls_per_run: 3}")
        files.update(crm.files(changed))
        await plane.policy.activate("uid:7", "another rule")
        with pytest.raises(Conflict, match="rules for this call changed"):
            await plane.approvals.decide(hold, approve=True, by="uid:7", reason="")
        assert (await plane.approvals.decide(hold, approve=False, by="uid:7", reason=""))["state"] == "denied"


# Activation -----------------------------------------------------------------------------------------


def _blocked() -> dict[str, bytes]:
    """The example's files with the status update blocked."""
    allowed = crm.AGENT_FILE.replace(
        '- "delete_customer_record"', '- "delete_customer_record"\n    - "update_order_status"'
    )
    return crm.files(allowed)


async def test_rules_that_took_force_while_connecting_decide(tmp_path: Path) -> None:
    files = crm.files()
    with in_process(tmp_path, files=lambda: dict(files)) as plane:
        await plane.policy.start("uid:7")
        prepare = plane.upstreams.prepare

        async def activate_meanwhile(*arguments: Any, **named: Any) -> None:
            await prepare(*arguments, **named)
            files.update(_blocked())
            await plane.policy.activate("uid:7", "block it")

        plane.upstreams.prepare = activate_meanwhile  # type: ignore[method-assign]
        refused = await plane.refused("update_order_status", UPDATE)
        assert (refused.code, plane.upstreams.executed) == (Code.POLICY_DENIED, [])
        assert plane.run().steps == 1


async def test_no_permit_is_given_under_rules_whose_successor_is_recorded(tmp_path: Path) -> None:
    """The activation's leaf comes before the permit's: the new rules decide, though they were not in force yet."""
    files = crm.files()
    with in_process(tmp_path, files=lambda: dict(files), store=Delayed) as plane:
        await plane.policy.start("uid:7")
        files.update(_blocked())
        store = cast(Delayed, plane.store)
        store.release.clear()
        store.recorded.clear()
        activation = asyncio.create_task(plane.policy.activate("uid:7", "block it"))
        await store.recorded.wait()
        call = asyncio.create_task(plane.call("update_order_status", UPDATE))
        await store.asked.wait()
        store.release.set()
        await activation
        reply = await call
        assert isinstance(reply, CallError)
        assert (reply.code, plane.upstreams.executed) == (Code.POLICY_DENIED, [])


class Delayed:
    """A store whose answer to an activation is held back after it was recorded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.recorded, self.asked, self.release = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.release.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def activate(self, command: Any) -> int:
        seq = await self._store.activate(command)
        self.recorded.set()
        await self.release.wait()
        return seq

    async def admit(self, command: Any) -> Any:
        admitted = await self._store.admit(command)
        self.asked.set()
        return admitted
