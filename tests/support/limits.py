"""A bound on work, for code that an adversary would like to keep busy."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import pytest

_CPU_S = 20.0


class _TooMuch(BaseException):
    """Not an `Exception`, so that no code under test takes it for an error of its own."""


@contextmanager
def within(calls: int) -> Generator[None]:
    """Fail where the body makes more calls of functions, Python's or C's, than this, and interrupt it there.

    A number and not a time, so that a slow or busy machine changes nothing. What happens inside one call into C or
    Rust, or in a loop that calls nothing, is not counted: for that there is one bound on processor time, far from
    what any such test takes.
    """
    made, why = 0, ""

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal made, why
        made += event in ("call", "c_call")
        if made > calls:
            why = f"made more than {calls} calls"
            raise _TooMuch

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal why
        why = f"took more than {_CPU_S} s of processor time"
        raise _TooMuch

    handler, profile = signal.signal(signal.SIGVTALRM, interrupt), sys.getprofile()
    # Again and again, because an exception out of a signal handler can be lost in a callback.
    signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_S, 0.2)
    sys.setprofile(count)
    try:
        yield
    except _TooMuch:
        # Without the interrupted frames: some have no line number, which pytest cannot show.
        pass
    finally:
        sys.setprofile(profile)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
    if why:
        pytest.fail(why, pytrace=False)
