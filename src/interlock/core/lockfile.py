"""`tools.lock`: the pinned definition of every tool, whole, as `interlock tools pin` wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from interlock.core.canonical import Json, JsonObject, Unrepresentable, decode
from interlock.core.errors import Finding
from interlock.core.schema_check import MAX_SCHEMA_DEPTH
from interlock.core.tool import UPSTREAM_ID, DefinitionRefused, PinnedTool, pinned_tool

LOCK_NAME: Final = "tools.lock"
MAX_LOCK_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PinnedUpstream:
    """The pins of one upstream, and what it said of itself when they were made."""

    id: str
    protocol: str
    server: str
    tools: tuple[PinnedTool, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """All pins; lookups are byte for byte."""

    upstreams: dict[str, PinnedUpstream]

    def tool(self, upstream: str, name: str) -> PinnedTool | None:
        found = self.upstreams.get(upstream)
        return next((tool for tool in found.tools if tool.name == name), None) if found else None

    def all_tools(self) -> list[PinnedTool]:
        return [tool for upstream in self.upstreams.values() for tool in upstream.tools]


EMPTY_LOCK: Final = Lock({})


def read_lock(data: bytes) -> tuple[Lock, list[Finding]]:
    """Parse and check a lock file; whatever is wrong with it is a finding and leaves an empty lock."""
    findings: list[Finding] = []
    if len(data) > MAX_LOCK_BYTES:
        return EMPTY_LOCK, [Finding(LOCK_NAME, 0, 0, f"the file has {len(data)} bytes", f"at most {MAX_LOCK_BYTES}")]
    try:
        # Definitions lie four levels down (upstreams, one upstream, tools, one tool, definition).
        document = decode(data, max_depth=MAX_SCHEMA_DEPTH + 6)
    except Unrepresentable as error:
        return EMPTY_LOCK, [_finding(data, "", f"the lock cannot be read: {error}")]
    root = _object(document)
    if root.get("version") != 1:
        return EMPTY_LOCK, [_finding(data, "version", "this is not a lock of version 1")]
    upstreams: dict[str, PinnedUpstream] = {}
    for upstream_id, entry in _members(data, root, "upstreams", "the lock", findings).items():
        if not re.fullmatch(UPSTREAM_ID, upstream_id):
            findings.append(_finding(data, upstream_id, f"{upstream_id!r} is not an upstream id"))
            continue
        fields = _object(entry)
        tools: list[PinnedTool] = []
        for name, pinned in _members(data, fields, "tools", f"the upstream {upstream_id!r}", findings).items():
            tool = _read_tool(data, upstream_id, name, _object(pinned), findings)
            if tool:
                tools.append(tool)
        upstreams[upstream_id] = PinnedUpstream(
            upstream_id, str(fields.get("protocol", "")), str(fields.get("server", "")), tuple(tools)
        )
    return (EMPTY_LOCK, findings) if findings else (Lock(upstreams), [])


def _read_tool(data: bytes, upstream: str, name: str, entry: JsonObject, findings: list[Finding]) -> PinnedTool | None:
    definition = _object(entry.get("definition"))
    try:
        tool = pinned_tool(upstream, definition)
    except DefinitionRefused as error:
        findings.append(_finding(data, name, f"the tool {upstream}/{name} cannot be used: {error}"))
        return None
    if tool.name != name or entry.get("pin") != tool.pin:
        findings.append(_finding(data, name, f"the pin of {upstream}/{name} does not match its definition"))
        return None
    return tool


def write_lock(upstreams: Mapping[str, PinnedUpstream]) -> bytes:
    """The file, indented and sorted so that a change reads well as a diff."""
    document: JsonObject = {
        "version": 1,
        "upstreams": {
            upstream.id: {
                "protocol": upstream.protocol,
                "server": upstream.server,
                "tools": {tool.name: {"pin": tool.pin, "definition": tool.definition} for tool in upstream.tools},
            }
            for upstream in upstreams.values()
        },
    }
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def merge_lock(lock: Lock, new: Sequence[PinnedUpstream]) -> Lock:
    """A lock in which the given upstreams' pins replace the old ones."""
    return Lock({**lock.upstreams, **{upstream.id: upstream for upstream in new}})


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else cast(JsonObject, {})


def _members(data: bytes, within: JsonObject, name: str, whose: str, findings: list[Finding]) -> JsonObject:
    """The members of a required object; without one they are a finding and none."""
    found = within.get(name)
    if isinstance(found, dict):
        return found
    findings.append(_finding(data, name, f"{whose} has no object {name!r}"))
    return {}


def _finding(data: bytes, near: str, problem: str) -> Finding:
    """Place a finding at the first mention of a name; the file is generated, so that is its own line."""
    position = data.find(json.dumps(near).encode()) if near else 0
    if position < 0:
        return Finding(LOCK_NAME, 0, 0, problem, hint="run `interlock tools pin`")
    line = data.count(b"\n", 0, position) + 1
    column = position - data.rfind(b"\n", 0, position)
    return Finding(LOCK_NAME, line, column, problem, hint="run `interlock tools pin`")
