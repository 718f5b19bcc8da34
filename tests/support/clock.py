"""A clock that stands still until a test moves it."""

from __future__ import annotations

from support.bundles import NOW_US


class SetClock:
    """Implements `plane.ports.Clock`. Wall time and monotonic time move together, except where a test says so."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self._now_us = now_us
        self._monotonic = 1000.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_us += round(seconds * 1_000_000)
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Somebody sets the wall clock back; monotonic time goes on."""
        self._now_us -= round(seconds * 1_000_000)
