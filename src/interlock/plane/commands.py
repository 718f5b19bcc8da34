"""What the plane asks of the store: commands, each one transaction, and their answers.

The values are plain; what each command does, in which order and under which invariant is said once, in
`ports.Store`, and checked by the contract tests against every adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from interlock.core.canonical import JsonObject
from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.core.journal.leaf import Payload
from interlock.core.policy.slices import ApprovalTerms
from interlock.core.run import Ceilings

Ring = Literal["structural", "cooperative"]
RunState = Literal["open", "halted", "ended"]
CallState = Literal["denied", "held", "permitted", "succeeded", "failed", "unknown", "closed"]
HoldState = Literal["open", "approved", "denied", "expired", "redeemed", "void"]
HaltScope = Literal["run", "agent", "all"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the store has it.

    Attributes:
        opener: Who opened it: `implicit` or the run opener's name.
        ceilings: Effective ceilings; steps and wall clock are raised when a person resumes the run.
        steps: Attempted calls so far.
        clock_used_us: Wall clock counted so far, up to `clock_since_us`.
        clock_since_us: Since when the clock runs; None while it stands still for a hold.
        halt_reason: Why it is halted, in words; None otherwise.
        notify: Where its halt is escalated to.
    """

    id: str
    agent: str
    implicit: bool
    opener: str
    state: RunState
    opened_at_us: int
    last_activity_us: int
    ceilings: Ceilings
    steps: int
    clock_used_us: int
    clock_since_us: int | None
    in_flight: int
    open_holds: int
    halt_reason: str | None
    halted_at_us: int | None
    notify: str | None
    labels: tuple[str, ...]

    def clock_us(self, now_us: int) -> int:
        """Wall clock used at a moment."""
        running = now_us - self.clock_since_us if self.clock_since_us is not None else 0
        return self.clock_used_us + max(0, running)

    def as_json(self) -> JsonObject:
        """The run as the administrative API shows it."""
        return {
            "id": self.id,
            "agent": self.agent,
            "implicit": self.implicit,
            "opener": self.opener,
            "state": self.state,
            "opened_at": self.opened_at_us,
            "last_activity_at": self.last_activity_us,
            "ceilings": self.ceilings.as_json(),
            "steps": self.steps,
            "clock_used_us": self.clock_used_us,
            "clock_since": self.clock_since_us,
            "in_flight": self.in_flight,
            "open_holds": self.open_holds,
            "halt_reason": self.halt_reason,
            "halted_at": self.halted_at_us,
            "labels": list(self.labels),
        }


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Open a run, or find the agent's current implicit one.

    Attributes:
        max_per_hour: How many runs of this kind the agent may have opened in the last hour.
        idle_us: An implicit run ends after this long without activity.
        cool_down_us: An implicit run halted at a ceiling blocks for this long.
        payloads: The task text, if there is one.
    """

    run: str
    agent: str
    implicit: bool
    opener: str
    ceilings: Ceilings
    notify: str | None
    bundle: str
    labels: tuple[str, ...]
    max_per_hour: int
    idle_us: int = 0
    cool_down_us: int = 0
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What every attempted call leaves behind, whatever became of it.

    Attributes:
        tool: The tool's name as sent, at most 128 characters; it need not exist.
        pin: The tool's pin; empty where there is none.
        digest: The call digest; empty for a call that has no canonical form.
        ring: Whether the caller could have gone round the plane.
    """

    call: str
    run: str
    agent: str
    upstream: str
    tool: str
    pin: str
    digest: str
    ring: Ring
    payloads: tuple[Payload, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counters:
    """Counter values under the lock, for rules that read them."""

    steps: int
    calls: int
    records: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """A decision made again under the lock, and its facts, sealed for the record."""

    decision: Decision
    facts: Payload


DecideAgain = Callable[[Counters], Fresh]


@dataclass(frozen=True, slots=True)
class Admit:
    """Ask for a permit.

    Attributes:
        decision: A permit; its guards are applied on the locked counters.
        idempotent: Whether a repeat after an unknown outcome may run without a person.
        lease_us: The permit's outcome becomes unknown this long after it was given.
        redeems: The hold whose approval this permit uses up.
        decide_again: Present where rules read counters: decides again on the locked values.
    """

    record: CallRecord
    decision: Decision
    idempotent: bool
    lease_us: int
    executor: str
    redeems: str | None = None
    decide_again: DecideAgain | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A permit, durable.

    Attributes:
        clock_left_us: Wall clock that the run has left; None without a ceiling.
    """

    seq: int
    clock_left_us: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """No permit.

    Attributes:
        reason: One sentence.
        rule: Id of the rule, or of the ceiling.
        recorded: Whether a leaf says so; refusals after a halt are aggregated instead.
        halted: The run that this very command halted, so that its calls can be cancelled.
        accepted: What would be accepted, if anything.
    """

    code: Code
    reason: str
    rule: str
    recorded: bool
    halted: Run | None = None
    accepted: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another bundle was activated since the call was decided; nothing was recorded, and no step was taken.

    Attributes:
        bundle: Digest of the bundle that is the active one now.
    """

    bundle: str


@dataclass(frozen=True, slots=True)
class DecidedAgain:
    """On the locked values the call is not permitted; nothing was written yet."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Refuse:
    """Record a denial; it counts as a step."""

    record: CallRecord
    decision: Decision


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """Join the hold of this very call, or write a new one.

    Attributes:
        key: The caller's idempotency key; empty without one. A new key is a new hold.
    """

    hold: str
    record: CallRecord
    decision: Decision
    terms: ApprovalTerms
    key: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as the store has it.

    Attributes:
        call: The held call; it keeps its id when it is redeemed.
        slice: Digest of the rules that the verdict is bound to.
        rules: Ids of the rules that held it.
        redeem_until_us: Until when an approval can be used.
        call_state: What became of the call, once redeemed.
    """

    id: str
    call: str
    run: str
    agent: str
    upstream: str
    tool: str
    digest: str
    slice: str
    rules: tuple[str, ...]
    state: HoldState
    created_at_us: int
    expires_at_us: int
    auto_deny: bool
    decided_at_us: int | None
    decided_by: str | None
    redeem_until_us: int | None
    call_state: CallState


@dataclass(frozen=True, slots=True)
class Verdict:
    """A person's verdict on a hold. `by` is who they are, as the door authenticated them."""

    hold: str
    approve: bool
    by: str
    payloads: tuple[Payload, ...] = ()


Outcome = Literal["succeeded", "failed", "unknown", "not_sent"]


@dataclass(frozen=True, slots=True)
class Settle:
    """Record how a permit ended; `not_sent` alone releases what it had reserved."""

    call: str
    outcome: Outcome
    code: Code | None
    payloads: tuple[Payload, ...] = ()
    detail: JsonObject = field(default_factory=JsonObject)


@dataclass(frozen=True, slots=True)
class Settled:
    """A recorded outcome.

    Attributes:
        first: False if the call had ended already, so that this was a late answer.
        halted: The run, if its wall clock was found to be over.
    """

    first: bool
    halted: Run | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop a run, every run of an agent, or everything, until a person resumes it."""

    scope: HaltScope
    target: str
    by: str
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True)
class Halted:
    """A halt, durable: no permit in its scope has a higher sequence.

    Attributes:
        runs: Runs that it halted.
    """

    seq: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Resume:
    """Lift a halt; a run gets a fresh allowance of steps and wall clock."""

    scope: HaltScope
    target: str
    by: str
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person (or a late answer) found out about a call with an unknown outcome."""

    call: str
    ran: bool
    by: str
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True)
class Activate:
    """Make a bundle the active one."""

    digest: str
    content: bytes = field(repr=False)
    by: str
    payloads: tuple[Payload, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusals:
    """An aggregate of refusals that left no leaf of their own."""

    run: str
    code: Code
    count: int
    since_us: int


@dataclass(frozen=True, slots=True)
class Lapsed:
    """Permits that ended as unknown because nobody is left who could tell, and what that brought.

    Attributes:
        calls: Their calls.
        halted: Runs that their last call took over a ceiling; people are to be told.
    """

    calls: tuple[str, ...]
    halted: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What came due by time alone.

    Attributes:
        closed_holds: Holds that lapsed, or whose run is over, as they are now.
        escalated_holds: Holds that nobody decided in time and that stay open.
        unknown_calls: Calls whose lease ran out; their outcome is unknown.
        halted_runs: Runs that a lapsed permit took over a ceiling.
        ended_runs: Runs that lived for 24 hours; what they have in flight is to be cancelled.
    """

    closed_holds: tuple[Hold, ...]
    escalated_holds: tuple[Hold, ...]
    unknown_calls: tuple[str, ...]
    ended_runs: tuple[str, ...]
    halted_runs: tuple[Run, ...]
