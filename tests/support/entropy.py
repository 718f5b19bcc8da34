"""Randomness that is the same in every run of a test."""

from __future__ import annotations

import hashlib


class CountingEntropy:
    """Implements `plane.ports.Entropy`; every taking is different from every other."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, count: int) -> bytes:
        self._taken += 1
        return hashlib.shake_256(self._taken.to_bytes(8, "big")).digest(count)
