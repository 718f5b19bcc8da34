"""What every attempted call leaves behind: its record, with arguments and facts sealed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interlock.core.call import CanonicalCall
from interlock.core.canonical import JsonObject, encode
from interlock.core.decision import Decision
from interlock.core.ids import CALL, make_id
from interlock.core.journal.leaf import Payload
from interlock.core.policy.bundle import Bundle
from interlock.core.policy.compile import Agent
from interlock.core.policy.slices import Slice
from interlock.plane.callers import InboundCall
from interlock.plane.commands import CallRecord, Run
from interlock.plane.ports import Clock, Entropy, Sealer

_MAX_RAW: Final = 65_536
_MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Case:
    """One call on its way: what was asked, by whom, under which bundle, in which run."""

    inbound: InboundCall
    bundle: Bundle
    agent: Agent
    run: Run


@dataclass(frozen=True, slots=True)
class DecidableCase(Case):
    """A case that has a canonical form and rules that speak of its tool."""

    rules: Slice
    call: CanonicalCall


class CallRecords:
    """Makes the records; sealing happens here, so that the store never sees a plaintext."""

    def __init__(self, sealer: Sealer, clock: Clock, entropy: Entropy) -> None:
        self._sealer, self._clock, self._entropy = sealer, clock, entropy

    def of(self, case: Case, decision: Decision, call_id: str | None = None) -> CallRecord:
        """The record of one attempt; `call_id` continues a held call."""
        call_id = call_id or make_id(CALL, self._clock.now_us() // 1000, self._entropy.take(10))
        inbound = case.inbound
        if isinstance(case, DecidableCase):
            pin, digest, arguments = case.call.tool.pin, case.call.digest, case.call.arguments.canonical
        else:
            pin, digest, arguments = "", "", inbound.raw[:_MAX_RAW]
        payloads = (self._sealer.seal(call_id, "input", arguments), self.facts(call_id, decision, digest))
        return CallRecord(
            call=call_id,
            run=case.run.id,
            agent=case.agent.id,
            upstream=printable(inbound.upstream),
            tool=printable(inbound.tool),
            pin=pin,
            digest=digest,
            ring=inbound.caller.ring,
            payloads=payloads,
        )

    def facts(self, call_id: str, decision: Decision, digest: str) -> Payload:
        """What the decision saw; with the arguments and the bundle, enough to decide again (I6)."""
        facts: JsonObject = {**decision.facts, "digest": digest}
        return self._sealer.seal(call_id, "facts", encode(facts))


def printable(name: str) -> str:
    """A name as sent, made safe to store and show; real names pass unchanged."""
    cut = name[:_MAX_NAME]
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)
