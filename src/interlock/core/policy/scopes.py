"""Scopes: which fields of a result an agent may see, checked at load and applied to results and lists."""

from __future__ import annotations

from typing import Final, TypeAlias

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Finding
from interlock.core.files.reader import Located, did_you_mean
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.document import AgentFile
from interlock.core.schema import ANY_TYPE, ARRAY, FRACTION, INTEGER, NULL, OBJECT, Schema, SchemaReader

_DEFINITIONS: Final = ("$defs", "definitions")
_MAX_NESTED_LISTS: Final = 4
"""Lists directly in lists that paths look through in a schema; one that contains itself has no end."""

_Tree: TypeAlias = "dict[str, _Tree | None]"
"""Granted fields by name; None grants everything below, an empty tree nothing."""


def check_scope(
    file: Located[AgentFile],
    path: str,
    scope: tuple[str, ...],
    tool: Tool,
    findings: list[Finding],
    warnings: list[Finding],
) -> None:
    """Every field must exist in the tool's declared output; without one there is nothing to check."""
    reader = tool.pinned.output
    if reader is None:
        problem = f"{tool.qualified} declares no output schema; a result without structure will be withheld"
        warnings.append(file.finding(path, problem))
        return
    for index, dotted in enumerate(scope):
        schema: Schema = reader.root
        for name in dotted.split("."):
            schema = _through_arrays(reader, schema)
            names = reader.property_names(schema)
            if OBJECT not in reader.types(schema) or (names and name not in names):
                problem = f"the output of {tool.qualified} has no field {dotted!r}"
                findings.append(file.finding(f"{path}[{index}]", problem, "a field", did_you_mean(name, names)))
                break
            schema = reader.property(schema, name)


def common_scope(scopes: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The fields that every scope grants; None if there is no scope at all."""
    if not scopes:
        return None
    first, *others = scopes
    granted = set(first)
    for other in others:
        granted = {inner for inner in granted | set(other) if _within(inner, granted) and _within(inner, set(other))}
    return tuple(sorted(granted))


def _within(path: str, granted: set[str]) -> bool:
    return any(path == field_path or path.startswith(field_path + ".") for field_path in granted)


def _through_arrays(reader: SchemaReader, schema: Schema) -> Schema:
    for _ in range(_MAX_NESTED_LISTS):
        if schema is True or reader.types(schema) - {NULL} != frozenset({ARRAY}):
            return schema
        schema = _item(reader, schema)
    return False


def _item(reader: SchemaReader, schema: Schema) -> Schema:
    """What any element of an array may be; of tuples nothing is said, because projection moves their elements."""
    tuples = any("prefixItems" in part for part in reader.in_place(schema))
    return True if tuples else reader.item(schema, 0)


def project(value: Json, scope: tuple[str, ...]) -> Json:
    """Keep the granted fields of a structured result; arrays are transparent to paths."""
    return _project(value, _tree(scope))


def _tree(scope: tuple[str, ...]) -> _Tree:
    """Paths as a tree. A path that ends grants all below it, whatever longer paths say."""
    root: _Tree = {}
    for dotted in sorted(scope, key=len):
        *parents, last = dotted.split(".")
        node: _Tree | None = root
        for name in parents:
            node = node.setdefault(name, {})
            if node is None:  # already granted whole
                break
        else:
            node[last] = None
    return root


def _project(value: Json, tree: _Tree | None) -> Json:
    if tree is None:
        return value
    if isinstance(value, list):
        # An element that is no object has none of the granted fields: nothing of it may be seen.
        return [_project(item, tree) for item in value if isinstance(item, dict | list)]
    if isinstance(value, dict):
        return {
            name: _project(value[name], below)
            for name, below in tree.items()
            if name in value and (below is None or isinstance(value[name], dict | list))
        }
    return None


def project_schema(schema: JsonObject, scope: tuple[str, ...]) -> JsonObject:
    """The output schema as the agent sees it: what `project` leaves is valid against it.

    A field that is granted whole keeps its schema, with the definitions that it needs. Where that refers to
    anything but a definition it would tell of other fields, so only its types are kept.
    """
    projection = _Projection(schema)
    projected = projection.of(schema, _tree(scope)) or {"type": "object"}
    dialect: JsonObject = {"$schema": schema["$schema"]} if "$schema" in schema else {}
    return {**dialect, **projected, **projection.definitions}


class _Projection:
    """One schema on its way to its projection, with the definitions that are needed so far."""

    def __init__(self, root: JsonObject) -> None:
        self._reader = SchemaReader(root)
        self._known: dict[str, tuple[str, str, Json]] = {}
        for keyword in _DEFINITIONS:
            members = root.get(keyword)
            for name, definition in (members if isinstance(members, dict) else {}).items():
                pointer = name.replace("~", "~0").replace("/", "~1")
                self._known[f"#/{keyword}/{pointer}"] = (keyword, name, definition)
        self._needed: set[str] = set()

    @property
    def definitions(self) -> JsonObject:
        found: dict[str, JsonObject] = {}
        for reference in sorted(self._needed):
            keyword, name, definition = self._known[reference]
            found.setdefault(keyword, {})[name] = definition
        return {**found}

    def of(self, schema: Schema, tree: _Tree | None, lists: int = 0) -> JsonObject | None:
        """The schema of what is left at one position; None where nothing ever is."""
        if tree is None:
            return self._whole(schema)
        if schema is True:
            return {}
        reader = self._reader
        types = reader.types(schema)
        kinds = [kind for kind in (OBJECT, ARRAY) if kind in types]
        if not kinds:
            return None
        projected: JsonObject = {"type": kinds[0] if len(kinds) == 1 else list[Json](kinds)}
        if OBJECT in types:
            below = {name: self.of(reader.property(schema, name), inner) for name, inner in tree.items()}
            projected["properties"] = {name: part for name, part in below.items() if part is not None}
        if ARRAY in types and lists < _MAX_NESTED_LISTS:
            items = self.of(_item(reader, schema), tree, lists + 1)
            if items is not None:
                projected["items"] = items
        return projected

    def _whole(self, schema: Schema) -> JsonObject | None:
        types = self._reader.types(schema)
        if not types:
            return None
        if schema is True:
            return {}
        needed = self._needs(schema)
        if needed is not None and isinstance(schema, dict):
            self._needed |= needed
            return schema
        if types == ANY_TYPE:
            return {}
        plain = types - {FRACTION, INTEGER} | {"number"} if FRACTION in types else types
        return {"type": list[Json](sorted(plain))}

    def _needs(self, schema: Json) -> set[str] | None:
        """References to definitions, also through other definitions; None if there are references to anything else."""
        needed: set[str] = set()
        pending: list[Json] = [schema]
        while pending:
            node = pending.pop()
            if isinstance(node, dict):
                reference = node.get("$ref")
                if isinstance(reference, str) and reference not in needed:
                    if reference not in self._known:
                        return None
                    needed.add(reference)
                    pending.append(self._known[reference][2])
                pending.extend(node.values())
            elif isinstance(node, list):
                pending.extend(node)
        return needed
