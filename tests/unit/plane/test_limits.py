"""Rates by weight: what an agent's messages cost it, and when it may come back."""

from __future__ import annotations

import pytest

from interlock.plane.limits import CallLimits, Limited
from support.clock import SetClock

AGENT = "agent"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def _call(limits: CallLimits, weight: int = 1) -> int | None:
    """Read one message and make its call; when to come back, where that is refused."""
    limits.charge(AGENT, weight)
    return _enter(limits)


def _enter(limits: CallLimits) -> int | None:
    try:
        with limits.enter(AGENT):
            return None
    except Limited as limited:
        return limited.retry_after_ms


def _wait(limits: CallLimits) -> int | None:
    """When a message will be read; None if it is now."""
    try:
        limits.check(AGENT)
    except Limited as limited:
        return limited.retry_after_ms
    return None


def test_a_burst_of_calls_is_made_and_then_the_rate_applies(clock: SetClock) -> None:
    limits = CallLimits(2, 3, 10, clock)
    assert [_call(limits) for _ in range(5)] == [None, None, None, 500, 500]
    clock.advance(0.5)
    assert [_call(limits) for _ in range(2)] == [None, 500]


def test_a_heavy_message_counts_as_several(clock: SetClock) -> None:
    limits = CallLimits(2, 10, 10, clock)
    assert [_call(limits, 4) for _ in range(3)] == [None, None, 1000]


def test_a_full_bucket_pays_for_any_message(clock: SetClock) -> None:
    limits = CallLimits(1, 3, 10, clock)
    assert _call(limits, 100) is None
    assert _call(limits, 1) is not None


def test_callers_that_wait_as_told_get_through_however_many_they_are(clock: SetClock) -> None:
    limits = CallLimits(10, 10, 100, clock)
    made = sum(_call(limits) is None for _ in range(100))
    for _ in range(9):
        clock.advance(1)
        made += sum(_call(limits) is None for _ in range(100))
    assert made == 100


def test_calls_charged_together_are_made_as_far_as_the_bucket_goes(clock: SetClock) -> None:
    limits = CallLimits(1, 10, 100, clock)
    for _ in range(25):
        limits.charge(AGENT, 1)
    assert [_enter(limits) for _ in range(25)].count(None) == 10


def test_messages_that_make_no_call_lead_into_debt_until_nothing_is_read(clock: SetClock) -> None:
    limits = CallLimits(10, 5, 10, clock)
    read = 0
    while _wait(limits) is None:
        limits.charge(AGENT, 1)
        read += 1
    assert read == 10, "a burst, and a burst of debt"
    assert _wait(limits) == 600
    clock.advance(0.6)
    assert _wait(limits) is None
    assert _call(limits) is None


def test_a_refused_call_pays_for_its_size(clock: SetClock) -> None:
    limits = CallLimits(10, 5, 10, clock)
    assert _call(limits, 5) is None
    _call(limits, 3)
    assert _call(limits) == 300, "the bucket has a debt of 2"


def test_agents_do_not_pay_for_each_other(clock: SetClock) -> None:
    limits = CallLimits(1, 1, 1, clock)
    limits.charge("another", 1)
    limits.charge("another", 1)
    with pytest.raises(Limited):
        limits.check("another")
    assert _wait(limits) is None
    assert _call(limits) is None


def test_an_answer_that_is_not_taken_keeps_its_place(clock: SetClock) -> None:
    limits = CallLimits(10, 10, 1, clock)
    with limits.answering(AGENT):
        assert _call(limits) == 1000
    assert _call(limits) is None
