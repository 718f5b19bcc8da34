"""Ways to break the decisions of the Cedar route, one at a time; each leaves the rest of it as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interlock.core import call
from interlock.core.canonical import JsonObject
from interlock.core.policy import catalogue, cedar, ceilings, checks, engine, slices
from interlock.core.policy import compile as compiling
from interlock.core.policy.cedar_types import Input
from interlock.core.schema_check import SchemaValidator
from oracle import route

Patch = pytest.MonkeyPatch


def _wrap_context(patch: Patch, change: Callable[[JsonObject], JsonObject]) -> None:
    """Change what every evaluation sees."""
    exact = cedar.evaluate

    def changed(agent: str, action: str, upstream: str, context: JsonObject, *rest: Any) -> cedar.Evaluation:
        return exact(agent, action, upstream, {**context, **change(context)}, *rest)

    patch.setattr(cedar, "evaluate", changed)


# Verdicts ------------------------------------------------------------------------------------------


def approval_is_taken_for_granted(patch: Patch) -> None:
    exact = engine._evaluate  # pyright: ignore[reportPrivateUsage]

    def approved_already(*parts: Any, approved: bool) -> cedar.Evaluation:
        return exact(*parts, approved=True)

    patch.setattr(engine, "_evaluate", approved_already)


def a_verdict_is_forgotten(patch: Patch) -> None:
    exact = engine._evaluate  # pyright: ignore[reportPrivateUsage]

    def never_approved(*parts: Any, approved: bool) -> cedar.Evaluation:
        return exact(*parts, approved=False)

    patch.setattr(engine, "_evaluate", never_approved)


def an_unknown_outcome_is_forgotten(patch: Patch) -> None:
    exact = engine.decide

    def forgetful(book: Any, rules: Any, sent: Any, seen: engine.Circumstances) -> Any:
        return exact(book, rules, sent, replace(seen, repeats_unknown=False))

    patch.setattr(engine, "decide", forgetful)


def inexact_values_are_left_out(patch: Patch) -> None:
    exact = engine.input_facts

    def silent(*parts: Any) -> Input:
        return replace(exact(*parts), unrepresentable=())

    patch.setattr(engine, "input_facts", silent)


def evaluation_errors_are_skipped(patch: Patch) -> None:
    exact = cedar.evaluate

    def skipping(*parts: Any) -> cedar.Evaluation:
        found = exact(*parts)
        return replace(found, allowed=True, failed=False) if found.failed else found

    patch.setattr(cedar, "evaluate", skipping)


def a_denial_has_the_wrong_code(patch: Patch) -> None:
    exact = engine._denial  # pyright: ignore[reportPrivateUsage]

    def miscoded(*parts: Any) -> Any:
        return replace(exact(*parts), code=engine.Code.POLICY_DENIED)

    patch.setattr(engine, "_denial", miscoded)


def the_clock_is_an_hour_off(patch: Patch) -> None:
    def later(context: Any) -> JsonObject:
        return {"time": {**context["time"], "hour": (context["time"]["hour"] + 1) % 24}}

    _wrap_context(patch, later)


def nulls_are_not_told(patch: Patch) -> None:
    _wrap_context(patch, lambda _: {"input_null": []})


# Counters and ceilings -----------------------------------------------------------------------------


def records_are_not_counted(patch: Patch) -> None:
    def one(*_: Any) -> int:
        return 1

    patch.setattr(checks, "record_count", one)


def a_limit_is_off_by_one(patch: Patch) -> None:
    exact = engine._guards  # pyright: ignore[reportPrivateUsage]

    def wide(*parts: Any) -> Any:
        return tuple(replace(guard, limit=guard.limit + 1) for guard in exact(*parts))

    patch.setattr(engine, "_guards", wide)


def of_two_limits_the_first_counts(patch: Patch) -> None:
    exact = engine._guards  # pyright: ignore[reportPrivateUsage]

    def first(*parts: Any) -> Any:
        return tuple({guard.counter: guard for guard in reversed(exact(*parts))}.values())

    patch.setattr(engine, "_guards", first)


def a_ceiling_is_off_by_one(patch: Patch) -> None:
    exact = ceilings.Ceilings

    def wide(max_steps: int | None = None, *rest: Any) -> Any:
        return exact(None if max_steps is None else max_steps + 1, *rest)

    patch.setattr(ceilings, "Ceilings", wide)


def wall_clock_is_in_milliseconds(patch: Patch) -> None:
    patch.setattr(ceilings, "_MICRO", 1000)


def the_longest_time_out_counts(patch: Patch) -> None:
    patch.setattr(compiling, "min", max, raising=False)


def the_widest_scope_counts(patch: Patch) -> None:
    def union(scopes: list[tuple[str, ...]]) -> tuple[str, ...] | None:
        return tuple(sorted({name for scope in scopes for name in scope})) if scopes else None

    patch.setattr(compiling, "common_scope", union)


# Names, lists and the canonical request ------------------------------------------------------------


def a_grant_reaches_across_names(patch: Patch) -> None:
    patch.setattr(catalogue.Catalogue, "grantable", catalogue.Catalogue.blockable)


def a_block_reaches_bare_names_alone(patch: Patch) -> None:
    patch.setattr(catalogue.Catalogue, "blockable", catalogue.Catalogue.grantable)


def annotations_are_ignored(patch: Patch) -> None:
    def said(*parts: Any) -> Any:
        return parts[3].effect

    patch.setattr(catalogue, "_cautious_effect", said)


def every_tool_is_listed(patch: Patch) -> None:
    exact = compiling.build_slice

    def listed(*parts: Any, **named: Any) -> slices.Slice:
        return replace(exact(*parts, **named), listed=True)

    patch.setattr(compiling, "build_slice", listed)


def undeclared_arguments_pass(patch: Patch) -> None:
    exact = call.canonical_arguments

    def open_to_all(*parts: Any, additional: bool) -> call.Arguments:
        return exact(*parts, additional=True)

    patch.setattr(call, "canonical_arguments", open_to_all)


def the_tools_own_schema_is_ignored(patch: Patch) -> None:
    def valid(*_: Any) -> None:
        return None

    patch.setattr(SchemaValidator, "first_error", valid)


def of_two_equal_keys_the_last_counts(patch: Patch) -> None:
    exact = route.decode

    def lenient(data: bytes) -> Any:
        try:
            merged = json.dumps(json.loads(data)).encode()
        except ValueError:
            merged = data
        return exact(merged)

    patch.setattr(route, "decode", lenient)


def inexact_integers_pass(patch: Patch) -> None:
    def unchanged(_reader: Any, _schema: Any, value: Any) -> Any:
        return value

    patch.setattr(call, "_exact", unchanged)


DECISION_BREAKAGES: tuple[Callable[[Patch], None], ...] = (
    approval_is_taken_for_granted,
    a_verdict_is_forgotten,
    an_unknown_outcome_is_forgotten,
    inexact_values_are_left_out,
    evaluation_errors_are_skipped,
    a_denial_has_the_wrong_code,
    the_clock_is_an_hour_off,
    nulls_are_not_told,
    records_are_not_counted,
    a_limit_is_off_by_one,
    of_two_limits_the_first_counts,
    a_ceiling_is_off_by_one,
    wall_clock_is_in_milliseconds,
    the_longest_time_out_counts,
    the_widest_scope_counts,
    a_grant_reaches_across_names,
    a_block_reaches_bare_names_alone,
    annotations_are_ignored,
    every_tool_is_listed,
    undeclared_arguments_pass,
    the_tools_own_schema_is_ignored,
    of_two_equal_keys_the_last_counts,
    inexact_integers_pass,
)
