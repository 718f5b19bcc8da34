"""Moments derived from the conditions' own literals: counters, labels, tasks and times around each."""

from __future__ import annotations

from datetime import datetime

from oracle.expression import Call, Expr, Literal, Operation, children
from oracle.json_value import Json, JsonObject
from oracle.world import Moment

MONDAY = 1_790_000_000_000_000
"""2026-09-21T14:13:20Z in microseconds since the epoch."""
_HOUR = 3_600_000_000
RUN: JsonObject = {"id": "run-1", "implicit": True, "labels": [], "steps": 0, "calls": 0, "records": 0}
PLAIN = Moment(RUN, MONDAY)


def moments(rules: list[Expr]) -> list[Moment]:
    """Moments on both sides of everything that the conditions compare with, approved and repeated ones too."""
    found = [
        PLAIN,
        Moment(RUN, MONDAY, approved=True),
        Moment(RUN, MONDAY, repeats_unknown=True),
        Moment(RUN, MONDAY, approved=True, repeats_unknown=True),
        _with(implicit=False, task="refund order 7", labels=["urgent"]),
        _with(task="Refund", labels=["night", "urgent", "x"]),
        *(Moment(RUN, MONDAY + day * 24 * _HOUR) for day in (4, 5, 6)),
        Moment(RUN, MONDAY, approved=True),
    ]
    nodes = list(rules)
    for node in nodes:
        nodes.extend(children(node))
        match node:
            case Literal(bool()):
                continue
            case Literal(int(number)):
                for value in (number - 1, number, number + 1):
                    if 0 <= value < 2**63:
                        found += [_with(steps=value, calls=value, records=value), _with(calls=value)]
                    if 0 <= value < 24:
                        found.append(Moment(RUN, MONDAY + (value - 14) * _HOUR))
            case Operation("+", _):
                found += [_with(calls=value) for value in (2**63 - 2, 2**63 - 1)]
            case Call("datetime", (Literal(str(text)),)):
                then = int(datetime.fromisoformat(text).timestamp()) * 1_000_000
                found += [Moment(RUN, then + step) for step in (-1_000_000, -1, 0, 999_999, 1_000_000)]
            case _:
                continue
    return found


def _with(**facts: Json) -> Moment:
    return Moment({**RUN, **facts}, MONDAY)
