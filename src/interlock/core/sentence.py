"""A call as a sentence, the same wherever a call is read: command line, notices, later the console."""

from __future__ import annotations

import json
from typing import Final

from interlock.core.canonical import Json

_MAX_VALUE: Final = 60
_MAX_ARGUMENTS: Final = 160


def call_sentence(agent: str, tool: str, arguments: Json, held_by: str = "", task: str | None = None) -> str:
    """`agent wants to tool with arguments · held by file:line · task …`, on one printable line."""
    parts = [f"{visible(agent)} wants to {visible(tool)}{_arguments(arguments)}"]
    if held_by:
        parts.append(f"held by {visible(held_by)}")
    if task:
        parts.append(f"task {_value(task)}")
    return " · ".join(parts)


def _arguments(arguments: Json) -> str:
    if not isinstance(arguments, dict) or not arguments:
        return ""
    named = ((visible(name), value) for name, value in arguments.items())
    shown = ", ".join(f"{name if name.isidentifier() else _value(name)} {_value(value)}" for name, value in named)
    return f" with {_cut(shown, _MAX_ARGUMENTS)}"


def _value(value: Json) -> str:
    # Text is quoted, so that what an agent writes cannot pass for another part of the sentence.
    return _cut(visible(json.dumps(value, ensure_ascii=False)), _MAX_VALUE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def visible(text: str) -> str:
    r"""Attacker-controlled text with everything that a terminal or a reader cannot see written out.

    Control characters, escapes, bidirectional overrides, zero-width and other unprintable characters
    become `\u…`; a line stays a line.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
