"""Cedar text from people: counted before the parser sees it, because the parser can be made to die."""

from __future__ import annotations

import subprocess
import sys

import pytest

from interlock.core.policy.cedar import policy_set
from interlock.core.policy.cedar_text import (
    MAX_STATEMENT_TOKENS,
    MAX_STATEMENTS,
    CedarRefused,
    check_bounds,
    parse_expression,
    parse_statements,
)
from support.limits import within

FORBID = "forbid(principal, action, resource);"


def _refusals(text: str) -> list[tuple[int, int, str]]:
    statements, refusals = parse_statements(text)
    assert refusals
    assert not statements or len(refusals) < 5
    return [(refused.line, refused.column, refused.problem) for refused in refusals]


def test_statements_are_found_with_their_places() -> None:
    text = f'// rules\n@id("a;b")\n{FORBID}\n\n  forbid(principal, action, resource) when {{ "}};" == "//" }}; // end'
    statements, refusals = parse_statements(text)
    assert not refusals
    assert [(found.line, found.column) for found in statements] == [(2, 1), (5, 3)]
    assert statements[0].text == f'@id("a;b")\n{FORBID}'
    assert [found.policy["effect"] for found in statements] == ["forbid", "forbid"]


def test_every_statement_that_does_not_parse_is_refused_in_its_place() -> None:
    text = f"{FORBID}\n  forbid(principal, action);\n{FORBID}\nforbid(principal == ?principal, action, resource);"
    statements, refusals = parse_statements(text)
    assert len(statements) == 2
    assert [(refused.line, refused.column) for refused in refusals] == [(2, 3), (4, 1)]
    assert all(refused.problem.startswith("not a Cedar policy: ") for refused in refusals)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("forbid(principal, action, resource)", (1, 1), "the statement does not end"),
        (f"{FORBID}\nforbid(", (2, 8), "a bracket is never closed"),
        (f"{FORBID}\n  )", (2, 3), "this bracket closes nothing"),
        ("forbid # all", (1, 8), "'#' is not Cedar"),
        ('forbid "unended', (1, 8), "'\"' is not Cedar"),
        (f"{FORBID}\n\u2018", (2, 1), "'\u2018' is not Cedar"),
        ("/* no such comment */", (1, 1), "the statement does not end"),
    ],
)
def test_text_that_is_not_cedar_is_refused_in_its_place(text: str, place: tuple[int, int], problem: str) -> None:
    [(line, column, found)] = _refusals(text)
    assert (line, column) == place
    assert found.startswith(problem)


@pytest.mark.parametrize("opening", ["(", "[", "{a: ", "!(", "if (", "f("])
def test_deep_nesting_is_refused_before_the_parser_dies_of_it(opening: str) -> None:
    with pytest.raises(CedarRefused, match="brackets nest deeper than 32"):
        check_bounds(opening * 100_000)


def test_mixed_brackets_count_together() -> None:
    with pytest.raises(CedarRefused, match="deeper"):
        check_bounds("([{" * 11)


def test_a_statement_of_too_many_tokens_is_refused_where_it_begins() -> None:
    long = f"forbid(principal, action, resource) when {{ {' || '.join(['true'] * MAX_STATEMENT_TOKENS)} }};"
    assert _refusals(f"{FORBID}\n {long}") == [(2, 2, "the statement has more than 2000 tokens")]


def test_too_many_statements_are_refused() -> None:
    [(line, _, problem)] = _refusals(f"{FORBID}\n" * (MAX_STATEMENTS + 1))
    assert problem == "more than 1000 statements"
    assert line == MAX_STATEMENTS + 1


@pytest.mark.parametrize("hidden", ["(" * 1_000, "[" * 1_000, "!(" * 1_000])
def test_nothing_can_hide_from_the_count_in_what_cedar_does_not_read_as_a_comment(hidden: str) -> None:
    # To Cedar a carriage return ends a comment, too.
    with pytest.raises(CedarRefused, match=r"deeper|not Cedar"):
        check_bounds(f"true //\r{hidden}\n;")


