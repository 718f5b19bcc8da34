"""The bypass suite: every attempt of tests/bypass, made at a real gateway, with the upstreams' own logs as witness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bypass import Attempt, BypassFileInvalid, Call, Era, Expect, Step, all_categories, read_category
from support.bypass_world import Agent, World, bypass_world

CATEGORIES = all_categories()
ATTEMPTS = [attempt for category in CATEGORIES for attempt in category.attempts]
CASES = [
    pytest.param(attempt, era, id=f"{category.category}/{attempt.id}[{era}]")
    for category in CATEGORIES
    for attempt in category.attempts
    for era in attempt.eras
]
EXPECTED_CATEGORIES = {
    "approvals", "batches", "constrained-lists", "duplicate-keys", "encodings", "headers", "hosts", "ids", "listing",
    "meta", "names", "nesting", "notifications", "numbers", "other-verbs", "paths", "patterns", "records", "reserved-keys",
    "responses", "round-trips", "sessions", "shadowing", "tokens", "types", "upstream-urls",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with bypass_world(tmp_path_factory.mktemp("world"), ATTEMPTS) as found:
        yield found


@pytest.mark.parametrize(("attempt", "era"), CASES)
def test_nothing_executes_but_what_the_policy_allows(world: World, attempt: Attempt, era: Era) -> None:
    world.take_reached()
    agent = Agent(world, attempt, era)
    for step in attempt.steps:
        agent.take(step)
    world.canary()
    assert not world.take_methods(), "a message other than a permitted call reached an upstream"
    assert not world.strays(), "a request to another place than the endpoint reached an upstream"


def test_a_call_that_gets_through_is_noticed_by_the_witness_and_not_only_by_the_answer(world: World) -> None:
    call = Call(tool="read_file", arguments={"path": "/srv/notes/a"})
    through = Step(call=call, expect=Expect(http=200))
    attempt = Attempt(id="through", title="t", tries="t", steps=[through])
    with pytest.raises(AssertionError, match="executed: "):
        Agent(world, attempt, "modern").take(through)
    refused = Step(call=call, expect=Expect(code="policy_denied"))
    with pytest.raises(AssertionError, match="wanted 'policy_denied'"):
        Agent(world, attempt, "modern").take(refused)
    world.take_reached()


def test_the_suite_is_whole() -> None:
    ids = [attempt.id for attempt in ATTEMPTS]
    assert len(ids) >= 120
    assert sorted(set(ids)) == sorted(ids), "ids are unique"
    assert {category.category for category in CATEGORIES} == EXPECTED_CATEGORIES
    assert len(CATEGORIES) == len(EXPECTED_CATEGORIES), "one file for each category"
    assert all(category.attempts for category in CATEGORIES)
    assert len({(attempt.title, attempt.tries) for attempt in ATTEMPTS}) == len(ATTEMPTS)


def test_the_suite_cannot_pass_by_refusing_everything() -> None:
    """Controls are many, say that they are, and only they and what a person approved execute anything."""
    controls = [attempt for attempt in ATTEMPTS if attempt.control]
    assert len(controls) >= 15
    for attempt in ATTEMPTS:
        executes = any(step.executes for step in attempt.steps)
        assert executes <= (attempt.control or len(attempt.steps) > 1), attempt.id


GOOD = "category: c\nabout: a\nattempts:\n  - id: x\n    title: t\n    tries: y\n    steps:\n      - call: {tool: t}\n        expect: {code: policy_denied}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "        expects: nothing\n", "unknown field `expects`"),
        (GOOD + "owner: me\n", "unknown field `owner`"),
        (GOOD.replace("{code: policy_denied}", "{cod: policy_denied}"), "unknown field `cod`"),
        (GOOD.replace("{tool: t}", "{tool: t, argument: {}}"), "unknown field `argument`"),
        (GOOD.replace("{code: policy_denied}", "{}"), "says nothing"),
        (GOOD.replace("{code: policy_denied}", "{protocol: '-32600'}"), "Expected `int | null`, got `str`"),
        (GOOD + "        call: {tool: u}\n", "appears twice"),
        (GOOD + "        body: x\n", "a step does one thing, not 2"),
        (GOOD.replace("      - call: {tool: t}\n        expect", "      - expect"), "a step does one thing, not 0"),
        (GOOD.replace("        expect: {code: policy_denied}\n", ""), "a request has an `expect`"),
        (GOOD.replace("title: t", "title: t\n    control: true"), "a control executes something"),
        (GOOD.replace("title: t", "title: t\n    eras: [future]"), "Invalid enum value"),
        (GOOD.replace("    title: t\n", ""), "missing required field `title`"),
    ],
)
def test_a_file_with_a_mistake_in_it_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    assert read_category(path).attempts[0].id == "x"
    path.write_text(text)
    with pytest.raises(BypassFileInvalid, match=r"c\.yaml") as refused:
        read_category(path)
    assert said in str(refused.value)
