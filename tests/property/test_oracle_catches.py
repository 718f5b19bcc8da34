"""Break the Cedar route in one way at a time: the comparison must notice each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oracle.break_decisions import DECISION_BREAKAGES
from oracle.break_rules import RULE_BREAKAGES, Patch
from oracle.comparison import Difference, Tally, compare
from oracle.dense import DENSE_CALLS, dense_draft


def _difference() -> Difference | None:
    """The first one on the bundle that has every kind of rule within reach."""
    return next(compare(dense_draft(), Tally(), most=DENSE_CALLS), None)


def test_without_a_breakage_nothing_differs() -> None:
    assert _difference() is None


@pytest.mark.parametrize("breakage", [*RULE_BREAKAGES, *DECISION_BREAKAGES], ids=lambda breakage: breakage.__name__)
def test_the_comparison_notices_when(breakage: Callable[[Patch], None], monkeypatch: Patch) -> None:
    breakage(monkeypatch)
    assert _difference() is not None
