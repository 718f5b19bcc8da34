"""The place where attempts are made: a real plane, two upstreams that remember what reached them, and an agent."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
from interlock.core.mirror import encode_value
from interlock.core.tool import pinned_tool
from support.bypass import WORLD, Attempt, Call, Era, Executed, Expect, Policy, Step, ToolsOf, read_tools
from support.forged import Forger
from support.odd_http_upstream import OddHttp, Reached, odd_http
from support.plane import META, Answer, PlaneProcess, running
from support.raw_http import exchange

_OWN_METHODS = frozenset({"server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call"})
_OWN_META = frozenset(
    {"io.modelcontextprotocol/" + it for it in ("protocolVersion", "clientInfo", "clientCapabilities")}
)
_AGENTS_HEADERS = frozenset({"authorization", "cookie", "x-forwarded-for", "x-admin", "interlock-approved"})
_SESSION_PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
_LIMITS = {"calls_per_second": 1_000_000, "burst": 1_000_000, "unauthenticated_per_second": 1_000_000}


def write_bundle(folder: Path, tools: dict[str, ToolsOf], attempts: Iterable[Attempt]) -> None:
    """The world's policy files, an agent file for each attempt that brings its own, and the lock."""
    for part in ("agents", "tools", "guardrails"):
        (folder / part).mkdir(parents=True)
        for file in (WORLD / part).iterdir():
            (folder / part / file.name).write_bytes(file.read_bytes())
    for attempt in attempts:
        if isinstance(attempt.policy, Policy):
            agent = {
                "agent": {"id": attempt.agent, "identity": f"{attempt.agent}@bypass.example"},
                "tools": msgspec.to_builtins(attempt.policy),
                "execution": {"max_steps": 1_000_000, "max_wall_clock_seconds": 80_000},
            }
            (folder / "agents" / f"{attempt.agent}.yaml").write_text(json.dumps(agent))
    pinned = {
        name: PinnedUpstream(name, "2026-07-28", name, tuple(pinned_tool(name, tool) for tool in found.tools))
        for name, found in tools.items()
    }
    (folder / LOCK_NAME).write_bytes(write_lock(pinned))


def live(tools: ToolsOf) -> list[dict[str, Any]]:
    """What the server lists: the pinned definitions, with those that differ in their place."""
    listed: dict[str, dict[str, Any] | None] = {tool["name"]: tool for tool in tools.tools}
    listed |= {name: None if it is None else {"name": name, **it} for name, it in tools.live.items()}
    return [tool for tool in listed.values() if tool is not None]


class World:
    """A running plane and everything that attempts are made of."""

    def __init__(self, plane: PlaneProcess, tools: dict[str, ToolsOf], upstreams: dict[str, OddHttp]) -> None:
        self.plane, self.tools, self.upstreams = plane, tools, upstreams
        self._opener = plane.opener_token(*_agents(plane))
        self._canary = plane.token("canary")
        self._canaries = 0
        self.forger = Forger(plane.folder / "data", plane.url)
        for name, upstream in upstreams.items():  # connected, so that tools that changed are known
            plane.call(plane.token("canary"), "set_level", {"level": -1}, name)
            upstream.reached.clear()
            upstream.methods.clear()

    def reached(self) -> list[tuple[str, Reached]]:
        """Every call that reached an upstream and was not taken out yet."""
        return [(name, call) for name, upstream in self.upstreams.items() for call in upstream.reached]

    def take_reached(self) -> list[tuple[str, Reached]]:
        found = self.reached()
        for upstream in self.upstreams.values():
            upstream.reached.clear()
        return found

    def take_methods(self) -> set[str]:
        found = {method for upstream in self.upstreams.values() for method in upstream.methods}
        for upstream in self.upstreams.values():
            upstream.methods.clear()
        return found - _OWN_METHODS

    def strays(self) -> list[str]:
        return [stray for upstream in self.upstreams.values() for stray in upstream.strays]

    def canary(self) -> None:
        """A good call, never made before: the plane serves it, and the witness sees it alone."""
        self._canaries += 1
        arguments = {"level": self._canaries}
        answer = self.plane.call(self._canary, "set_level", arguments, "office")
        assert answer == {"echo": arguments}, answer
        seen = [(name, call.tool, call.arguments) for name, call in self.take_reached()]
        assert seen == [("office", "set_level", arguments)], f"the witness saw more than the good call: {seen}"

    def open_run(self, agent: str) -> tuple[str, str]:
        """A new run of an agent, and a token bound to it."""
        headers = {"Authorization": f"Bearer {self._opener}", "Content-Type": "application/json"}
        answer = self.plane.http("POST", "/v1/runs", json.dumps({"agent": agent}).encode(), headers)
        assert answer.status == 201, answer.body
        return answer.json["run"], answer.json["token"]

    def opener(self) -> str:
        return self._opener

    def session(self, token: str, upstream: str) -> str:
        """A session of the legacy era."""
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": _SESSION_PARAMS}
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        answer = self.plane.http("POST", f"/mcp/{upstream}", json.dumps(message).encode(), headers)
        assert answer.status == 200, answer.body
        return answer.headers["mcp-session-id"]


