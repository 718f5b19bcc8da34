"""From the permit to the outcome: every permit that is used ends in one, and only a recorded one is told (I2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.errors import Code, StoreUnavailable
from interlock.plane.callers import CallError, CallResult, Cancellation
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, Progress, SealedCall, Store
from support import crm
from support.inprocess import CALLER, DONE, InProcess, answer, in_process
from unit.plane.test_story import Failing

UPDATE: Final[JsonObject] = {"order_ids": ["1", "2"], "status": "refunded"}
RECORDS = "records:crm/update_order_status"


class After:
    """A store after whose command something happens before its caller goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._store, name)
        if name not in self.after:
            return command

        async def call(*arguments: object) -> object:
            answered = await command(*arguments)
            await self.after[name]()
            return answered

        return call


def _spent(plane: InProcess) -> object:
    return plane.world.used(plane.run(), RECORDS)


async def test_a_permit_too_old_to_start_is_given_back(tmp_path: Path) -> None:
    with in_process(tmp_path, store=After) as plane:
        await plane.policy.start("uid:7")

        async def late() -> None:
            plane.clock.advance(2.1)

        plane.store.after["admit"] = late  # type: ignore[attr-defined]
        refused = await plane.refused("update_order_status", UPDATE)
        assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])
        assert plane.world.leaves("outcome")[-1]["outcome"] == "not_sent"
        assert _spent(plane) == {"spent": 0, "reserved": 0}


@pytest.mark.parametrize("scope", ["run", "agent", "all"])
async def test_a_halt_between_the_permit_and_the_first_byte_wins(tmp_path: Path, scope: Any) -> None:
    with in_process(tmp_path, store=After) as plane:
        await plane.policy.start("uid:7")

        async def halt() -> None:
            target = {"run": plane.run().id, "agent": crm.AGENT, "all": "all"}[scope]
            await plane.stopping.halt(scope, target, "uid:7", "enough")

        plane.store.after["admit"] = halt  # type: ignore[attr-defined]
        refused = await plane.refused("update_order_status", UPDATE)
        assert (refused.code, plane.upstreams.executed) == (Code.RUN_HALTED, [])
        assert _spent(plane) == {"spent": 0, "reserved": 0}


async def test_what_was_provably_not_sent_costs_nothing(plane: InProcess) -> None:
    plane.upstreams.answers(NotSent("the connection was closed"))
    refused = await plane.refused("update_order_status", UPDATE)
    assert refused.code == Code.UNAVAILABLE
    assert plane.world.leaves("outcome")[-1]["outcome"] == "not_sent"
    assert _spent(plane) == {"spent": 0, "reserved": 0}


@pytest.mark.parametrize("broken", [NoAnswer("it closed the connection"), RuntimeError("a defect")])
async def test_what_may_have_happened_is_unknown_and_spent(plane: InProcess, broken: Exception) -> None:
    plane.upstreams.answers(broken)
    refused = await plane.refused("update_order_status", UPDATE)
    assert refused.code == Code.OUTCOME_UNKNOWN
    assert plane.world.state(str(refused.call_id)) == "unknown"
    assert _spent(plane) == {"spent": 2, "reserved": 0}


async def test_an_outcome_that_cannot_be_recorded_is_not_told(tmp_path: Path) -> None:
    with in_process(tmp_path, store=After) as plane:
        await plane.policy.start("uid:7")

        async def fail() -> None:
            raise StoreUnavailable("the disk is full")

        plane.store.after["settle"] = fail  # type: ignore[attr-defined]
        refused = await plane.refused("update_order_status", UPDATE)
    assert refused.code == Code.OUTCOME_UNKNOWN
    assert "done" not in refused.message


