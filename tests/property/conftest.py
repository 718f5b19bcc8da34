"""Profiles of the property tests: `deterministic` by default, `soak` for long runs.

python -m pytest tests/property --hypothesis-profile=soak
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

# A generated bundle is large, and one example compares hundreds of calls.
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

settings.register_profile(
    "deterministic", max_examples=200, derandomize=True, deadline=None, phases=_PHASES, suppress_health_check=_SLOW
)
settings.register_profile("soak", max_examples=3_000, deadline=None, phases=_PHASES, suppress_health_check=_SLOW)


def pytest_configure(config: pytest.Config) -> None:
    """Load the default, unless the command line names a profile."""
    if config.getoption("--hypothesis-profile") is None:
        settings.load_profile("deterministic")
