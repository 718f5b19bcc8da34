"""Bundles made in memory, around any tools, and questions put to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import Json, JsonObject
from interlock.core.decision import Decision
from interlock.core.errors import BundleInvalid
from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, write_lock
from interlock.core.policy.bundle import Bundle, load_bundle
from interlock.core.policy.engine import Circumstances, decide
from interlock.core.policy.slices import Slice
from interlock.core.run import RunFacts
from interlock.core.tool import PinnedTool, pinned_tool

NOTIFY = frozenset({"#oncall-agents"})
RUN = RunFacts(id="run_1", implicit=True, task=None, labels=(), steps=0, calls=0, records=0)
NOW_US = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z, a Monday
AGENT_PATH = "agents/a.yaml"

TEXT: JsonObject = {"type": "string"}
INTEGER: JsonObject = {"type": "integer"}
NUMBER: JsonObject = {"type": "number"}
FLAG: JsonObject = {"type": "boolean"}
TEXTS: JsonObject = {"type": "array", "items": TEXT}


def record(**properties: Json) -> JsonObject:
    """An object schema with these properties."""
    return {"type": "object", "properties": properties}


def definition(
    name: str, properties: JsonObject, *, required: Sequence[str] = (), output: Json = None, **members: Json
) -> JsonObject:
    """A tool object as an upstream lists it; `members` are added as they are (annotations, …)."""
    required_names: list[Json] = list(required)
    found: JsonObject = {
        "name": name,
        "description": f"What {name} does.",
        "inputSchema": {"type": "object", "properties": properties, "required": required_names},
        **members,
    }
    if output is not None:
        found["outputSchema"] = output
    return found


def tool(
    name: str,
    properties: JsonObject,
    *,
    upstream: str = "crm",
    required: Sequence[str] = (),
    output: Json = None,
    **members: Json,
) -> PinnedTool:
    """One pinned tool."""
    return pinned_tool(upstream, definition(name, properties, required=required, output=output, **members))


def tool_taking(schema: JsonObject, *, upstream: str = "crm", output: Json = None) -> PinnedTool:
    """One pinned tool, named `t`, with this whole input schema."""
    found: JsonObject = {"name": "t", "inputSchema": {"type": "object", **schema}}
    return pinned_tool(upstream, found if output is None else {**found, "outputSchema": output})


def lock_of(tools: Sequence[PinnedTool]) -> bytes:
    """A lock file that pins these tools, under their upstreams."""
    by_upstream: dict[str, list[PinnedTool]] = {}
    for pinned in tools:
        by_upstream.setdefault(pinned.upstream, []).append(pinned)
    return write_lock({name: PinnedUpstream(name, "2026-07-28", name, tuple(own)) for name, own in by_upstream.items()})


def agent_file(allowed: str, *, agent: str = "a", rest: str = "") -> str:
    """An agent file around the entries of `tools.allowed`: the first of them is on line 4."""
    return f"agent: {{id: {agent}, identity: {agent}@example.org}}\ntools:\n  allowed:\n{allowed}{rest}"


def entry(tool_name: str, *keys: str) -> str:
    """One entry of `tools.allowed`; each key is a line, written flow style."""
    return "".join([f"    - name: {tool_name}\n", *(f"      {key}\n" for key in keys)])


def files_of(
    tools: Sequence[PinnedTool],
    agent: str,
    *,
    catalogue: str = "",
    guardrails: str = "",
    more: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """The files of a bundle; empty texts are files that do not exist."""
    texts = {AGENT_PATH: agent, "tools/crm.yaml": catalogue, "guardrails/g.cedar": guardrails, **(more or {})}
    return {LOCK_NAME: lock_of(tools), **{path: text.encode() for path, text in texts.items() if text}}


def load(files: Mapping[str, bytes]) -> Bundle:
    return load_bundle(files, NOTIFY)


def refusals(files: Mapping[str, bytes]) -> list[str]:
    """Every finding, as people read it; empty if the files load."""
    try:
        load_bundle(files, NOTIFY)
    except BundleInvalid as invalid:
        return [str(finding) for finding in invalid.findings]
    return []


def rules_for(bundle: Bundle, qualified: str, agent: str = "a") -> Slice:
    found = bundle.slice(agent, qualified)
    assert found is not None
    return found


def ask(
    bundle: Bundle,
    qualified: str,
    arguments: JsonObject,
    *,
    agent: str = "a",
    run: RunFacts = RUN,
    now_us: int = NOW_US,
    approved: bool = False,
    repeats_unknown: bool = False,
) -> Decision:
    """Decide one call from beginning to end: canonical arguments, canonical call, decision."""
    known = bundle.catalogue.tools[qualified]
    canonical = canonical_arguments(known.pinned, arguments, additional=known.additional_arguments)
    call = canonical_call(agent, run.id, known.pinned, canonical, {})
    circumstances = Circumstances(run, now_us, approved=approved, repeats_unknown=repeats_unknown)
    return decide(bundle.book, bundle.slice(agent, qualified), call, circumstances)
