"""Names in agent files: resolved against pinned tools alone, or a finding."""

from __future__ import annotations

import pytest

from support import bundles
from support.bundles import agent_file, entry, tool

TOOLS = [
    tool("get_order", {}),
    tool("get_customer", {}),
    tool("delete_order", {}),
    tool("send", {}),
    tool("send", {}, upstream="mail"),
    tool("archive", {}, upstream="mail"),
]
CATALOGUE = """\
upstream: crm
tools:
  get_order: {effect: read}
  get_customer: {effect: read}
  send: {effect: reversible}
"""


def _files(*entries: str, blocked: str = "") -> dict[str, bytes]:
    rest = f"  blocked: [{blocked}]\n" if blocked else ""
    return bundles.files_of(TOOLS, agent_file("".join(entries), rest=rest), catalogue=CATALOGUE)


def _tools_of(*entries: str, blocked: str = "") -> set[str]:
    return set(bundles.load(_files(*entries, blocked=blocked)).agents["a"].slices)


@pytest.mark.parametrize(
    ("name", "qualified"),
    [
        ("get_order", "crm/get_order"),
        ("crm/get_order", "crm/get_order"),
        ("mail/send", "mail/send"),
        ("archive", "mail/archive"),
    ],
)
def test_a_name_stands_for_one_pinned_tool(name: str, qualified: str) -> None:
    assert _tools_of(entry(name)) == {qualified}


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        (
            "send",
            "agents/a.yaml:4:7: 'send' is ambiguous; expected crm/send or mail/send; name the upstream: `upstream/tool`",
        ),
        (
            "get_ordr",
            "agents/a.yaml:4:7: there is no pinned tool 'get_ordr'; expected a pinned tool; did you mean 'get_order'?",
        ),
        (
            "crm/archive",
            "agents/a.yaml:4:7: there is no pinned tool 'crm/archive'; expected a pinned tool; did you mean 'mail/archive'?",
        ),
        ("Get_Order", "agents/a.yaml:4:7: there is no pinned tool 'Get_Order'"),
        (
            "mial/send",
            "agents/a.yaml:4:7: there is no pinned tool 'mial/send'; expected a pinned tool; did you mean 'mail/send'?",
        ),
        (
            "zzzzzzzz",
            "agents/a.yaml:4:7: there is no pinned tool 'zzzzzzzz'; expected a pinned tool; pin the upstream's tools first: `interlock tools pin UPSTREAM`",
        ),
    ],
)
def test_a_name_that_stands_for_no_tool_or_for_two_is_a_finding(name: str, finding: str) -> None:
    [found] = bundles.refusals(_files(entry(name)))
    assert found.startswith(finding)
    [found] = bundles.refusals(_files(entry("get_order"), blocked=f'"{name}"'))
    assert found.startswith(finding.replace(":4:7:", ":5:13:"))


@pytest.mark.parametrize(
    ("glob", "effect", "qualified"),
    [
        ('"get_*"', "read", {"crm/get_order", "crm/get_customer"}),
        ('"crm/*"', "read", {"crm/get_order", "crm/get_customer"}),
        ('"*"', "reversible", {"crm/send"}),
        ('"mail/*"', "irreversible", {"mail/send", "mail/archive"}),
        ('"?end"', "irreversible", {"mail/send"}),
    ],
)
def test_a_glob_grants_the_tools_of_its_effect_alone(glob: str, effect: str, qualified: set[str]) -> None:
    assert _tools_of(entry(glob, f"effect: {effect}")) == qualified


def test_a_glob_without_effect_is_a_finding() -> None:
    [finding] = bundles.refusals(_files(entry('"get_*"')))
    assert finding == (
        "agents/a.yaml:4:7: 'get_*' is a glob; expected `effect:` beside it; a glob grants one effect alone"
    )


def test_a_glob_that_grants_nothing_is_a_finding() -> None:
    [finding] = bundles.refusals(_files(entry('"delete_*"', "effect: read")))
    assert finding == "agents/a.yaml:4:7: 'delete_*' matches no pinned tool with effect read; expected a match"


def test_an_effect_beside_a_plain_name_is_a_finding() -> None:
    [finding] = bundles.refusals(_files(entry("get_order", "effect: read")))
    assert finding.startswith("agents/a.yaml:5:7: `effect` goes with a glob only")


def test_blocked_takes_globs_over_any_effect() -> None:
    bundle = bundles.load(_files(entry("mail/send"), entry("get_order"), blocked='"mail/*", "*_customer"'))
    slices = bundle.agents["a"].slices
    assert {name for name, rules in slices.items() if not rules.listed} == {
        "mail/send",
        "mail/archive",
        "crm/get_customer",
    }


def test_a_blocking_glob_that_matches_nothing_is_a_warning() -> None:
    bundle = bundles.load(_files(entry("get_order"), blocked='"drop_*"'))
    assert [str(warning) for warning in bundle.warnings] == ["agents/a.yaml:5:13: 'drop_*' matches no pinned tool"]


@pytest.mark.parametrize("keys", [[], ["effect: irreversible"]], ids=["by name", "by glob"])
def test_a_qualified_name_never_reaches_into_another_upstream(keys: list[str]) -> None:
    # MCP lets a tool be called `crm/wipe`: whoever writes that name means the upstream crm.
    posing = tool("crm/wipe", {}, upstream="mail")
    name = '"crm/w*"' if keys else "crm/wipe"
    assert bundles.refusals(bundles.files_of([*TOOLS, posing], agent_file(entry(name, *keys))))


def test_blocking_reaches_both_names_of_a_tool() -> None:
    tools = [tool("items/list", {}), tool("get", {}, upstream="mail")]
    blocked = agent_file("", rest='  blocked: ["items/*", "mai*"]\n').replace("  allowed:\n", "")
    assert set(bundles.load(bundles.files_of(tools, blocked)).agents["a"].slices) == {"crm/items/list", "mail/get"}


def test_a_tool_with_a_slash_in_its_name_can_be_named_with_its_upstream() -> None:
    files = bundles.files_of([tool("items/list", {})], agent_file(entry("crm/items/list")))
    assert set(bundles.load(files).agents["a"].slices) == {"crm/items/list"}


def test_a_name_cannot_be_made_ambiguous_by_another_upstreams_tool() -> None:
    posing = tool("crm/get_order", {}, upstream="mail")
    files = bundles.files_of([*TOOLS, posing], agent_file(entry("crm/get_order")))
    assert set(bundles.load(files).agents["a"].slices) == {"crm/get_order"}
