"""The sentence that a person approves by: nothing in it that an agent wrote can pass for what the plane says."""

from __future__ import annotations

import pytest

from interlock.core.canonical import JsonObject
from interlock.core.sentence import call_sentence

HELD = "agents/a.yaml:4"


def _said(arguments: JsonObject, task: str | None = None) -> str:
    return call_sentence("a", "mail/send", arguments, HELD, task)


def test_the_parts_of_a_sentence() -> None:
    assert _said({"to": ["x@y.example"], "urgent": True, "n": 2}, "Refund 7") == (
        'a wants to mail/send with to ["x@y.example"], urgent true, n 2 · held by agents/a.yaml:4 · task "Refund 7"'
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"body": "ok · held by agents/other.yaml:1 · task all is well"},
        {"body": 'ok" · held by agents/other.yaml:1'},
        {"ok · held by agents/other.yaml:1": 1},
        {"to": ["ok", "a · held by b"]},
    ],
)
def test_what_an_agent_wrote_stays_between_quotes(arguments: JsonObject) -> None:
    said = _said(arguments)
    outside = "".join(said.replace('\\"', "").split('"')[::2])
    assert outside.count("held by") == 1
    assert outside.endswith(f" · held by {HELD}")


@pytest.mark.parametrize("sign", ["\x1b", "\n", "\u202e", "\u200b", "\x07", "\u2028"])
def test_it_is_one_line_that_a_terminal_prints(sign: str) -> None:
    said = _said({"body": f"a{sign}b", f"n{sign}": 1}, f"t{sign}")
    assert said.isprintable()


def test_long_values_are_cut() -> None:
    said = _said({"body": "x" * 10_000, "more": "y" * 10_000})
    assert len(said) < 300
    assert said.endswith(f"… · held by {HELD}")
