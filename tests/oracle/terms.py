"""What policy files say once and for all, whatever the call: ceilings, how holds end, what of a result may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from oracle.envelope import fields_kept
from oracle.json_value import JsonObject, elements, members
from oracle.world import Entry


@dataclass(frozen=True)
class Limits:
    """An agent's ceilings, and where it escalates to; None is the deployment's default, or nowhere."""

    max_steps: int | None
    max_tokens: int | None
    max_wall_clock_us: int | None
    max_cost_micro_usd: int | None
    notify: str | None


def read_limits(execution: JsonObject) -> Limits:
    """Read `execution`, in micro-units."""

    def number(key: str, unit: int = 1) -> int | None:
        value = execution.get(key)
        return int(Decimal(repr(value)) * unit) if isinstance(value, int | float) else None

    notify = members(execution.get("on_budget_exceeded")).get("notify")
    return Limits(
        number("max_steps"),
        number("max_tokens_per_run"),
        number("max_wall_clock_seconds", 1_000_000),
        number("max_cost_usd", 1_000_000),
        str(notify) if notify is not None else None,
    )


def timeout_s(entries: Sequence[Entry]) -> int:
    """How long a hold waits: the shortest that any of a tool's entries says, else 300."""
    said = [seconds for entry in entries if (seconds := entry.number("approval_timeout_seconds")) is not None]
    return min(said, default=300)


def auto_deny(entries: Sequence[Entry]) -> bool:
    """Whether a hold is denied at its time-out: unless some entry of the tool says no and none says yes."""
    said = [entry.keys["auto_deny_on_timeout"] for entry in entries if "auto_deny_on_timeout" in entry.keys]
    return not said or True in said


def may_see(entries: Sequence[Entry], path: str) -> bool:
    """Whether a field of a tool's result lies in the scope of every entry that has one."""
    scopes = [elements(entry.keys["scope"]) for entry in entries if "scope" in entry.keys]
    return all(fields_kept([str(name) for name in scope], path) for scope in scopes)
