"""Servers that others wrote, behind the plane: every tool is permitted when allowed, and answers as it does directly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from servers.arguments import variations
from servers.catalogue import SERVERS, ThirdPartyServer
from support.plane import PlaneProcess, running

_FIXED_TIME = {"GIT_AUTHOR_DATE": "1767225600 +0000", "GIT_COMMITTER_DATE": "1767225600 +0000"}
_NOW = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}[^\s\"]*|\b\d{1,2}:\d{2}:\d{2}( [AP]M)?\b")
_TEMPORARY = re.compile(r"/tmp[a-z0-9_]{8}\b")
_WHEN = re.compile(r"(created|modified|accessed): .*")

# What must mean something to a tool; everything else comes from its schema. {here} is the scratch folder.
KNOWN: dict[str, dict[str, Any]] = {
    "mcp-server-git": {
        "repo_path": "{here}/repository",
        "files": ["b.txt"],
        "revision": "HEAD",
        "target": "HEAD",
        "branch_type": "local",
        "base_branch": "main",
        "start_timestamp": "2025-01-01",
        "end_timestamp": "2027-01-01",
        "contains": "HEAD",
        "not_contains": "HEAD",
    },
    "mcp-server-time": {
        "timezone": "Europe/Paris",
        "source_timezone": "UTC",
        "target_timezone": "Asia/Tokyo",
        "time": "12:30",
    },
    "mcp-server-sqlite": {"query": "SELECT 1.5 AS a, NULL AS b", "table_name": "t"},
    "server-everything": {"resourceId": 1, "data": "data:text/plain,hello", "duration": 0.2, "steps": 2, "count": 3},
    "server-filesystem": {
        "path": "{here}/files/a.txt",
        "paths": ["{here}/files/a.txt", "{here}/files/missing.txt"],
        "source": "{here}/files/c.txt",
        "destination": "{here}/files/d.txt",
        "edits": [{"oldText": "alpha", "newText": "beta"}],
    },
    "server-memory": {
        "entities": [{"name": "n", "entityType": "t", "observations": ["o", "ünï"]}],
        "relations": [{"from": "n", "to": "n", "relationType": "r"}],
        "observations": [{"entityName": "n", "contents": ["c"]}],
        "names": ["n"],
        "query": "n",
    },
}
# The same for one tool alone.
KNOWN_FOR_TOOL: dict[str, dict[str, Any]] = {
    "git_checkout": {"branch_name": "main"},
    "create_directory": {"path": "{here}/files/new"},
    "list_directory": {"path": "{here}/files"},
    "list_directory_with_sizes": {"path": "{here}/files"},
    "directory_tree": {"path": "{here}/files"},
    "search_files": {"path": "{here}/files", "pattern": "*.txt"},
    "read_media_file": {"path": "{here}/files/dot.png"},
    "write_file": {"path": "{here}/files/written.txt"},
    "read_file": {"head": 1},
    "read_text_file": {"head": 1},
}
# Tools that others build on.
FIRST = ("create_entities", "create_relations")
# Instead of a variation's own arguments: statements that fit the tool.
STATEMENTS = {
    "create_table": "CREATE TABLE IF NOT EXISTS t (a REAL, b TEXT)",
    "write_query": "INSERT INTO t VALUES (1.25, NULL)",
}
# get-env tells the process's whole environment, which is the plane's to decide; it is compared on its own below.
LEFT_OUT = {"get-env"}
# It answers only as a task, which neither side asks for.
NEVER_WORK = {"simulate-research-query"}


def prepared(server: ThirdPartyServer, folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Prepare a scratch folder for one instance of a server; return its command and environment."""
    folder.mkdir()
    launch = server.launch(folder)
    for place in ("repository", "files"):
        if (folder / place).is_dir():
            (folder / place / "a.txt").write_text("alpha\nsecond line\n")
            (folder / place / "c.txt").write_text("to be moved\n")
            (folder / place / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TZ": "UTC", **_FIXED_TIME, **launch.environment}
    if (folder / "repository").is_dir():
        for command in (("add", "a.txt"), ("commit", "--quiet", "-m", "first")):
            subprocess.run(["git", *command], cwd=folder / "repository", env=environment, check=True)
        (folder / "repository" / "b.txt").write_text("new\n")
    return launch.argv, environment


def known_values(server: str, tool: str, folder: Path) -> dict[str, Any]:
    values = {**KNOWN[server], **KNOWN_FOR_TOOL.get(tool, {})}
    return json.loads(json.dumps(values).replace("{here}", str(folder)))


def comparable(value: Any, folder: Path) -> Any:
    """What must be the same: everything but the folder, the present time and file times."""
    text = json.dumps(value, sort_keys=True).replace(str(folder), "{here}")
    return _WHEN.sub(r"\1: …", _TEMPORARY.sub("/…", _NOW.sub("…", text)).replace("\\n", "\n"))


def plain(result: Any) -> dict[str, Any]:
    shown = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: shown.get(name) for name in ("content", "structuredContent", "isError")}


