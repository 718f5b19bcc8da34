"""What a session needs of a transport, the same for stdio and HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from interlock.core.canonical import JsonObject
from interlock.plane.ports import Answer, OnProgress, SealedCall


@dataclass(slots=True)
class Hooks:
    """What a transport tells its owner.

    Attributes:
        list_changed: The upstream says that its tools changed.
        late: An answer to a call that we had given up; the call's id and the answer.
    """

    list_changed: Callable[[], None]
    late: Callable[[str, Answer], None]


class Connection(Protocol):
    """One connection to an upstream."""

    @property
    def alive(self) -> bool: ...

    async def request(self, method: str, params: JsonObject, timeout_s: float) -> Answer:
        """Send a request that is not a tool call. Raises NotSent or NoAnswer."""
        ...

    async def notify(self, method: str, params: JsonObject) -> None: ...

    async def call(self, sealed: SealedCall, meta: JsonObject, on_progress: OnProgress | None) -> Answer:
        """Send one tools/call. Cancelling the task cancels the call upstream.

        Raises:
            NotSent: provably no byte of it was sent.
            NoAnswer: it was sent, and there will be no answer.
        """
        ...

    def speak(self, version: str | None) -> None:
        """Use this protocol revision from now on; None while it is being negotiated the old way."""
        ...

    async def close(self) -> None: ...


Connect = Callable[[], Awaitable[Connection]]
