"""Who is asking, and what the asking looks like, the same for every door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from interlock.core.canonical import JsonObject
from interlock.core.errors import ERROR_CATALOGUE, Code
from interlock.plane.commands import Ring
from interlock.plane.ports import OnProgress


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated agent; everything here comes from its token and its connection.

    Attributes:
        agent: The agent's id.
        identity: The principal that the token was minted for.
        run: The run that the token is bound to; None is the agent's implicit run.
        ring: `cooperative` where the caller shares the plane's user and could go round it.
    """

    agent: str
    identity: str
    run: str | None
    ring: Ring


class Cancellation:
    """Lets a door, a halt or the shutdown give up on a call, whatever stage it is in."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._listeners: list[Callable[[], None]] = []

    def cancel(self, reason: str) -> None:
        """Give up; only the first reason counts."""
        if self.reason is None:
            self.reason = reason
            for listener in self._listeners:
                listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` on cancellation, at once if that has happened."""
        self._listeners.append(listener)
        if self.reason is not None:
            listener()


@dataclass(frozen=True, slots=True)
class InboundCall:
    """One tools/call, as a door read it.

    Attributes:
        tool: The name as sent; it need not exist.
        arguments: Strictly decoded; None where `malformed` says why there are none.
        malformed: Why the request has no single exact meaning; None if it has.
        raw: What to record of a malformed request, bounded.
        idempotency_key: A new key asks for a new hold of an identical call.
    """

    caller: Caller
    upstream: str
    tool: str
    arguments: JsonObject | None
    malformed: str | None = None
    raw: bytes = b""
    idempotency_key: str = ""
    on_progress: OnProgress | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(frozen=True, slots=True)
class CallError:
    """What an agent gets instead of a result. Every member is safe to show."""

    code: Code
    message: str
    rule: str | None
    call_id: str | None
    run_id: str | None
    approval_id: str | None = None
    retry_after_ms: int | None = None

    def as_json(self) -> JsonObject:
        """The members of 03-policy's error object; optional ones only where they say something."""
        body: JsonObject = {
            "code": str(self.code),
            "message": self.message,
            "rule": self.rule,
            "call_id": self.call_id,
            "run_id": self.run_id,
            "retryable": ERROR_CATALOGUE[self.code].retryable,
        }
        if self.approval_id is not None:
            body["approval_id"] = self.approval_id
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
        return body


@dataclass(frozen=True, slots=True)
class CallResult:
    """A tool result for the agent.

    Attributes:
        body: The JSON of the result object.
        replayed: It is the stored result of an earlier execution of the same held call.
    """

    body: bytes
    call_id: str
    run_id: str
    replayed: bool = False


Reply = CallResult | CallError
