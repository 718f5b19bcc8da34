"""`make run`: the stories hold, also where there is no network at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.plane import ROOT
from support.sockets import cannot_watch, watch

SCENARIOS = pytest.mark.parametrize("scenario", ["customer-operations", "environment-deletion"])
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
# What glibc asks for names of users first; there is no such service where the tests run.
LIBC = ("connect", "/var/run/nscd/socket")


def demo(scenario: str, folder: Path, port: int) -> list[str]:
    options = ["--scenario", scenario, "--once", "--port", str(port), "--folder", str(folder)]
    return [sys.executable, "-m", "demo", *options]


def free_ports() -> int:
    """A port whose successor is free too; the demo takes both."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@SCENARIOS
def test_the_story_is_told_to_its_end(scenario: str, tmp_path: Path) -> None:
    command = demo(scenario, tmp_path / "demo", free_ports())
    told = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=180, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "What the server's own database says." in told.stdout


@pytest.fixture(scope="module")
def watching() -> None:
    if why := cannot_watch():
        pytest.skip(why)


@SCENARIOS
@pytest.mark.usefixtures("watching")
def test_nothing_leaves_the_machine_and_only_configured_sockets_are_used(scenario: str, tmp_path: Path) -> None:
    """Every process of the demo is traced: what is asked of the kernel counts, also where it refuses."""
    watched = watch(demo(scenario, tmp_path / "demo", 7600), tmp_path / "trace", ENVIRONMENT)
    assert watched.status == 0, watched.output
    settings = json.loads((tmp_path / "demo" / "interlock.yaml").read_text("utf-8"))
    operator = settings["operations"]["socket"]
    listeners = {settings["gateway"]["listen"], settings["operations"]["listen"], operator}
    assert listeners == {"127.0.0.1:7600", "127.0.0.1:7601", operator}
    assert watched.addresses - {LIBC} == {("bind", address) for address in listeners} | {
        ("connect", "127.0.0.1:7600"),
        ("connect", operator),
    }
    assert watched.families == {"AF_INET", "AF_UNIX"}


@pytest.mark.usefixtures("watching")
def test_what_a_network_of_its_own_would_hide_is_seen(tmp_path: Path) -> None:
    script = (
        "import contextlib, socket, subprocess, sys\n"
        "def attempt(action, *what):\n"
        "    with contextlib.suppress(OSError):\n"
        "        action(*what)\n"
        "attempt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b'x', ('127.0.0.9', 53))\n"
        "attempt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg, [b'x'], [], 0, ('127.0.0.9', 54))\n"
        "attempt(socket.socket(socket.AF_INET6).connect, ('::1', 9))\n"
        "attempt(socket.socket(socket.AF_UNIX).connect, '/nowhere')\n"
        "attempt(socket.socket(socket.AF_UNIX).connect, '\\0abstract')\n"
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\n"
        "if len(sys.argv) == 1:\n"
        "    subprocess.run([sys.executable, sys.argv[0], 'child'], check=True)\n"
        "else:\n"
        "    attempt(socket.socket().bind, ('0.0.0.0', 7777))\n"
    )
    (tmp_path / "strays.py").write_text(script)
    watched = watch([sys.executable, str(tmp_path / "strays.py")], tmp_path / "trace")
    assert watched.status == 0, watched.output
    assert watched.addresses == {
        ("sendto", "127.0.0.9:53"),
        ("sendmsg", "127.0.0.9:54"),
        ("connect", "::1:9"),
        ("connect", "/nowhere"),
        ("connect", "@abstract"),
        ("bind", "0.0.0.0:7777"),
    }
    assert watched.families == {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"}
