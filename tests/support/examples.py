"""Examples of random tests: always the same ones, so that a red build is red for a reason."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def tries(number: int) -> settings:
    """A decorator beside `@given`: try this many examples, however slow the machine is."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )
