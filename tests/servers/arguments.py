"""Valid argument objects for any tool: a good one, then one variation at a time, from the tool's own schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MIXED: list[Any] = [1, "two", 3.5, None, True, {"k": [0.25, None]}]
FREE: dict[str, Any] = {"a": 1.5, "b": [1, "x", None, {"c": True}], "d": None, "e": {"f": -0.0}}


def variations(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield argument objects.

    Args:
        schema: The tool's input schema.
        known: Values for properties that must mean something to the tool.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = schema.get("required", [])
    base = {name: known.get(name, samples(properties[name])[0]) for name in required}
    yield dict(base)
    everything = {name: known.get(name, samples(part)[0]) for name, part in properties.items()}
    if everything != base:
        yield everything
    for name, part in properties.items():
        for value in samples(part):
            if name not in known or value is None:
                yield {**base, name: value}


def samples(schema: Mapping[str, Any]) -> list[Any]:
    """Values that a schema allows: of each type it admits, nulls, floats and mixed structures where it can."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return [value for option in options for value in samples(option)]
    kind = schema.get("type")
    if isinstance(kind, list):
        return [value for one in kind for value in samples({**schema, "type": one})]
    if kind == "null":
        return [None]
    if kind == "boolean":
        return [False, True]
    if kind == "integer":
        return [_within(schema, 3), _within(schema, 1)]
    if kind == "number":
        return [_within(schema, 2.0), _within(schema, 1.5)]
    if kind == "array":
        inner = schema.get("items")
        if not inner:
            return [MIXED, []]
        first = samples(inner)[0]
        return [[first, first] if not schema.get("uniqueItems") else [first], []]
    if kind == "object":
        return _objects(schema)
    if kind == "string":
        return ["sample", "ünï\u200bcode \U0001f600"]
    return [FREE, MIXED, None, 1.5, "text"]


def _objects(schema: Mapping[str, Any]) -> list[Any]:
    properties = schema.get("properties")
    if not properties:
        return [FREE, {}]
    required = schema.get("required", list(properties))
    return [{name: samples(properties[name])[0] for name in required}]


def _within(schema: Mapping[str, Any], value: float) -> Any:
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    return min(max(value, low), high)
