"""The bypass suite's data: what an attempt is, and the strict reader of its files (tests/bypass/*.yaml)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

FOLDER = Path(__file__).resolve().parents[1] / "bypass"
WORLD = FOLDER / "world"

Era = Literal["modern", "legacy"]
T = TypeVar("T")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An object in which every key means something."""


class Expect(_Strict):
    """What the gateway answers; at least one member, and all of them must hold.

    Attributes:
        code: Of the structured error in a tool result.
        protocol: Code of a JSON-RPC error.
        http: Status of the HTTP answer.
        problem: Code in a problem document.
        result: True: a tool result, and no error.
        lists: Names in a tools/list result, in order.
        replayed: Whether a result is marked as the stored one of an earlier call.
        hides: Texts that the answer must not hold.
    """

    code: str | None = None
    protocol: int | None = None
    http: int | None = None
    problem: str | None = None
    result: Literal[True] | None = None
    lists: list[str] | None = None
    replayed: bool | None = None
    hides: list[str] = []

    def __post_init__(self) -> None:
        said = (self.code, self.protocol, self.http, self.problem, self.result, self.lists)
        if all(member is None for member in said):
            raise ValueError("`expect` says nothing")


class Executed(_Strict):
    """One call that must reach an upstream; `arguments` are compared where they are given."""

    tool: str
    upstream: str = "office"
    arguments: dict[str, Any] | None = None


class Call(_Strict):
    """A tools/call around a name and arguments.

    Attributes:
        text: The arguments as JSON text, for what no library would write; instead of `arguments`.
        meta: Members of `_meta` beside the envelope of the era.
        members: Members of `params` beside name, arguments and `_meta`.
    """

    tool: Any
    arguments: Any = {}
    text: str | None = None
    meta: dict[str, Any] = {}
    members: dict[str, Any] = {}
    id: Any = 1


class Step(_Strict):
    """One request of the agent, or one act of somebody else between two of them.

    Exactly one of these says what is done:
        call: A tools/call.
        message: A whole JSON-RPC message, or anything in its place; the text `$META` stands for the envelope.
        body: A body as text; `$META` is the envelope as JSON.
        base64: A body as base64.
        sweep: A call, made of every pinned or live tool that tools/list does not show; the tool's name is ignored.
        verdict: A person answers the approval that the last answer named.
        connect: Legacy: a new session, for the steps after it.

    Attributes:
        headers: Instead of what a client sends; null leaves a header out, a list sends it several times.
        upstream: Whose URL is called.
        path: Instead of `/mcp/UPSTREAM`. Here and in headers `$TOKEN` is the token of the attempt's own run.
        token: `run` is bound to a run of the attempt's own, `implicit` to none, `none` is none, `opener` opens runs,
            `of NAME` is another agent's; `audience`, `issuer`, `expired`, `unsigned`, `foreign-key` and `other-run`
            are forged; anything else is sent as it is.
        run: Which of the attempt's own runs.
        session: Legacy: `own`, `none`, `ended`, `tampered`, `of NAME`, `at UPSTREAM`, or the id itself.
        executes: What reaches upstreams because of this step, in order; nothing by default.
        legacy: What is expected in the legacy era, where it differs.
    """

    call: Call | None = None
    message: Any = msgspec.UNSET
    body: str | None = None
    base64: str | None = None
    sweep: Call | None = None
    verdict: Literal["approve", "deny"] | None = None
    connect: Literal[True] | None = None
    headers: dict[str, str | list[str] | None] = {}
    method: str = "POST"
    upstream: str = "office"
    path: str | None = None
    token: str = "run"
    run: str = "a"
    session: str = "own"
    expect: Expect | None = None
    legacy: Expect | None = None
    executes: list[Executed] = []

    def __post_init__(self) -> None:
        given = (self.call, self.body, self.base64, self.sweep, self.verdict, self.connect)
        acts = sum(act is not None for act in given) + (self.message is not msgspec.UNSET)
        if acts != 1:
            raise ValueError(f"a step does one thing, not {acts}")
        if (self.expect is None) == (self.verdict is None and self.connect is None):
            raise ValueError("a request has an `expect`, and nothing else has")
        if self.call is not None and self.call.text is not None and self.call.arguments:
            raise ValueError("`arguments` and `text` exclude each other")

    def expected(self, era: Era) -> Expect:
        """What this era's answer must be."""
        found = self.legacy if era == "legacy" and self.legacy is not None else self.expect
        assert found is not None
        return found


class Policy(_Strict):
    """The `tools` of an agent file that is made for one attempt."""

    allowed: list[dict[str, Any]] = []
    blocked: list[str] = []


class Attempt(_Strict):
    """One way round the plane, or (`control`) a call beside it that must execute.

    Attributes:
        tries: What would go wrong if it got through.
        policy: A named agent of tests/bypass/world/agents, or an envelope of the attempt's own.
    """

    id: str
    title: str
    tries: str
    steps: list[Step]
    policy: str | Policy = "clerk"
    eras: tuple[Era, ...] = ("modern", "legacy")
    control: bool = False

    def __post_init__(self) -> None:
        if not self.steps or not self.eras:
            raise ValueError("an attempt has at least one step and one era")
        if self.control and not any(step.executes for step in self.steps):
            raise ValueError("a control executes something")

    @property
    def agent(self) -> str:
        return self.policy if isinstance(self.policy, str) else f"attempt-{self.id}"


class Category(_Strict):
    """One file."""

    category: str
    about: str
    attempts: list[Attempt]


class ToolsOf(_Strict):
    """What an upstream of the world has: pinned tools, and where the live ones differ."""

    tools: list[dict[str, Any]]
    live: dict[str, dict[str, Any] | None]


class BypassFileInvalid(Exception):
    """A file of the suite that cannot be used; the message names it."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key appears once."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys: list[Any] = [loader.construct_object(key, deep=True) for key, _ in node.value]
    if twice := {repr(key) for key in keys if keys.count(key) > 1}:
        raise BypassFileInvalid(f"line {node.start_mark.line + 1}: {', '.join(sorted(twice))} appears twice")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read_category(path: Path) -> Category:
    """Read one file of attempts. Raises BypassFileInvalid."""
    return _read(path, Category)


def read_tools(path: Path) -> ToolsOf:
    """Read what an upstream of the world has. Raises BypassFileInvalid."""
    return _read(path, ToolsOf)


def _read(path: Path, kind: type[T]) -> T:
    try:
        # The text is ours: the loader is SafeLoader with one more rule.
        return msgspec.convert(yaml.load(path.read_text("utf-8"), _Loader), kind)
    except (msgspec.ValidationError, BypassFileInvalid, yaml.YAMLError) as error:
        raise BypassFileInvalid(f"{path.name}: {error}") from error


def all_categories() -> list[Category]:
    """Every file of the suite, by name."""
    return [read_category(path) for path in sorted(FOLDER.glob("*.yaml"))]
