"""JSON Schema (2020-12) of a file, for editors, generated from the dataclasses that also read it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from dataclasses import MISSING
from decimal import Decimal
from typing import Any, Literal, cast

from interlock.core.canonical import Json, JsonObject
from interlock.core.files.reader import Key, file_key, is_raw
from interlock.core.schema import DIALECT


def editor_schema(target: type[Any], *, title: str, schema_id: str) -> JsonObject:
    """The schema of a whole file whose root is the dataclass `target`."""
    root = _schema(target, None)
    return {"$schema": DIALECT, "$id": schema_id, "title": title, **root}


def _schema(target: Any, rules: Key | None) -> JsonObject:
    origin = typing.get_origin(target)
    if origin in (types.UnionType, typing.Union):
        if is_raw(target):
            return {}
        options = [option for option in typing.get_args(target) if option is not type(None)]
        if len(options) == 1:
            return _schema(options[0], rules)
        return {"anyOf": [_schema(option, rules) for option in options]}
    if origin is tuple:
        item_rules = dataclasses.replace(rules, minimum=None, maximum=None) if rules else None
        array: JsonObject = {"type": "array", "items": _schema(typing.get_args(target)[0], item_rules)}
        if rules and rules.minimum is not None:
            array["minItems"] = rules.minimum
        return array
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(typing.get_args(target)[1], None)}
    if origin is Literal:
        return {"enum": list(typing.get_args(target))}
    if dataclasses.is_dataclass(target):
        return _record(cast("type[Any]", target))
    return _scalar(target, rules)


def _record(target: type[Any]) -> JsonObject:
    hints = typing.get_type_hints(target)
    properties: JsonObject = {}
    required: list[Json] = []
    for item in dataclasses.fields(target):
        if item.metadata.get("collects"):
            continue
        name, rules = file_key(item)
        schema = _schema(hints[item.name], rules)
        schema["description"] = rules.doc
        if item.default is MISSING:
            required.append(name)
        elif isinstance(item.default, str | int | bool):
            schema["default"] = item.default
        properties[name] = schema
    found: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
    if target.__doc__:
        found["description"] = inspect.getdoc(target) or ""
    if required:
        found["required"] = required
    patterns: JsonObject = getattr(target, "PATTERN_KEYS", {})
    if patterns:
        found["patternProperties"] = patterns
    return found


def _scalar(target: Any, rules: Key | None) -> JsonObject:
    kind = {str: "string", bool: "boolean", int: "integer", Decimal: "number"}[target]
    schema: JsonObject = {"type": kind}
    if rules is None:
        return schema
    if kind in ("integer", "number"):
        if rules.minimum is not None:
            schema["minimum"] = rules.minimum
        if rules.maximum is not None:
            schema["maximum"] = rules.maximum
    elif kind == "string":
        schema["pattern"] = f"^(?:{rules.pattern})$" if rules.pattern else r"\S"
    return schema
