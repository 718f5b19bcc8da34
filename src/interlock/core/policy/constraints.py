"""From the keys of `constraints:` to checks and guards; a key that would do nothing is an error."""

from __future__ import annotations

from decimal import Decimal

from interlock.core.canonical import INT64_MAX, INT64_MIN
from interlock.core.errors import Finding
from interlock.core.files.located import Node, Scalar, Sequence
from interlock.core.files.reader import Located, did_you_mean
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.checks import AllowedValues, Bound, Check, GuardRule, TextMatch, argument_candidates
from interlock.core.policy.document import AgentFile, Constraints
from interlock.core.policy.matching import host_problem, path_problem
from interlock.core.schema import ARRAY, FRACTION, INTEGER, NULL, STRING, Schema, type_of

_RESERVED = ("max_records_per_run", "max_calls_per_run")
_KIND_OF = {"under": "path", "host": "url"}
_PATTERN_PROBLEM = {"under": path_problem, "host": host_problem}


class ConstraintReader:
    """Reads the constraints of one entry for one tool."""

    def __init__(self, file: Located[AgentFile], path: str, tool: Tool, findings: list[Finding]) -> None:
        self._file, self._path, self._tool, self._findings = file, path, tool, findings
        self.checks: list[Check] = []
        self.guards: list[GuardRule] = []

    def read(self, constraints: Constraints) -> None:
        self._limits(constraints)
        for key, node in constraints.argument_rules.items():
            kind, _, name = key.partition("_")
            argument = self._argument(key, name)
            if argument is None:
                continue
            if kind == "allowed":
                self._allowed(key, argument, node)
            elif kind in ("min", "max"):
                self._bound(key, argument, node, low=kind == "min")
            else:
                self._text(key, kind, argument, node)
        self._impossible()

    def _impossible(self) -> None:
        """Bounds that no number satisfies were meant otherwise."""
        bounds = [check for check in self.checks if isinstance(check, Bound)]
        lowest = {bound.argument: bound.low for bound in bounds if bound.low is not None}
        for bound in bounds:
            low = lowest.get(bound.argument)
            if low is not None and bound.high is not None and low > bound.high:
                problem = f"no {bound.argument} is at least {low} and at most {bound.high}"
                self._report(bound.key.removeprefix(f"{self._path}."), problem, "bounds that some number satisfies")

    def _limits(self, constraints: Constraints) -> None:
        tool = self._tool
        for reserved in _RESERVED:
            name = reserved.removeprefix("max_")
            if getattr(constraints, reserved) is not None and name in tool.pinned.arguments.declared:
                problem = f"{reserved!r} could also bound the argument {name!r} of {tool.qualified}"
                self._report(reserved, problem, "one meaning", "use `arguments:` for the argument")
        if constraints.max_calls_per_run is not None:
            key = f"{self._path}.max_calls_per_run"
            self.guards.append(GuardRule(key, f"calls:{tool.qualified}", constraints.max_calls_per_run, None))
        if constraints.max_records_per_run is not None:
            key = f"{self._path}.max_records_per_run"
            if tool.list_arguments and not tool.count_declared:
                problem = f"{tool.qualified} takes lists, and the catalogue does not say how to count records"
                hint = "add `records: {count: ARGUMENT}` or `records: {per_call: 1}` to its catalogue entry"
                self._report("max_records_per_run", problem, hint=hint)
            limit = constraints.max_records_per_run
            self.guards.append(GuardRule(key, f"records:{tool.qualified}", limit, tool.count_argument))

    def _argument(self, key: str, name: str) -> str | None:
        declared = self._tool.pinned.arguments.declared
        found = [candidate for candidate in argument_candidates(name) if candidate in declared]
        if len(found) == 1:
            return found[0]
        where = f"{self._tool.qualified} has"
        if found:
            self._report(key, f"{where} both {found[0]!r} and {found[1]!r}", "one argument that the key can mean")
        else:
            prefix = key.partition("_")[0]
            known = [f"{prefix}_{argument}" for argument in declared]
            arguments = f"its arguments: {', '.join(sorted(declared)) or 'none'}"
            hint = did_you_mean(key, [*known, *_RESERVED]) or arguments
            self._report(key, f"{where} no argument {name!r}", "an argument of the tool, or its plural", hint)
        return None

    def _types(self, argument: str) -> tuple[frozenset[str], frozenset[str]]:
        """Types of the argument itself, and of the items if it is a list."""
        reader = self._tool.pinned.arguments.reader
        schema: Schema = reader.property(reader.root, argument)
        types = reader.types(schema)
        items = reader.types(reader.item(schema, 0)) if ARRAY in types else frozenset[str]()
        return types - {ARRAY}, items

    def _allowed(self, key: str, argument: str, node: Node) -> None:
        if not isinstance(node, Sequence) or not node.items:
            self._report(key, f"{key!r} is not a list with items", "a list of values")
            return
        values: list[str | int | float | bool] = []
        types, items = self._types(argument)
        for index, item in enumerate(node.items):
            value = item.value if isinstance(item, Scalar) else None
            if value is None:
                self._report(f"{key}[{index}]", "this is not a value", "text, a number, true or false")
                continue
            if not _representable(value):
                self._report(f"{key}[{index}]", f"{value} is beyond 64 bit", "a number that a call can hold")
                continue
            plain = float(value) if isinstance(value, Decimal) else value
            if type_of(plain) not in types | items:
                allowed = ", ".join(sorted((types | items) - {NULL}))
                problem = f"{argument!r} of {self._tool.qualified} can never be {item_text(item)}"
                self._report(f"{key}[{index}]", problem, f"a value of type {allowed}")
            elif hint := self._outside_enum(argument, plain):
                problem = f"{argument!r} of {self._tool.qualified} can never be {item_text(item)}"
                self._report(f"{key}[{index}]", problem, "a value that the tool's schema lists", hint)
            values.append(plain)
        self.checks.append(AllowedValues(f"{self._path}.{key}", argument, tuple(values)))

    def _outside_enum(self, argument: str, value: str | int | float | bool) -> str:
        """A hint if the schema lists the argument's values plainly and this is none of them."""
        reader = self._tool.pinned.arguments.reader
        schema = reader.property(reader.root, argument)
        if isinstance(schema, dict) and "items" in schema:
            schema = reader.item(schema, 0)
        values = schema.get("enum") if isinstance(schema, dict) else None
        if not isinstance(values, list) or value in values:
            return ""
        known = [str(option) for option in values]
        return did_you_mean(str(value), known) or f"it lists: {', '.join(known)}"

    def _bound(self, key: str, argument: str, node: Node, *, low: bool) -> None:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self._report(key, f"{key!r} is not a number", "a number")
            return
        if not _representable(value):
            self._report(key, f"{value} is beyond 64 bit", "a number that a call can hold")
            return
        types, items = self._types(argument)
        if (types | items).isdisjoint({INTEGER, FRACTION}):
            self._report(key, f"{argument!r} of {self._tool.qualified} is not a number", "a numeric argument")
            return
        bound = float(value) if isinstance(value, Decimal) else value
        self.checks.append(Bound(f"{self._path}.{key}", argument, bound if low else None, None if low else bound))

    def _text(self, key: str, kind: str, argument: str, node: Node) -> None:
        patterns = _texts(node)
        if not patterns:
            self._report(key, f"{key!r} is not text", "one pattern, or a list of them")
            return
        types, items = self._types(argument)
        if STRING not in types | items:
            self._report(key, f"{argument!r} of {self._tool.qualified} is not text", "an argument of type string")
            return
        declared = self._tool.argument_kinds.get(argument)
        if kind == "match" and declared in _KIND_OF.values():
            right = next(name for name, typed in _KIND_OF.items() if typed == declared)
            hint = f"use {right}_{argument}: a glob does not see through `..`, encodings or user information"
            self._report(key, f"{argument!r} is a {declared}, which a glob cannot bound", f"{right}_{argument}", hint)
            return
        if kind in _KIND_OF and declared not in (None, _KIND_OF[kind]):
            self._report(
                key, f"the catalogue types {argument!r} as {declared}", f"an argument of type {_KIND_OF[kind]}"
            )
            return
        for index, pattern in enumerate(patterns):
            problem = _PATTERN_PROBLEM[kind](pattern) if kind in _PATTERN_PROBLEM else None
            if problem:
                where = f"{key}[{index}]" if isinstance(node, Sequence) else key
                self._report(where, f"{pattern!r} cannot stand here: {problem}", "a plain directory or host")
        self.checks.append(TextMatch(f"{self._path}.{key}", argument, kind, tuple(patterns)))

    def _report(self, key: str, problem: str, expected: str = "", hint: str = "") -> None:
        self._findings.append(self._file.finding(f"{self._path}.{key}", problem, expected, hint))


def _representable(value: bool | int | Decimal | str) -> bool:
    return not isinstance(value, int) or INT64_MIN <= value <= INT64_MAX


def item_text(node: Node) -> str:
    return repr(node.text) if isinstance(node, Scalar) else "a structure"


def _texts(node: Node) -> list[str]:
    items = node.items if isinstance(node, Sequence) else (node,)
    texts = [item.value for item in items if isinstance(item, Scalar) and isinstance(item.value, str)]
    return texts if len(texts) == len(items) and all(texts) else []
