"""tools/list: the pinned definitions that an agent may call, and nothing of what it may not see (I8)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.core.canonical import JsonObject
from interlock.gateway.lists import ToolLists
from support import bundles, crm
from support.bundles import TEXT, agent_file, definition, entry, record, tool
from support.inprocess import ScriptedUpstreams

BUNDLE = crm.load()


def _listed(lists: ToolLists, *, agent: str = crm.AGENT, upstream: str = "crm", modern: bool = False) -> JsonObject:
    found: Any = json.loads(lists.result(BUNDLE, agent, upstream, modern=modern))
    return {tool["name"]: tool for tool in found["tools"]}


@pytest.fixture
def upstreams() -> ScriptedUpstreams:
    return ScriptedUpstreams()


@pytest.fixture
def lists(upstreams: ScriptedUpstreams) -> ToolLists:
    return ToolLists(upstreams)


def test_only_what_the_agent_may_call_is_listed(lists: ToolLists) -> None:
    assert set(_listed(lists)) == {"read_customer_record", "update_order_status", "send_customer_email"}
    assert _listed(lists, agent="nobody") == {}
    assert _listed(lists, upstream="other") == {}


def test_tools_are_listed_by_name_so_that_the_list_is_always_the_same(lists: ToolLists) -> None:
    names = list(_listed(lists))
    assert names == sorted(names)


def test_a_tool_is_listed_as_it_was_pinned(lists: ToolLists) -> None:
    pinned = next(found for found in crm.DEFINITIONS if found["name"] == "update_order_status")
    assert _listed(lists)["update_order_status"] == pinned


def test_under_a_scope_the_output_schema_is_the_projected_one(lists: ToolLists) -> None:
    listed: Any = _listed(lists)["read_customer_record"]
    pinned: Any = next(found for found in crm.DEFINITIONS if found["name"] == "read_customer_record")
    assert set(listed["outputSchema"]["properties"]) == {"customer_id", "order_history", "contact_info"}
    assert "ssn" not in json.dumps(listed)
    assert {**listed, "outputSchema": None} == {**pinned, "outputSchema": None}
    assert "ssn" in json.dumps(pinned["outputSchema"]), "the pin itself is untouched"


def test_a_scope_on_a_tool_without_output_schema_adds_none() -> None:
    read = tool("read", {"id": TEXT})
    loaded = bundles.load(bundles.files_of([read], agent_file(entry("read", "scope: [a]", "requires_approval: true"))))
    found = json.loads(ToolLists(ScriptedUpstreams()).result(loaded, "a", "crm", modern=False))
    assert found["tools"] == [read.definition]


@pytest.mark.parametrize("modern", [False, True])
def test_a_list_has_one_page_and_is_nobody_else_s_to_keep(lists: ToolLists, modern: bool) -> None:
    found = json.loads(lists.result(BUNDLE, crm.AGENT, "crm", modern=modern))
    found.pop("tools")
    assert found == ({"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if modern else {})


def test_a_tool_that_differs_from_its_pin_is_missing_until_it_does_not(
    lists: ToolLists, upstreams: ScriptedUpstreams
) -> None:
    whole = _listed(lists)
    upstreams.changed = {"update_order_status"}
    assert set(_listed(lists)) == set(whole) - {"update_order_status"}
    upstreams.changed = set()
    assert _listed(lists) == whole


def test_a_list_is_made_once(lists: ToolLists) -> None:
    for modern in (False, True):
        first = lists.result(BUNDLE, crm.AGENT, "crm", modern=modern)
        assert lists.result(BUNDLE, crm.AGENT, "crm", modern=modern) is first


def test_another_bundle_is_another_list(lists: ToolLists) -> None:
    lists.result(BUNDLE, crm.AGENT, "crm", modern=False)
    narrower = crm.load(crm.files(crm.AGENT_FILE.replace('    - "bulk_send_email"', '    - "update_order_status"')))
    found = json.loads(lists.result(narrower, crm.AGENT, "crm", modern=False))
    assert {listed["name"] for listed in found["tools"]} == {"read_customer_record", "send_customer_email"}


def test_the_lists_of_two_agents_are_kept_apart(lists: ToolLists) -> None:
    tools = [tool(name, {"id": TEXT}) for name in ("one", "two")]
    loaded = bundles.load(
        bundles.files_of(
            tools,
            agent_file(entry("one", "requires_approval: true")),
            more={"agents/b.yaml": agent_file(entry("two", "requires_approval: true"), agent="b")},
        )
    )
    for _ in range(2):
        for agent, name in (("a", "one"), ("b", "two")):
            found = json.loads(lists.result(loaded, agent, "crm", modern=False))
            assert [listed["name"] for listed in found["tools"]] == [name]


def test_lists_that_are_not_kept_any_more_are_made_again(lists: ToolLists, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.gateway import lists as module

    monkeypatch.setattr(module, "_CACHED", 1)
    plain = lists.result(BUNDLE, crm.AGENT, "crm", modern=False)
    modern = lists.result(BUNDLE, crm.AGENT, "crm", modern=True)
    assert lists.result(BUNDLE, crm.AGENT, "crm", modern=False) == plain
    assert lists.result(BUNDLE, crm.AGENT, "crm", modern=True) == modern


def test_a_definition_passes_whole_with_members_that_nobody_knows() -> None:
    odd = tool("odd", {"id": TEXT}, output=record(a=TEXT), annotations={"readOnlyHint": True}, _meta={"x": [1]})
    loaded = bundles.load(bundles.files_of([odd], agent_file(entry("odd", "requires_approval: true"))))
    found = json.loads(ToolLists(ScriptedUpstreams()).result(loaded, "a", "crm", modern=True))
    assert found["tools"] == [
        definition("odd", {"id": TEXT}, output=record(a=TEXT), annotations={"readOnlyHint": True}, _meta={"x": [1]})
    ]
