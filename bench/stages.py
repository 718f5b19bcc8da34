"""In-process: the latency of a decision at several bundle sizes, and the CPU of each stage of a call."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.bootstrap.system import SystemClock, SystemEntropy
from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import decode
from interlock.core.policy.engine import Circumstances, decide
from interlock.gateway.rendering import rpc_result, tool_result
from interlock.identity.sealing import AesSealer
from interlock.identity.tokens import TokenService
from interlock.plane.callers import CallResult
from interlock.plane.ports import Answer
from interlock.plane.screening import screen
from targets import judged
from world import AGENT, ARGUMENTS, NOW_US, RUN, bundle_of, call_of, policy_count


def timed(action: Callable[[], Any], times: int = 2000) -> dict[str, float]:
    """Median and 99th percentile of one action, in microseconds."""
    for _ in range(200):
        action()
    spent: list[float] = []
    for _ in range(times):
        started = time.perf_counter_ns()
        action()
        spent.append((time.perf_counter_ns() - started) / 1000)
    spent.sort()
    return {"p50_us": round(statistics.median(spent), 1), "p99_us": round(spent[int(times * 0.99)], 1)}


def decisions() -> dict[str, Any]:
    """Decision latency, schema passed, at 26, 200 and 2,000 policies."""
    found: dict[str, Any] = {}
    seen = Circumstances(RUN, NOW_US)
    for size in (26, 200, 2000):
        started = time.perf_counter()
        bundle = bundle_of(size)
        load_s = time.perf_counter() - started
        rules = bundle.slice(AGENT, "crm/tool_0")
        permitted, held = call_of(bundle), call_of(bundle, amount=2000.0)
        assert decide(bundle.book, rules, permitted, seen).verdict == "permit"
        assert decide(bundle.book, rules, held, seen).verdict == "hold"
        found[str(size)] = {
            "policies": policy_count(bundle),
            "load_s": round(load_s, 2),
            "permit": judged(
                timed(lambda b=bundle, r=rules, c=permitted: decide(b.book, r, c, seen)), "p50_us", below=250
            ),
            "hold_evaluated_twice": judged(
                timed(lambda b=bundle, r=rules, c=held: decide(b.book, r, c, seen)), "p50_us", below=450
            ),
        }
    small, large = found["26"]["permit"]["p50_us"], found["2000"]["permit"]["p50_us"]
    found["flatness"] = judged(
        {"p50_of_2000_over_26": round(large / small, 2)}, "p50_of_2000_over_26", at_least=0.8, at_most=1.2
    )
    return found


def stages() -> dict[str, Any]:
    """CPU of the stages that run in the event loop, one at a time, in microseconds."""
    bundle = bundle_of(26)
    tool = bundle.catalogue.tools["crm/tool_0"].pinned
    rules, call = bundle.slice(AGENT, "crm/tool_0"), call_of(bundle)
    arguments = canonical_arguments(tool, dict(ARGUMENTS), additional=False)
    params = {"name": "tool_0", "arguments": ARGUMENTS, "_meta": {"io.modelcontextprotocol/clientCapabilities": {}}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    result = json.dumps({"content": [{"type": "text", "text": "x" * 400}], "structuredContent": {"n": 1}}).encode()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o700)
    clock, entropy = SystemClock(), SystemEntropy()
    sealer = AesSealer(folder / "data.key", entropy)
    tokens = TokenService(folder / "tokens.key", "http://127.0.0.1", clock, entropy)
    token = tokens.mint("agent", "a@example", ("a",), None, 900).text
    return {
        "token_cached": timed(lambda: tokens.verify(token, "agent")),
        "strict_decode": timed(lambda: decode(body)),
        "canonical_arguments": timed(lambda: canonical_arguments(tool, dict(ARGUMENTS), additional=False)),
        "digest": timed(lambda: canonical_call(AGENT, RUN.id, tool, arguments, {})),
        "decide": timed(lambda: decide(bundle.book, rules, call, Circumstances(RUN, NOW_US))),
        "seal_one_payload": timed(lambda: sealer.seal("call_1", "input", arguments.canonical)),
        "screen": timed(lambda: screen(Answer(result, None), None, None)),
        "render": timed(lambda: rpc_result(1, tool_result(CallResult(result, "call_1", "run_1"), modern=True))),
    }
