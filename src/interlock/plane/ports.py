"""What the plane needs from outside, as small Protocols. Adapters implement them; tests replace them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from interlock.core.call import CanonicalCall
from interlock.core.canonical import JsonObject
from interlock.core.errors import StoreUnavailable
from interlock.core.journal.leaf import Payload
from interlock.plane.commands import (
    Activate,
    Admit,
    Admitted,
    DecidedAgain,
    Finding,
    Halt,
    Halted,
    Hold,
    Lapsed,
    OpenRun,
    PlaceHold,
    Refusals,
    Refuse,
    Refused,
    Resume,
    Run,
    Settle,
    Settled,
    Superseded,
    Upkeep,
    Verdict,
)


class Clock(Protocol):
    """Time. Wall time decides expiries; monotonic time only measures."""

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        ...


class Entropy(Protocol):
    """Randomness for identifiers and salts."""

    def take(self, count: int) -> bytes: ...


class Sealer(Protocol):
    """Encryption of payloads with the deployment's key."""

    def seal(self, context: str, name: str, plaintext: bytes) -> Payload:
        """Encrypt one payload.

        Args:
            context: What it belongs to (a call's or run's id); it opens nowhere else.
            name: The payload's name within the record.
            plaintext: Anything; empty is allowed.
        """
        ...

    def open(self, context: str, name: str, sealed: bytes) -> bytes:
        """Decrypt a payload. Raises InterlockError if it was altered or moved."""
        ...


class Store(Protocol):
    """The record. Every method is one transaction, durable when it returns.

    MUST: read the state that a lock guards after taking the lock; keep spent plus reserved within every
    limit (I3); give no permit in a halted scope after `halt` returned (I4).
    MUST NOT: return before the commit; leave anything behind of a command that raised.

    Every method raises StoreUnavailable where nothing could be recorded.
    """

    @property
    def problem(self) -> StoreUnavailable | None:
        """Why nothing can be recorded at present."""
        ...

    async def open_run(self, command: OpenRun) -> Run | Refused: ...

    async def end_run(self, run: str, why: str) -> None: ...

    async def admit(self, command: Admit) -> Admitted | Refused | DecidedAgain | Superseded:
        """Give a permit; a decision of another bundle than the active one is superseded, and recorded nowhere."""
        ...

    async def refuse(self, command: Refuse) -> Refused: ...

    async def settle(self, command: Settle) -> Settled: ...

    async def place_hold(self, command: PlaceHold) -> Hold | Refused: ...

    async def give_verdict(self, command: Verdict) -> Hold: ...

    async def halt(self, command: Halt) -> Halted: ...

    async def resume(self, command: Resume) -> int: ...

    async def find_out(self, command: Finding) -> None: ...

    async def activate(self, command: Activate) -> int: ...

    async def record_refusals(self, refusals: Refusals) -> None: ...

    async def expire_due(self) -> Upkeep: ...

    async def recover(self, executor: str) -> Lapsed:
        """End every permit of another executor as unknown, at start."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: newest first, `before` continues after the last item."""

    limit: int = 50
    before: str | None = None


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls a listing shows; None does not filter."""

    run: str | None = None
    agent: str | None = None
    upstream: str | None = None
    tool: str | None = None
    state: str | None = None


class Reader(Protocol):
    """The read side. Rows come as JSON objects in the shape that the administrative API shows."""

    def run(self, run: str) -> Run | None: ...

    def implicit_run(self, agent: str) -> Run | None:
        """The agent's one implicit run that has not ended, open or halted."""
        ...

    def counters(self, run: str) -> JsonObject: ...

    def counter(self, run: str, name: str) -> int:
        """Spent plus reserved."""
        ...

    def repeats_unknown(self, run: str, digest: str) -> bool: ...

    def payload(self, call: str, name: str) -> bytes | None:
        """The latest sealed payload of a call with this name."""
        ...

    def run_payload(self, run: str, name: str) -> bytes | None: ...

    def active_bundle(self) -> tuple[str, bytes] | None: ...

    def bundle(self, digest: str) -> bytes | None: ...

    def hold(self, hold: str) -> Hold | None: ...

    def list_runs(self, agent: str | None, state: str | None, page: Page) -> list[JsonObject]: ...

    def list_calls(self, chosen: CallFilter, page: Page) -> list[JsonObject]: ...

    def call(self, call: str) -> JsonObject | None: ...

    def call_leaves(self, call: str) -> list[tuple[int, JsonObject, dict[str, bytes]]]:
        """Sequence, leaf and sealed payloads of every leaf of a call, oldest first."""
        ...

    def list_holds(self, state: str | None, page: Page) -> list[Hold]: ...

    def leaves_after(self, seq: int, limit: int) -> list[JsonObject]: ...

    def halts(self) -> list[JsonObject]: ...

    def activations(self, page: Page) -> list[JsonObject]: ...

    def summary(self) -> JsonObject:
        """Counts for status and metrics."""
        ...


