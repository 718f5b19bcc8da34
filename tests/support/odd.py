"""A plane with the misbehaving server behind it, and a policy that allows everything it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support.odd_upstream import NAMES

_SERVER = Path(__file__).with_name("odd_upstream.py")
AGENT = "odd-agent"


def write_policies(
    folder: Path, *, agent_extra: str = "", execution: str = "max_steps: 1000000\n  max_wall_clock_seconds: 80000"
) -> Path:
    """Agent and catalogue files that allow every tool of the odd upstream; the lock is made by pinning."""
    allowed = "".join(f"    - name: odd/{name}\n" for name in NAMES)
    (folder / "agents").mkdir(parents=True, exist_ok=True)
    (folder / "tools").mkdir(exist_ok=True)
    (folder / "agents" / "odd.yaml").write_text(
        f"agent: {{id: {AGENT}, identity: odd@example}}\n"
        f"tools:\n  allowed:\n{allowed}{agent_extra}execution:\n  {execution}\n"
    )
    effects = "".join(
        f"  {name}: {{effect: reversible, records: {{per_call: 1}}, additional_arguments: allow}}\n" for name in NAMES
    )
    (folder / "tools" / "odd.yaml").write_text(f"upstream: odd\ntools:\n{effects}")
    return folder


def odd_settings(folder: Path, *options: str, **upstream: Any) -> dict[str, Any]:
    """Settings for a plane in `folder`; the upstream notes what reaches it in `folder/state`."""
    command = [sys.executable, str(_SERVER), str(folder / "state"), *options]
    return {
        "policies": str(folder / "policies"),
        "upstreams": {"odd": {"command": command, **upstream}},
        "limits": {"calls_per_second": 1_000_000, "burst": 1_000_000, "concurrent_calls": 100_000},
        "log": {"level": "warning"},
    }


def pin(folder: Path, *options: str) -> None:
    """Write tools.lock for the odd upstream, without a plane: its definitions are known."""
    from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
    from interlock.core.tool import pinned_tool
    from support.odd_upstream import tools

    variant = options[options.index("--variant") + 1] if "--variant" in options else "plain"
    pinned = tuple(pinned_tool("odd", definition) for definition in tools(variant))
    upstream = PinnedUpstream("odd", "2026-07-28", "odd 1", pinned)
    (folder / LOCK_NAME).write_bytes(write_lock({"odd": upstream}))


def reached(folder: Path, tool: str | None = None) -> list[dict[str, Any]]:
    """The tool calls that reached the upstream, in order."""
    path = folder / "state"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines]
    return [entry for entry in entries if "tool" in entry and tool in (None, entry["tool"])]
