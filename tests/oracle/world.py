"""What the oracle works on: parsed policy files, tools with their catalogue entries, and moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from oracle.envelope import glob
from oracle.input_view import Shape, shape_of
from oracle.json_value import Json, JsonObject, members
from oracle.tool_schema import properties, valid


@dataclass(frozen=True)
class World:
    """One set of policy files, parsed.

    Attributes:
        definitions: Tools as their upstreams list them, by `upstream/tool`.
        catalogues: Parsed catalogue files.
        agents: Parsed agent files by path.
        guardrails: Guardrail texts by path.
    """

    definitions: Mapping[str, JsonObject]
    catalogues: Sequence[JsonObject]
    agents: Mapping[str, JsonObject]
    guardrails: Mapping[str, str]


@dataclass(frozen=True)
class Moment:
    """What is known beside the call: the run's facts, the time, a verdict, an earlier unknown outcome."""

    run: JsonObject
    now_us: int
    approved: bool = False
    repeats_unknown: bool = False


@dataclass(frozen=True)
class Tool:
    """One pinned tool with what its catalogue says of it."""

    qualified: str
    definition: JsonObject
    entry: JsonObject

    @property
    def upstream(self) -> str:
        return self.qualified.partition("/")[0]

    @property
    def name(self) -> str:
        return self.qualified.partition("/")[2]

    @cached_property
    def schema(self) -> JsonObject:
        return members(self.definition["inputSchema"])

    @cached_property
    def declared(self) -> dict[str, Json]:
        return properties(self.schema, self.schema)

    @cached_property
    def shape(self) -> Shape:
        """What conditions can see of its arguments."""
        return shape_of(self.schema)

    def accepts(self, arguments: JsonObject) -> bool:
        return valid(self.schema, arguments, formats=False)

    @cached_property
    def effect(self) -> str:
        """The catalogue's, made more cautious where the upstream's annotations say so; irreversible if unknown."""
        said = str(self.entry.get("effect", "irreversible"))
        annotations = members(self.definition.get("annotations"))
        if annotations.get("destructiveHint") is True and annotations.get("readOnlyHint") is not True:
            return "irreversible"
        return "reversible" if said == "read" and annotations.get("readOnlyHint") is False else said

    @property
    def idempotent(self) -> bool:
        annotations = members(self.definition.get("annotations"))
        return self.entry.get("idempotent") is True and annotations.get("idempotentHint") is not False

    def granted_by(self, name: str) -> bool:
        """Whether a name or glob in `tools.allowed` means this tool: with a slash it begins with the upstream."""
        return glob(name, self.qualified if "/" in name else self.name)

    def blocked_by(self, name: str) -> bool:
        """Whether an item of `tools.blocked` means this tool: in doubt, a glob blocks."""
        if {"*", "?"}.isdisjoint(name):
            return self.granted_by(name)
        return glob(name, self.name) or glob(name, self.qualified)


@dataclass(frozen=True)
class Entry:
    """One item of `tools.allowed` with its place."""

    place: tuple[str, ...]
    keys: JsonObject

    @property
    def constraints(self) -> JsonObject:
        return members(self.keys.get("constraints"))

    def limit(self, counter: str) -> int | None:
        return _number(self.constraints.get(counter))

    def number(self, key: str) -> int | None:
        return _number(self.keys.get(key))


def _number(value: Json) -> int | None:
    return value if isinstance(value, int) else None
