"""The real clock and the real randomness."""

from __future__ import annotations

import os
import resource
import time
from typing import Final

_OTHER_FILES: Final = 1024
"""Beside agents' connections: people's and machines' that watch, upstreams, the journal."""
_MOST_FILES: Final = 1_048_576


class SystemClock:
    """Implements `plane.ports.Clock`."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemEntropy:
    """Implements `plane.ports.Entropy` with the kernel's generator."""

    def take(self, count: int) -> bytes:
        return os.urandom(count)


def room_for(connections: int) -> int:
    """How many agents' connections there is room for, after raising the limit on open files as far as needed.

    Without that room a flood of connections would take the descriptors that people need to stop things.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else hard
    wanted = min(most, connections + _OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    limit = _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    return max(16, min(connections, limit - _OTHER_FILES))
