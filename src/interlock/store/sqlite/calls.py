"""Calls inside a transaction: admit, refuse, settle, findings."""

from __future__ import annotations

import json
from dataclasses import replace

from interlock.core.canonical import JsonObject, encode
from interlock.core.decision import Decision
from interlock.core.errors import Code, Conflict, NotFound
from interlock.core.journal.leaf import LeafKind
from interlock.core.policy.rules import UNKNOWN_OUTCOME
from interlock.plane.commands import (
    Admit,
    Admitted,
    CallRecord,
    Counters,
    DecidedAgain,
    Finding,
    Fresh,
    Lapsed,
    Refuse,
    Refused,
    Run,
    Settle,
    Settled,
    Superseded,
)
from interlock.store.sqlite.call_rows import code_text, decision_fields, insert_call
from interlock.store.sqlite.counters import release, reserve, used
from interlock.store.sqlite.holds import redeem
from interlock.store.sqlite.journal import append
from interlock.store.sqlite.runs import check_steps, count_activity, find_run, halt_at_ceiling, standing
from interlock.store.sqlite.writer import Transaction


def admit(tx: Transaction, command: Admit) -> Admitted | Refused | DecidedAgain | Superseded:
    """Give a permit, or say why not. Everything is read and written under the one writer's lock."""
    record, decision = command.record, command.decision
    run = standing(tx, record.run)
    if isinstance(run, Refused):
        return run
    active = tx.row("SELECT digest FROM activation ORDER BY leaf DESC LIMIT 1")
    if active is not None and active[0] != decision.bundle:
        return Superseded(active[0])
    fresh = _decide_again(tx, command, run)
    if isinstance(fresh, DecidedAgain):
        return fresh
    if fresh is not None:
        decision = fresh.decision
        others = tuple(payload for payload in record.payloads if payload.name != fresh.facts.name)
        record = replace(record, payloads=(*others, fresh.facts))
    if command.redeems is not None:
        lapsed = redeem(tx, command.redeems, record, decision)
        if lapsed:
            return lapsed
    else:
        refused = check_steps(tx, run)
        if refused:
            return refused
    beyond = _over_limit(tx, record, decision, command.redeems)
    if beyond:
        return beyond
    reserve(tx, record.run, dict(decision.counts))
    reserves: JsonObject = dict(decision.counts)
    amounts = encode(reserves).decode()
    lease = tx.now_us + command.lease_us
    seq = append(
        tx,
        LeafKind.DECISION,
        {
            **decision_fields(record, decision),
            "executor": command.executor,
            "lease": lease,
            "redeems": command.redeems,
            "reserves": reserves or None,
        },
        run=record.run,
        call=record.call,
        agent=record.agent,
        payloads=record.payloads,
    )
    if command.redeems is not None:
        tx.run(
            "UPDATE call SET state = 'permitted', code = NULL, permit_leaf = ?, last_leaf = ?, executor = ?,"
            " lease_until = ?, amounts = ?, ended_at = NULL WHERE id = ?",
            seq,
            seq,
            command.executor,
            lease,
            amounts,
            record.call,
        )
    else:
        insert_call(tx, record, decision, "permitted", seq, executor=command.executor, lease=lease, amounts=amounts)
    count_activity(tx, record.run, steps=0 if command.redeems else 1, in_flight=1)
    limit = run.ceilings.max_wall_clock_us
    return Admitted(seq, None if limit is None else limit - run.clock_us(tx.now_us))


def _decide_again(tx: Transaction, command: Admit, run: Run) -> Fresh | DecidedAgain | None:
    """Whether the decision stands on what is true under the lock; None if there was nothing to decide again."""
    record, decision = command.record, command.decision
    if command.redeems is None and not command.idempotent:
        unknown = tx.row(
            "SELECT 1 FROM call WHERE run = ? AND digest = ? AND state = 'unknown' AND finding IS NOT 'did_not_run'",
            record.run,
            record.digest,
        )
        if unknown:
            held = Decision(
                "hold",
                (UNKNOWN_OUTCOME,),
                Code.APPROVAL_PENDING,
                decision.bundle,
                decision.slice,
                facts={**decision.facts, "repeats_unknown": True},
            )
            return DecidedAgain(held)
    if command.decide_again is None:
        return None
    name = f"{record.upstream}/{record.tool}"
    counters = Counters(run.steps, used(tx, run.id, f"calls:{name}"), used(tx, run.id, f"records:{name}"))
    fresh = command.decide_again(counters)
    return fresh if fresh.decision.verdict == "permit" else DecidedAgain(fresh.decision)


def _over_limit(tx: Transaction, record: CallRecord, decision: Decision, redeems: str | None) -> Refused | None:
    """Apply the guards; the first that does not fit makes this call a recorded denial."""
    for guard in decision.guards:
        taken = used(tx, record.run, guard.counter)
        if taken + guard.amount <= guard.limit:
            continue
        reason = f"{guard.rule.sentence} {taken} of {guard.limit} are used, this call would take {guard.amount}."
        denial = Decision(
            "deny", (guard.rule,), Code.CONSTRAINT_VIOLATED, decision.bundle, decision.slice, facts=decision.facts
        )
        seq = append(
            tx,
            LeafKind.DECISION,
            {**decision_fields(record, denial), "used": taken, "redeems": redeems},
            run=record.run,
            call=record.call,
            agent=record.agent,
            payloads=record.payloads,
        )
        if redeems is not None:
            tx.run(
                "UPDATE call SET state = 'denied', code = ?, rule = ?, last_leaf = ?, ended_at = ? WHERE id = ?",
                str(Code.CONSTRAINT_VIOLATED),
                guard.rule.id,
                seq,
                tx.now_us,
                record.call,
            )
        else:
            insert_call(tx, record, denial, "denied", seq)
            count_activity(tx, record.run, steps=1)
        left = max(0, guard.limit - taken)
        return Refused(
            Code.CONSTRAINT_VIOLATED,
            reason,
            guard.rule.id,
            recorded=True,
            accepted=f"{guard.rule.accepted}; {left} left" if guard.rule.accepted else "",
        )
    return None