async def directly(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return plain(await client.call_tool(tool, arguments))
    except MCPError as error:
        return {"protocol error": error.message}


def allow_all(folder: Path, upstream: str, tools: list[str]) -> None:
    allowed = "".join(
        f"    - name: {upstream}/{name}\n      requires_approval: false\n      justification: a test\n"
        for name in tools
    )
    (folder / "agents").mkdir(parents=True, exist_ok=True)
    (folder / "agents" / "everything.yaml").write_text(
        f"agent: {{id: everything, identity: everything@example}}\ntools:\n  allowed:\n{allowed}"
        "execution: {max_steps: 100000, max_wall_clock_seconds: 80000}\n"
    )


@pytest.fixture(params=sorted(SERVERS), ids=str)
def server(request: pytest.FixtureRequest) -> ThirdPartyServer:
    found = SERVERS[request.param]
    missing = found.missing()
    if missing:
        pytest.skip(missing)
    return found


async def test_every_tool_answers_through_the_plane_as_it_does_directly(
    server: ThirdPartyServer, tmp_path: Path
) -> None:
    argv, environment = prepared(server, tmp_path / "behind")
    direct_argv, direct_environment = prepared(server, tmp_path / "direct")
    (tmp_path / "policies").mkdir()
    settings = {
        "policies": str(tmp_path / "policies"),
        "upstreams": {"third": {"command": list(argv), "env": environment}},
        "limits": {"calls_per_second": 100000, "burst": 100000},
        "log": {"level": "warning"},
    }
    with running(tmp_path, settings, "--no-policy") as plane:
        plane.command("tools", "pin", "third", "--yes")
        lock = json.loads((tmp_path / "policies" / "tools.lock").read_text())
        pinned = {name: entry["definition"] for name, entry in lock["upstreams"]["third"]["tools"].items()}
        allow_all(tmp_path / "policies", "third", list(pinned))
        plane.command("policy", "activate", "--reason", "test")
        parameters = StdioServerParameters(
            command=direct_argv[0], args=list(direct_argv[1:]), env=direct_environment, cwd=str(tmp_path / "direct")
        )
        async with (
            Client(parameters, mode="legacy") as direct,
            plane.client(plane.token("everything"), "third") as governed,
        ):
            listed = {tool.name: tool for tool in (await direct.list_tools()).tools}
            assert set(pinned) == set(listed), "every tool of the server can be pinned"
            compared = await compare(server, tmp_path, pinned, direct, governed)
    assert compared >= len(pinned) - len(LEFT_OUT)


async def compare(
    server: ThirdPartyServer, tmp_path: Path, pinned: dict[str, Any], direct: Client, governed: Client
) -> int:
    compared, worked = 0, set[str]()
    behind, beside = tmp_path / "behind", tmp_path / "direct"
    for tool, definition in sorted(pinned.items(), key=lambda item: (item[0] not in FIRST, item[0])):
        if tool in LEFT_OUT:
            continue
        pairs = zip(
            variations(definition["inputSchema"], known_values(server.name, tool, behind)),
            variations(definition["inputSchema"], known_values(server.name, tool, beside)),
            strict=True,
        )
        for through, straight in pairs:
            override = {"query": STATEMENTS[tool]} if tool in STATEMENTS else None
            expected = await directly(direct, tool, override or straight)
            result = await governed.call_tool(tool, override or through)
            error = (result.structured_content or {}).get("error") if result.is_error else None
            if "protocol error" in expected:
                assert error, f"{tool} {through}: directly a protocol error, through the plane {result}"
                assert error["code"] == "upstream_failed", f"{tool} {through}: {error}"
            else:
                shown = comparable(plain(result), behind)
                assert shown == comparable(expected, beside), f"{tool} {through}"
            compared += 1
            if expected.get("isError") is False:
                worked.add(tool)
    # Comparing errors with errors would show little: each tool did its work at least once.
    assert pinned.keys() - worked <= NEVER_WORK | LEFT_OUT
    return compared


def test_a_stdio_server_gets_the_environment_that_the_settings_say_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SERVERS["server-everything"]
    if missing := server.missing():
        pytest.skip(missing)
    monkeypatch.setenv("OF_THE_PLANE_ALONE", "secret")
    launch = server.launch(tmp_path)
    (tmp_path / "policies").mkdir()
    settings = {
        "policies": str(tmp_path / "policies"),
        "upstreams": {"third": {"command": list(launch.argv), "env": {"GIVEN": "yes"}}},
        "log": {"level": "warning"},
    }
    with running(tmp_path, settings, "--no-policy") as plane:
        plane.command("tools", "pin", "third", "--yes")
        allow_all(tmp_path / "policies", "third", ["get-env"])
        plane.command("policy", "activate", "--reason", "test")
        told = asyncio.run(_environment(plane))
    assert told.pop("GIVEN") == "yes"
    assert told.pop("PATH")
    assert not [name for name in told if name not in ("PWD", "SHLVL", "_")]


async def _environment(plane: PlaneProcess) -> dict[str, str]:
    async with plane.client(plane.token("everything"), "third") as client:
        result = await client.call_tool("get-env", {})
    return json.loads(result.content[0].text)
