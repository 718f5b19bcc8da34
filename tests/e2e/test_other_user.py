"""From the uid of an agent that is not the plane's: token, approve, activate, database, keys and secrets are out of reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plane import PlaneProcess, crm_settings, running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")

ATTEMPTS = {
    "token": "operate('POST', '/v1/tokens', {'agent': 'support-agent-v2'})",
    "approve": "operate('POST', '/v1/approvals/hold_1/verdict', {'approve': True})",
    "activate": "operate('POST', '/v1/policy/activate', {'reason': 'mine'})",
    "status": "operate('GET', '/v1/status', None)",
    "database": "open(folder + '/data/journal.db', 'rb').read(16)",
    "database log": "open(folder + '/data/journal.db-wal', 'rb').read(16)",
    "data key": "open(folder + '/data/data.key', 'rb').read(1)",
    "token key": "open(folder + '/data/tokens.key', 'rb').read(1)",
    "secret file": "open(folder + '/secret', 'rb').read(1)",
    "plane's environment": "open(f'/proc/{pid}/environ', 'rb').read(1)",
    "plane's memory": "open(f'/proc/{pid}/mem', 'rb').read(1)",
    "upstream's environment": "[open(f'/proc/{child}/environ', 'rb').read(1) for child in children]",
    "ptrace": "attach(pid)",
    "policy files": "open(policies + '/agents/support-agent.yaml', 'a')",
    "kill": "os.kill(pid, 9)",
}

BECOME_AGENT = """
# Becoming the agent's user in here, because the interpreter itself may lie where only root can reach it.
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert os.getresuid() == (65534, 65534, 65534)
"""

PROGRAM = """
import ctypes, http.client, json, os, socket, sys
BECOME_AGENT
socket_path, folder, policies, pid, children = json.loads(sys.argv[1])
def operate(method, path, body):
    c = http.client.HTTPConnection('x', timeout=10)
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.settimeout(10)
    c.sock.connect(socket_path)
    c.request(method, path, json.dumps(body))
    r = c.getresponse()
    print('REACHED', r.status, r.read()[:200])
def attach(target):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, target, None, None) != 0:
        raise PermissionError(ctypes.get_errno())
for name, attempt in json.loads(sys.argv[2]).items():
    try:
        eval(attempt)
        print('REACHED', name)
    except (OSError, http.client.HTTPException) as error:
        print('refused', name, type(error).__name__)
""".replace("BECOME_AGENT", BECOME_AGENT)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[PlaneProcess]:
    secret = tmp_path / "secret"
    secret.write_text("correct-horse-battery")
    secret.chmod(0o600)
    settings = crm_settings(tmp_path / "crm.db")
    settings["upstreams"]["crm"]["secrets"] = [{"env": "CRM_TOKEN", "from": {"file": str(secret)}}]
    with running(tmp_path, settings) as running_plane:
        yield running_plane


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("reachable", [False, True], ids=["socket in a closed folder", "socket file within reach"])
def test_an_agents_user_cannot_operate_or_read_the_plane(plane: PlaneProcess, tmp_path: Path, reachable: bool) -> None:
    plane.call(plane.token(), "read_customer_record", {"customer_id": "C-0001"})  # starts the upstream's process
    children = children_of(plane.pid)
    assert children, "the upstream's process should run"
    if reachable:
        # Let the path be reached: the kernel's word on who is asking has to be enough.
        plane.socket_path.chmod(0o666)
    told = json.dumps([str(plane.socket_path), str(tmp_path), str(plane.settings["policies"]), plane.pid, children])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, told, json.dumps(ATTEMPTS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(ATTEMPTS), done.stdout + done.stderr
    assert not [line for line in lines if line.startswith("REACHED")]
    assert plane.running


def test_calls_of_another_user_are_structural_and_calls_of_the_planes_own_are_cooperative(
    plane: PlaneProcess, tmp_path: Path
) -> None:
    token = plane.token()
    plane.call(token, "read_customer_record", {"customer_id": "C-0001"})
    message = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "read_customer_record",
                "arguments": {"customer_id": "C-0002"},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        }
    )
    program = (
        "import encodings.idna, os, sys, urllib.request\n" + BECOME_AGENT + "\n"
        "url, token, body = sys.argv[1:]\n"
        "h = {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json', 'Accept': 'application/json',"
        " 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'read_customer_record'}\n"
        "print(urllib.request.urlopen(urllib.request.Request(url, body.encode(), h)).read().decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"{plane.url}/mcp/crm", token, message],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert "C-0002" in done.stdout, done.stderr
    rings = [call["ring"] for call in plane.api("GET", "/v1/calls")["calls"]]
    assert rings == ["structural", "cooperative"]
