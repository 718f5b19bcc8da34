"""The oracle: what a call's answer must be, straight from the meaning of policy.

Works on plain parsed files (`yaml.safe_load`), on tool definitions as upstreams list them and on the
bytes that a caller sent. Shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from oracle.envelope import COUNTERS, fields_kept, keeps, record_count
from oracle.evaluation import Failed, Instant, Reading, Record, Value, holds, reads, record
from oracle.expression import Entity, Expr, read_expression
from oracle.guardrail_text import Guardrail, read_guardrails
from oracle.input_view import View, view
from oracle.json_value import JsonObject, Malformed, elements, members, read
from oracle.terms import Limits, read_limits
from oracle.tool_schema import canonical, is_plain, valid
from oracle.world import Entry, Moment, Tool, World

Verdict = Literal["permit", "deny", "hold", "malformed"]


@dataclass(frozen=True)
class Reason:
    """Why a call is not simply permitted.

    Attributes:
        path: Steps of the key path in an agent file; the policy's name in a guardrail file.
    """

    kind: Literal[
        "default-deny", "blocked", "constraint", "when", "guardrail", "approval", "unknown-outcome", "inexact", "error"
    ]
    file: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The verdict, every reason against a permit, and what `admit` still has to count."""

    verdict: Verdict
    reasons: frozenset[Reason] = frozenset()
    guards: frozenset[tuple[str, int, int]] = frozenset()


