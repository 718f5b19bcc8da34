"""Calls derived from a bundle's own literals, as the JSON text that a caller would send.

Every value is a JSON fragment, so that 1, 1.0, 1e0 and "1" stay what they are until they are parsed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from oracle.envelope import COUNTERS, argument_of
from oracle.evaluation import reads
from oracle.expression import Call as Function
from oracle.expression import Expr, Like, Literal, Operation, children
from oracle.generate_moments import PLAIN, moments
from oracle.generate_values import EVERYWHERE, around
from oracle.json_value import Json, JsonObject, elements, members, several
from oracle.oracle import Oracle, read_condition
from oracle.tool_schema import items, properties, resolve, types
from oracle.world import Moment, Tool

_TYPICAL = {
    "string": '"x"',
    "integer": "3",
    "number": "2.5",
    "boolean": "true",
    "array": "[]",
    "object": "{}",
    "null": "null",
}


@dataclass(frozen=True)
class Sent:
    """One call as it arrives."""

    agent: str
    tool: str
    text: bytes
    moment: Moment = PLAIN


@dataclass(frozen=True)
class _Literal:
    """A value that some rule compares an argument with."""

    value: Json
    tricks: str = ""


def calls(oracle: Oracle, agent: str, tool: Tool, seed: int, most: int) -> Iterator[Sent]:
    """Calls of one tool by one agent: a plain one, then whatever lies just beside it.

    Args:
        seed: Chooses which of them are made, where there are more than `most`.
    """
    chosen = random.Random(seed)
    rules = conditions(oracle, agent, tool)
    literals = _literals(oracle, agent, tool, rules)
    declared = tool.declared
    values = {name: _values(tool.schema, part, literals[name], 0) for name, part in declared.items()}
    times = moments(rules)
    plain = Sent(agent, tool.qualified, b"{}")
    base = _nearer(oracle, tool, literals, plain, dict.fromkeys(literals))
    plain = replace(plain, text=_text(base))
    # Approval hides what a plain call meets: last choice among moments that are as good otherwise.
    plain = min(
        (replace(plain, moment=moment) for moment in times),
        key=lambda sent: (sent.moment.approved, _distance(oracle, sent)),
    )
    base = _nearer(oracle, tool, literals, plain, base)
    plain = replace(plain, text=_text(base))
    yield plain
    found = [replace(plain, moment=moment) for moment in times]
    for name, fragments in values.items():
        found += [replace(plain, text=_text({**base, name: fragment})) for fragment in [*fragments, None]]
    found += [replace(plain, text=text) for text in _odd(base)]
    for _ in range(most // 4):
        mixed = {name: chosen.choice([base.get(name), *fragments]) for name, fragments in values.items()}
        found.append(Sent(agent, tool.qualified, _text(mixed), chosen.choice(times)))
    for sent in _sample(oracle, tool, found, chosen, most):
        yield replace(sent, moment=chosen.choice(times)) if chosen.random() < 0.2 else sent


def _sample(oracle: Oracle, tool: Tool, found: list[Sent], chosen: random.Random, most: int) -> list[Sent]:
    """At most `most` of the calls, a third of them malformed at the most: those say little about the rules."""
    found = chosen.sample(found, min(2 * most, len(found)))
    sorted_out: dict[bool, list[Sent]] = {True: [], False: []}
    for sent in found:
        sorted_out[oracle.arguments(tool, sent.text) is not None].append(sent)
    kept: list[Sent] = []
    for well_formed, share in ((True, most * 2 // 3), (False, most // 3)):
        part = sorted_out[well_formed]
        kept += chosen.sample(part, min(share, len(part)))
    return kept


def conditions(oracle: Oracle, agent: str, tool: Tool) -> list[Expr]:
    """Every condition that calls of the tool by the agent meet."""
    own = [read_condition(str(entry.keys["when"])) for entry in oracle.entries(agent, tool) if "when" in entry.keys]
    return own + [expr for _, rule in oracle.covering(agent, tool) for _, expr in rule.conditions]


def _text(fragments: Mapping[str, str | None]) -> bytes:
    pairs = [f"{json.dumps(name)}: {value}" for name, value in fragments.items() if value is not None]
    return ("{" + ", ".join(pairs) + "}").encode("utf-8", "surrogatepass")


def _literals(oracle: Oracle, agent: str, tool: Tool, rules: list[Expr]) -> dict[str, list[_Literal]]:
    declared = tool.declared
    found: dict[str, list[_Literal]] = {
        name: [_Literal(value) for value in elements(members(resolve(tool.schema, part)).get("enum"))]
        for name, part in declared.items()
    }
    for entry in oracle.entries(agent, tool):
        for key, limit in entry.constraints.items():
            if key not in COUNTERS:
                form, _, name = key.partition("_")
                tricks = {"under": "path", "host": "url"}.get(form, "")
                found[argument_of(tool.declared, name)] += [_Literal(value, tricks) for value in several(limit)]
        for name, part in members(members(entry.keys.get("arguments")).get("properties")).items():
            found[name] += [_Literal(value) for value in _scalars(part)]
        fields = tool.entry.get("fields_argument")
        if isinstance(fields, str):
            granted = [str(name) for name in elements(entry.keys.get("scope"))]
            found[fields] += [
                _Literal(name) for field in granted for name in (field, field + ".x", field.split(".")[0])
            ]
    for rule in rules:
        for reading in reads(rule):
            if reading.path and reading.path[0] in found:
                found[reading.path[0]] += [_Literal(value) for value in literals(rule)]
    # Made unique by their writing: 1, 1.0 and True are one key to Python.
    return {name: list({repr(literal): literal for literal in values}.values()) for name, values in found.items()}


def _scalars(value: Json) -> list[Json]:
    if isinstance(value, dict | list):
        parts = list(value.values()) if isinstance(value, dict) else value
        return [scalar for part in parts for scalar in _scalars(part)]
    return [value]


def literals(expr: Expr) -> list[Json]:
    """The constants in a condition, decimals as numbers and patterns as text with their stars.

    Arithmetic adds the ends of its range, where it overflows.
    """
    match expr:
        case Literal(value):
            return [value]
        case Like(of, pattern):
            return [*literals(of), "".join("*" if sign is None else sign for sign in pattern)]
        case Function("decimal", (Literal(text),)):
            return [float(text)]
        case Operation("+" | "-" | "*" | "neg", parts):
            return [2**63 - 1, -(2**63), *(value for part in parts for value in literals(part))]
        case _:
            return [value for part in children(expr) for value in literals(part)]


def _values(root: JsonObject, schema: Json, wanted: list[_Literal], depth: int) -> list[str]:
    """Fragments to send where the schema stands: literals in their place and out of it, then everything else."""
    kinds = types(root, schema)
    found = [text for literal in wanted for text in around(literal.value, tricks=literal.tricks)]
    if "array" in kinds and depth < 2:
        inner = _values(root, items(root, schema), wanted, depth + 1)
        plain = [json.dumps(literal.value) for literal in wanted] or ['"x"']
        found += [f"[{text}]" for text in inner]
        found += [f"[{plain[0]}, {text}]" for text in inner]
        found += ["[" + ", ".join(plain) + "]", "[" + ", ".join(plain * 2) + "]", "[" + ", ".join(plain[:1] * 11) + "]"]
    if "object" in kinds and depth < 2:
        parts = properties(root, schema)
        for name, part in parts.items():
            for text in _values(root, part, wanted, depth + 1):
                city = '"city": "x", ' if "city" in parts and name != "city" else ""
                found.append(f"{{{city}{json.dumps(name)}: {text}}}")
        found += ['{"city": "x", "other": 1}', '{"rows": ["a", "b", "c"]}', '{"a": 9007199254740993}']
    return found + list(EVERYWHERE)


def _nearer(
    oracle: Oracle, tool: Tool, wanted: dict[str, list[_Literal]], start: Sent, base: dict[str, str | None]
) -> dict[str, str | None]:
    """A call as close to a permit as one pass over the arguments finds."""
    base = dict(base)
    for name, part in tool.declared.items():
        base[name] = min(
            [base[name], *_likely(tool.schema, part, wanted[name])],
            key=lambda text, name=name: _distance(oracle, replace(start, text=_text({**base, name: text}))),
        )
    return base


def _likely(root: JsonObject, schema: Json, wanted: list[_Literal]) -> list[str]:
    plain = [json.dumps(literal.value) for literal in wanted if not literal.tricks]
    for literal in wanted:
        plain += around(literal.value, tricks=literal.tricks)[:7] if literal.tricks else []
    plain = list(dict.fromkeys(plain))[:14]
    found = [*plain, *(_TYPICAL[kind] for kind in sorted(types(root, schema)))]
    if "array" in types(root, schema):
        found += [f"[{text}]" for text in [*plain, '"x"', "3"]]
    for name, part in properties(root, schema).items():
        found += [f'{{"city": "x", "{name}": {text}}}' for text in _likely(root, part, wanted)]
        found += [f'{{"{name}": {text}}}' for text in _likely(root, part, wanted)]
    return found[:60]


def _distance(oracle: Oracle, sent: Sent) -> int:
    answer = oracle.decide(sent.agent, sent.tool, sent.text, sent.moment)
    return 100 if answer.verdict == "malformed" else len(answer.reasons)


def _odd(base: Mapping[str, str | None]) -> list[bytes]:
    """Texts that no parser should be trusted with, made of a plain call."""
    text = _text(base).decode()
    inner = text[1:-1]
    comma = ", " if inner else ""
    found = [
        "{}",
        "[]",
        "null",
        "",
        text + " x",
        "\ufeff" + text,
        f'{{{inner}{comma}"undeclared": 1}}',
        f'{{{inner}{comma}"undeclared": null}}',
        f'{{{inner}{comma}"undeclared": {{"__extn": 1}}}}',
        f'{{{inner}{comma}"undeclared": 9007199254740993}}',
        f'{{{inner}{comma}"undeclared": {"[" * 30}{"]" * 30}}}',
        f'{{{inner}{comma}"undeclared": {"[" * 31}{"]" * 31}}}',
        f'{{{inner}{comma}"undeclared": {"[" * 32}{"]" * 32}}}',
        f'{{{inner}{comma}"__entity": {{"type": "Agent", "id": "alpha"}}}}',
        f'{{{inner}{comma}"Amount": 1}}',
    ]
    for name, value in base.items():
        found += [
            f"{{{inner}{comma}{json.dumps(name)}: {value or 'null'}}}",
            f"{{{json.dumps(name.upper())}: 1{comma}{inner}}}",
        ]
    return [*(odd.encode() for odd in found), text.encode() + b"\xff"]
