"""/v1/runs: where a host application opens runs, with a credential that the agent does not hold."""

from __future__ import annotations

from typing import Final, Protocol

from interlock.core.canonical import MAX_VALUES, Json, JsonObject, Unrepresentable, decode
from interlock.core.errors import Code
from interlock.core.run import UNMETERED, Ceilings
from interlock.gateway.asgi import Request, Response, json_response, problem
from interlock.plane.bundles import ActivePolicy
from interlock.plane.commands import Refused, Run
from interlock.plane.ports import Reader
from interlock.plane.runs import Runs
from interlock.plane.stopping import Stopping

_MAX_TASK: Final = 16_384
_MAX_LABELS: Final = 32
_CEILINGS: Final = {
    "max_steps": ("max_steps", 1),
    "max_wall_clock_seconds": ("max_wall_clock_us", 1_000_000),
}


class Opener(Protocol):
    """An authenticated host application."""

    @property
    def subject(self) -> str: ...

    @property
    def agents(self) -> tuple[str, ...]: ...


class MintForRun(Protocol):
    """Makes a token for an agent, bound to a run: the token and its expiry in seconds since the epoch."""

    def __call__(self, identity: str, agent: str, run: str) -> tuple[str, int]: ...


class _Bad(Exception):
    pass


class RunsApi:
    """Open, look at, renew the token of, and end runs."""

    def __init__(self, policy: ActivePolicy, runs: Runs, stopping: Stopping, reader: Reader, mint: MintForRun) -> None:
        self._policy, self._runs, self._stopping, self._reader, self._mint = policy, runs, stopping, reader, mint

    async def handle(self, request: Request, opener: Opener, path: str, max_body: int) -> Response:
        """Serve `/v1/runs…` for an authenticated opener; `path` is what follows it."""
        parts = [part for part in path.split("/") if part]
        if not parts:
            if request.method != "POST":
                return Response(405, headers=((b"allow", b"POST"),))
            return await self._open(await request.body(max_body), opener)
        run = self._reader.run(parts[0])
        # An implicit run has no opener, whatever a host application is called.
        if run is None or run.implicit or run.opener != opener.subject or run.agent not in opener.agents:
            return problem(Code.NOT_FOUND, "There is no such run of yours.")
        action = "/".join(parts[1:])
        if request.method == "GET" and not action:
            return json_response(200, _shown(run))
        if request.method == "POST" and action == "token":
            return self._renew(run)
        if request.method == "POST" and action == "end":
            await self._stopping.end(run.id, f"ended by {opener.subject}")
            return json_response(200, {"run": run.id, "state": "ended"})
        return problem(Code.NOT_FOUND, "There is no such action on a run.", run_id=run.id)

    async def _open(self, body: bytes, opener: Opener) -> Response:
        bundle = self._policy.bundle
        if bundle is None:
            return problem(Code.UNAVAILABLE, "No policy is active; everything is denied.")
        try:
            agent_id, task, labels, asked = _parse(body)
        except (_Bad, Unrepresentable) as error:
            return problem(Code.MALFORMED_CALL, f"{error}.")
        if agent_id not in opener.agents:
            return problem(Code.POLICY_DENIED, "This credential may not open runs for that agent.")
        agent = bundle.agents.get(agent_id)
        if agent is None:
            return problem(Code.AGENT_NOT_ACTIVE, "The agent is not in the active policy.")
        run = await self._runs.open(agent, opener.subject, bundle.digest, task, labels, asked)
        if isinstance(run, Refused):
            return problem(run.code, run.reason, rule=run.rule, retry_after_ms=run.retry_after_ms)
        token, expires = self._mint(agent.identity, agent.id, run.id)
        return json_response(201, {**_shown(run), "token": token, "token_expires_at": expires})

    def _renew(self, run: Run) -> Response:
        bundle = self._policy.bundle
        agent = bundle.agents.get(run.agent) if bundle else None
        if agent is None:
            return problem(Code.AGENT_NOT_ACTIVE, "The agent is not in the active policy.", run_id=run.id)
        if run.state == "ended":
            return problem(Code.RUN_HALTED, "The run has ended.", status=409, run_id=run.id)
        token, expires = self._mint(agent.identity, agent.id, run.id)
        return json_response(200, {"run": run.id, "token": token, "token_expires_at": expires})


def _shown(run: Run) -> JsonObject:
    ceilings = run.ceilings.as_json()
    unmetered: list[Json] = [name for name in UNMETERED if ceilings[name] is not None]
    return {
        "run": run.id,
        "agent": run.agent,
        "state": run.state,
        "steps": run.steps,
        "ceilings": ceilings,
        "unmetered": unmetered,
        "halt_reason": run.halt_reason,
    }


def _parse(body: bytes) -> tuple[str, str | None, tuple[str, ...], Ceilings]:
    """Read {agent, task?, labels?, ceilings?}. Raises _Bad or Unrepresentable."""
    document = decode(body, max_values=MAX_VALUES)
    if not isinstance(document, dict):
        raise _Bad("the body is not an object")
    unknown = document.keys() - {"agent", "task", "labels", "ceilings"}
    if unknown:
        raise _Bad(f"unknown member {min(unknown)[:64]!r}; known are agent, task, labels, ceilings")
    agent, task = document.get("agent"), document.get("task")
    if not isinstance(agent, str):
        raise _Bad("`agent` is missing or not text")
    if task is not None and (not isinstance(task, str) or len(task) > _MAX_TASK):
        raise _Bad(f"`task` is not a text of at most {_MAX_TASK} characters")
    return agent, task, _labels(document.get("labels", {})), _ceilings(document.get("ceilings", {}))


def _labels(value: Json) -> tuple[str, ...]:
    """Labels as rules see them: `key=value`, sorted."""
    if not isinstance(value, dict) or len(value) > _MAX_LABELS:
        raise _Bad(f"`labels` is not an object of at most {_MAX_LABELS} texts")
    labels: list[str] = []
    for name, text in value.items():
        if not isinstance(text, str) or len(name) > 64 or len(text) > 256 or "=" in name:
            raise _Bad("a label is not a short text, or its name has a `=`")
        labels.append(f"{name}={text}")
    return tuple(sorted(labels))


def _ceilings(value: Json) -> Ceilings:
    if not isinstance(value, dict):
        raise _Bad("`ceilings` is not an object")
    found: dict[str, int] = {}
    for name, number in value.items():
        if name not in _CEILINGS:
            raise _Bad(f"unknown ceiling {name[:64]!r}; known are {', '.join(_CEILINGS)}")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise _Bad(f"`{name}` is not a whole number of at least 1")
        target, factor = _CEILINGS[name]
        found[target] = number * factor
    return Ceilings(**found)
