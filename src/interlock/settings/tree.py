"""The settings: every key, its default and its meaning. The reference page is generated from here."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from interlock.core.files.reader import key

_ADDRESS: Final = r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"
_ADDRESS_SHAPE: Final = "host:port"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The listener for agents and host applications."""

    listen: str = key(
        "address for agents; port 0 takes a free one", default="127.0.0.1:7600", pattern=_ADDRESS, shape=_ADDRESS_SHAPE
    )
    public_url: str | None = key(
        "how clients reach the gateway; the audience of tokens; default http://LISTEN",
        default=None,
        pattern=r"https?://[^\s/?#]+",
        shape="http(s)://host[:port] without a path",
    )
    max_body_bytes: int = key("largest request body", default=1_048_576, minimum=1024, maximum=67_108_864)
    max_connections: int = key("connections at one time", default=1024, minimum=1, maximum=65_536)
    allowed_origins: tuple[str, ...] = key("values of Origin that browsers may send; others are refused", default=())


@dataclass(frozen=True, slots=True)
class Operations:
    """The listeners for people and machines that watch, apart from the agents' one."""

    listen: str = key(
        "address of /healthz, /readyz and /metrics", default="127.0.0.1:7601", pattern=_ADDRESS, shape=_ADDRESS_SHAPE
    )
    socket: str | None = key("path of the operator socket; default DATA_DIR/operator.sock", default=None)
    operator_uids: tuple[int, ...] = key("users beside the plane's own and root who may operate it", default=())


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for each agent, applied before anything is recorded."""

    calls_per_second: int = key("sustained rate of messages; a large one counts as several", default=100, minimum=1)
    burst: int = key("messages at once before the rate applies", default=500, minimum=1)
    concurrent_calls: int = key("calls in flight at one time, until their answer is taken", default=256, minimum=1)
    unauthenticated_per_second: int = key("refused tokens a second from one address", default=20, minimum=1)


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """Ceilings where an agent file says nothing, and how implicit runs come and go."""

    max_steps: int = key("attempted calls", default=100, minimum=1)
    max_wall_clock_seconds: int = key("seconds, not counting waiting for a person", default=3600, minimum=1)
    max_tokens_per_run: int | None = key("model tokens; shown as unmetered until a meter exists", default=None)
    max_cost_usd: Decimal | None = key("cost; shown as unmetered until a meter exists", default=None, minimum=0)
    idle_minutes: int = key("an implicit run ends after this long without activity", default=15, minimum=1)
    cool_down_minutes: int = key("an implicit run halted at a ceiling blocks for this long", default=60, minimum=1)
    max_implicit_runs_per_hour: int = key("implicit runs of one agent", default=12, minimum=1)
    max_opened_runs_per_hour: int = key("runs that openers may open for one agent", default=1000, minimum=1)


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """Where a notice goes."""

    type: Literal["log", "file", "webhook"] = key("the plane's log, a file of JSON lines, or an HTTP POST")
    path: str | None = key("type file: where to append", default=None)
    url: str | None = key("type webhook: where to post", default=None, pattern=r"https?://\S+", shape="an http(s) URL")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret's value comes from; read anew for every call, never kept in the settings."""

    env: str | None = key("name of an environment variable of the plane", default=None)
    file: str | None = key("path of a file that only the plane's user can read (mode 600)", default=None)


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """One secret that the plane adds to an upstream's process or requests."""

    source: SecretSource = key("where the value comes from", name="from")
    env: str | None = key("stdio: the environment variable that the upstream's process gets", default=None)
    header: str | None = key(
        "HTTP: the header that requests get", default=None, pattern=r"[A-Za-z0-9-]+", shape="a header name"
    )
    prefix: str = key("text before the value, such as `Bearer `", default="")
    agent: str | None = key("only for this agent", default=None)
    tool: str | None = key("only for this tool; the most specific entry wins", default=None)


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """A system behind the plane."""

    command: tuple[str, ...] | None = key("stdio: the program and its arguments", default=None, minimum=1)
    cwd: str | None = key("stdio: working folder", default=None)
    env: dict[str, str] | None = key("stdio: the whole environment beside PATH and secrets", default=None)
    isolation: Literal["per-agent", "shared"] = key(
        "stdio: one process for each agent, or for all", default="per-agent"
    )
    url: str | None = key(
        "HTTP: the Streamable HTTP endpoint",
        default=None,
        pattern=r"https?://[^\s@/?#]+(?:[/?#]\S*)?",
        shape="an http(s) URL without credentials; those go into `secrets`",
    )
    allow_addresses: tuple[str, ...] = key(
        "HTTP: private networks that the URL's host name may resolve to, as 10.0.0.0/8", default=()
    )
    protocol: Literal["auto", "2025-11-25", "2026-07-28"] = key("the MCP revision to speak", default="auto")
    call_timeout_seconds: int = key("how long a call may take", default=60, minimum=1, maximum=3600)
    start_timeout_seconds: int = key("how long connecting may take", default=30, minimum=1, maximum=600)
    max_result_bytes: int = key("largest answer", default=8_388_608, minimum=1024, maximum=268_435_456)
    max_in_flight: int = key("calls in flight on one connection", default=64, minimum=1)
    secrets: tuple[SecretEntry, ...] = key("credentials that the agent never sees", default=())


@dataclass(frozen=True, slots=True)
class Log:
    """The plane's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = key("least severity", default="info")
    format: Literal["auto", "json", "text"] = key(
        "one JSON object a line, or text for people; auto: text on a terminal", default="auto"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one plane."""

    data_dir: str = key("folder of the journal, keys and socket; only the plane's user may enter it", default="data")
    policies: str = key("folder of the policy files", default="policies")
    gateway: Gateway = key("listener for agents", default=Gateway())
    operations: Operations = key("listeners for people and machines that watch", default=Operations())
    limits: Limits = key("limits for each agent", default=Limits())
    runs: RunDefaults = key("ceilings by default, and implicit runs", default=RunDefaults())
    notify: dict[str, NotifyTarget] | None = key("names that agent files may notify", default=None)
    notify_approvals: str | None = key(
        "a name of `notify` that is told of each call that waits for a person", default=None
    )
    upstreams: dict[str, UpstreamSettings] | None = key("systems behind the plane, by id", default=None)
    log: Log = key("the plane's own log", default=Log())
    drain_seconds: int = key("how long calls in flight may finish at shutdown", default=10, minimum=0, maximum=600)
    version: Literal[1] = key("version of this format", default=1)
