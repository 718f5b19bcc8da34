"""What each figure has to reach, printed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def judged(
    figures: Mapping[str, Any],
    name: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    applies: bool = True,
) -> dict[str, Any]:
    """Figures with the target of one of them, and whether it was met.

    Args:
        figures: What was measured.
        name: The figure that the target is for.
        at_least: It has to be this much or more.
        at_most: It has to be this much or less.
        below: It has to be less than this.
        applies: Whether enough was done to tell; where not, `met` is null.
    """
    value = figures[name]
    bounds = {"at_least": at_least, "at_most": at_most, "below": below}
    met = (
        (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    target = {kind: bound for kind, bound in bounds.items() if bound is not None}
    return {**figures, "target": {name: target}, "met": met if applies else None}


def missed(found: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Where a target was not met, as dotted paths."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from missed(value, f"{place}{name}.")
        elif name == "met" and value is False:
            yield place.rstrip(".")
