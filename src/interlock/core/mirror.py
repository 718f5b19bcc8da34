"""Headers that mirror the body (MCP 2026-07-28, Streamable HTTP, custom headers).

A client mirrors `params.name` and annotated arguments into `Mcp-Name` and `Mcp-Param-*`. A gateway that
trusted one of the two could be told two stories, so inbound headers must agree with the body, and
outbound ones are always derived from it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from interlock.core.canonical import Json, JsonObject
from interlock.core.schema_keywords import DEFINITIONS, LISTS, MAPS, SINGLE

PREFIX: Final = "mcp-param-"
_ANNOTATION: Final = "x-mcp-header"
_TYPES: Final = frozenset({"string", "integer", "boolean"})
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One argument that a header mirrors: its path of property names, the header's suffix, its type."""

    path: tuple[str, ...]
    token: str
    type: str


def mirrored_arguments(schema: Json) -> tuple[Mirrored, ...]:
    """The annotated arguments of an input schema; none if any annotation is invalid.

    Only properties reachable through `properties` alone can be mirrored; an annotation anywhere else is
    invalid. A schema with an invalid annotation mirrors nothing: conforming clients drop such a tool.
    """
    found: list[Mirrored] = []
    for path, node in _positions(schema):
        if _ANNOTATION not in node:
            continue
        token, kind = node[_ANNOTATION], node.get("type")
        if not path or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return ()
        if not isinstance(kind, str) or kind not in _TYPES:
            return ()
        found.append(Mirrored(path, token, kind))
    tokens = [mirrored.token.lower() for mirrored in found]
    return tuple(found) if len(set(tokens)) == len(tokens) else ()


def _positions(schema: Json) -> Iterator[tuple[tuple[str, ...] | None, JsonObject]]:
    """Every subschema, with its path of property names; None where another keyword leads to it."""
    pending: list[tuple[tuple[str, ...] | None, Json]] = [((), schema)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for keyword, value in node.items():
            if keyword == "properties" and isinstance(value, dict):
                pending.extend((None if path is None else (*path, name), below) for name, below in value.items())
            elif keyword in SINGLE and isinstance(value, dict):
                pending.append((None, value))
            elif keyword in LISTS and isinstance(value, list):
                pending.extend((None, below) for below in value)
            elif keyword in MAPS | DEFINITIONS and isinstance(value, dict):
                pending.extend((None, below) for below in value.values())


def encode_value(value: str) -> str:
    """Write a value as a header; what a header cannot carry is wrapped in base64."""
    if _PLAIN.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """Inverse of `encode_value`; None for a wrapping that is not exactly ours."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        return value
    try:
        raw = base64.b64decode(match[1], validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    # Trailing bits must be zero: one value, one spelling.
    return text if base64.b64encode(raw).decode() == match[1] else None


def outbound_headers(mirrored: tuple[Mirrored, ...], arguments: JsonObject) -> dict[str, str]:
    """The `Mcp-Param-*` headers of a request, derived from its canonical arguments."""
    headers: dict[str, str] = {}
    for item in mirrored:
        rendered = _render(_at(arguments, item.path))
        if rendered is not None:
            headers["Mcp-Param-" + item.token] = encode_value(rendered)
    return headers


def disagreement(mirrored: tuple[Mirrored, ...], arguments: JsonObject, headers: dict[str, list[str]]) -> str | None:
    """Why inbound headers and body disagree; None if they agree.

    Args:
        mirrored: Of the pinned tool.
        arguments: As received.
        headers: Every value of every header, by lower-case name.
    """
    for item in mirrored:
        name = PREFIX + item.token.lower()
        values = headers.get(name, [])
        rendered = _render(_at(arguments, item.path))
        if not values and rendered is None:
            continue
        if len(values) != 1 or rendered is None:
            return f"the header Mcp-Param-{item.token} and its argument do not appear together, once each"
        decoded = decode_value(values[0])
        if decoded is None or not _agree(item, rendered, decoded):
            return f"the header Mcp-Param-{item.token} does not match its argument"
    return None


def _agree(item: Mirrored, rendered: str, decoded: str) -> bool:
    if item.type == "integer" and _DECIMAL.fullmatch(decoded) and _DECIMAL.fullmatch(rendered):
        return decoded.partition(".")[0] == rendered.partition(".")[0]
    return decoded == rendered


def _at(arguments: JsonObject, path: tuple[str, ...]) -> Json:
    value: Json = arguments
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _render(value: Json) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
