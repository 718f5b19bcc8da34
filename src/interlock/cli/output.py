"""Printing: tables and sentences for people, JSON for scripts, nothing from outside that a terminal obeys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from interlock.core.sentence import visible


def print_json(value: Any) -> None:
    click.echo(_printable(json.dumps(value, indent=2, ensure_ascii=False)))


def print_json_line(value: Any) -> None:
    """One of many JSON values, on a line of its own."""
    click.echo(_printable(json.dumps(value, ensure_ascii=False)))


def _printable(text: str) -> str:
    """JSON with what could steer a terminal escaped; such characters occur only inside its strings."""
    return "".join(found if found.isprintable() or found == "\n" else json.dumps(found)[1:-1] for found in text)


def line(text: str = "") -> None:
    click.echo(text)


def note(text: str) -> None:
    """Something that is not the answer: to standard error."""
    click.echo(text, err=True)


def moment(microseconds: Any) -> str:
    """A time in the reader's zone; empty for none."""
    if not isinstance(microseconds, int):
        return ""
    return datetime.fromtimestamp(microseconds / 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def middle(identifier: str, length: int = 24) -> str:
    """A long identifier shortened in the middle; --json has it whole."""
    return identifier if len(identifier) <= length else f"{identifier[: length - 9]}…{identifier[-8:]}"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Columns as wide as their widest cell; `empty` says what to do where there are no rows."""
    if not rows:
        line(empty)
        return
    cells = [[visible("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(len(heading), *(len(row[i]) for row in cells)) for i, heading in enumerate(headings)]
    line("  ".join(heading.upper().ljust(width) for heading, width in zip(headings, widths, strict=True)).rstrip())
    for row in cells:
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fields(pairs: Sequence[tuple[str, Any]]) -> None:
    """Names and values, aligned."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        if value not in (None, ""):
            line(f"{name.ljust(width)}  {visible(str(value))}")


def block(title: str, value: Any) -> None:
    """A titled JSON value; its strings are escaped, so that nothing in it is obeyed."""
    line(f"{title}:")
    for text in json.dumps(value, indent=2, ensure_ascii=True).splitlines():
        line(f"  {text}")
