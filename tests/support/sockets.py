"""Every socket that a tree of processes uses, as the kernel is asked for it, in a network of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TOOLS = {"unshare": "util-linux", "ip": "iproute2", "strace": "strace"}
_NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
_TRACED = "socket,connect,bind,sendto,sendmsg,sendmmsg"
_CALL = re.compile(r"^\d+\s+(socket|connect|bind|sendto|sendmsg|sendmmsg)\((.*)$")
_ADDRESS = re.compile(r"\{sa_family=(AF_\w+)(?:, (.*?))?\}")
_INTERNET = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_UNIX = re.compile(r'sun_path=(@?)"([^"]*)"')


@dataclass(frozen=True)
class Watched:
    """What a command did.

    Attributes:
        status: Its exit code.
        output: Standard output and error.
        families: Of the sockets made: `AF_INET`, `AF_UNIX`, ….
        addresses: `(system call, address)` of each address that was bound, connected or sent to, whatever came of
            it. An address is `host:port` or a path; what cannot be read is there as strace shows it.
    """

    status: int
    output: str
    families: frozenset[str]
    addresses: frozenset[tuple[str, str]]


def cannot_watch() -> str:
    """Why `watch` does not work here; empty where it does."""
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"watching sockets needs {', '.join(missing)}"
    probe = [*_NAMESPACE, "sh", "-c", "ip link set lo up && strace -f -qq -e trace=socket true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no network namespace to trace in: {done.stderr.strip()}" if done.returncode else ""


def watch(command: list[str], trace: Path, environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command where there is nothing but loopback, with all of its descendants traced into a file."""
    strace = f"strace -f -qq -s 0 -e trace={_TRACED} -o"
    done = subprocess.run(
        [*_NAMESPACE, "sh", "-c", f'ip link set lo up && exec {strace} "$0" "$@"', str(trace), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if environment is None else dict(environment),
        timeout=300,
        check=False,
    )
    families: set[str] = set()
    addresses: set[tuple[str, str]] = set()
    # A call that another thread interrupts has its arguments in the first of its two lines.
    for match in filter(None, map(_CALL.match, trace.read_text("utf-8").splitlines())):
        call, arguments = match.groups()
        if call == "socket":
            families.add(arguments.partition(",")[0])
            continue
        found = [_shown(*address.groups()) for address in _ADDRESS.finditer(arguments)]
        if not found and call in ("bind", "connect"):
            found = [arguments]
        addresses.update((call, address) for address in found)
    return Watched(done.returncode, done.stdout, frozenset(families), frozenset(addresses))


def _shown(family: str, rest: str | None) -> str:
    if match := _INTERNET.search(rest or ""):
        return f"{match[2]}:{match[1]}"
    if match := _UNIX.search(rest or ""):
        return match[1] + match[2]
    return f"{family} {rest}"
