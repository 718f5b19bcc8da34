"""`arguments:` in agent files: a JSON Schema 2020-12 no part of which silently does nothing.

It is read beside the tool's own schema: each part of it stands at a position there, which says what
members exist and of which types they can be.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Finding
from interlock.core.files.located import Mapping, Node, to_json
from interlock.core.files.reader import Located, did_you_mean
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.checks import ArgumentsSchema
from interlock.core.policy.document import AgentFile
from interlock.core.schema import ANY_TYPE, ARRAY, DIALECT, FRACTION, INTEGER, OBJECT, STRING, Schema, SchemaReader
from interlock.core.schema_check import SchemaRefused, SchemaValidator
from interlock.core.schema_cost import MAX_CHAIN

_ANNOTATIONS: Final = frozenset({"$comment", "title", "description", "default", "examples", "deprecated"})
_AT_THE_TOP: Final = frozenset({"$schema", "$defs"})
_SPEAKS_OF: Final[dict[str, frozenset[str]]] = {
    keyword: types
    for types, keywords in (
        (ANY_TYPE, "$ref allOf anyOf oneOf not if then else type enum const"),
        ({INTEGER, FRACTION}, "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf"),
        ({STRING}, "minLength maxLength pattern format"),
        ({ARRAY}, "items prefixItems contains minContains maxContains minItems maxItems uniqueItems unevaluatedItems"),
        ({OBJECT}, "properties patternProperties additionalProperties propertyNames unevaluatedProperties"),
        ({OBJECT}, "required dependentRequired dependentSchemas minProperties maxProperties"),
    )
    for keyword in keywords.split()
    for types in (frozenset(types),)
}
"""The types of value that each keyword can refuse; of any other it says nothing."""
_PARTNERS: Final = {
    "if": ("then", "else"),
    "then": ("if",),
    "else": ("if",),
    "minContains": ("contains",),
    "maxContains": ("contains",),
}


def read_arguments(
    file: Located[AgentFile], path: str, node: Node, tool: Tool, findings: list[Finding]
) -> ArgumentsSchema | None:
    """Read the schema at a key path for one tool; None, with findings, where it cannot be used."""
    schema = to_json(node)
    if not isinstance(node, Mapping) or not isinstance(schema, dict):
        problem = "`arguments` is not a JSON Schema"
        findings.append(file.finding(path, problem, "an object such as {properties: …}"))
        return None
    try:
        validator = SchemaValidator(schema, check_formats=True)
    except SchemaRefused as error:
        findings.append(file.finding(path, str(error), "a JSON Schema 2020-12"))
        return None
    _Lint(file, path, schema, tool, findings).run()
    return ArgumentsSchema(path, schema, validator)


class _Lint:
    """One walk over a schema that was admitted, so its keywords have the right shapes."""

    def __init__(
        self, file: Located[AgentFile], path: str, schema: JsonObject, tool: Tool, findings: list[Finding]
    ) -> None:
        self._file, self._path, self._schema, self._tool, self._findings = file, path, schema, tool, findings
        self._own = SchemaReader(schema)
        self._reader = tool.pinned.arguments.reader
        self._references: dict[tuple[str, frozenset[int]], bool] = {}
        self._depth = 0

    def run(self) -> None:
        before = len(self._findings)
        refuses = self._part(self._path, self._schema, self._reader.root)
        used = {reference for reference, _ in self._references}
        definitions = self._schema.get("$defs")
        for name in definitions if isinstance(definitions, dict) else ():
            pointer = "#/$defs/" + name.replace("~", "~0").replace("/", "~1")
            if not any(reference == pointer or reference.startswith(pointer + "/") for reference in used):
                self._report(f"{self._path}.$defs.{name}", f"nothing refers to {pointer!r}", "a `$ref` to it")
        dialect = self._schema.get("$schema", DIALECT)
        if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
            self._report(f"{self._path}.$schema", "this is another dialect of JSON Schema", DIALECT)
        if not refuses and len(self._findings) == before:
            self._report(self._path, "every call satisfies this schema, so it would do nothing", "a bound")

    def _part(self, path: str, node: Json, position: Schema) -> bool:
        """Report what does nothing; return whether some value of the position can be refused."""
        # Deeper than an admitted schema is only one that refers to itself, at ever new positions of the tool's.
        if not isinstance(node, dict) or self._depth > MAX_CHAIN:
            return node is not True
        self._depth += 1
        types = self._reader.types(position)
        refuses = False
        for keyword, value in node.items():
            where = f"{path}.{keyword}"
            if keyword in _ANNOTATIONS or (keyword in _AT_THE_TOP and node is self._schema):
                continue
            if keyword in _AT_THE_TOP:
                self._report(where, f"{keyword!r} would do nothing here", "it at the top of `arguments`")
            elif keyword not in _SPEAKS_OF:
                problem = f"{keyword!r} is no keyword of JSON Schema, so it would do nothing"
                hint = did_you_mean(keyword, _SPEAKS_OF)
                self._report(where, problem, "a keyword of JSON Schema 2020-12", hint)
            elif node.keys().isdisjoint(_PARTNERS.get(keyword, node)):
                partners = " or ".join(_PARTNERS[keyword])
                self._report(where, f"{keyword!r} would do nothing alone", f"{partners} beside it")
            elif _SPEAKS_OF[keyword].isdisjoint(types):
                names = ", ".join(sorted("number" if name == FRACTION else name for name in types))
                problem = f"{keyword!r} would do nothing: here {self._tool.qualified} takes values of type {names}"
                self._report(where, problem, "a keyword for these")
            elif self._keyword(where, keyword, value, position):
                refuses = True
        self._depth -= 1
        return refuses

    def _keyword(self, where: str, keyword: str, value: Json, position: Schema) -> bool:
        match keyword, value:
            case "$ref", str():
                return self._reference(value, position)
            case "type", _:
                return not self._reader.types(position) <= self._reader.types({"type": value})
            case "required", list():
                self._names(where, value, position)
            case "dependentRequired", dict():
                for name, names in value.items():
                    self._member(f"{where}.{name}", name, position)
                    self._names(f"{where}.{name}", names, position)
            case _:
                pass
        below = self._below(where, keyword, value, position)
        if below is None:
            return True
        refusing = [self._part(*part) for part in below]
        if keyword == "anyOf":
            return all(refusing)
        return keyword != "if" and (any(refusing) or keyword in ("not", "oneOf", "contains"))

    def _below(self, where: str, keyword: str, value: Json, position: Schema) -> list[tuple[str, Json, Schema]] | None:
        """The schemas below a keyword, each with its path and its position; None where there never are any."""
        match keyword, value:
            case (("allOf" | "anyOf" | "oneOf"), list()):
                return [(f"{where}[{index}]", part, position) for index, part in enumerate(value)]
            case "prefixItems", list():
                return [(f"{where}[{index}]", part, self._item(position, index)) for index, part in enumerate(value)]
            case "properties", dict():
                return [
                    (at := f"{where}.{name}", part, self._member(at, name, position)) for name, part in value.items()
                ]
            case "dependentSchemas", dict():
                for name in value:
                    self._member(f"{where}.{name}", name, position)
                return [(f"{where}.{name}", part, position) for name, part in value.items()]
            case "patternProperties", dict():
                for pattern in value:
                    self._pattern(f"{where}.{pattern}", pattern, position)
                return [(f"{where}.{pattern}", part, True) for pattern, part in value.items()]
            case (("not" | "if" | "then" | "else"), _):
                return [(where, value, position)]
            case (("items" | "contains"), _):
                return [(where, value, self._item(position, 0))]
            case "propertyNames", _:
                return [(where, value, {"type": "string"})]
            case (("additionalProperties" | "unevaluatedProperties" | "unevaluatedItems"), _):
                return [(where, value, True)]
            case _:
                return None

    def _reference(self, reference: str, position: Schema) -> bool:
        # Positions that refer to themselves are ever new, but made of the same parts of the tool's schema.
        key = (reference, self._reader.originals(position))
        if key not in self._references:
            self._references[key] = True
            pointer = reference.removeprefix("#/").replace("/", ".").replace("~1", "/").replace("~0", "~")
            target = self._own.target(reference)
            self._references[key] = self._part(f"{self._path}.{pointer}", target, position)
        return self._references[key]

    def _item(self, position: Schema, index: int) -> Schema:
        tuples = any("prefixItems" in part for part in self._reader.in_place(position))
        return True if tuples else self._reader.item(position, index)

    def _known(self, position: Schema) -> AbstractSet[str] | None:
        """The members that a value there can have; None if any."""
        names = self._reader.property_names(position)
        if position is self._reader.root:
            return None if self._tool.additional_arguments else names
        parts = list(self._reader.in_place(position))
        others = any(
            "patternProperties" in part or part.get("additionalProperties", False) is not False for part in parts
        )
        # An object that declares nothing is free. Where it declares some members, another name is rather a slip.
        return names if names and not others else None

    def _member(self, where: str, name: str, position: Schema) -> Schema:
        """The position of a member; a name that is none is reported, and anything may stand there."""
        known = self._known(position)
        if known is None or name in known:
            return self._reader.property(position, name)
        if position is self._reader.root:
            problem, expected = f"{self._tool.qualified} has no argument {name!r}", "an argument of the tool"
        else:
            problem, expected = f"{self._tool.qualified} takes no member {name!r} here", "a member of the argument"
        self._report(where, problem, expected, did_you_mean(name, known))
        return True

    def _names(self, where: str, names: Json, position: Schema) -> None:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str):
                self._member(f"{where}[{index}]", name, position)

    def _pattern(self, where: str, pattern: str, position: Schema) -> None:
        known = self._known(position)
        if known is None:
            return
        # The validator's own patterns run in linear time; Python's do not.
        matches = SchemaValidator({"pattern": pattern})
        if not any(matches.first_error(name) is None for name in known):
            problem = f"{pattern!r} matches no argument of {self._tool.qualified}"
            self._report(where, problem, "a pattern of argument names")

    def _report(self, path: str, problem: str, expected: str, hint: str = "") -> None:
        self._findings.append(self._file.finding(path, problem, expected, hint))