@pytest.mark.parametrize("newline", ["\r", "\n", "\r\n"])
def test_a_rule_behind_a_comment_is_never_lost_whatever_ends_the_line(newline: str) -> None:
    statements, refusals = parse_statements(f"// organisation rules{newline}{FORBID}{newline}")
    assert len(statements) + len(refusals) == 1


def test_no_bounded_text_kills_the_process() -> None:
    # In a process of its own, because a stack overflow in the parser cannot be caught.
    attempts = """
from interlock.core.policy.cedar_text import CedarRefused, parse_expression
for text in (
    "(" * 29 + "true" + ")" * 29,
    "[" * 29 + "]" * 29,
    "!(" * 29 + "true" + ")" * 29,
    " || ".join(["true"] * 980),
    "1" + " + 1" * 980 + " == 1",
    "context" + ".a" * 980,
    "if true then true else " * 480 + "true",
    "true //\\r" + "(" * 20_000 + "true" + ")" * 20_000,
):
    try:
        parse_expression(text)
    except (CedarRefused, RecursionError):
        pass
"""
    done = subprocess.run([sys.executable, "-c", attempts], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "text",
    [" || ".join(["true"] * 900), "1" + " + 1" * 900 + " == 1", "context" + ".a" * 900, "true && !" * 600 + "true"],
    ids=["alternatives", "sums", "attributes", "negations"],
)
def test_text_that_parses_into_a_deep_tree_is_refused_and_not_an_error_of_ours(text: str) -> None:
    with pytest.raises(CedarRefused):
        parse_expression(text)
    _, refusals = parse_statements(f"forbid(principal, action, resource) when {{ {text} }};")
    assert refusals


def test_hostile_repetition_is_answered_with_bounded_work() -> None:
    with within(300_000):
        for unit in ('"', '\\"', "//", "/", "\n", "a;", ";", "::", "@id", '"\\', "\u2028", "1" * 100):
            parse_statements((unit * 60_000)[:60_000])


def test_an_expression_comes_back_alone() -> None:
    assert parse_expression(" 1 == 1 // always\n") == {"==": {"left": {"Value": 1}, "right": {"Value": 1}}}


def test_the_place_of_a_refusal_is_that_within_the_expression() -> None:
    with pytest.raises(CedarRefused) as refused:
        parse_expression("true &&\n  (true")
    # The bracket is never closed: noticed at the end of what was written.
    assert refused.value.line <= 3
    with pytest.raises(CedarRefused) as refused:
        parse_expression("true\n  # x")
    assert (refused.value.line, refused.value.column) == (2, 3)


def test_an_attribute_path_is_refused_before_its_tests_are_multiplied() -> None:
    # To Cedar `has a.b.c` is one test for each step, so a path of 1,000 steps becomes megabytes.
    with within(10_000), pytest.raises(CedarRefused, match="longer than 32"):
        parse_expression("context has a" + ".a" * 900)


@pytest.mark.parametrize(("count", "refused"), [(32, False), (33, True)])
def test_conditions_of_one_statement_are_counted(count: int, *, refused: bool) -> None:
    _, refusals = parse_statements(f"forbid(principal, action, resource){' when { true }' * count};")
    assert [refusal.problem for refusal in refusals] == (["more than 32 conditions"] if refused else [])


def test_what_is_accepted_can_be_read_back_by_the_engine() -> None:
    longest = 0
    for count in range(30, 60):
        chain = " || ".join(['context.run.id == "x"'] * count)
        statements, _ = parse_statements(f"forbid(principal, action, resource) when {{ {chain} }};")
        for statement in statements:
            assert policy_set({"one": statement.policy})
            longest = count
    assert 40 <= longest < 60


def test_a_parser_that_panics_refuses_and_an_interrupt_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    for raised, expected in ((PanicException(), CedarRefused), (KeyboardInterrupt(), KeyboardInterrupt)):

        def fail(*_: object, error: BaseException = raised) -> None:
            raise error

        monkeypatch.setattr("interlock.core.policy.cedar._cedar.policies_to_json_str", fail)
        with pytest.raises(expected):
            parse_expression("true")