def _agents(plane: PlaneProcess) -> list[str]:
    folder = Path(plane.settings["policies"]) / "agents"
    return [path.stem for path in folder.glob("*.yaml")]


@contextmanager
def bypass_world(folder: Path, attempts: Iterable[Attempt]) -> Generator[World]:
    """Start it all; every attempt's own agent is in the one bundle."""
    tools = {path.stem: read_tools(path) for path in sorted((WORLD / "upstreams").glob("*.yaml"))}
    write_bundle(folder / "policies", tools, attempts)
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(odd_http()) for name in tools}
        for name, upstream in upstreams.items():
            upstream.offered = live(tools[name])
        settings = {
            "policies": str(folder / "policies"),
            "upstreams": {name: {"url": upstream.url} for name, upstream in upstreams.items()},
            "limits": _LIMITS,
            "runs": {"max_opened_runs_per_hour": 1_000_000},
            "log": {"level": "warning"},
        }
        yield World(stack.enter_context(running(folder, settings)), tools, upstreams)


class Agent:
    """Makes one attempt, in one era."""

    def __init__(self, world: World, attempt: Attempt, era: Era) -> None:
        self._world, self._attempt = world, attempt
        self._era: Era = era
        self._runs: dict[tuple[str, str], tuple[str, str]] = {}
        self._sessions: dict[tuple[str, str], str] = {}
        self._approval = ""

    def take(self, step: Step) -> None:
        """Do what a step says, and compare the answer and what executed with what it expects."""
        if step.verdict is not None:
            body = {"approve": step.verdict == "approve", "reason": "for the test"}
            self._world.plane.api("POST", f"/v1/approvals/{self._approval}/verdict", body)
        elif step.connect is not None:
            self._sessions.clear()
        elif step.sweep is not None:
            for tool in self.unlisted(step):
                call = msgspec.structs.replace(step.sweep, tool=tool)
                self._compare(step, self._send(msgspec.structs.replace(step, sweep=None, call=call)))
        else:
            self._compare(step, self._send(step))
        done = self._world.take_reached()
        assert matches(done, step.executes), f"executed: {[(name, call.tool, call.arguments) for name, call in done]}"
        for _, call in done:
            assert call.meta.keys() <= _OWN_META, f"_meta of the agent was forwarded: {call.meta}"
            assert not call.headers.keys() & _AGENTS_HEADERS, "a header of the agent was forwarded"

    def unlisted(self, step: Step) -> list[str]:
        """The tools of an upstream, pinned or live, that tools/list does not show this agent."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
        answer = self._send(msgspec.structs.replace(step, sweep=None, message=message))
        listed = {tool["name"] for tool in answer.json["result"]["tools"]}
        known = self._world.tools[step.upstream]
        names = {tool["name"] for tool in (*known.tools, *live(known), *self._builtin(step.upstream))} - listed
        assert names, "everything is listed"
        return sorted(names)

    def _builtin(self, upstream: str) -> list[dict[str, Any]]:
        return [{"name": "echo"}, {"name": "mirrored"}] if upstream in self._world.upstreams else []

    # Sending ------------------------------------------------------------------------------------------

    def _send(self, step: Step) -> Answer:
        token = self._token(step)
        body, method, tool = self._body(step)
        headers: dict[str, str | list[str] | None] = {
            "Host": "localhost",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Connection": "close",
            "Authorization": None if token is None else f"Bearer {token}",
            "Content-Length": str(len(body)),
        }
        if self._era == "modern":
            headers["MCP-Protocol-Version"] = "2026-07-28"
            headers["Mcp-Method"] = method
            headers["Mcp-Name"] = None if tool is None else encode_value(tool)
        else:
            headers["MCP-Protocol-Version"] = "2025-11-25"
            headers["Mcp-Session-Id"] = self._session(step)
        headers.update(step.headers)
        path = self._filled(step.path or f"/mcp/{step.upstream}")
        lines = [f"{step.method} {path} HTTP/1.1"]
        for name, value in headers.items():
            values = value if isinstance(value, list) else [value] if value is not None else []
            lines += [f"{name}: {self._filled(one)}" for one in values]
        answers = exchange(self._world.plane, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        assert answers, "no answer at all"
        for answer in answers:
            self._note_approval(answer)
        return answers[0]

    def _filled(self, value: str) -> str:
        """A header's value or a path; `$TOKEN` stands for the token of the attempt's own run."""
        return value.replace("$TOKEN", self._run("a", self._attempt.agent)[1]) if "$TOKEN" in value else value

    def _note_approval(self, answer: Answer) -> None:
        try:
            self._approval = answer.json["result"]["structuredContent"]["error"]["approval_id"]
        except (ValueError, KeyError, TypeError):
            return

    def _body(self, step: Step) -> tuple[bytes, str | None, str | None]:
        """The bytes, and the method and tool that agreeing headers would name."""
        if step.base64 is not None:
            return base64.b64decode(step.base64, validate=True), "tools/call", None
        if step.body is not None:
            return step.body.replace("$META", json.dumps(META)).encode(), "tools/call", None
        if step.call is not None:
            name = step.call.tool
            return self._call(step.call), "tools/call", name if isinstance(name, str) else None
        message = _with_meta(step.message)
        facts = message if isinstance(message, dict) else {}
        method, params = facts.get("method"), facts.get("params")
        tool = params.get("name") if isinstance(params, dict) else None
        sendable = method if isinstance(method, str) and method.isprintable() else None
        return json.dumps(message).encode(), sendable, tool if isinstance(tool, str) else None

    def _call(self, call: Call) -> bytes:
        params = {"name": call.tool, **call.members, "_meta": {**META, **call.meta}, "arguments": "$ARGUMENTS"}
        message = json.dumps({"jsonrpc": "2.0", "id": call.id, "method": "tools/call", "params": params})
        arguments = call.text if call.text is not None else json.dumps(call.arguments)
        return message.replace('"$ARGUMENTS"', arguments).encode()

    def _run(self, label: str, agent: str) -> tuple[str, str]:
        if (label, agent) not in self._runs:
            self._runs[label, agent] = self._world.open_run(agent)
        return self._runs[label, agent]

    def _token(self, step: Step) -> str | None:
        agent, forger, now = self._attempt.agent, self._world.forger, int(time.time())
        mine = {"sub": f"{agent}@bypass.example", "interlock": {"kind": "agent", "agents": [agent]}}
        match step.token:
            case "run":
                return self._run(step.run, agent)[1]
            case "none":
                return None
            case "implicit":
                return self._world.plane.token(agent)
            case "opener":
                return self._world.opener()
            case "audience":
                return forger.sign(forger.claims(**mine, aud="http://127.0.0.1:1/mcp"))
            case "issuer":
                return forger.sign(forger.claims(**mine, iss="http://127.0.0.1:1"))
            case "expired":
                return forger.sign(forger.claims(**mine, iat=now - 700, exp=now - 1))
            case "unsigned":
                return forger.unsigned("none")
            case "foreign-key":
                return forger.sign(forger.claims(**mine), key=forger.foreign)
            case "other-run":
                run = self._world.open_run("keeper")[0]
                bound = {"kind": "agent", "agents": [agent], "run": run}
                return forger.sign(forger.claims(sub=mine["sub"], interlock=bound))
            case "other-identity":
                return forger.sign(forger.claims(sub="keeper@bypass.example", interlock=mine["interlock"]))
            case other if other.startswith("of "):
                return self._run(step.run, other.removeprefix("of "))[1]
            case other:
                return other

    def _session(self, step: Step) -> str | None:
        match step.session:
            case "own":
                holder = step.token.removeprefix("of ") if step.token.startswith("of ") else self._attempt.agent
                return self._opened(holder, step.upstream)
            case "none":
                return None
            case "tampered":
                known = self._opened(self._attempt.agent, step.upstream)
                return known[:-2] + ("AA" if known[-2:] != "AA" else "BB")
            case "ended":
                token, session = self._run("a", self._attempt.agent)[1], self._fresh(self._attempt.agent, step.upstream)
                headers = {"Authorization": f"Bearer {token}", "Mcp-Session-Id": session}
                assert self._world.plane.http("DELETE", f"/mcp/{step.upstream}", None, headers).status == 204
                return session
            case other if other.startswith("of "):
                return self._opened(other.removeprefix("of "), step.upstream)
            case other if other.startswith("at "):
                return self._opened(self._attempt.agent, other.removeprefix("at "))
            case other:
                return other

    def _opened(self, agent: str, upstream: str) -> str:
        known = upstream if upstream in self._world.upstreams else "office"
        if (agent, known) not in self._sessions:
            self._sessions[agent, known] = self._fresh(agent, known)
        return self._sessions[agent, known]

    def _fresh(self, agent: str, upstream: str) -> str:
        return self._world.session(self._run("a", agent)[1], upstream)

    # Comparing ----------------------------------------------------------------------------------------

    def _compare(self, step: Step, answer: Answer) -> None:
        expect = step.expected(self._era)
        for member, wanted in told(expect).items():
            assert said(answer, member) == wanted, f"{member}: wanted {wanted!r}, answered {_shown(answer)}"
        for text in expect.hides:
            assert text not in answer.body.decode("utf-8", "replace"), f"{text!r} is told: {_shown(answer)}"


def told(expect: Expect) -> dict[str, Any]:
    """The members of an expectation that say something about one member of the answer."""
    return {
        name: value for name, value in msgspec.structs.asdict(expect).items() if value is not None and name != "hides"
    }


def said(answer: Answer, member: str) -> Any:
    """What an answer says of one member of an expectation."""
    if member == "http":
        return answer.status
    try:
        body = answer.json
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    found = body.get("result")
    result: dict[str, Any] = found if isinstance(found, dict) else {}
    match member:
        case "code":
            error = (result.get("structuredContent") or {}).get("error")
            return error["code"] if result.get("isError") is True and isinstance(error, dict) else None
        case "protocol":
            return body["error"]["code"] if isinstance(body.get("error"), dict) else None
        case "problem":
            return body.get("code")
        case "result":
            return (bool(result) and result.get("isError") is not True) or None
        case "lists":
            return [tool["name"] for tool in result.get("tools", [])]
        case _:
            return bool((result.get("_meta") or {}).get("interlock/replayed"))


def matches(done: list[tuple[str, Reached]], wanted: list[Executed]) -> bool:
    """Whether exactly the wanted calls were made, in their order."""
    if len(done) != len(wanted):
        return False
    return all(
        (name, call.tool) == (want.upstream, want.tool)
        and (
            want.arguments is None
            or json.dumps(call.arguments, sort_keys=True) == json.dumps(want.arguments, sort_keys=True)
        )
        for (name, call), want in zip(done, wanted, strict=True)
    )


def _with_meta(value: Any) -> Any:
    """A message in which the text `$META` is the envelope, also as a member of `_meta` beside others."""
    if value == "$META":
        return META
    if isinstance(value, dict):
        return {name: _with_meta(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_meta(item) for item in value]
    return value


def _shown(answer: Answer) -> str:
    return f"{answer.status} {answer.body[:600]!r}"
