"""Reading the settings file: strict, every error at once, paths resolved against the file's folder."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from interlock.core.errors import Finding, SettingsInvalid
from interlock.core.files.located import parse
from interlock.core.files.reader import Located, did_you_mean, read
from interlock.core.run import Ceilings
from interlock.core.tool import UPSTREAM_ID, UPSTREAM_SHAPE
from interlock.settings.tree import NotifyTarget, Settings, UpstreamSettings

_SOCKET_PATH_MAX: Final = 100  # the kernel's limit is 108 bytes with the terminator


class SettingsFindings(SettingsInvalid):
    """The settings file has mistakes; `findings` are all of them."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(f"The settings file has {len(findings)} error(s).", remedy="Mend them; nothing was started.")
        self.findings = findings


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings with their paths made absolute.

    Attributes:
        tree: As the file says.
        file: The settings file.
    """

    tree: Settings
    file: Path

    def path(self, text: str) -> Path:
        """A path from the settings, against the settings file's folder; `~/` is the plane's user's home."""
        return (self.file.parent / home(text)).resolve()

    @property
    def data_dir(self) -> Path:
        return self.path(self.tree.data_dir)

    @property
    def policies(self) -> Path:
        return self.path(self.tree.policies)

    @property
    def socket(self) -> Path:
        return (
            self.path(self.tree.operations.socket) if self.tree.operations.socket else self.data_dir / "operator.sock"
        )

    @property
    def notify_names(self) -> frozenset[str]:
        return frozenset(self.tree.notify or {})

    @property
    def upstreams(self) -> dict[str, UpstreamSettings]:
        return self.tree.upstreams or {}

    @property
    def default_ceilings(self) -> Ceilings:
        runs = self.tree.runs
        cost = None if runs.max_cost_usd is None else int(runs.max_cost_usd * Decimal(1_000_000))
        return Ceilings(runs.max_steps, runs.max_tokens_per_run, runs.max_wall_clock_seconds * 1_000_000, cost)


def load_settings(file: Path) -> LoadedSettings:
    """Read and check a settings file.

    Raises:
        SettingsInvalid: it cannot be read; SettingsFindings, a subclass, if it has mistakes.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise SettingsInvalid(
            f"There is no settings file {file}.", remedy="Run `interlock init`, or name one with --config."
        ) from None
    except OSError as error:
        raise SettingsInvalid(f"The settings file {file} cannot be read ({error.strerror}).") from None
    node, findings = parse(file.name, data)
    located = read(file.name, node, Settings, findings)
    if located is not None:
        _check(located, findings)
    if located is None or findings:
        raise SettingsFindings(tuple(sorted(findings)))
    loaded = LoadedSettings(located.value, file.resolve())
    if len(str(loaded.socket).encode()) > _SOCKET_PATH_MAX:
        problem = f"the path of the operator socket, {loaded.socket}, is too long for a socket"
        hint = "set operations.socket to a shorter path, such as /run/interlock/operator.sock"
        raise SettingsFindings((located.finding("operations.socket", problem, hint=hint),))
    return loaded


def _check(located: Located[Settings], findings: list[Finding]) -> None:
    for name, target in (located.value.notify or {}).items():
        _check_notify(located, f"notify.{name}", target, findings)
    approvals, known = located.value.notify_approvals, (located.value.notify or {}).keys()
    if approvals is not None and approvals not in known:
        hint = did_you_mean(approvals, known)
        problem = f"`notify` has no name {approvals!r}"
        findings.append(located.finding("notify_approvals", problem, "one of its names", hint))
    for name, upstream in (located.value.upstreams or {}).items():
        if not re.fullmatch(UPSTREAM_ID, name):
            findings.append(located.finding(f"upstreams.{name}", f"{name!r} is not an upstream id", UPSTREAM_SHAPE))
        _check_upstream(located, f"upstreams.{name}", upstream, findings)


def _check_notify(located: Located[Settings], path: str, target: NotifyTarget, findings: list[Finding]) -> None:
    needed = {"log": None, "file": "path", "webhook": "url"}[target.type]
    for name in ("path", "url"):
        given = getattr(target, name) is not None
        if given != (name == needed):
            problem = f"a target of type {target.type} {'has no' if given else 'needs a'} `{name}`"
            findings.append(located.finding(path, problem))


def _check_upstream(located: Located[Settings], path: str, upstream: UpstreamSettings, findings: list[Finding]) -> None:
    if (upstream.command is None) == (upstream.url is None):
        findings.append(located.finding(path, "the upstream is ambiguous", "either `command` or `url`"))
        return
    stdio = upstream.command is not None
    defaults = UpstreamSettings()
    wrong = ("url", "allow_addresses") if stdio else ("cwd", "env", "isolation")
    for name in wrong:
        if getattr(upstream, name) != getattr(defaults, name):
            door = "stdio" if stdio else "HTTP"
            findings.append(located.finding(f"{path}.{name}", f"`{name}` does nothing for an upstream over {door}"))
    for index, network in enumerate(upstream.allow_addresses):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            findings.append(located.finding(f"{path}.allow_addresses[{index}]", f"{network!r} is not a network"))
    for index, secret in enumerate(upstream.secrets):
        where = f"{path}.secrets[{index}]"
        if (secret.source.env is None) == (secret.source.file is None):
            findings.append(located.finding(f"{where}.from", "the source is ambiguous", "either `env` or `file`"))
        wanted, other = ("env", "header") if stdio else ("header", "env")
        if getattr(secret, wanted) is None or getattr(secret, other) is not None:
            findings.append(located.finding(where, "the secret has no place to go", f"`{wanted}:` and no `{other}:`"))


def home(text: str) -> str:
    """Write out a leading `~/`; nothing else in a settings value is ever expanded."""
    return str(Path.home() / text[2:]) if text.startswith("~/") else text


def shown(value: Any) -> Any:
    """A settings value as JSON-ready data; secrets are references, so there is nothing to hide."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            (item.metadata["key"].name or item.name): shown(getattr(value, item.name))
            for item in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {name: shown(member) for name, member in cast("dict[str, Any]", value).items()}
    if isinstance(value, tuple):
        return [shown(item) for item in cast("tuple[Any, ...]", value)]
    return str(value) if isinstance(value, Decimal) else value
