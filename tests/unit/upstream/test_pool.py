"""Links to upstreams: opened when needed, compared with the pins, never shared between sets of credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import encode
from interlock.core.errors import UpstreamUnavailable
from interlock.core.lockfile import Lock, PinnedUpstream
from interlock.core.tool import PinnedTool
from interlock.plane.ports import Answer, NoAnswer, NotSent, OnProgress, SealedCall
from interlock.upstream import link as link_module
from interlock.upstream import pool as pool_module
from interlock.upstream.connection import Hooks
from interlock.upstream.definitions import Listing
from interlock.upstream.link import COMPARE_EVERY_S, Credentials, UpstreamConfig
from interlock.upstream.pool import UpstreamPool
from support.bundles import INTEGER, TEXT, tool
from support.clock import SetClock

ONE, TWO = tool("one", {"id": TEXT}), tool("two", {"id": TEXT})
ONE_CHANGED = tool("one", {"id": INTEGER})
RESULT = Answer(b"{}", None)


def _lock(*tools: PinnedTool) -> Lock:
    return Lock({"crm": PinnedUpstream("crm", "2026-07-28", "crm", tools)})


class Live:
    """What is really there: the tools it lists, and whether it can be reached."""

    def __init__(self) -> None:
        self.tools: tuple[PinnedTool, ...] = (ONE, TWO)
        self.problem = ""
        self.list_problem = ""
        self.opened: list[tuple[str, Mapping[str, str]]] = []
        self.sessions: list[FakeSession] = []
        self.lists = 0
        self.on_list: Callable[[], None] = lambda: None
        self.on_connect: Callable[[], None] = lambda: None
        self.gate: asyncio.Event | None = None

    async def connect(self, config: UpstreamConfig, credentials: Credentials, hooks: Hooks) -> FakeSession:
        self.opened.append((config.id, credentials.values))
        self.on_connect()
        if self.gate is not None:
            await self.gate.wait()
        if self.problem:
            raise UpstreamUnavailable(self.problem)
        session = FakeSession(self, hooks)
        self.sessions.append(session)
        return session


class FakeSession:
    """Stands in for `upstream.session.Session` and its connection."""

    def __init__(self, live: Live, hooks: Hooks) -> None:
        self._live, self.hooks = live, hooks
        self.connection = self
        self.alive = True
        self.protocol, self.server = "2026-07-28", "crm 1"
        self.calls: list[SealedCall] = []
        self.answer: asyncio.Future[Answer] | None = None

    async def list_tools(self) -> Listing:
        self._live.lists += 1
        self._live.on_list()
        if self._live.list_problem:
            raise UpstreamUnavailable(self._live.list_problem)
        return Listing({tool.name: encode(tool.definition) for tool in self._live.tools}, {})

    async def call(self, sealed: SealedCall, on_progress: OnProgress | None) -> Answer:
        self.calls.append(sealed)
        return RESULT if self.answer is None else await self.answer

    async def close(self) -> None:
        self.alive = False


async def _asked(session: FakeSession) -> None:
    """Wait until a call reached `session`."""
    while not session.calls:  # noqa: ASYNC110 (a list of the fake, without an event)
        await asyncio.sleep(0)


class World:
    """A pool around something live."""

    def __init__(self, **config: Any) -> None:
        self.live, self.clock = Live(), SetClock()
        self.pins = _lock(ONE, TWO)
        configs = {"crm": _config(**config)}
        self.pool = UpstreamPool(configs, lambda: self.pins, self.clock, lambda _, text: text)

    async def prepare(self, agent: str = "a", profile: str = "p", **secrets: str) -> None:
        await self.pool.prepare("crm", agent, profile, secrets)

    async def call(
        self, pinned: PinnedTool = ONE, agent: str = "a", profile: str = "p", start_within_s: float = 2.0
    ) -> Answer:
        arguments = canonical_arguments(pinned, {}, additional=False)
        call = canonical_call(agent, "run_1", pinned, arguments, {})
        return await self.pool.execute(SealedCall("call_1", call, profile, {}, 5.0, start_within_s), None)


def _config(*, stdio: bool = False, per_agent: bool = True, max_in_flight: int = 4) -> UpstreamConfig:
    return UpstreamConfig(
        id="crm",
        command=("crm",) if stdio else None,
        cwd=Path("/"),
        environment={},
        per_agent=per_agent,
        url=None if stdio else "https://crm.example/mcp",
        networks=(),
        protocol="auto",
        call_timeout_s=7.0,
        start_timeout_s=5.0,
        max_bytes=1000,
        max_in_flight=max_in_flight,
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return _world(monkeypatch)


def _world(monkeypatch: pytest.MonkeyPatch, **config: Any) -> World:
    world = World(**config)
    monkeypatch.setattr(link_module, "connect", world.live.connect)
    monkeypatch.setattr(pool_module, "connect", world.live.connect)
    return world


# Links ----------------------------------------------------------------------------------------------


async def test_nothing_is_started_before_it_is_needed_and_then_once(world: World) -> None:
    assert world.live.opened == []
    await asyncio.gather(*(world.prepare() for _ in range(10)))
    assert len(world.live.opened) == 1
    assert await world.call() == RESULT
    assert world.pool.health()["crm"] == {"connected": 1, "in_flight": 0, "changed": {}}


async def test_sets_of_credentials_and_agents_never_share_a_connection(world: World) -> None:
    for agent, profile in (("a", "p"), ("b", "p"), ("a", "q"), ("a", "p")):
        await world.prepare(agent, profile, Authorization=f"of {profile}")
    assert world.live.opened == [
        ("crm", {"Authorization": "of p"}),
        ("crm", {"Authorization": "of p"}),
        ("crm", {"Authorization": "of q"}),
    ]
    await world.call(agent="b")
    assert [len(session.calls) for session in world.live.sessions] == [0, 1, 0]


@pytest.mark.parametrize(("per_agent", "links"), [(True, 2), (False, 1)])
async def test_a_process_is_one_agent_s_unless_the_settings_share_it(
    monkeypatch: pytest.MonkeyPatch, per_agent: bool, links: int
) -> None:
    world = _world(monkeypatch, stdio=True, per_agent=per_agent)
    await world.prepare("a")
    await world.prepare("b")
    assert len(world.live.opened) == links


async def test_an_upstream_that_the_settings_do_not_name_is_unavailable(world: World) -> None:
    with pytest.raises(UpstreamUnavailable, match="no upstream 'other'"):
        await world.pool.prepare("other", "a", "p", {})
    with pytest.raises(UpstreamUnavailable):
        world.pool.timeout_s("other")
    assert world.pool.timeout_s("crm") == 7.0


async def test_a_connection_that_died_is_opened_again_by_the_next_preparation_and_not_by_a_call(world: World) -> None:
    await world.prepare()
    world.live.sessions[0].alive = False
    with pytest.raises(NotSent, match="gone"):
        await world.call()
    await world.prepare()
    assert await world.call() == RESULT
    assert len(world.live.opened) == 2


async def test_a_call_without_preparation_is_not_sent(world: World) -> None:
    with pytest.raises(NotSent):
        await world.call()
    assert world.live.opened == []


async def test_a_call_after_the_end_is_not_sent_and_says_so(world: World) -> None:
    await world.prepare()
    await world.pool.close()
    assert not world.live.sessions[0].alive
    with pytest.raises(NotSent):
        await world.call()
    with pytest.raises(UpstreamUnavailable, match="shutting down"):
        await world.prepare()
    assert len(world.live.opened) == 1


async def test_a_connection_that_is_made_while_the_pool_ends_is_closed(world: World) -> None:
    world.live.gate = asyncio.Event()
    preparing = asyncio.create_task(world.prepare())
    while not world.live.opened:  # noqa: ASYNC110 (a list of the fake, without an event)
        await asyncio.sleep(0)
    await world.pool.close()
    world.live.gate.set()
    with pytest.raises(UpstreamUnavailable):
        await preparing
    assert [session.alive for session in world.live.sessions] == [False]
    with pytest.raises(NotSent):
        await world.call()


async def test_links_that_nobody_used_for_a_while_are_closed(world: World) -> None:
    await world.prepare("a")
    world.clock.advance(30)
    await world.prepare("b")
    world.clock.advance(31)
    await world.pool.close_idle(60)
    assert [session.alive for session in world.live.sessions] == [False, True]


async def test_a_link_with_a_call_in_flight_is_not_idle(world: World) -> None:
    await world.prepare()
    world.live.sessions[0].answer = asyncio.get_running_loop().create_future()
    call = asyncio.create_task(world.call())
    await _asked(world.live.sessions[0])
    world.clock.advance(1000)
    await world.pool.close_idle(60)
    assert world.live.sessions[0].alive
    assert world.pool.health()["crm"] == {"connected": 1, "in_flight": 1, "changed": {}}
    world.live.sessions[0].answer.set_result(RESULT)
    assert await call == RESULT
    await world.pool.close_idle(60)
    assert not world.live.sessions[0].alive


async def test_calls_beyond_the_connection_s_number_wait_a_little_and_are_then_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _world(monkeypatch, max_in_flight=1)
    await world.prepare()
    session = world.live.sessions[0]
    session.answer = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(world.call())
    await _asked(session)
    with pytest.raises(NotSent, match="too many"):
        await world.call(start_within_s=0.01)
    session.answer.set_result(RESULT)
    assert await first == RESULT
    assert await world.call() == RESULT


async def test_a_call_that_is_given_up_while_it_waits_for_its_turn_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _world(monkeypatch, max_in_flight=1)
    await world.prepare()
    session = world.live.sessions[0]
    session.answer = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(world.call())
    await _asked(session)
    second = asyncio.create_task(world.call())
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(NotSent, match="given up before its turn"):
        await second
    session.answer.set_result(RESULT)
    assert await first == RESULT


async def test_a_call_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(monkeypatch, max_in_flight=1)
    await world.prepare()
    session = world.live.sessions[0]
    for error in (NoAnswer("lost"), asyncio.CancelledError()):
        session.answer = asyncio.get_running_loop().create_future()
        session.answer.set_exception(error) if isinstance(error, NoAnswer) else session.answer.cancel()
        with pytest.raises(type(error)):
            await world.call()
    session.answer = None
    assert await world.call() == RESULT


async def test_late_answers_reach_whoever_listens_by_then(world: World) -> None:
    await world.prepare()
    late: list[tuple[str, Answer]] = []
    world.pool.on_late = lambda call, answer: late.append((call, answer))
    world.live.sessions[0].hooks.late("call_1", RESULT)
    assert late == [("call_1", RESULT)]


# Backing off ----------------------------------------------------------------------------------------


async def test_an_upstream_that_fails_is_tried_again_later_and_later(world: World) -> None:
    world.live.problem = "It is down."
    pauses: list[float] = []
    with pytest.raises(UpstreamUnavailable, match="It is down"):
        await world.prepare()
    for _ in range(9):
        attempts = len(world.live.opened)
        waited = 0.0
        while len(world.live.opened) == attempts:
            world.clock.advance(0.25)
            waited += 0.25
            with pytest.raises(UpstreamUnavailable):
                await world.prepare()
        pauses.append(waited)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_an_upstream_that_hangs_makes_one_caller_wait_and_not_each_in_turn(world: World) -> None:
    """The pause begins when the attempt has failed: time spent in it counts for nothing."""
    world.live.problem = "It does not answer."
    world.live.on_connect = lambda: world.clock.advance(30)
    found = await asyncio.gather(*(world.prepare() for _ in range(5)), return_exceptions=True)
    assert len(world.live.opened) == 1
    assert all(isinstance(error, UpstreamUnavailable) for error in found)


async def test_an_upstream_that_does_not_list_its_tools_is_left_alone_for_a_while_too(world: World) -> None:
    world.live.list_problem = "It does not list."
    world.live.on_list = lambda: world.clock.advance(30)
    found = await asyncio.gather(*(world.prepare() for _ in range(5)), return_exceptions=True)
    assert world.live.lists == 1
    assert all(isinstance(error, UpstreamUnavailable) for error in found)


async def test_while_it_backs_off_it_says_when_it_will_try_again(world: World) -> None:
    world.live.problem = "It is down."
    with pytest.raises(UpstreamUnavailable):
        await world.prepare()
    world.live.problem = ""
    with pytest.raises(UpstreamUnavailable, match=r"It is down\. The next attempt is in 0\.5 s"):
        await world.prepare()
    world.clock.advance(0.5)
    await world.prepare()
    world.live.sessions[0].alive = False
    await world.prepare()
    assert len(world.live.opened) == 3, "a success forgets the failures"


# Comparing ------------------------------------------------------------------------------------------


async def test_a_tool_that_differs_from_its_pin_is_unavailable_until_a_comparison_says_otherwise(world: World) -> None:
    world.live.tools = (ONE_CHANGED, TWO)
    await world.prepare()
    assert world.pool.is_changed("crm", "one")
    assert not world.pool.is_changed("crm", "two")
    with pytest.raises(NotSent, match="definition changed"):
        await world.call(ONE)
    assert await world.call(TWO) == RESULT
    health: Any = world.pool.health()["crm"]
    assert health["changed"] == {"one": "its definition changed"}
    world.live.tools = (ONE, TWO)
    world.clock.advance(COMPARE_EVERY_S)
    await world.prepare()
    assert not world.pool.is_changed("crm", "one")
    assert await world.call(ONE) == RESULT


async def test_the_list_is_compared_once_a_minute(world: World) -> None:
    await world.prepare()
    world.clock.advance(COMPARE_EVERY_S - 0.001)
    await world.prepare()
    assert world.live.lists == 1
    world.clock.advance(0.001)
    await world.prepare()
    assert world.live.lists == 2


async def test_new_pins_are_compared_at_once(world: World) -> None:
    world.live.tools = (ONE_CHANGED, TWO)
    await world.prepare()
    assert world.pool.is_changed("crm", "one")
    world.pins = _lock(ONE_CHANGED, TWO)
    await world.prepare()
    assert not world.pool.is_changed("crm", "one")


async def test_a_change_found_against_old_pins_says_nothing_of_new_ones(world: World) -> None:
    """Whoever pins what is live now can use the tool again; a comparison comes before the next call anyway."""
    world.live.tools = (ONE_CHANGED, TWO)
    await world.prepare()
    world.pins = _lock(ONE_CHANGED, TWO)
    assert not world.pool.is_changed("crm", "one")


async def test_what_one_connection_shows_is_not_made_good_by_another(world: World) -> None:
    """An upstream that shows each agent other tools must not be trusted because one of them looks right."""
    world.live.tools = (ONE_CHANGED, TWO)
    await world.prepare("a")
    world.live.tools = (ONE, TWO)
    await world.prepare("b")
    assert world.pool.is_changed("crm", "one")
    with pytest.raises(NotSent, match="definition changed"):
        await world.call(ONE, agent="a")
    world.clock.advance(COMPARE_EVERY_S)
    await world.prepare("a")
    assert not world.pool.is_changed("crm", "one")


async def test_an_upstream_that_changes_back_is_found_out_although_no_call_gets_that_far(world: World) -> None:
    """Calls of a changed tool are denied before they reach the link."""
    world.live.tools = (ONE_CHANGED, TWO)
    await world.prepare()
    world.live.tools = (ONE, TWO)
    await world.pool.close_idle(900)
    assert world.pool.is_changed("crm", "one")
    world.clock.advance(COMPARE_EVERY_S + 1)
    await world.pool.close_idle(900)
    assert not world.pool.is_changed("crm", "one")
    await world.prepare()
    assert await world.call(ONE) == RESULT


async def test_an_announced_change_is_compared_at_once(world: World) -> None:
    await world.prepare()
    world.live.tools = (ONE_CHANGED, TWO)
    world.live.sessions[0].hooks.list_changed()
    await world.prepare()
    assert world.pool.is_changed("crm", "one")
    assert len(world.live.opened) == 1


async def test_a_change_announced_while_the_list_is_read_is_compared_again(world: World) -> None:
    world.live.on_list = lambda: world.live.sessions[-1].hooks.list_changed() if world.live.lists == 1 else None
    await world.prepare()
    await world.prepare()
    assert world.live.lists == 2
    await world.prepare()
    assert world.live.lists == 2


async def test_a_comparison_that_fails_is_made_again(world: World) -> None:
    world.live.list_problem = "It does not list."
    with pytest.raises(UpstreamUnavailable, match="does not list"):
        await world.prepare()
    world.live.list_problem = ""
    world.clock.advance(0.5)
    await world.prepare()
    assert world.live.lists == 2
    assert len(world.live.opened) == 1


async def test_a_new_connection_is_compared_whenever_the_last_comparison_was(world: World) -> None:
    await world.prepare()
    world.live.sessions[0].alive = False
    world.live.tools = (TWO,)
    await world.prepare()
    assert world.pool.is_changed("crm", "one")


# Discovery ------------------------------------------------------------------------------------------


async def test_discovery_uses_a_connection_of_its_own_and_closes_it(world: World) -> None:
    await world.prepare()
    world.live.tools = (TWO, ONE)
    pinned, refused = await world.pool.discover("crm", {"Authorization": "x"})
    assert pinned == PinnedUpstream("crm", "2026-07-28", "crm 1", (ONE, TWO))
    assert refused == {}
    assert [session.alive for session in world.live.sessions] == [True, False]


async def test_a_discovery_that_fails_leaves_no_connection_open(world: World) -> None:
    world.live.list_problem = "It does not list."
    with pytest.raises(UpstreamUnavailable):
        await world.pool.discover("crm", {})
    assert not world.live.sessions[0].alive


def test_credentials_are_never_printed() -> None:
    assert "s3cret" not in repr(Credentials({"Authorization": "s3cret"}, lambda text: text))
