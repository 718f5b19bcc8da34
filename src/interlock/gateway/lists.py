"""tools/list: the pinned definitions that the agent may call, made by the rules that decide calls (I8)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from interlock.core.canonical import Json, JsonObject, encode
from interlock.core.policy.bundle import Bundle
from interlock.core.policy.scopes import project_schema
from interlock.core.policy.slices import Slice
from interlock.plane.ports import Upstreams

_CACHED: Final = 512


class ToolLists:
    """Lists are made once for each (bundle, agent, upstream, era, unavailable tools) and kept as bytes."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._made: OrderedDict[tuple[str, str, str, bool, tuple[str, ...]], bytes] = OrderedDict()

    def result(self, bundle: Bundle, agent: str, upstream: str, *, modern: bool) -> bytes:
        """The result object of tools/list, whole on one page."""
        slices = bundle.listed(agent, upstream)
        available = [rules for rules in slices if not self._upstreams.is_changed(upstream, rules.tool.pinned.name)]
        names = tuple(rules.tool.pinned.name for rules in available)
        key = (bundle.digest, agent, upstream, modern, names)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(available, modern=modern)
            if len(self._made) > _CACHED:
                self._made.popitem(last=False)
        return made

    @staticmethod
    def _make(slices: list[Slice], *, modern: bool) -> bytes:
        tools: list[Json] = [_definition(rules) for rules in sorted(slices, key=lambda rules: rules.tool.pinned.name)]
        result: JsonObject = {"tools": tools}
        if modern:
            # The list is filtered for one agent: nobody may share it, and a bundle may change at any time.
            result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return encode(result)


def _definition(rules: Slice) -> JsonObject:
    """The pinned definition; under a scope the output schema is the projected one."""
    definition = rules.tool.pinned.definition
    schema = definition.get("outputSchema")
    if rules.scope is None or not isinstance(schema, dict):
        return definition
    return {**definition, "outputSchema": project_schema(schema, rules.scope)}
