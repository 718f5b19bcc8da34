"""`interlock doctor`: what is weaker than it should be, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from interlock.core.canonical import JsonObject
from interlock.core.errors import InterlockError
from interlock.core.lockfile import PinnedUpstream
from interlock.core.policy.bundle import Bundle
from interlock.core.run import UNMETERED
from interlock.plane.bundles import ActivePolicy
from interlock.plane.ports import CallFilter, Page
from interlock.settings.load import LoadedSettings
from interlock.store.sqlite.reader import SqliteReader
from interlock.store.sqlite.store import SqliteStore
from interlock.upstream.definitions import differences

Level = Literal["ok", "warning", "failure"]
_FREE_BYTES: Final = 512 * 1024 * 1024
_RECENT: Final = 200


def _finding(check: str, level: Level, detail: str, remedy: str = "") -> JsonObject:
    return {"check": check, "level": level, "detail": detail, "remedy": remedy}


def unmatched_secrets(settings: LoadedSettings, bundle: Bundle) -> list[str]:
    """Secrets meant for an agent or a tool that the bundle does not know: no call ever gets those."""
    problems: list[str] = []
    for name, upstream in settings.upstreams.items():
        pinned = bundle.lock.upstreams.get(name)
        tools = {tool.name for tool in pinned.tools} if pinned else set[str]()
        for secret in upstream.secrets:
            if secret.agent is not None and secret.agent not in bundle.agents:
                problems.append(f"a secret of {name} is for the agent {secret.agent!r}, which does not exist")
            if secret.tool is not None and secret.tool not in tools:
                problems.append(f"a secret of {name} is for the tool {secret.tool!r}, which is not pinned")
    return problems


class Doctor:
    """Looks at the running plane from the inside."""

    def __init__(
        self,
        settings: LoadedSettings,
        policy: ActivePolicy,
        store: SqliteStore,
        reader: SqliteReader,
        discover: Callable[[str], Awaitable[tuple[PinnedUpstream, dict[str, str]]]],
    ) -> None:
        self._settings, self._policy, self._store, self._reader = settings, policy, store, reader
        self._discover = discover

    async def check(self) -> list[JsonObject]:
        """Every check, the most basic first; upstreams are really contacted."""
        local = await asyncio.to_thread(self._local)
        upstreams = await asyncio.gather(*(self._upstream(name) for name in self._settings.upstreams))
        return [*local, *upstreams]

    def _local(self) -> list[JsonObject]:
        return [
            self._journal(),
            self._space(),
            *self._permissions(),
            self._users(),
            self._ring(),
            *self._policy_state(),
            *self._secrets(),
            self._ceilings(),
        ]

    def _journal(self) -> JsonObject:
        problem = self._store.problem
        if problem is not None:
            return _finding("journal", "failure", problem.message, problem.remedy)
        return _finding("journal", "ok", f"{self._reader.summary()['leaves']} leaves, writable")

    def _space(self) -> JsonObject:
        free = shutil.disk_usage(self._settings.data_dir).free
        level: Level = "ok" if free > _FREE_BYTES else "warning"
        remedy = "" if level == "ok" else "Free space: a full disk denies every call."
        return _finding("disk", level, f"{free // 1_048_576} MiB free for the journal", remedy)

    def _permissions(self) -> list[JsonObject]:
        folder = self._settings.data_dir
        found: list[JsonObject] = []
        for path in (folder, *sorted(folder.glob("*.key")), folder / "journal.db"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                detail = f"{path} is open to other users (mode {mode:o})"
                found.append(_finding("permissions", "failure", detail, f"Run: chmod go= {path}"))
        writable = [path for path in self._policy_paths() if path.stat().st_mode & stat.S_IWOTH]
        if writable:
            detail = f"anybody may write {writable[0]}"
            found.append(_finding("permissions", "failure", detail, "Run: chmod -R o-w on the policies folder"))
        return found or [_finding("permissions", "ok", "keys, journal and policies are closed to other users")]

    def _policy_paths(self) -> list[Path]:
        folder = self._settings.policies
        return [folder, *folder.rglob("*")] if folder.is_dir() else []

    def _users(self) -> JsonObject:
        if os.getuid() == 0:
            remedy = "Start it as a user of its own that no agent shares."
            return _finding("user", "warning", "the plane runs as root", remedy)
        return _finding("user", "ok", f"the plane runs as uid {os.getuid()}")

    def _ring(self) -> JsonObject:
        """Whether agents that called lately could go round the plane."""
        calls = self._reader.list_calls(CallFilter(), Page(_RECENT))
        agents = sorted({str(call["agent"]) for call in calls if call["ring"] == "cooperative"})
        if not agents:
            return _finding("ring", "ok", "no recent call came from the plane's own user")
        detail = f"cooperative: {', '.join(agents)} ran as the plane's own user (or root, or an unknown one)"
        remedy = "Run agents as another user, in a container or on another host: whoever shares the plane's user"
        return _finding("ring", "warning", detail, f"{remedy} can read its keys and go round it.")

    def _policy_state(self) -> list[JsonObject]:
        if self._policy.bundle is None:
            return [_finding("policy", "failure", "no policy is active: everything is denied", "Activate one.")]
        found: list[JsonObject] = []
        if self._policy.last_problem is not None:
            count = len(self._policy.last_problem.findings)
            detail = f"the last activation failed with {count} errors; the last good bundle is in force"
            found.append(_finding("policy", "warning", detail, "Run `interlock policy check`."))
        elif self._policy.differs_from_files():
            detail = "the files differ from the active bundle"
            found.append(_finding("policy", "warning", detail, "Run `interlock policy activate --reason …`."))
        found.extend(_finding("policy", "warning", str(warning)) for warning in self._policy.bundle.warnings)
        return found or [_finding("policy", "ok", f"active: {self._policy.bundle.digest}")]

    def _secrets(self) -> list[JsonObject]:
        bundle = self._policy.bundle
        remedy = "Mend the name in the settings file; until then a less specific credential is used instead."
        return [
            _finding("secrets", "failure", problem, remedy)
            for problem in (unmatched_secrets(self._settings, bundle) if bundle else ())
        ]

    def _ceilings(self) -> JsonObject:
        bundle = self._policy.bundle
        agents = bundle.agents.values() if bundle else ()
        unmetered = sorted(
            {agent.id for agent in agents if any(getattr(agent.ceilings, name) is not None for name in UNMETERED)}
        )
        if unmetered:
            detail = f"unmetered: token and cost ceilings of {', '.join(unmetered)} have no meter yet"
            return _finding("ceilings", "warning", detail, "Steps and wall clock are enforced; rely on those.")
        return _finding("ceilings", "ok", "every ceiling in use is metered")

    async def _upstream(self, name: str) -> JsonObject:
        try:
            pinned, refused = await self._discover(name)
        except InterlockError as error:
            return _finding(f"upstream {name}", "failure", error.message, error.remedy)
        lock = self._policy.lock().upstreams.get(name)
        if lock is None:
            return _finding(f"upstream {name}", "warning", "no pinned tools", f"Run `interlock tools pin {name}`.")
        changed = differences(lock, {tool.name: tool.pin for tool in pinned.tools}, refused)
        if changed:
            tools = "; ".join(f"{tool}: {why}" for tool, why in sorted(changed.items()))
            remedy = f"Look at the change, then run `interlock tools pin {name}` and activate."
            return _finding(f"upstream {name}", "failure", f"unavailable until pinned again: {tools}", remedy)
        new = sorted({tool.name for tool in pinned.tools} - {tool.name for tool in lock.tools})
        detail = f"{len(lock.tools)} tools as pinned, MCP {pinned.protocol}"
        if new or refused:
            detail += f"; not pinned: {', '.join([*new, *sorted(refused)])}"
        return _finding(f"upstream {name}", "ok", detail)
