"""The files of a bundle as typed values: the agent file and the catalogue (docs/reference/policy-files.md).

Only shapes live here. What names mean (pinned tools, arguments, notify targets) is the business
of `catalogue`, `constraints` and `compile`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

from interlock.core.files.located import Node
from interlock.core.files.reader import key
from interlock.core.tool import UPSTREAM_ID, UPSTREAM_SHAPE

_COUNTABLE: Final = 1_000_000_000
"""Seconds and dollars that 64-bit counters of microseconds and micro-dollars surely hold."""

Effect = Literal["read", "reversible", "irreversible"]
EFFECTS: Final[tuple[Effect, ...]] = ("read", "reversible", "irreversible")
Tag = Literal["communication", "deletion", "money", "permissions", "infrastructure", "execution", "production-data"]
TAGS: Final[tuple[Tag, ...]] = (
    "communication",
    "deletion",
    "money",
    "permissions",
    "infrastructure",
    "execution",
    "production-data",
)
ArgumentType = Literal["path", "url", "email", "id", "amount"]


@dataclass(frozen=True, slots=True)
class AgentSection:
    """Who the agent is."""

    id: str = key(
        "the agent's id, unique in the bundle",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
        shape="letters, digits, dots, hyphens and underscores, at most 128",
    )
    identity: str = key("the principal that may act as this agent", pattern=r"\S{1,256}", shape="one word, no spaces")


@dataclass(frozen=True, slots=True)
class Constraints:
    """Limits on a tool's arguments and use."""

    KEY_BEGINNINGS: ClassVar = ("allowed", "min", "max", "match", "under", "host")
    PATTERN_KEYS: ClassVar[dict[str, Any]] = {
        "^allowed_.+$": {
            "type": "array",
            "minItems": 1,
            "items": {"type": ["string", "number", "boolean"]},
            "description": "the argument (or its singular), or each item of it, must be in this list",
        },
        "^(min|max)_.+$": {"type": "number", "description": "bound of a numeric argument, inclusive"},
        "^(match|under|host)_.+$": {
            "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
            "description": "glob over the whole string; directory that a path must be under; host of a URL",
        },
    }

    max_records_per_run: int | None = key(
        "records this tool may touch in a run, all its calls together", default=None, minimum=0
    )
    max_calls_per_run: int | None = key("calls of this tool in a run", default=None, minimum=0)
    argument_rules: dict[str, Node] = field(default_factory=dict[str, Node], metadata={"collects": True})


@dataclass(frozen=True, slots=True)
class AllowedTool:
    """One tool, or with `effect` a glob of tools, that the agent may call."""

    name: str = key("`tool` or `upstream/tool`; with `effect`, a glob over names", pattern=r"\S{1,200}", shape="a tool")
    effect: Effect | None = key("required for a glob: it matches tools of this effect alone", default=None)
    scope: tuple[str, ...] | None = key(
        "fields of the result that the agent may see, as dotted paths",
        default=None,
        minimum=1,
        pattern=r"[^.\s]+(\.[^.\s]+){0,31}",
        shape="a dotted path of at most 32 names",
    )
    constraints: Constraints | None = key("limits on arguments and use", default=None)
    arguments: Node | None = key("JSON Schema 2020-12 for the whole argument object", default=None)
    when: str | None = key("one Cedar expression over `context` that must hold", default=None)
    requires_approval: bool | None = key(
        "a person decides each call; default true unless the effect is read or reversible", default=None
    )
    justification: str | None = key(
        "why an irreversible tool needs no approval; required with requires_approval: false", default=None
    )
    approval_timeout_seconds: int | None = key(
        "how long a hold waits for a verdict", default=None, minimum=1, maximum=604_800
    )
    auto_deny_on_timeout: bool | None = key(
        "deny at the time-out; false keeps holding until the run ends and tells the `notify` of on_budget_exceeded",
        default=None,
    )


@dataclass(frozen=True, slots=True)
class ToolsSection:
    """What the agent may and may not call."""

    allowed: tuple[AllowedTool, ...] = key("tools the agent may call", default=())
    blocked: tuple[str, ...] = key(
        "names or globs that beat everything", default=(), pattern=r"\S{1,200}", shape="a tool or a glob"
    )


@dataclass(frozen=True, slots=True)
class OnBudgetExceeded:
    """What happens at a ceiling."""

    action: Literal["halt", "halt_and_escalate"] = key("what to do when a ceiling of the run is hit")
    notify: str | None = key("with halt_and_escalate: a name that the settings resolve", default=None)


@dataclass(frozen=True, slots=True)
class Execution:
    """Ceilings of a run; at one the run halts."""

    max_steps: int | None = key("attempted calls, denied ones too", default=None, minimum=1)
    max_tokens_per_run: int | None = key("model tokens", default=None, minimum=1)
    max_wall_clock_seconds: int | None = key(
        "seconds, not counting waiting for a person", default=None, minimum=1, maximum=_COUNTABLE
    )
    max_cost_usd: Decimal | None = key("cost in US dollars, to six places", default=None, minimum=0, maximum=_COUNTABLE)
    on_budget_exceeded: OnBudgetExceeded | None = key("what happens at a ceiling; default: halt", default=None)


@dataclass(frozen=True, slots=True)
class AgentFile:
    """Agent file: the envelope of one agent role."""

    agent: AgentSection = key("who the agent is")
    tools: ToolsSection = key("what the agent may and may not call")
    execution: Execution | None = key("ceilings of a run; missing ones are the deployment's defaults", default=None)
    version: Literal[1] = key("version of this format", default=1)


@dataclass(frozen=True, slots=True)
class Records:
    """How many records a call of the tool touches."""

    count: str | None = key("the list argument whose length is the count", default=None)
    per_call: Literal[1] | None = key("1: every call counts one, whatever lists it takes", default=None)


@dataclass(frozen=True, slots=True)
class ArgumentEntry:
    """What one argument is."""

    type: ArgumentType = key("what the argument means")


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """What one tool does."""

    effect: Effect = key("read, reversible or irreversible")
    tags: tuple[Tag, ...] = key("what guardrails call it", default=())
    records: Records | None = key("how to count records", default=None)
    fields_argument: str | None = key("the argument that names the fields to return", default=None)
    arguments: dict[str, ArgumentEntry] | None = key("what its arguments are", default=None)
    additional_arguments: Literal["allow", "refuse"] = key(
        "whether arguments that the pinned schema does not declare may pass", default="refuse"
    )
    idempotent: bool = key("whether repeating a call changes nothing more", default=False)


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """Catalogue file: what each tool of one upstream does."""

    upstream: str = key("the upstream's id", pattern=UPSTREAM_ID, shape=UPSTREAM_SHAPE)
    tools: dict[str, ToolEntry] = key("tools by name")
    version: Literal[1] = key("version of this format", default=1)