def refuse(tx: Transaction, command: Refuse) -> Refused:
    """Record a denial as a step of the run."""
    record, decision = command.record, command.decision
    run = standing(tx, record.run)
    if isinstance(run, Refused):
        return run
    refused = check_steps(tx, run)
    if refused:
        return refused
    seq = append(
        tx,
        LeafKind.DECISION,
        decision_fields(record, decision),
        run=record.run,
        call=record.call,
        agent=record.agent,
        payloads=record.payloads,
    )
    insert_call(tx, record, decision, "denied", seq)
    count_activity(tx, record.run, steps=1)
    lead = decision.rules[0]
    return Refused(decision.code or Code.POLICY_DENIED, lead.sentence, lead.id, recorded=True, accepted=lead.accepted)


def settle(tx: Transaction, command: Settle) -> Settled:
    """Record how a permit ended; a second answer to the same permit becomes a resolution."""
    row = tx.row("SELECT run, agent, state, amounts FROM call WHERE id = ?", command.call)
    if row is None:
        raise NotFound(f"There is no call {command.call}.")
    run, agent, state, amounts = row
    if state != "permitted":
        if state == "unknown" and command.outcome in ("succeeded", "failed"):
            seq = append(
                tx,
                LeafKind.RESOLUTION,
                {"by": "interlock", "late": True, "outcome": command.outcome, "code": code_text(command.code)},
                run=run,
                call=command.call,
                agent=agent,
                payloads=command.payloads,
            )
            tx.run("UPDATE call SET finding = 'ran', last_leaf = ? WHERE id = ?", seq, command.call)
        return Settled(first=False)
    sent = command.outcome != "not_sent"
    release(tx, run, json.loads(amounts), spend=sent)
    seq = append(
        tx,
        LeafKind.OUTCOME,
        {"outcome": command.outcome, "code": code_text(command.code), **command.detail},
        run=run,
        call=command.call,
        agent=agent,
        payloads=command.payloads,
    )
    tx.run(
        "UPDATE call SET state = ?, code = ?, ended_at = ?, last_leaf = ?, lease_until = NULL WHERE id = ?",
        command.outcome if sent else "failed",
        code_text(command.code),
        tx.now_us,
        seq,
        command.call,
    )
    count_activity(tx, run, in_flight=-1)
    return Settled(first=True, halted=_halt_if_spent(tx, run))


def _halt_if_spent(tx: Transaction, run_id: str) -> Run | None:
    """Halt the run if its wall clock ran out while the call was in flight."""
    run = find_run(tx, run_id)
    limit = run.ceilings.max_wall_clock_us if run else None
    if run is None or limit is None or run.state != "open" or run.clock_us(tx.now_us) < limit:
        return None
    return halt_at_ceiling(tx, run, "max_wall_clock_seconds", f"{limit / 1_000_000:g} seconds of wall clock").halted


def find_out(tx: Transaction, command: Finding) -> None:
    """Record what a person found out about a call with an unknown outcome."""
    row = tx.row("SELECT run, agent, state, finding FROM call WHERE id = ?", command.call)
    if row is None:
        raise NotFound(f"There is no call {command.call}.")
    run, agent, state, finding = row
    if state != "unknown":
        raise Conflict(f"The call {command.call} is {state}; only an unknown outcome can be resolved.")
    if finding is not None:
        raise Conflict(f"The call {command.call} was resolved before: {finding}.")
    seq = append(
        tx,
        LeafKind.RESOLUTION,
        {"by": command.by, "ran": command.ran},
        run=run,
        call=command.call,
        agent=agent,
        payloads=command.payloads,
    )
    tx.run(
        "UPDATE call SET finding = ?, last_leaf = ? WHERE id = ?",
        "ran" if command.ran else "did_not_run",
        seq,
        command.call,
    )


def expire_leases(tx: Transaction, *, foreign_to: str | None = None) -> Lapsed:
    """Permits whose lease is over, or whose executor is gone, end as unknown."""
    if foreign_to is not None:
        rows = tx.rows("SELECT id FROM call WHERE state = 'permitted' AND executor IS NOT ?", foreign_to)
    else:
        rows = tx.rows("SELECT id FROM call WHERE state = 'permitted' AND lease_until <= ?", tx.now_us)
    why = "the plane restarted" if foreign_to is not None else "its lease ran out"
    settled = [settle(tx, Settle(call, "unknown", Code.OUTCOME_UNKNOWN, detail={"why": why})) for (call,) in rows]
    halted = tuple(one.halted for one in settled if one.halted is not None)
    return Lapsed(tuple(call for (call,) in rows), halted)
