"""What an upstream lists, compared with the pins and admitted for pinning, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from interlock.core import tool as tool_module
from interlock.core.canonical import encode
from interlock.core.lockfile import PinnedUpstream
from interlock.core.tool import PinnedTool
from interlock.upstream.definitions import Listing, admit, compare
from support.bundles import INTEGER, TEXT, definition, tool


def _pinned(*tools: PinnedTool) -> PinnedUpstream:
    return PinnedUpstream("crm", "2026-07-28", "crm 1", tools)


def _listed(*definitions: bytes | PinnedTool) -> Listing:
    listing = Listing({}, {})
    for one in definitions:
        listing.add(encode(one.definition) if isinstance(one, PinnedTool) else one)
    return listing


# Comparing ------------------------------------------------------------------------------------------


async def test_an_upstream_that_offers_what_was_pinned_differs_in_nothing() -> None:
    one, two = tool("one", {"id": TEXT}), tool("two", {})
    assert await compare(_pinned(one, two), _listed(two, one)) == {}


async def test_only_what_a_definition_says_counts_and_not_how_it_is_written() -> None:
    one = tool("one", {"id": TEXT}, description="é")
    text = encode(one.definition).replace("é".encode(), rb"\u00e9").replace(b",", b" ,\n")
    assert await compare(_pinned(one), _listed(text)) == {}


async def test_any_change_of_a_definition_is_a_difference() -> None:
    before = tool("one", {"id": TEXT}, annotations={"readOnlyHint": True})
    for after in (
        tool("one", {"id": INTEGER}, annotations={"readOnlyHint": True}),
        tool("one", {"id": TEXT}, annotations={"readOnlyHint": False}),
        tool("one", {"id": TEXT}, annotations={"readOnlyHint": True}, _meta={"x": 1}),
        tool("one", {"id": TEXT}),
    ):
        assert await compare(_pinned(before), _listed(after)) == {"one": "its definition changed"}


async def test_a_tool_that_is_gone_is_a_difference() -> None:
    one, two = tool("one", {}), tool("two", {})
    assert await compare(_pinned(one, two), _listed(two)) == {"one": "the upstream does not offer it any more"}


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([tool("one", {}), tool("one", {})], "the name is listed twice"),
        ([tool("one", {}), tool("one", {}), tool("one", {})], "the name is listed twice"),
        ([b'{"name":"one","x":1e999}'], "cannot be represented"),
        ([b'{"name":"one","x":1,"x":2}'], 'the key "x" appears twice'),
        ([b'{"name":"two","name":"one"}'], 'the key "name" appears twice'),
        ([b'{"name":"one","x":' + b"[" * 300 + b"]" * 300 + b"}"], "nested deeper"),
        ([b'{"name":"one","x":"' + b"x" * 600_000 + b'"}'], "at most 524288 are read"),
    ],
    ids=["twice", "three times", "number", "member", "name", "deep", "large"],
)
async def test_a_tool_that_cannot_be_used_any_more_is_a_difference_and_says_why(
    listed: list[bytes | PinnedTool], why: str
) -> None:
    two = tool("two", {})
    changed = await compare(_pinned(tool("one", {}), two), _listed(*listed, two))
    assert set(changed) == {"one"}
    assert changed["one"].startswith("its definition cannot be used: ")
    assert why in changed["one"]


async def test_tools_that_nobody_pinned_do_not_count() -> None:
    one, new = tool("one", {}), tool("new", {})
    assert await compare(_pinned(one), _listed(one, new, b'{"name":"odd","x":1e999}', b"5")) == {}


async def test_a_comparison_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: Any) -> Any:
        raise AssertionError("a schema was compiled")

    before, after, new = tool("one", {"id": TEXT}), tool("one", {"id": INTEGER}), tool("new", {"id": TEXT})
    monkeypatch.setattr(tool_module, "SchemaValidator", compiled)
    assert await compare(_pinned(before), _listed(before, new)) == {}
    assert await compare(_pinned(before), _listed(after, new)) == {"one": "its definition changed"}


# Admitting ------------------------------------------------------------------------------------------


async def test_what_can_be_pinned_is_admitted_by_name_and_the_rest_is_listed_with_the_reason() -> None:
    one, two = tool("one", {"id": TEXT}), tool("two", {})
    odd = (b'{"name":"no schema"}', b'{"name":"' + b"a" * 300 + b'","inputSchema":{"type":"object"}}')
    strange = (b'{"name":"number","x":1e999}', b'"text"', b"null", b"5", b'{"name":5}', b'{"name":"\\ud800"}')
    tools, refused = await admit("crm", _listed(two, *odd, *strange, one, two))
    assert tools == (one,)
    assert set(refused) == {"no schema", "a" * 128, "number", "two", "(no name)"}
    assert refused["two"] == "the name is listed twice"
    assert "too large for a double" in refused["number"]


async def test_a_name_is_shown_no_further_than_a_name_may_go() -> None:
    long = encode({"name": "a" * 300})
    _, refused = await admit("crm", _listed(long, long))
    assert refused == {"a" * 128: "the name is listed twice"}


# Others at work -------------------------------------------------------------------------------------


async def _turns_of_others(work: Awaitable[Any]) -> int:
    """How often others could work while `work` was done."""
    turns = 0
    doing = asyncio.ensure_future(work)
    while not doing.done():
        await asyncio.sleep(0)
        turns += 1
    await doing
    return turns


async def test_others_work_between_one_definition_and_the_next() -> None:
    tools = [tool(f"t{number}", {"id": TEXT}) for number in range(100)]
    listing = _listed(*tools)
    assert await _turns_of_others(compare(_pinned(*tools), listing)) >= 100
    assert await _turns_of_others(admit("crm", listing)) >= 100


async def test_a_comparison_costs_what_was_pinned_and_not_what_is_listed() -> None:
    one = tool("one", {"id": TEXT})
    listing = _listed(one, *(encode(definition(f"t{number}", {"id": TEXT})) for number in range(1000)))
    assert await _turns_of_others(compare(_pinned(one), listing)) < 10
