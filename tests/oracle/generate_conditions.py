"""Random Cedar conditions over what a call of one tool shows: small, typed, and full of literals."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from oracle.input_view import kind_of
from oracle.json_value import Json, JsonObject
from oracle.tool_schema import items, properties

STRINGS = ("open", "paid", "a*b", 'say "x"', "back\\slash", "1", "true", "", "é", "/data/in", "line\nbreak")
INTEGERS = (0, 1, 5, 100, -1, 2**53, 2**63 - 1, -(2**63))
DECIMALS = ("0.0", "0.5", "1.1", "100.0", "99.9999", "-3.25", "922337203685477.5807")
PATTERNS = ('"open*"', '"*a*"', '"*"', r'"a\*b"', '"/data/*"', '"*p?en"', '""')
LABELS = ("urgent", "night")

Path = tuple[str, ...]


def quoted(text: str) -> str:
    """The text as a Cedar string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def readable(root: JsonObject, schema: Json, at: Path = ()) -> list[tuple[Path, str]]:
    """Every path of arguments with its Cedar type; of those without one, a condition may ask only whether it is null."""
    found: list[tuple[Path, str]] = []
    for name, part in properties(root, schema).items():
        kind = kind_of(root, part)
        if kind == "Record":
            found += readable(root, part, (*at, name))
        elif kind == "Set":
            found.append(((*at, name), f"Set {kind_of(root, items(root, part))}"))
        else:
            found.append(((*at, name), kind or "untyped"))
    return found


def _string(draw: DrawFn, at: str) -> str:
    text = quoted(draw(st.sampled_from(STRINGS)))
    form = draw(st.integers(0, 3))
    if form == 0:
        return f"{at} {draw(st.sampled_from(('==', '!=')))} {text}"
    if form == 1:
        return f"{at} like {draw(st.sampled_from(PATTERNS))}"
    if form == 2:
        return f"[{text}, {quoted(draw(st.sampled_from(STRINGS)))}].contains({at})"
    return f"!({at} == {text})"


def _bool(draw: DrawFn, at: str) -> str:
    return draw(st.sampled_from((at, f"!{at}", f"{at} == true", f"{at} != true")))


def _long(draw: DrawFn, at: str) -> str:
    number = draw(st.sampled_from(INTEGERS))
    left = draw(st.sampled_from((at, at, f"{at} + 1", f"{at} * 2", f"{at} - 1", f"-{at}")))
    # Cedar has no literal for the lowest integer but `-9223372036854775808` itself.
    return f"{left} {draw(st.sampled_from(('<', '<=', '>', '>=', '==', '!=')))} {number}"


def _decimal(draw: DrawFn, at: str) -> str:
    number = f'decimal("{draw(st.sampled_from(DECIMALS))}")'
    method = draw(st.sampled_from(("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "==", "!=")))
    return f"{at} {method} {number}" if method in ("==", "!=") else f"{at}.{method}({number})"


def _set(literal: Callable[[DrawFn], str]) -> Callable[[DrawFn, str], str]:
    def atom(draw: DrawFn, at: str) -> str:
        form = draw(st.integers(0, 4))
        if form == 0:
            return f"{at}.isEmpty()"
        if form == 1:
            return f"{at}.containsAll([{literal(draw)}, {literal(draw)}])"
        if form == 2:
            return f"{at}.containsAny([{literal(draw)}, {literal(draw)}])"
        return f"{at}.contains({literal(draw)})" if form == 3 else f"{at} == [{literal(draw)}]"

    return atom


_ATOMS: dict[str, Callable[[DrawFn, str], str]] = {
    "String": _string,
    "Bool": _bool,
    "Long": _long,
    "decimal": _decimal,
    "Set String": _set(lambda draw: quoted(draw(st.sampled_from(STRINGS)))),
    "Set Long": _set(lambda draw: str(draw(st.sampled_from(INTEGERS)))),
    "Set decimal": _set(lambda draw: f'decimal("{draw(st.sampled_from(DECIMALS))}")'),
    "Set Bool": _set(lambda draw: draw(st.sampled_from(("true", "false")))),
}


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{quoted(name)}]"


def _about_input(draw: DrawFn, paths: list[tuple[Path, str]]) -> str:
    path, kind = draw(st.sampled_from(paths))
    at = ["context.input" + "".join(map(_step, path[:depth])) for depth in range(len(path) + 1)]
    if kind not in _ATOMS or draw(st.integers(0, 7)) == 0:
        return f"context.input_null.contains({quoted('.'.join(path))})"
    if len(path) > 1 and draw(st.booleans()):
        guard = f"context.input has {'.'.join(path)}"
    else:
        names = [name if name.isidentifier() else quoted(name) for name in path]
        guard = " && ".join(f"{at[depth]} has {names[depth]}" for depth in range(len(path)))
    if draw(st.integers(0, 9)) == 0:
        return f"({guard})"
    atom = _ATOMS[kind](draw, at[-1])
    if draw(st.booleans()):
        return f"({guard} && {atom})"
    return f"(if {guard} then {atom} else {draw(st.sampled_from(('true', 'false')))})"


def _about_run(draw: DrawFn, *, counted: bool) -> str:
    number = draw(st.sampled_from((0, 1, 2, 9, 23, 2**63 - 1)))
    sign = draw(st.sampled_from(("<", "<=", ">", ">=", "==", "!=")))
    return draw(
        st.sampled_from(
            (
                f"context.run.steps {sign} {number}",
                f"context.run.calls + 1 {sign} {number}",
                f"context.run.{'records' if counted else 'calls'} {sign} {number}",
                "context.run.implicit",
                f"context.run.labels.contains({quoted(draw(st.sampled_from(LABELS)))})",
                '(context.run has task && context.run.task like "refund*")',
                f"context.time.hour {sign} {number}",
                f"context.time.weekday {sign} 5",
                f'context.time.now {sign} datetime("2026-09-21T14:00:00Z")',
            )
        )
    )


@st.composite
def _conditions(draw: DrawFn, paths: list[tuple[Path, str]], depth: int, *, counted: bool) -> str:
    form = draw(st.integers(0, 5)) if depth else 0
    if form in (3, 4):
        sign = draw(st.sampled_from((" && ", " || ")))
        below = _conditions(paths, depth - 1, counted=counted)
        return f"({draw(below)}{sign}{draw(below)})"
    if form == 5:
        return f"!({draw(_conditions(paths, depth - 1, counted=counted))})"
    if paths and draw(st.integers(0, 3)):
        return _about_input(draw, paths)
    return _about_run(draw, counted=counted)


def conditions(root: JsonObject | None, *, counted: bool) -> SearchStrategy[str]:
    """Conditions for a tool with this input schema; without one, only over run and time.

    `context.run.records` may be read only where every tool in scope says how it counts (`counted`).
    """
    return _conditions(readable(root, root) if root is not None else [], 2, counted=counted)
