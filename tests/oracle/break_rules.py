"""Ways to break the rules of the Cedar route, one at a time; each leaves the rest of it as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interlock.core.canonical import Json, JsonObject
from interlock.core.policy import catalogue, cedar, checks, slices
from interlock.core.policy.guardrails import Guardrail

Patch = pytest.MonkeyPatch
_MATCHERS = checks._MATCHERS  # pyright: ignore[reportPrivateUsage]
_ARGUMENT_CHECKS = (checks.AllowedValues, checks.Bound, checks.TextMatch)


def _without_policies(patch: Patch, dropped: Callable[[str], bool]) -> None:
    whole = slices.policy_set

    def some(policies: dict[str, JsonObject]) -> cedar.PolicySet:
        return whole({name: policy for name, policy in policies.items() if not dropped(name)})

    patch.setattr(slices, "policy_set", some)


def _wrap_checks(patch: Patch, passes: Callable[[JsonObject, str], bool]) -> None:
    """Let checks of arguments pass wherever `passes` says so of the arguments and the checked one."""
    for kind in _ARGUMENT_CHECKS:
        exact = kind.holds

        def lenient(self: Any, arguments: JsonObject, exact: Callable[..., bool] = exact) -> bool:
            return passes(arguments, self.argument) or exact(self, arguments)

        patch.setattr(kind, "holds", lenient)


# Rules that are dropped ----------------------------------------------------------------------------


def a_guardrail_is_dropped(patch: Patch) -> None:
    _without_policies(patch, lambda name: name.endswith(":rule-0"))


def guardrails_on_groups_are_dropped(patch: Patch) -> None:
    exact = Guardrail.covers_tool

    def named_alone(self: Guardrail, tool: catalogue.Tool) -> bool:
        return exact(self, tool) and "tag:" not in self.text

    patch.setattr(Guardrail, "covers_tool", named_alone)


def blocked_is_ignored(patch: Patch) -> None:
    _without_policies(patch, lambda name: ".blocked" in name)


def a_when_is_ignored(patch: Patch) -> None:
    _without_policies(patch, lambda name: name.endswith(".when"))


def a_constraint_is_ignored(patch: Patch) -> None:
    _without_policies(patch, lambda name: ".constraints.max_" in name)


def the_arguments_schema_is_ignored(patch: Patch) -> None:
    _without_policies(patch, lambda name: name.endswith(".arguments"))


def fields_beyond_the_scope_may_be_asked_for(patch: Patch) -> None:
    _without_policies(patch, lambda name: name.endswith(".scope"))


def approval_is_never_asked_for(patch: Patch) -> None:
    _without_policies(patch, lambda name: name.endswith(".requires_approval"))


# Checks of arguments -------------------------------------------------------------------------------


def a_bound_is_off_by_one(patch: Patch) -> None:
    exact = checks.Bound.holds

    def wide(self: checks.Bound, arguments: JsonObject) -> bool:
        return exact(replace(self, high=None if self.high is None else self.high + 1), arguments)

    patch.setattr(checks.Bound, "holds", wide)


def a_bound_is_exclusive(patch: Patch) -> None:
    exact = checks.Bound.holds

    def narrow(self: checks.Bound, arguments: JsonObject) -> bool:
        value = arguments.get(self.argument)
        return exact(self, arguments) and (value is None or value not in (self.low, self.high))

    patch.setattr(checks.Bound, "holds", narrow)


def a_missing_argument_passes(patch: Patch) -> None:
    _wrap_checks(patch, lambda arguments, name: name not in arguments)


def a_null_argument_passes(patch: Patch) -> None:
    _wrap_checks(patch, lambda arguments, name: name in arguments and arguments[name] is None)


def an_empty_list_passes(patch: Patch) -> None:
    _wrap_checks(patch, lambda arguments, name: arguments.get(name) == [])


def one_good_item_is_enough(patch: Patch) -> None:
    exact = checks.AllowedValues.holds

    def any_item(self: checks.AllowedValues, arguments: JsonObject) -> bool:
        value = arguments.get(self.argument)
        items = value if isinstance(value, list) else [value]
        return any(exact(self, {self.argument: item}) for item in items)

    patch.setattr(checks.AllowedValues, "holds", any_item)


def equality_ignores_type(patch: Patch) -> None:
    def loose(left: Json, right: Json) -> bool:
        return str(left).lower() == str(right).lower()

    patch.setattr(checks, "same_value", loose)


def true_equals_one(patch: Patch) -> None:
    def pythonic(left: Json, right: Json) -> bool:
        return left == right

    patch.setattr(checks, "same_value", pythonic)


def globs_ignore_case(patch: Patch) -> None:
    exact = checks.glob_match

    def folded(pattern: str, text: str) -> bool:
        return exact(pattern.lower(), text.lower())

    patch.setitem(_MATCHERS, "match", folded)


def a_directory_is_a_prefix(patch: Patch) -> None:
    def prefix(directory: str, path: str) -> bool:
        return path.startswith(directory)

    patch.setitem(_MATCHERS, "under", prefix)


def a_host_is_a_substring(patch: Patch) -> None:
    def substring(entry: str, url: str) -> bool:
        return entry in url

    patch.setitem(_MATCHERS, "host", substring)


RULE_BREAKAGES: tuple[Callable[[Patch], None], ...] = (
    a_guardrail_is_dropped,
    guardrails_on_groups_are_dropped,
    blocked_is_ignored,
    a_when_is_ignored,
    a_constraint_is_ignored,
    the_arguments_schema_is_ignored,
    fields_beyond_the_scope_may_be_asked_for,
    approval_is_never_asked_for,
    a_bound_is_off_by_one,
    a_bound_is_exclusive,
    a_missing_argument_passes,
    a_null_argument_passes,
    an_empty_list_passes,
    one_good_item_is_enough,
    equality_ignores_type,
    true_equals_one,
    globs_ignore_case,
    a_directory_is_a_prefix,
    a_host_is_a_substring,
)
