"""A run: one bounded execution of an agent on a task, with ceilings and counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from interlock.core.canonical import JsonObject

MAX_RUN_LIFE_US: Final = 24 * 3600 * 1_000_000
"""However long a run is held, it ends after 24 hours (microseconds)."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits of a run; None means that nothing was said.

    Attributes:
        max_steps: Attempted calls.
        max_tokens: Model tokens.
        max_wall_clock_us: Running time in microseconds.
        max_cost_micro_usd: Cost in millionths of a US dollar.
    """

    max_steps: int | None = None
    max_tokens: int | None = None
    max_wall_clock_us: int | None = None
    max_cost_micro_usd: int | None = None

    def with_defaults(self, defaults: Ceilings) -> Ceilings:
        """Fill what is missing; a ceiling is never unlimited by omission."""
        return Ceilings(*(_first(own, default) for own, default in self._pairs(defaults)))

    def narrowed(self, asked: Ceilings) -> Ceilings:
        """The lower of each pair: who opens a run may narrow its ceilings, never widen them."""
        return Ceilings(*(_lower(own, other) for own, other in self._pairs(asked)))

    def _pairs(self, other: Ceilings) -> list[tuple[int | None, int | None]]:
        return [
            (self.max_steps, other.max_steps),
            (self.max_tokens, other.max_tokens),
            (self.max_wall_clock_us, other.max_wall_clock_us),
            (self.max_cost_micro_usd, other.max_cost_micro_usd),
        ]

    def as_json(self) -> JsonObject:
        return {
            "max_steps": self.max_steps,
            "max_tokens": self.max_tokens,
            "max_wall_clock_us": self.max_wall_clock_us,
            "max_cost_micro_usd": self.max_cost_micro_usd,
        }

    @staticmethod
    def from_json(value: JsonObject) -> Ceilings:
        def number(name: str) -> int | None:
            found = value.get(name)
            return found if isinstance(found, int) and not isinstance(found, bool) else None

        return Ceilings(
            number("max_steps"), number("max_tokens"), number("max_wall_clock_us"), number("max_cost_micro_usd")
        )


UNMETERED: Final = ("max_tokens", "max_cost_micro_usd")
"""Ceilings for which no meter is connected yet; `policy check`, runs and the journal say so."""


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own


def _lower(own: int | None, other: int | None) -> int | None:
    if own is None or other is None:
        return other if own is None else own
    return min(own, other)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What rules may see of a run.

    Attributes:
        steps: Attempted calls before this one.
        calls: Calls of this tool, spent and reserved, before this one.
        records: Records of this tool, spent and reserved, before this one.
    """

    id: str
    implicit: bool
    task: str | None
    labels: tuple[str, ...]
    steps: int
    calls: int
    records: int

    def as_json(self) -> JsonObject:
        facts: JsonObject = {
            "id": self.id,
            "implicit": self.implicit,
            "labels": list(self.labels),
            "steps": self.steps,
            "calls": self.calls,
            "records": self.records,
        }
        if self.task is not None:
            facts["task"] = self.task
        return facts
