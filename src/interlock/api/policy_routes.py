"""/v1/policy and /v1/tools: what is in force, why a call is decided so, activation, discovery for pinning."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.api.administration import Administration
from interlock.api.requests import answer, body_of, listing, number, operator, page_of, text
from interlock.core.call import MalformedCall, canonical_arguments, canonical_call
from interlock.core.canonical import INT64_MAX, Json, JsonObject
from interlock.core.errors import BadRequest, Code, NotFound
from interlock.core.policy.bundle import Bundle
from interlock.core.policy.explain import explain
from interlock.core.policy.rules import NO_PERMIT
from interlock.core.run import UNMETERED
from interlock.plane.commands import Run
from interlock.plane.deciding import malformed_denial, plane_denial


class PolicyRoutes:
    """Handlers; `routes` is what the application mounts."""

    def __init__(self, admin: Administration) -> None:
        self._admin = admin
        self.routes = [
            Route("/v1/policy", self._show, methods=["GET"]),
            Route("/v1/policy/history", self._history, methods=["GET"]),
            Route("/v1/policy/activate", self._activate, methods=["POST"]),
            Route("/v1/policy/explain", self._explain, methods=["POST"]),
            Route("/v1/tools", self._tools, methods=["GET"]),
            Route("/v1/tools/discover", self._discover, methods=["POST"]),
        ]

    def _bundle(self) -> Bundle:
        bundle = self._admin.policy.bundle
        if bundle is None:
            raise NotFound("No policy is active.", remedy="Run `interlock policy activate`.")
        return bundle

    async def _show(self, _request: Request) -> Response:
        policy = self._admin.policy
        differs = await asyncio.to_thread(policy.differs_from_files)
        body: JsonObject = {
            "active": policy.bundle.digest if policy.bundle else None,
            "differs_from_files": differs,
            "last_problem": [str(finding) for finding in policy.last_problem.findings] if policy.last_problem else [],
        }
        if policy.bundle:
            body |= bundle_summary(policy.bundle)
        return answer(body)

    async def _history(self, request: Request) -> Response:
        page = page_of(request)
        if page.before is not None:
            number(request, "before", 0, 1, INT64_MAX)  # of this listing it is a leaf
        return listing("activations", self._admin.reader.activations(page), page, "leaf")

    async def _activate(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"reason", "expect"}))
        expect = text(body, "expect", required=False) or None
        bundle = await self._admin.policy.activate(operator(request), text(body, "reason"), expect)
        return answer({"activated": bundle.digest, **bundle_summary(bundle)})

    async def _explain(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"agent", "tool", "arguments", "run", "approved"}))
        bundle, agent, name = self._bundle(), text(body, "agent"), text(body, "tool")
        arguments = body.get("arguments", {})
        if not isinstance(arguments, dict):
            raise BadRequest("`arguments` is not an object.")
        if agent not in bundle.agents:
            raise NotFound(f"The active policy has no agent {agent!r}.")
        found = bundle.catalogue.exact(name)
        if len(found) != 1:
            problem = "is ambiguous; name it as upstream/tool" if found else "is no pinned tool"
            raise NotFound(f"{name!r} {problem}.")
        rules, pinned = bundle.slice(agent, found[0].qualified), found[0].pinned
        run = self._run(text(body, "run", required=False))
        if rules is None:
            decision = plane_denial(bundle, None, NO_PERMIT, Code.POLICY_DENIED)
            return answer(explain(decision, None, None, bundle.files))
        try:
            canonical = canonical_arguments(pinned, arguments, additional=found[0].additional_arguments)
        except MalformedCall as error:
            return answer(explain(malformed_denial(bundle, rules, error), rules, None, bundle.files))
        call = canonical_call(agent, run.id if run else "run_explained", pinned, canonical, {})
        approved = body.get("approved") is True
        decision = self._admin.deciding.decide(bundle, rules, call, run, approved=approved)
        return answer(explain(decision, rules, call, bundle.files))

    def _run(self, run_id: str) -> Run | None:
        run = self._admin.reader.run(run_id) if run_id else None
        if run_id and run is None:
            raise NotFound(f"There is no run {run_id}.")
        return run

    async def _tools(self, request: Request) -> Response:
        bundle = self._bundle()
        agent = request.query_params.get("agent")
        if agent is not None and agent not in bundle.agents:
            raise NotFound(f"The active policy has no agent {agent!r}.")
        tools: list[Json] = []
        for tool in bundle.catalogue.tools.values():
            rules = bundle.slice(agent, tool.qualified) if agent else None
            row: JsonObject = {
                "name": tool.qualified,
                "effect": tool.effect,
                "tags": list(tool.tags),
                "pin": tool.pinned.pin,
                "changed": self._admin.upstreams.is_changed(tool.pinned.upstream, tool.pinned.name),
            }
            if agent:
                row["listed"] = rules.listed if rules else False
                row["approval"] = rules.gated if rules else False
            tools.append(row)
        return answer({"tools": tools})

    async def _discover(self, request: Request) -> Response:
        body = await body_of(request, frozenset({"upstream"}))
        upstream, refused = await self._admin.discover(text(body, "upstream"))
        active = self._admin.policy.lock().upstreams.get(upstream.id)
        before = {tool.name: tool.pin for tool in active.tools} if active else {}
        vanished: list[Json] = [*sorted(before.keys() - {tool.name for tool in upstream.tools})]
        return answer(
            {
                "upstream": upstream.id,
                "protocol": upstream.protocol,
                "server": upstream.server,
                "tools": [
                    {"pin": tool.pin, "definition": tool.definition, "before": before.get(tool.name)}
                    for tool in upstream.tools
                ],
                "vanished": vanished,
                "refused": dict(refused),
            }
        )


def bundle_summary(bundle: Bundle) -> JsonObject:
    """What a bundle holds, for people."""
    agents: list[Json] = []
    for agent in bundle.agents.values():
        ceilings = agent.ceilings.as_json()
        listed: list[Json] = [*sorted(name for name, rules in agent.slices.items() if rules.listed)]
        agents.append(
            {
                "id": agent.id,
                "identity": agent.identity,
                "file": agent.file,
                "listed": listed,
                "ceilings": ceilings,
                "unmetered": [name for name in UNMETERED if ceilings[name] is not None],
            }
        )
    guardrails: list[Json] = [rail.rule.id for rail in bundle.guardrails]
    warnings: list[Json] = [str(warning) for warning in bundle.warnings]
    return {
        "digest": bundle.digest,
        "agents": agents,
        "tools": len(bundle.catalogue.tools),
        "guardrails": guardrails,
        "warnings": warnings,
    }
