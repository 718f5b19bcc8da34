"""Closed-loop load from a process of its own: N callers, each waiting for its answer; prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from typing import Any

import uvloop

from wire import Connection, post


async def run(options: argparse.Namespace) -> dict[str, Any]:
    latencies: list[float] = []
    failures: dict[str, int] = {}
    left = options.calls

    async def caller(index: int) -> None:
        nonlocal left
        connection = await Connection.open(options.port)
        headers = _headers(options)
        number = 0
        while left > 0:
            left -= 1
            number += 1
            request = post(options.port, options.path, _call(options, index * 1_000_000 + number), headers)
            started = time.perf_counter()
            answer = await connection.exchange(request)
            latencies.append(time.perf_counter() - started)
            if b'"isError":true' in answer or b'"error":{' in answer or connection.status != 200:
                key = answer[:300].decode("utf-8", "replace")
                failures[key] = failures.get(key, 0) + 1
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(caller(index) for index in range(options.callers)))
    seconds = time.perf_counter() - started
    latencies.sort()
    return {
        "callers": options.callers,
        "calls": len(latencies),
        "per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 3),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 3),
        "failed": sum(failures.values()),
        "first_failure": next(iter(failures), None),
        "generator_cpu_s": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 2),
    }


def _headers(options: argparse.Namespace) -> dict[str, str]:
    headers = {"authorization": f"Bearer {options.token}"} if options.token else {}
    return headers | {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": options.tool}


def _call(options: argparse.Namespace, number: int) -> bytes:
    params: dict[str, Any] = {"name": options.tool, "arguments": json.loads(options.arguments)}
    params["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--token", default="")
    parser.add_argument("--tool", default="update_order_status")
    parser.add_argument("--arguments", default='{"order_ids": ["o-1", "o-2"], "status": "cancelled"}')
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
