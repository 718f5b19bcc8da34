"""Tools as policy sees them: pinned definition plus what the catalogue says, with caution only added."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.core.canonical import Json
from interlock.core.errors import Finding
from interlock.core.files.reader import Located, did_you_mean
from interlock.core.lockfile import Lock
from interlock.core.policy.cedar_types import RecordType, argument_types
from interlock.core.policy.document import EFFECTS, CatalogueFile, Effect, Tag, ToolEntry
from interlock.core.policy.matching import glob_match
from interlock.core.schema import ARRAY, NULL, OBJECT, Schema, SchemaReader
from interlock.core.tool import PinnedTool


@dataclass(frozen=True, slots=True)
class Tool:
    """One pinned tool with its effective properties.

    Attributes:
        pinned: The pinned definition.
        effect: The catalogue's effect, or more cautious where the upstream's annotations ask for it;
            `irreversible` for a tool that no catalogue names.
        count_argument: Path of the list argument that counts records; None counts one a call.
        list_arguments: Whether any argument, undeclared ones that are let pass too, can hold a list.
        count_declared: Whether the catalogue said how to count.
        input: Types of the arguments in Cedar.
    """

    pinned: PinnedTool
    effect: Effect
    tags: tuple[Tag, ...]
    count_argument: tuple[str, ...] | None
    count_declared: bool
    list_arguments: bool
    fields_argument: str | None
    argument_kinds: dict[str, str]
    additional_arguments: bool
    idempotent: bool
    input: RecordType

    @property
    def qualified(self) -> str:
        return self.pinned.qualified

    @property
    def groups(self) -> frozenset[str]:
        """The Cedar action groups of this tool."""
        return frozenset(
            {f"effect:{self.effect}", f"upstream:{self.pinned.upstream}", *(f"tag:{tag}" for tag in self.tags)}
        )


class Catalogue:
    """Every pinned tool by qualified name, and how names in agent files are resolved against them."""

    def __init__(self, tools: list[Tool]) -> None:
        self.tools = {tool.qualified: tool for tool in sorted(tools, key=lambda tool: tool.qualified)}
        self._by_name: dict[str, list[Tool]] = {}
        for tool in self.tools.values():
            self._by_name.setdefault(tool.pinned.name, []).append(tool)

    def exact(self, name: str) -> list[Tool]:
        """The tools that a name without wildcards may mean: bare in any upstream, or with a slash qualified.

        An upstream may call a tool `other/wipe`; who writes that name means the upstream `other`.
        """
        if "/" not in name:
            return self._by_name.get(name, [])
        return [self.tools[name]] if name in self.tools else []

    def grantable(self, pattern: str) -> list[Tool]:
        """The tools whose bare name a glob matches, or with a slash in it their qualified name."""
        whole = "/" in pattern
        return [
            tool for tool in self.tools.values() if glob_match(pattern, tool.qualified if whole else tool.pinned.name)
        ]

    def blockable(self, pattern: str) -> list[Tool]:
        """The tools whose bare or qualified name a glob matches: in doubt, what is blocked is more."""
        return [
            tool
            for tool in self.tools.values()
            if glob_match(pattern, tool.pinned.name) or glob_match(pattern, tool.qualified)
        ]

    def unknown_hint(self, name: str) -> str:
        close = did_you_mean(name, [*self._by_name, *self.tools])
        return close or "pin the upstream's tools first: `interlock tools pin UPSTREAM`"


def build_catalogue(
    lock: Lock, files: list[Located[CatalogueFile]], findings: list[Finding], warnings: list[Finding]
) -> Catalogue:
    """Join the lock with the catalogue files; disagreements are findings or warnings."""
    entries: dict[str, tuple[Located[CatalogueFile], str, ToolEntry]] = {}
    owners: dict[str, Located[CatalogueFile]] = {}
    for file in files:
        upstream = file.value.upstream
        if upstream in owners:
            problem = f"the upstream {upstream!r} already has the catalogue {owners[upstream].file}"
            findings.append(file.finding("upstream", problem, "one file for each upstream"))
            continue
        owners[upstream] = file
        pins = lock.upstreams.get(upstream)
        if pins is None:
            hint = did_you_mean(upstream, lock.upstreams) or f"run `interlock tools pin {upstream}`"
            findings.append(file.finding("upstream", f"the upstream {upstream!r} has no pinned tools", hint=hint))
            continue
        names = [tool.name for tool in pins.tools]
        for name, entry in file.value.tools.items():
            path = f"tools.{name}"
            if name not in names:
                problem = f"the upstream {upstream!r} has no tool {name!r}"
                findings.append(file.finding(path, problem, "a pinned tool", did_you_mean(name, names)))
                continue
            entries[f"{upstream}/{name}"] = (file, path, entry)
    tools = [_tool(pinned, entries.get(pinned.qualified), findings, warnings) for pinned in lock.all_tools()]
    return Catalogue(tools)


def _tool(
    pinned: PinnedTool,
    found: tuple[Located[CatalogueFile], str, ToolEntry] | None,
    findings: list[Finding],
    warnings: list[Finding],
) -> Tool:
    reader = pinned.arguments.reader
    lists = _has_list(reader)
    types = argument_types(reader)
    if found is None:
        return Tool(pinned, "irreversible", (), None, False, lists, None, {}, False, False, types)
    file, path, entry = found
    additional = entry.additional_arguments == "allow"
    effect = _cautious_effect(pinned, file, path, entry, warnings)
    count = _count_argument(reader, file, path, entry, findings)
    for name in entry.arguments or {}:
        if name not in pinned.arguments.declared:
            _no_argument(pinned, file, f"{path}.arguments.{name}", name, findings)
    if entry.fields_argument is not None and entry.fields_argument not in pinned.arguments.declared:
        _no_argument(pinned, file, f"{path}.fields_argument", entry.fields_argument, findings)
    return Tool(
        pinned,
        effect,
        entry.tags,
        count,
        entry.records is not None,
        lists or additional,
        entry.fields_argument,
        {name: argument.type for name, argument in (entry.arguments or {}).items()},
        additional,
        entry.idempotent and _annotation(pinned, "idempotentHint") is not False,
        types,
    )


def _cautious_effect(
    pinned: PinnedTool, file: Located[CatalogueFile], path: str, entry: ToolEntry, warnings: list[Finding]
) -> Effect:
    """The upstream's annotations may raise caution, never lower it; only explicit ones count."""
    asked: Effect = "read"
    if _annotation(pinned, "readOnlyHint") is False:
        asked = "reversible"
    if _annotation(pinned, "destructiveHint") is True and _annotation(pinned, "readOnlyHint") is not True:
        asked = "irreversible"
    if EFFECTS.index(asked) <= EFFECTS.index(entry.effect):
        return entry.effect
    warnings.append(
        file.finding(
            f"{path}.effect",
            f"{pinned.qualified} is catalogued as {entry.effect}, its upstream annotates it as {asked}",
            hint=f"it is treated as {asked}",
        )
    )
    return asked