async def test_an_outcome_that_could_not_be_recorded_is_as_soon_as_it_can_and_its_repeat_is_held(
    tmp_path: Path,
) -> None:
    with in_process(
        tmp_path, store=lambda store: Failing(store, "settle", StoreUnavailable("the disk is full"))
    ) as plane:
        await plane.policy.start("uid:7")
        lost = await plane.refused("update_order_status", UPDATE)
        assert lost.code == Code.OUTCOME_UNKNOWN
        refused = await plane.refused("update_order_status", UPDATE)
        assert refused.code == Code.UNAVAILABLE
        cast(Failing, plane.store).command = "none"
        held = await plane.refused("update_order_status", UPDATE)
        assert held.code == Code.APPROVAL_PENDING
        assert len(plane.upstreams.executed) == 1
        assert plane.world.state(str(lost.call_id)) == "unknown"
        assert plane.world.call(str(lost.call_id))["finding"] == "ran"
        assert json.loads(plane.opened(str(lost.call_id), "output")) == DONE
        assert _spent(plane) == {"spent": 2, "reserved": 0}


async def test_outcomes_that_come_late_are_recorded_once_however_many_ask_for_it(tmp_path: Path) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, "settle", StoreUnavailable("full"))) as plane:
        await plane.policy.start("uid:7")
        lost = await plane.refused("update_order_status", UPDATE)
        cast(Failing, plane.store).command = "none"
        await asyncio.gather(*(plane.execution.settle_pending() for _ in range(5)))
        assert [leaf["call"] for leaf in plane.world.leaves("outcome")] == [lost.call_id]
        assert [leaf["call"] for leaf in plane.world.leaves("resolution")] == [lost.call_id]


async def test_one_outcome_that_is_refused_alone_stands_in_nobody_s_way(tmp_path: Path) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, "settle", StoreUnavailable("refused"))) as plane:
        await plane.policy.start("uid:7")
        cast(Failing, plane.store).lasting = False
        await plane.refused("update_order_status", UPDATE)
        await plane.execution.settle_pending()
        cast(Failing, plane.store).command = "none"
        await plane.result("update_order_status", {**UPDATE, "order_ids": ["3"]})


async def test_a_halt_that_a_late_outcome_brings_is_told(tmp_path: Path) -> None:
    with in_process(tmp_path, store=lambda store: Failing(store, "settle", StoreUnavailable("full"))) as plane:
        await plane.policy.start("uid:7")
        await plane.refused("update_order_status", UPDATE)
        plane.clock.advance(121)
        cast(Failing, plane.store).command = "none"
        await plane.execution.settle_pending()
        assert plane.run().state == "halted"
        assert [event["event"] for _, event in plane.notifier.sent] == ["run_halted"]


async def test_giving_up_in_flight_is_unknown_and_a_late_answer_resolves_it(plane: InProcess) -> None:
    plane.upstreams.hangs()
    flying = plane.flying("update_order_status", UPDATE)
    sealed = await flying.sent()
    flying.cancellation.cancel("the client went away")
    reply = await flying.task
    assert isinstance(reply, CallError)
    assert reply.code == Code.OUTCOME_UNKNOWN
    assert plane.world.state(sealed.call_id) == "unknown"

    plane.execution.answered_late(sealed.call_id, answer(DONE))
    plane.execution.answered_late(sealed.call_id, answer({"content": []}))
    while not (found := plane.world.leaves("resolution")):  # noqa: ASYNC110 (the writer is a thread)
        await asyncio.sleep(0)
    assert [leaf["call"] for leaf in found] == [sealed.call_id]
    assert plane.world.state(sealed.call_id) == "unknown"
    assert json.loads(plane.opened(sealed.call_id, "output")) == DONE


async def test_a_late_answer_to_nothing_is_dropped(plane: InProcess) -> None:
    before = plane.world.count()
    plane.execution.answered_late("call_01", answer(DONE))
    assert plane.world.count() == before


async def test_a_call_has_no_longer_than_its_run_has_left(plane: InProcess) -> None:
    plane.upstreams.timeout = 60
    await plane.result("update_order_status", UPDATE)
    plane.clock.advance(100)
    await plane.result("update_order_status", UPDATE)
    first, second = plane.upstreams.executed
    assert first.timeout_s == 60
    assert second.timeout_s == pytest.approx(20)


