"""The Cedar route against the oracle, on generated bundles and on calls made of their own literals."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from hypothesis import example, given

from interlock.core import policy
from interlock.core.errors import Code
from interlock.core.policy.rules import RuleKind
from oracle.comparison import PLANE_RULES, Tally, compare, describe
from oracle.dense import DENSE_CALLS, dense_draft
from oracle.generate import Draft, drafts

_TESTS = Path(__file__).parents[1]
_FORMS = ("allowed", "min", "max", "match", "under", "host")
_LISTS = tuple(f"{form} of a list" for form in _FORMS)


def test_the_oracle_and_the_cedar_route_agree_on_every_call_and_list() -> None:
    tally, dense = Tally(), dense_draft()

    @example(dense)
    @given(drafts())
    def agree(draft: Draft) -> None:
        differences = list(compare(draft, tally, most=DENSE_CALLS if draft == dense else 150))
        assert not differences, describe(draft, differences)

    agree()
    print(tally)
    _assert_everything_was_reached(tally)


def _assert_everything_was_reached(tally: Tally) -> None:
    """A generator that has gone quiet, or a new code or rule that nothing generates, fails here."""
    assert tally.refused.total() < tally.bundles // 10, tally.refused
    assert tally.calls > 100 * tally.bundles
    assert min(tally.verdicts[verdict] for verdict in ("permit", "hold", "deny", "malformed")) > tally.calls // 50
    assert set(tally.codes) == {"none", Code.MALFORMED_CALL.value, *_codes_of_the_core()}
    assert set(tally.rules) == {*PLANE_RULES, *get_args(RuleKind)} - {"plane"}
    assert set(tally.guards) == {"calls", "records"}
    rare = ("inexact", "error")
    for reason in ("default-deny", "blocked", "constraint", "when", "guardrail", "approval", "unknown-outcome", *rare):
        assert tally.reasons[reason] > (10 if reason in rare else tally.bundles), reason
    for form in (*_FORMS, *_LISTS, "arguments", "scope", "when"):
        assert tally.broken[form] >= 5, form
        assert tally.kept[form] >= 5, form


def _codes_of_the_core() -> set[str]:
    """Every code that the policy core names in its source."""
    sources = [file.read_text() for file in Path(str(policy.__file__)).parent.glob("*.py")]
    return {Code[name].value for text in sources for name in re.findall(r"\bCode\.([A-Z_]+)", text)}


def test_the_oracle_shares_no_code_with_what_it_is_compared_with() -> None:
    program = "import sys, oracle.oracle; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=_TESTS, capture_output=True, text=True, check=True)
    assert "oracle" in loaded.stdout.split()
    assert {"interlock", "cedarpy"}.isdisjoint(loaded.stdout.split())