def _annotation(pinned: PinnedTool, name: str) -> Json:
    annotations = pinned.definition.get("annotations")
    return annotations.get(name) if isinstance(annotations, dict) else None


def _count_argument(
    reader: SchemaReader, file: Located[CatalogueFile], path: str, entry: ToolEntry, findings: list[Finding]
) -> tuple[str, ...] | None:
    records = entry.records
    if records is None:
        return None
    if (records.count is None) == (records.per_call is None):
        findings.append(file.finding(f"{path}.records", "records is ambiguous", "either `count` or `per_call: 1`"))
        return None
    if records.count is None:
        return None
    argument = tuple(records.count.split("."))
    schema: Schema = reader.root
    for name in argument:
        if reader.types(schema) - {NULL, OBJECT}:
            return _uncountable(file, path, records.count, findings)
        if name not in reader.property_names(schema):
            hint = did_you_mean(name, reader.property_names(schema))
            problem = f"the tool has no argument {records.count!r}"
            findings.append(file.finding(f"{path}.records.count", problem, "a list argument", hint))
            return None
        schema = reader.property(schema, name)
    types = reader.types(schema)
    if ARRAY not in types:
        problem = f"the argument {records.count!r} is not a list"
        findings.append(file.finding(f"{path}.records.count", problem, "a list argument"))
    elif types - {NULL, ARRAY}:
        return _uncountable(file, path, records.count, findings)
    return argument


def _uncountable(file: Located[CatalogueFile], path: str, count: str, findings: list[Finding]) -> None:
    """The caller chooses the form: one string of a hundred ids would count as one record."""
    problem = f"the argument {count!r} may be something else than a list, which would count one record"
    findings.append(file.finding(f"{path}.records.count", problem, "a list argument"))


def _no_argument(
    pinned: PinnedTool, file: Located[CatalogueFile], path: str, name: str, findings: list[Finding]
) -> None:
    hint = did_you_mean(name, pinned.arguments.declared)
    findings.append(file.finding(path, f"{pinned.qualified} has no argument {name!r}", "a declared argument", hint))


def _has_list(reader: SchemaReader) -> bool:
    """Whether any declared argument, whatever is below it too, can hold a list."""
    declared = [reader.property(reader.root, name) for name in reader.property_names(reader.root)]
    return any(ARRAY in reader.types(schema) for schema in reader.positions(declared))