async def test_a_result_with_the_upstream_s_secret_is_withheld_and_not_kept(plane: InProcess) -> None:
    plane.secrets.value = "s3cr3t-v4lue"
    escaped = '{"content":[{"type":"text","text":"\\u0073\\u0033cr3t-v4lue"}]}'
    for leak in (
        Answer(escaped.encode(), None),
        answer({"content": [{"type": "text", "text": "token s3cr3t-v4lue"}]}),
        Answer(None, {"code": -1, "message": "cannot log in with s3cr3t-v4lue"}),
    ):
        plane.upstreams.answers(leak)
        refused = await plane.refused("update_order_status", {**UPDATE, "order_ids": ["1"]})
        assert refused.code == (Code.RESULT_WITHHELD if leak.result else Code.UPSTREAM_FAILED)
        assert "s3cr3t" not in refused.message
        leaves = plane.reader.call_leaves(str(refused.call_id))
        names = {name for _, _, payloads in leaves for name in payloads}
        assert "output" not in names
        for name in names:
            assert b"s3cr3t" not in plane.opened(str(refused.call_id), name)


@pytest.mark.parametrize("before", range(1960, 2001, 5))
async def test_no_part_of_a_secret_is_left_where_an_error_is_cut(plane: InProcess, before: int) -> None:
    plane.secrets.value = "s3cr3t-v4lue"
    plane.upstreams.answers(Answer(None, {"code": -1, "message": "x" * before + " s3cr3t-v4lue"}))
    refused = await plane.refused("update_order_status", {**UPDATE, "order_ids": [str(before)]})
    assert refused.code == Code.UPSTREAM_FAILED
    assert "s3" not in refused.message


async def test_a_projected_result_has_the_granted_fields_and_nothing_else(plane: InProcess) -> None:
    record = {"customer_id": "7", "order_history": [], "contact_info": {"email": "a@b.c"}, "ssn": "078-05-1120"}
    plane.upstreams.answers(
        {
            "content": [{"type": "text", "text": json.dumps(record)}],
            "structuredContent": record,
            "_meta": {"ssn": "078-05-1120"},
        }
    )
    reply = await plane.result("read_customer_record", {"customer_id": "7"})
    body = json.loads(reply.body)
    assert body["structuredContent"] == {key: record[key] for key in ("customer_id", "order_history", "contact_info")}
    assert json.loads(body["content"][0]["text"]) == body["structuredContent"]
    assert "078-05-1120" not in reply.body.decode()


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"content": [{"type": "text", "text": "ssn 078-05-1120"}]}, Code.RESULT_NOT_PROJECTABLE),
        ({"content": [{"type": "text", "text": "078-05-1120"}], "isError": True}, Code.UPSTREAM_FAILED),
        ({"content": [], "structuredContent": "078-05-1120"}, Code.RESULT_NOT_PROJECTABLE),
    ],
)
async def test_a_result_that_cannot_be_projected_is_withheld(plane: InProcess, result: Any, code: Code) -> None:
    plane.upstreams.answers(result)
    refused = await plane.refused("read_customer_record", {"customer_id": "7"})
    assert refused.code == code
    assert "078-05-1120" not in refused.message


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b'"text"', b"[" * 5000, b'{"content":["\xff"]}'])
async def test_a_result_that_is_no_object_is_a_failure(plane: InProcess, body: bytes) -> None:
    plane.upstreams.answers(Answer(body, None))
    refused = await plane.refused("update_order_status", UPDATE)
    assert refused.code == Code.UPSTREAM_FAILED
    assert plane.world.state(str(refused.call_id)) == "failed"


async def test_a_very_large_result_is_given_and_kept_as_its_digest(plane: InProcess) -> None:
    large = {"content": [{"type": "text", "text": "x" * 1_100_000}]}
    plane.upstreams.answers(large)
    reply = await plane.result("update_order_status", UPDATE)
    assert json.loads(reply.body) == large
    assert plane.opened(reply.call_id, "output") == b""
    [outcome] = plane.world.leaves("outcome")
    assert outcome["omitted_bytes"] == len(reply.body)