@dataclass(frozen=True)
class _Seen:
    """One call of a tool, as conditions see it."""

    agent: str
    tool: Tool
    arguments: JsonObject
    moment: Moment
    view: View = field(default_factory=View)

    def scope(self, *, granted: bool) -> dict[str, Value]:
        clock = datetime.fromtimestamp(self.moment.now_us // 1_000_000, UTC)
        context: dict[str, Value] = {
            "input": self.view.input,
            "input_null": frozenset(self.view.nulls),
            "run": _facts(self.moment.run),
            "time": record(
                {
                    "now": Instant(self.moment.now_us // 1_000_000 * 1000),
                    "hour": clock.hour,
                    "weekday": clock.isoweekday(),
                }
            ),
            "approval": record({"granted": granted}),
        }
        return {
            "context": record(context),
            "principal": Entity("Agent", self.agent),
            "action": Entity("Action", self.tool.qualified),
            "resource": Entity("Upstream", self.tool.upstream),
        }


def _facts(run: JsonObject) -> Record:
    facts: dict[str, Value] = {}
    for name, value in run.items():
        if isinstance(value, list):
            facts[name] = frozenset(str(label) for label in value)
        elif isinstance(value, bool | int | str):
            facts[name] = value
    return record(facts)


@lru_cache(maxsize=1024)
def read_condition(text: str) -> Expr:
    """Read a `when` expression, once."""
    return read_expression(text)


@lru_cache(maxsize=1024)
def _guardrail_file(text: str) -> list[Guardrail]:
    return read_guardrails(text)


class Oracle:
    """Answers for one world."""

    def __init__(self, world: World) -> None:
        entries = {
            f"{file['upstream']}/{name}": members(entry)
            for file in world.catalogues
            for name, entry in members(file["tools"]).items()
        }
        self.tools = {
            qualified: Tool(qualified, definition, entries.get(qualified, {}))
            for qualified, definition in world.definitions.items()
        }
        self._agents = {str(members(file["agent"])["id"]): (path, file) for path, file in world.agents.items()}
        self._guardrails = [(path, rule) for path, text in world.guardrails.items() for rule in _guardrail_file(text)]

    def decide(self, agent: str, qualified: str, sent: bytes, moment: Moment) -> Answer:
        """What must happen to one call of a pinned tool."""
        tool = self.tools[qualified]
        arguments = self.arguments(tool, sent)
        if arguments is None:
            return Answer("malformed")
        seen = _Seen(agent, tool, arguments, moment, view(tool.shape, arguments))
        if moment.approved:
            reasons = frozenset(self._against(seen, granted=True))
            verdict: Verdict = "deny" if reasons else "permit"
        else:
            reasons = frozenset(self._against(seen, granted=False))
            sound = not any(reason.kind in ("error", "inexact") for reason in reasons)
            held = reasons and sound and not any(self._against(seen, granted=True))
            verdict = "hold" if held else "deny" if reasons else "permit"
        guards = frozenset(self._guards(seen)) if verdict == "permit" else frozenset[tuple[str, int, int]]()
        return Answer(verdict, reasons, guards)

    def listed(self, agent: str, upstream: str) -> set[str]:
        """The tools in the agent's list of one upstream: a permit covers them and no unconditional forbid does."""
        return {
            tool.qualified
            for tool in self.tools.values()
            if tool.upstream == upstream
            and self.entries(agent, tool)
            and not any(self._blocked(agent, tool))
            and not any(not rule.conditions for _, rule in self.covering(agent, tool))
        }

    def limits(self, agent: str) -> Limits:
        """The ceilings of the agent's runs."""
        return read_limits(members(self._agents[agent][1].get("execution")))

    def arguments(self, tool: Tool, sent: bytes) -> JsonObject | None:
        """A call's canonical arguments; None where it is malformed."""
        try:
            return _arguments(tool, sent)
        except Malformed:
            return None

    def entries(self, agent: str, tool: Tool) -> list[Entry]:
        """The items of `tools.allowed` that mean the tool."""
        _, file = self._agents[agent]
        found: list[Entry] = []
        for index, item in enumerate(elements(members(file["tools"]).get("allowed"))):
            keys = members(item)
            if tool.granted_by(str(keys["name"])) and keys.get("effect", tool.effect) == tool.effect:
                found.append(Entry(("tools", "allowed", str(index)), keys))
        return found

    def _blocked(self, agent: str, tool: Tool) -> Iterator[Reason]:
        path, file = self._agents[agent]
        for index, name in enumerate(elements(members(file["tools"]).get("blocked"))):
            if tool.blocked_by(str(name)):
                yield Reason("blocked", path, ("tools", "blocked", str(index)))

    def covering(self, agent: str, tool: Tool) -> list[tuple[str, Guardrail]]:
        """The guardrails whose scope matches calls of the tool by the agent, with their files."""
        groups = [f"effect:{tool.effect}", f"upstream:{tool.upstream}"]
        groups += [f"tag:{tag}" for tag in elements(tool.entry.get("tags"))]
        return [
            (path, rule)
            for path, rule in self._guardrails
            if rule.principal.covers(Entity("Agent", agent))
            and rule.action.covers(
                Entity("Action", tool.qualified), frozenset(Entity("Action", group) for group in groups)
            )
            and rule.resource.covers(Entity("Upstream", tool.upstream))
        ]

    def _against(self, seen: _Seen, *, granted: bool) -> Iterator[Reason]:
        """Every reason against a permit, given whether a person has approved the call."""
        scope = seen.scope(granted=granted)
        entries = self.entries(seen.agent, seen.tool)
        if not entries:
            yield Reason("default-deny")
        yield from self._blocked(seen.agent, seen.tool)
        readings: set[Reading] = set()
        for path, rule in self.covering(seen.agent, seen.tool):
            readings.update(*(reads(condition) for _, condition in rule.conditions))
            yield from _forbidden(path, rule, scope)
        file, _ = self._agents[seen.agent]
        for entry in entries:
            yield from _outside(file, entry, seen, scope)
            if "when" in entry.keys:
                readings |= reads(read_condition(str(entry.keys["when"])))
        if not granted and any(_asks(entry, seen.tool) for entry in entries):
            yield Reason("approval", file)
        if not granted and seen.moment.repeats_unknown and not seen.tool.idempotent:
            yield Reason("unknown-outcome")
        if any(reading.depends_on(path) for reading in readings for path in seen.view.inexact):
            yield Reason("inexact")

    def _guards(self, seen: _Seen) -> Iterator[tuple[str, int, int]]:
        entries = self.entries(seen.agent, seen.tool)
        counted = members(seen.tool.entry.get("records")).get("count")
        records = record_count(counted, seen.arguments) if isinstance(counted, str) else 1
        for key, counter, amount in (("max_records_per_run", "records", records), ("max_calls_per_run", "calls", 1)):
            limits = [limit for entry in entries if (limit := entry.limit(key)) is not None]
            if limits:
                yield (f"{counter}:{seen.tool.qualified}", amount, min(limits))


def _arguments(tool: Tool, sent: bytes) -> JsonObject:
    value = read(sent)
    if not isinstance(value, dict):
        raise Malformed("arguments are an object")
    undeclared = value.keys() - tool.declared.keys()
    if undeclared and tool.entry.get("additional_arguments") != "allow":
        raise Malformed(f"undeclared {undeclared}")
    if not is_plain(value):
        value = members(canonical(tool.schema, tool.schema, value))
    if not tool.accepts(value):
        raise Malformed("not valid against the pinned schema")
    return value


def _asks(entry: Entry, tool: Tool) -> bool:
    asked = entry.keys.get("requires_approval")
    return tool.effect == "irreversible" if asked is None else asked is True


def _outside(file: str, entry: Entry, seen: _Seen, scope: Mapping[str, Value]) -> Iterator[Reason]:
    """How the arguments fall outside one entry of the envelope."""
    for key, limit in entry.constraints.items():
        if key not in COUNTERS and not keeps(seen.tool.declared, key, limit, seen.arguments):
            yield Reason("constraint", file, (*entry.place, "constraints", key))
    if "arguments" in entry.keys and not valid(entry.keys["arguments"], seen.arguments, formats=True):
        yield Reason("constraint", file, (*entry.place, "arguments"))
    fields = seen.tool.entry.get("fields_argument")
    granted = [str(name) for name in elements(entry.keys.get("scope"))]
    if isinstance(fields, str) and granted and not fields_kept(granted, seen.arguments.get(fields)):
        yield Reason("constraint", file, (*entry.place, "scope"))
    if "when" in entry.keys:
        try:
            if not holds(read_condition(str(entry.keys["when"])), scope):
                yield Reason("when", file, (*entry.place, "when"))
        except Failed:
            yield Reason("error")


def _forbidden(path: str, rule: Guardrail, scope: Mapping[str, Value]) -> Iterator[Reason]:
    try:
        met = all(holds(condition, scope) is when for when, condition in rule.conditions)
    except Failed:
        yield Reason("error")
        return
    if met:
        yield Reason("guardrail", path, (rule.name,))


def answer_code(answer: Answer, leading: Reason) -> str:
    """The code of a denial or hold that this reason leads."""
    if answer.verdict == "hold":
        return "approval_pending"
    if any(reason.kind in ("blocked", "default-deny") for reason in answer.reasons):
        return "policy_denied"  # `constraint_violated` is for a tool that is allowed
    return "constraint_violated" if leading.kind in ("constraint", "when", "inexact") else "policy_denied"
