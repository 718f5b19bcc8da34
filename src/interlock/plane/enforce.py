"""The story of a call. Read this first.

An agent's tools/call arrives at a door, which knows who is asking. Then, in this order: resolve, look
up, canonicalise, decide, hold or admit, inject, execute, screen, settle, reply. Nothing executes without
a permit that is durable (I1), every permit ends in one outcome (I2), and whatever goes wrong on the way
is a denial (I7).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from interlock.core.call import MalformedCall, canonical_arguments, canonical_call
from interlock.core.decision import Decision
from interlock.core.errors import Code, SecretUnavailable, StoreUnavailable, UpstreamUnavailable
from interlock.core.ids import HOLD, make_id
from interlock.core.policy.engine import decide
from interlock.core.policy.rules import NO_PERMIT, TOOL_CHANGED, UPSTREAM_UNAVAILABLE, Rule
from interlock.plane.approvals import POLL_MS, Approvals
from interlock.plane.bundles import ActivePolicy
from interlock.plane.callers import CallError, InboundCall, Reply
from interlock.plane.commands import (
    Admit,
    Counters,
    DecideAgain,
    DecidedAgain,
    Fresh,
    PlaceHold,
    Refuse,
    Refused,
    Superseded,
)
from interlock.plane.deciding import Deciding, malformed_denial, plane_denial
from interlock.plane.execution import Execution, Permit
from interlock.plane.limits import CallLimits, Limited
from interlock.plane.ports import Clock, Entropy, Meter, Reader, Secrets, Store, Upstreams
from interlock.plane.records import CallRecords, Case, DecidableCase
from interlock.plane.refusals import RefusalTally
from interlock.plane.runs import Runs
from interlock.plane.stopping import Stopping

_log = logging.getLogger("interlock.calls")
_LEASE_GRACE_US: Final = 15_000_000


@dataclass(frozen=True, slots=True)
class Plane:
    """Everything the story needs; put together in `bootstrap`."""

    store: Store
    reader: Reader
    upstreams: Upstreams
    secrets: Secrets
    policy: ActivePolicy
    runs: Runs
    deciding: Deciding
    records: CallRecords
    approvals: Approvals
    stopping: Stopping
    execution: Execution
    limits: CallLimits
    refusals: RefusalTally
    clock: Clock
    entropy: Entropy
    meter: Meter
    executor: str
    """Names this process in permits."""


class Enforcer:
    """Carries calls from a door to an upstream, or not."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def enforce(self, inbound: InboundCall) -> Reply:
        """Take one authenticated call through the whole story. Never raises for the caller's doing."""
        try:
            with self._plane.limits.enter(inbound.caller.agent):
                return await self._resolve(inbound)
        except Limited as limited:
            reply = CallError(Code.RATE_LIMITED, limited.message, None, None, None, None, limited.retry_after_ms)
        except StoreUnavailable:
            reply = _unavailable("The plane cannot record, so nothing was executed.")
        except Exception:  # noqa: BLE001 - fail closed: nothing that goes wrong in here is an approval (I7)
            _log.exception("a call failed inside the plane", extra={"agent": inbound.caller.agent})
            reply = _unavailable("The plane failed; nothing was executed.")
        self._plane.meter.call(inbound.upstream, str(reply.code))
        return reply

    async def _resolve(self, inbound: InboundCall) -> Reply:
        """Whose call is it, in which run?"""
        bundle = self._plane.policy.bundle
        agent = bundle.agents.get(inbound.caller.agent) if bundle else None
        if bundle is None or agent is None or agent.identity != inbound.caller.identity:
            message = "The agent is not in the active policy."
            return CallError(Code.AGENT_NOT_ACTIVE, message, None, None, inbound.caller.run)
        run = await self._plane.runs.current(inbound.caller, agent, bundle.digest)
        if isinstance(run, Refused):
            return self._refused(inbound, inbound.caller.run, None, run)
        return await self._look_up(Case(inbound, bundle, agent, run))

    async def _look_up(self, case: Case) -> Reply:
        """The pinned tool and the rules; then the one canonical form of the call."""
        inbound = case.inbound
        rules = case.bundle.slice(case.agent.id, f"{inbound.upstream}/{inbound.tool}")
        if rules is None:
            # Also for tools that do not exist: what is not listed cannot be told from what is not there.
            return await self._deny(case, plane_denial(case.bundle, None, NO_PERMIT, Code.POLICY_DENIED))
        try:
            if inbound.arguments is None:
                raise MalformedCall(inbound.malformed or "the call has no arguments object")
            tool = rules.tool
            arguments = canonical_arguments(tool.pinned, inbound.arguments, additional=tool.additional_arguments)
        except MalformedCall as error:
            return await self._deny(case, malformed_denial(case.bundle, rules, error))
        call = canonical_call(case.agent.id, case.run.id, tool.pinned, arguments, {})
        return await self._decide(DecidableCase(inbound, case.bundle, case.agent, case.run, rules=rules, call=call))

    async def _decide(self, case: DecidableCase) -> Reply:
        """Permit, deny or hold: pure, and recorded with what it saw."""
        decision = self._decision(case, approved=False)
        if decision.verdict == "deny":
            return await self._deny(case, decision)
        if decision.verdict == "hold":
            return await self._hold(case, decision)
        return await self._admit(case, decision)

    async def _hold(self, case: DecidableCase, decision: Decision) -> Reply:
        """Join or place the hold of this very call; an approved one is redeemed by deciding again."""
        hold_id = make_id(HOLD, self._plane.clock.now_us() // 1000, self._plane.entropy.take(10))
        record = self._plane.records.of(case, decision)
        command = PlaceHold(hold_id, record, decision, case.rules.approval, case.inbound.idempotency_key)
        hold = await self._plane.store.place_hold(command)
        if isinstance(hold, Refused):
            return self._refused(case.inbound, case.run.id, record.call, hold)
        if hold.state == "approved":
            approved = self._decision(case, approved=True)
            if approved.verdict == "permit":
                return await self._admit(case, approved, redeems=hold.id, call_id=hold.call)
            return await self._deny(case, approved)
        if hold.id == hold_id:
            _log.info("call held", extra={"call": hold.call, "run": hold.run, "approval": hold.id, "tool": hold.tool})
            self._plane.approvals.placed(hold)
            self._plane.meter.call(case.call.tool.upstream, str(Code.APPROVAL_PENDING))
        return self._plane.approvals.answer(hold, decision.rules[0].id)

    async def _admit(
        self, case: DecidableCase, decision: Decision, redeems: str | None = None, call_id: str | None = None
    ) -> Reply:
        """Get a durable permit, then use it. Connecting comes first: it uses no input of the agent."""
        plane, tool = self._plane, case.call.tool
        try:
            profile, secrets = plane.secrets.profile(tool.upstream, case.agent.id, tool.name)
            await plane.upstreams.prepare(tool.upstream, case.agent.id, profile, secrets)
        except (UpstreamUnavailable, SecretUnavailable) as error:
            _log.warning("upstream unavailable", extra={"upstream": tool.upstream, "why": str(error)})
            return await self._deny(case, self._denial(case, UPSTREAM_UNAVAILABLE, Code.UNAVAILABLE))
        if plane.policy.bundle is not case.bundle:
            return await self._resolve(case.inbound)  # connecting took its time, and other rules are in force now
        if plane.upstreams.is_changed(tool.upstream, tool.name):
            return await self._deny(case, self._denial(case, TOOL_CHANGED, Code.TOOL_CHANGED))
        if case.inbound.cancellation.reason is not None:
            return _unavailable("The call was cancelled before it was permitted.")
        record = plane.records.of(case, decision, call_id)
        await plane.execution.settle_pending()  # a repeat of a call must find what became of it
        asked_at = plane.clock.monotonic()
        admitted = await plane.store.admit(
            Admit(
                record=record,
                decision=decision,
                idempotent=case.rules.tool.idempotent,
                lease_us=int(plane.upstreams.timeout_s(tool.upstream) * 1_000_000) + _LEASE_GRACE_US,
                executor=plane.executor,
                redeems=redeems,
                decide_again=self._decide_again(case, record.call, approved=redeems is not None)
                if case.rules.reads_counters
                else None,
            )
        )
        if isinstance(admitted, Superseded):
            return await self._again(case)
        if isinstance(admitted, Refused):
            return self._not_admitted(case, record.call, admitted, redeems)
        if isinstance(admitted, DecidedAgain):
            again = admitted.decision
            return await (self._hold(case, again) if again.verdict == "hold" else self._deny(case, again))
        return await plane.execution.use(Permit(case, record.call, admitted, asked_at, profile, secrets))

    async def _deny(self, case: Case, decision: Decision) -> Reply:
        """Record the denial as a step, and tell the agent what would be accepted."""
        record = self._plane.records.of(case, decision)
        refused = await self._plane.store.refuse(Refuse(record, decision))
        return self._refused(case.inbound, case.run.id, record.call, refused)

    # Parts of the steps above ---------------------------------------------------------------------------

    def _decision(self, case: DecidableCase, *, approved: bool) -> Decision:
        return self._plane.deciding.decide(case.bundle, case.rules, case.call, case.run, approved=approved)

    def _denial(self, case: DecidableCase, rule: Rule, code: Code) -> Decision:
        return plane_denial(case.bundle, case.rules, rule, code)

    async def _again(self, case: DecidableCase) -> Reply:
        """The record says that another bundle took force since the decision: decide under that one."""
        bundle = await self._plane.policy.latest()
        if bundle is case.bundle:
            return _unavailable("The plane decides by other rules than those recorded as active.")
        return await self._resolve(case.inbound)

    def _not_admitted(self, case: DecidableCase, call_id: str, refused: Refused, redeems: str | None) -> Reply:
        """A refusal; of a redemption that another poll was faster with, that one's progress or result."""
        hold = self._plane.reader.hold(redeems) if redeems is not None and not refused.recorded else None
        if hold is not None and hold.state == "redeemed":
            return self._plane.approvals.answer(hold, refused.rule)
        return self._refused(case.inbound, case.run.id, call_id, refused)

    def _decide_again(self, case: DecidableCase, call_id: str, *, approved: bool) -> DecideAgain:
        """Decide once more on the locked counters; runs inside the store's transaction, and is pure."""
        before = self._plane.deciding.circumstances(case.rules, case.call, case.run, approved=approved)

        def again(counters: Counters) -> Fresh:
            facts = replace(before.run, steps=counters.steps, calls=counters.calls, records=counters.records)
            decision = decide(case.bundle.book, case.rules, case.call, replace(before, run=facts))
            return Fresh(decision, self._plane.records.facts(call_id, decision, case.call.digest))

        return again

    def _refused(self, inbound: InboundCall, run: str | None, call_id: str | None, refused: Refused) -> CallError:
        """Turn the store's refusal into the agent's answer, and act on a halt that it brought."""
        if refused.halted is not None:
            self._plane.stopping.reached_ceiling(refused.halted)
        elif not refused.recorded and run is not None:
            self._plane.refusals.count(run, refused.code)
        self._plane.meter.call(inbound.upstream, str(refused.code))
        # Constraints already say in their sentence what would be accepted.
        told = not refused.accepted or refused.accepted in refused.reason
        message = refused.reason if told else f"{refused.reason} Accepted: {refused.accepted}."
        _log.info(
            "call refused",
            extra={"call": call_id or "", "run": run or "", "code": str(refused.code), "rule": refused.rule},
        )
        shown_call = call_id if refused.recorded and refused.code != Code.RUN_HALTED else None
        return CallError(refused.code, message, refused.rule, shown_call, run, None, refused.retry_after_ms)


def _unavailable(message: str) -> CallError:
    return CallError(Code.UNAVAILABLE, message, None, None, None, None, POLL_MS)