async def test_progress_reaches_the_caller_except_where_it_could_say_too_much(plane: InProcess) -> None:
    async def report(_sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        if on_progress:
            on_progress(Progress(1, 2, "half"))
            on_progress(Progress(2, 2, "token s3cr3t-v4lue"))
            on_progress(Progress(2, 2, "x" * 1995 + "s3cr3t-v4lue"))
        return answer(DONE)

    plane.upstreams.behaviour = report
    plane.secrets.value = "s3cr3t-v4lue"
    heard: list[Progress] = []
    await plane.result("update_order_status", UPDATE, on_progress=heard.append)
    assert heard == [Progress(1, 2, "half")]
    await plane.result("read_customer_record", {"customer_id": "7"}, on_progress=heard.append)
    assert len(heard) == 1


async def test_a_run_that_reaches_its_steps_cancels_what_it_has_in_flight(plane: InProcess) -> None:
    plane.upstreams.hangs()
    flying = plane.flying("update_order_status", {"order_ids": ["1"], "status": "refunded"})
    sealed = await flying.sent()
    for _ in range(24):
        await plane.refused("no_such_tool", {})
    halted = await plane.refused("no_such_tool", {})
    reply = await flying.task
    assert halted.code == Code.RUN_HALTED
    assert isinstance(reply, CallError)
    assert reply.code == Code.OUTCOME_UNKNOWN
    assert plane.world.state(sealed.call_id) == "unknown"
    assert plane.notifier.sent[0][0] == "#oncall-agents"
    assert plane.notifier.sent[0][1]["event"] == "run_halted"


async def test_a_door_that_is_torn_down_still_leaves_an_outcome(plane: InProcess) -> None:
    plane.upstreams.hangs()
    flying = plane.flying("update_order_status", UPDATE)
    sealed = await flying.sent()
    flying.task.cancel()
    reply = await flying.task
    assert isinstance(reply, CallError)
    assert plane.world.state(sealed.call_id) == "unknown"
    assert plane.flights.__len__() == 0


async def test_two_calls_in_flight_are_two_permits_whoever_is_asking(plane: InProcess) -> None:
    opened = await plane.world.run(crm.AGENT)
    replies = await asyncio.gather(
        plane.call("update_order_status", UPDATE),
        plane.call("update_order_status", UPDATE, caller=replace(CALLER, run=opened.id)),
    )
    assert all(isinstance(reply, CallResult) for reply in replies)
    assert len({sealed.call_id for sealed in plane.upstreams.executed}) == 2
    assert (plane.run().steps, plane.world.seen(opened).steps) == (1, 1)


async def test_a_call_cancelled_between_its_permit_and_the_first_byte_is_not_sent(tmp_path: Path) -> None:
    with in_process(tmp_path, store=After) as plane:
        await plane.policy.start("uid:7")
        cancellation = Cancellation()

        async def cancel() -> None:
            cancellation.cancel("the client went away")

        plane.store.after["admit"] = cancel  # type: ignore[attr-defined]
        refused = await plane.refused("update_order_status", UPDATE, cancellation=cancellation)
        assert (refused.code, plane.upstreams.executed) == (Code.UNAVAILABLE, [])
        assert plane.world.leaves("outcome")[-1]["outcome"] == "not_sent"
        assert _spent(plane) == {"spent": 0, "reserved": 0}


async def test_a_result_that_cannot_be_screened_is_withheld_and_the_call_is_done(
    plane: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("interlock.plane.execution.screen", broken)
    refused = await plane.refused("update_order_status", UPDATE)
    assert refused.code == Code.RESULT_WITHHELD
    assert plane.world.state(str(refused.call_id)) == "succeeded"


@pytest.mark.parametrize("depth", [400, 700, 3000])
async def test_a_result_too_deep_to_be_cut_is_withheld_and_recorded(plane: InProcess, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = b'{"content":[],"structuredContent":{"customer_id":' + deep + b"}}"
    plane.upstreams.answers(Answer(body, None))
    reply = await plane.call("read_customer_record", {"customer_id": "7"})
    state = plane.world.state(str(reply.call_id))
    assert isinstance(reply, CallResult) or reply.code in {Code.RESULT_NOT_PROJECTABLE, Code.UPSTREAM_FAILED}
    assert state in {"succeeded", "failed"}
