"""Cedar text from people: bounded before the parser sees it, split into statements, parsed one by one.

The Cedar parser is recursive and dies (the whole process) on deep nesting and on very long chains of
operators, so depth and length are counted here first; see docs/explanation/hostile-input.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from interlock.core.canonical import JsonObject, Unrepresentable, check_depth
from interlock.core.files.located import MAX_FILE_DEPTH
from interlock.core.policy.cedar import text_to_json

MAX_STATEMENT_TOKENS: Final = 2000
"""Measured: chains of 20,000 operators overflow the parser's stack, chains of 2,000 are far from it."""
MAX_STATEMENTS: Final = 1000
MAX_CONDITIONS: Final = 32
"""`when` and `unless` clauses of one statement."""
MAX_TREE_DEPTH: Final = 96
"""Of a parsed statement in JSON, where an operator takes two levels: Cedar reads back at most 128."""
_TOO_DEEP: Final = "the statement has too many operators in one chain"
_SHORTER: Final = "a set (`[…].contains(…)`) or several rules"

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n\r]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<end>;)
      | (?P<dot>\.)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*|[0-9]+)
      | (?P<symbol>::|==|!=|<=|>=|&&|\|\||[-+*!<>=,:@?|&/%])
    """,
    re.VERBOSE,
)


class CedarRefused(ValueError):
    """Cedar text that will not be used.

    Attributes:
        line: 1-based line within the text.
        column: 1-based column within the text.
    """

    def __init__(self, line: int, column: int, problem: str, expected: str = "") -> None:
        super().__init__(problem)
        self.line, self.column, self.problem, self.expected = line, column, problem, expected


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy statement: its text, where it begins, and what Cedar reads in it."""

    text: str
    line: int
    column: int
    policy: JsonObject
    """The statement in Cedar's JSON policy format (one entry of `staticPolicies`)."""


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CedarRefused(*_where(text, position), f"{text[position]!r} is not Cedar")
        position = match.end()
        if match.lastgroup != "space":
            yield match


def check_bounds(text: str) -> list[tuple[int, int]]:
    """Count tokens and nesting; return the spans of the statements that `;` at depth 0 ends.

    Raises:
        CedarRefused: unbalanced or too deeply nested brackets, too many tokens in a statement, too
            many statements, too long attribute paths, or text that is no Cedar token.
    """
    spans: list[tuple[int, int]] = []
    depth = count = dots = 0
    start: int | None = None
    for match in _tokens(text):
        if start is None:
            start, count = match.start(), 0
        count += 1
        if count > MAX_STATEMENT_TOKENS:
            raise CedarRefused(*_where(text, start), f"the statement has more than {MAX_STATEMENT_TOKENS} tokens")
        # `has a.b.c` is read as one test for each step, so its tree grows with the square of its length.
        dots = dots + (match.lastgroup == "dot") if match.lastgroup in ("dot", "word") else 0
        if dots > MAX_FILE_DEPTH:
            raise CedarRefused(*_where(text, match.start()), f"an attribute path is longer than {MAX_FILE_DEPTH}")
        if match.lastgroup == "open":
            depth += 1
            if depth > MAX_FILE_DEPTH:
                raise CedarRefused(*_where(text, match.start()), f"brackets nest deeper than {MAX_FILE_DEPTH}")
        elif match.lastgroup == "close":
            depth -= 1
            if depth < 0:
                raise CedarRefused(*_where(text, match.start()), "this bracket closes nothing")
        elif match.lastgroup == "end" and depth == 0:
            spans.append((start, match.end()))
            start = None
            if len(spans) > MAX_STATEMENTS:
                raise CedarRefused(*_where(text, match.start()), f"more than {MAX_STATEMENTS} statements")
    if depth:
        raise CedarRefused(*_where(text, len(text)), "a bracket is never closed")
    if start is not None:
        raise CedarRefused(*_where(text, start), "the statement does not end", "a `;`")
    return spans


def parse_statements(text: str) -> tuple[list[Statement], list[CedarRefused]]:
    """Parse a guardrail file: every statement that parses, and a refusal for each that does not."""
    try:
        spans = check_bounds(text)
    except CedarRefused as refused:
        return [], [refused]
    statements: list[Statement] = []
    refusals: list[CedarRefused] = []
    for start, end in spans:
        line, column = _where(text, start)
        try:
            policies = text_to_json(text[start:end])
            _check_trees(policies)
        except CedarRefused as refused:
            refusals.append(CedarRefused(line, column, refused.problem, refused.expected))
            continue
        except ValueError as error:
            refusals.append(CedarRefused(line, column, f"not a Cedar policy: {_first_line(error)}"))
            continue
        if len(policies) != 1:
            refusals.append(CedarRefused(line, column, "not one plain policy", "a `forbid` without slots"))
            continue
        statements.append(Statement(text[start:end], line, column, policies[0]))
    return statements, refusals


def parse_expression(text: str) -> JsonObject:
    """Parse exactly one Cedar expression, alone.

    The text is put into a policy of our own; it is accepted only if the policy that comes out has
    exactly the one condition we wrote, so text such as `true }; permit(…) when { true` is refused.

    Returns:
        The expression in Cedar's JSON format.

    Raises:
        CedarRefused: not one expression, or out of bounds.
    """
    wrapped = f"permit(principal, action, resource) when {{ (\n{text}\n) }};"
    try:
        if len(check_bounds(wrapped)) != 1:
            raise CedarRefused(1, 1, "more than one expression", "one expression")
    except CedarRefused as refused:
        line = max(refused.line - 1, 1)
        raise CedarRefused(line, refused.column, refused.problem, refused.expected) from None
    try:
        policies = text_to_json(wrapped)
        _check_trees(policies)
    except CedarRefused:
        raise
    except ValueError as error:
        raise CedarRefused(1, 1, f"not a Cedar expression: {_first_line(error)}", "one expression") from None
    expected_scope = {"op": "All"}
    if len(policies) == 1:
        policy = policies[0]
        conditions = cast("list[JsonObject]", policy.get("conditions", []))
        alone = (
            policy.get("effect") == "permit"
            and all(policy.get(part) == expected_scope for part in ("principal", "action", "resource"))
            and len(conditions) == 1
            and conditions[0].get("kind") == "when"
            and not policy.get("annotations")
        )
        if alone:
            return cast(JsonObject, conditions[0]["body"])
    raise CedarRefused(1, 1, "more than one expression", "one expression")


def _check_trees(policies: list[JsonObject]) -> None:
    """Refuse what every later step would have to walk or read back and could not."""
    for policy in policies:
        if len(cast("list[JsonObject]", policy["conditions"])) > MAX_CONDITIONS:
            raise CedarRefused(1, 1, f"more than {MAX_CONDITIONS} conditions", _SHORTER)
        try:
            check_depth(policy, MAX_TREE_DEPTH)
        except Unrepresentable:
            raise CedarRefused(1, 1, _TOO_DEEP, _SHORTER) from None


def _where(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1


def _first_line(error: ValueError) -> str:
    return str(error).partition("\n")[0][:200]
