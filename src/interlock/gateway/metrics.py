"""Metrics: counters and durations of the story of a call, in Prometheus' format."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from interlock.core.canonical import JsonObject
from interlock.core.errors import StoreUnavailable

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class PrometheusMeter:
    """Implements `plane.ports.Meter`. Labels are bounded: upstream ids and error codes, nothing from agents."""

    def __init__(self, upstreams: frozenset[str], summary: Callable[[], JsonObject]) -> None:
        """Make the metrics.

        Args:
            upstreams: Ids that may become labels; others are counted as `other`.
            summary: Counts of the journal, read when somebody scrapes.
        """
        self.registry = CollectorRegistry()
        self._upstreams, self._summary = upstreams, summary
        self._calls = Counter(
            "interlock_calls", "Calls by how they ended.", ("upstream", "result"), registry=self.registry
        )
        self._steps = Histogram(
            "interlock_step_seconds",
            "Duration of steps of a call.",
            ("step",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._gauges = {
            name: Gauge(f"interlock_{name}", text, registry=self.registry)
            for name, text in (
                ("leaves", "Leaves in the journal."),
                ("open_holds", "Calls that wait for a person."),
                ("halts", "Halts in force on agents or everything."),
                ("unknown_calls", "Calls with an unknown outcome."),
                ("ready", "Whether the plane can decide and record."),
            )
        }

    def call(self, upstream: str, result: str) -> None:
        self._calls.labels(upstream if upstream in self._upstreams else "other", result).inc()

    def step(self, name: str, seconds: float) -> None:
        self._steps.labels(name).observe(seconds)

    def render(self, *, ready: bool) -> bytes:
        """The exposition text; the journal's gauges keep their last value while it cannot be read."""
        self._gauges["ready"].set(int(ready))
        with contextlib.suppress(StoreUnavailable):
            self._count(self._summary())
        return generate_latest(self.registry)

    def _count(self, summary: JsonObject) -> None:
        holds, calls = summary["holds"], summary["calls"]
        values = {
            "leaves": summary["leaves"],
            "open_holds": holds.get("open", 0) if isinstance(holds, dict) else 0,
            "unknown_calls": calls.get("unknown", 0) if isinstance(calls, dict) else 0,
            "halts": summary["halts"],
        }
        for name, value in values.items():
            self._gauges[name].set(float(value) if isinstance(value, int | float) else 0.0)
