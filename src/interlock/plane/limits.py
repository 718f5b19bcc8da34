"""Rate and concurrency limits for each agent, applied before anything is recorded."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from interlock.plane.ports import Clock


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    in_flight: int = 0


class Limited(Exception):
    """Over a limit; `retry_after_ms` says when asking again makes sense."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.message, self.retry_after_ms = message, retry_after_ms


class CallLimits:
    """A token bucket and a count of calls in flight for each agent.

    Every message is charged by what reading it costs, whatever it turns out to be, but for the 1 of a small
    call that is refused here; the bucket may go into debt. In debt no call is made; from a debt of a whole
    burst on, nothing is read.
    """

    def __init__(self, rate: float, burst: int, concurrent: int, clock: Clock) -> None:
        """Set the limits.

        Args:
            rate: Calls a second in the long run, of weight 1 each.
            burst: Calls at once before the rate applies.
            concurrent: Calls in flight at one time.
            clock: Monotonic time.
        """
        self._rate, self._burst, self._concurrent, self._clock = rate, burst, concurrent, clock
        self._buckets: dict[str, _Bucket] = {}

    def check(self, agent: str) -> None:
        """Whether a message of the agent may be read at all. Raises Limited."""
        bucket = self._bucket(agent)
        if bucket.tokens <= -self._burst:
            raise self._limited(bucket)

    def charge(self, agent: str, weight: int) -> None:
        """Take the weight of a message, at most a burst, so that a full bucket pays for any message."""
        self._bucket(agent).tokens -= min(weight, self._burst)

    @contextmanager
    def enter(self, agent: str) -> Generator[None]:
        """Hold a place for one call, whose message was charged. Raises Limited."""
        bucket = self._bucket(agent)
        in_debt = bucket.tokens < 0
        if in_debt or bucket.in_flight >= self._concurrent:
            # A refused call pays for its size only: if it paid in full, callers that all wait and try again
            # would keep the bucket in debt, and none of them would get through.
            bucket.tokens += 1
            if in_debt:
                raise self._limited(bucket)
            raise Limited(f"The agent may have {self._concurrent} calls in flight.", 1000)
        with self.answering(agent):
            yield

    @contextmanager
    def answering(self, agent: str) -> Generator[None]:
        """Count as a call in flight: also one whose answer the client has not taken yet."""
        bucket = self._bucket(agent)
        bucket.in_flight += 1
        try:
            yield
        finally:
            bucket.in_flight -= 1

    def _bucket(self, agent: str) -> _Bucket:
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(agent, _Bucket(self._burst, now))
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        return bucket

    def _limited(self, bucket: _Bucket) -> Limited:
        """Come back when a message of weight 1 is affordable."""
        wait_ms = math.ceil((1 - bucket.tokens) / self._rate * 1000)
        return Limited(f"The agent may make {self._rate:g} calls a second; large messages count as several.", wait_ms)
