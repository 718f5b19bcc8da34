"""Whole calls through real processes: directly, through the plane, and through fastmcp's proxy, in one run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil

from disk import measure
from targets import judged

ROOT = Path(__file__).resolve().parents[1]
BENCH = Path(__file__).resolve().parent
FASTMCP = ROOT / ".cache" / "servers" / "bench" / "bin" / "python"
CALLERS = (1, 32, 64)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(*command: str, port: int) -> Generator[psutil.Process]:
    """A server process, once it accepts connections."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {' '.join(command)}")
            time.sleep(0.05)
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(30)


class Plane:
    """A plane in a folder of its own, in front of one HTTP upstream."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.folder, self.port, self._watch = folder, free_port(), free_port()
        (folder / "policies" / "agents").mkdir(parents=True)
        (folder / "policies" / "tools").mkdir()
        settings = {
            "gateway": {"listen": f"127.0.0.1:{self.port}"},
            "operations": {"listen": f"127.0.0.1:{self._watch}"},
            "limits": {"calls_per_second": 10**6, "burst": 10**6, "concurrent_calls": 10**5},
            "upstreams": {"bench": {"url": f"http://127.0.0.1:{upstream_port}/mcp"}},
            "log": {"level": "warning"},
        }
        (folder / "interlock.yaml").write_text(json.dumps(settings))

    def command(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "interlock", "-c", str(self.folder / "interlock.yaml"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self) -> Generator[psutil.Process]:
        with process(
            sys.executable,
            "-m",
            "interlock",
            "-c",
            str(self.folder / "interlock.yaml"),
            "up",
            "--no-policy",
            port=self.port,
        ) as it:
            self.command("tools", "pin", "bench", "--yes")
            policies = self.folder / "policies"
            (policies / "agents" / "bench.yaml").write_text(
                "agent: {id: bench, identity: bench@example}\n"
                "tools:\n  allowed:\n    - name: update_order_status\n"
                "      constraints: {max_records_per_run: 1000000000, allowed_statuses: [cancelled, refunded]}\n"
                "execution: {max_steps: 1000000000, max_wall_clock_seconds: 80000}\n"
            )
            (policies / "tools" / "bench.yaml").write_text(
                "upstream: bench\ntools: {update_order_status: {effect: reversible, records: {count: order_ids}}}\n"
            )
            self.command("policy", "activate", "--reason", "bench")
            yield it

    def token(self) -> str:
        return self.command("token", "--agent", "bench")


def load(port: int, path: str, callers: int, calls: int, token: str = "") -> dict[str, Any]:
    command = [sys.executable, str(BENCH / "load.py"), "--port", str(port), "--path", path]
    command += ["--callers", str(callers), "--calls", str(calls), *(["--token", token] if token else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["failed"]:
        raise RuntimeError(f"calls failed: {found['first_failure']}")
    return found


def canned(scale: float, memory_calls: int) -> dict[str, Any]:
    """The plane in front of an upstream that costs nothing."""
    upstream = free_port()
    found: dict[str, Any] = {"direct": {}, "governed": {}, "added": {}}
    with (
        tempfile.TemporaryDirectory() as folder,
        process(sys.executable, str(BENCH / "canned.py"), str(upstream), port=upstream),
    ):
        plane = Plane(Path(folder), upstream)
        with plane.running() as it:
            token = plane.token()
            load(plane.port, "/mcp/bench", 8, 400, token)  # warm
            disk = measure(Path(folder))
            for callers in CALLERS:
                calls = int((1500 if callers == 1 else 6000) * scale)
                direct = load(upstream, "/mcp", callers, calls)
                before = sum(it.cpu_times()[:2])
                governed = load(plane.port, "/mcp/bench", callers, calls, token)
                governed["plane_cpu_us_per_call"] = round((sum(it.cpu_times()[:2]) - before) / calls * 1e6)
                found["direct"][callers], found["governed"][callers] = direct, governed
                found["added"][callers] = {key: round(governed[key] - direct[key], 3) for key in ("p50_ms", "p99_ms")}
            commit_ms = 1000 / disk["raw_group_commit"]["commits_per_second"]
            found["disk"] = disk
            # Two group commits and 2 ms.
            found["added"][1] = judged(found["added"][1], "p50_ms", at_most=round(2 * commit_ms + 2, 3))
            found["governed"][64] = judged(found["governed"][64], "per_second", at_least=500)
            done = sum(entry["calls"] for entry in found["governed"].values())
            while done < memory_calls:
                token = plane.token()
                load(plane.port, "/mcp/bench", 64, 10_000, token)
                done += 10_000
            memory = it.memory_info().rss / 1e6
            size = sum(path.stat().st_size for path in (Path(folder) / "data").glob("journal.db*"))
            found["memory"] = judged(
                {"after_calls": done, "rss_mb": round(memory, 1)}, "rss_mb", below=150, applies=done >= 100_000
            )
            found["journal_bytes_per_call"] = round(size / done)
    return found


def cli_start(times: int = 11) -> dict[str, Any]:
    """Whole commands, from start to exit: without a plane, reading the settings, and asking a plane."""
    upstream = free_port()
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        process(sys.executable, str(BENCH / "canned.py"), str(upstream), port=upstream),
    ):
        plane = Plane(Path(folder), upstream)
        with plane.running():
            for command in (("version",), ("config", "check"), ("status",)):
                spent: list[float] = []
                for _ in range(times):
                    started = time.perf_counter()
                    plane.command(*command)
                    spent.append(time.perf_counter() - started)
                spent.sort()
                figures = {"median_s": round(spent[times // 2], 3), "worst_s": round(spent[-1], 3)}
                found[" ".join(command)] = judged(figures, "median_s", below=0.3)
    return found


def against_fastmcp(scale: float) -> dict[str, Any]:
    """The same SDK upstream directly, through the plane, and through fastmcp's proxy."""
    if not FASTMCP.exists():
        return {"skipped": "fastmcp is not installed: tests/servers/install.sh bench"}
    upstream, proxy = free_port(), free_port()
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        process(sys.executable, str(BENCH / "sdk_upstream.py"), str(upstream), port=upstream),
        process(str(FASTMCP), str(BENCH / "fastmcp_proxy.py"), str(proxy), str(upstream), port=proxy),
    ):
        plane = Plane(Path(folder), upstream)
        with plane.running():
            token = plane.token()
            load(plane.port, "/mcp/bench", 4, 100, token)
            load(proxy, "/mcp", 2, 20)
            for callers in CALLERS:
                found[str(callers)] = {
                    "direct": load(upstream, "/mcp", callers, int(600 * scale)),
                    "interlock": load(plane.port, "/mcp/bench", callers, int(600 * scale), token),
                    "fastmcp": load(proxy, "/mcp", callers, int(120 * scale)),
                }
                entry = found[str(callers)]
                entry["interlock_over_fastmcp"] = round(
                    entry["interlock"]["per_second"] / entry["fastmcp"]["per_second"], 1
                )
            found["64"] = judged(found["64"], "interlock_over_fastmcp", at_least=5)
    return found


def machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "python": sys.version.split()[0], "load_before": os.getloadavg()[0]}