@dataclass(frozen=True, slots=True)
class SealedCall:
    """A permitted call on its way out. Only the upstream adapter reads `secrets`, and nothing prints them.

    Attributes:
        profile: Names the set of credentials, so that connections are never shared between sets.
        secrets: Header or environment values by name.
        timeout_s: When the adapter must have an answer.
        start_within_s: When the first byte must be on its way; later, nothing of the call is sent.
    """

    call_id: str
    call: CanonicalCall
    profile: str
    secrets: Mapping[str, str] = field(repr=False)
    timeout_s: float
    start_within_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A progress notification of a call in flight."""

    progress: float
    total: float | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream answered: `result` holds the raw JSON of a tool result, `error` of a JSON-RPC error."""

    result: bytes | None
    error: JsonObject | None


class NotSent(Exception):
    """Provably no byte of the call was sent. The message is safe to show."""


class NoAnswer(Exception):
    """Bytes were sent and nobody can tell what became of them. The message is safe to show."""


OnProgress = Callable[[Progress], None]


class Upstreams(Protocol):
    """Everything behind the plane. MUST NOT retry a call, follow a redirect or share credentials."""

    def timeout_s(self, upstream: str) -> float:
        """How long a call may take. Raises UpstreamUnavailable for an upstream that does not exist."""
        ...

    async def prepare(self, upstream: str, agent: str, profile: str, secrets: Mapping[str, str]) -> None:
        """Connect, and compare the live tools with their pins, before a permit is asked for.

        Uses no input of the agent, so it is no effect of the agent (I1). Raises UpstreamUnavailable.
        """
        ...

    def is_changed(self, upstream: str, tool: str) -> bool:
        """Whether the last comparison found a definition that differs from the pin."""
        ...

    async def execute(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        """Send one permitted call and wait for its answer; cancelling the task cancels it upstream.

        Raises:
            NotSent: provably no byte of it left the plane.
            NoAnswer: it was sent, and nobody can tell what became of it.
        """
        ...


class Secrets(Protocol):
    """Credentials for upstreams."""

    def profile(self, upstream: str, agent: str, tool: str) -> tuple[str, Mapping[str, str]]:
        """The name and the values of the most specific set. Raises SecretUnavailable."""
        ...

    def has_secrets(self, upstream: str) -> bool:
        """Whether results of the upstream have to be searched for secrets."""
        ...

    def leaked(self, upstream: str, text: bytes) -> bool:
        """Whether any secret of the upstream occurs in a text, plain or commonly encoded."""
        ...


class Meter(Protocol):
    """Counts and durations for metrics."""

    def call(self, upstream: str, result: str) -> None:
        """One call ended: `succeeded`, `failed`, or the code that the agent got."""
        ...

    def step(self, name: str, seconds: float) -> None:
        """One step of the story of a call took this long."""
        ...


class Notifier(Protocol):
    """Tells people. Best effort: a failed notice is logged and never stops the plane."""

    def notify(self, target: str, event: JsonObject) -> None:
        """Send an event to a name that the settings resolve; returns at once."""
        ...
