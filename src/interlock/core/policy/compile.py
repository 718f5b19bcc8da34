"""From one agent file to its slices: entries resolved to tools, keys to Cedar policies, checks and guards."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from interlock.core.canonical import Json, JsonObject
from interlock.core.errors import Finding
from interlock.core.files.reader import Located
from interlock.core.ids import CALL, HOLD, RUN, is_id
from interlock.core.policy.arguments_schema import read_arguments
from interlock.core.policy.catalogue import Catalogue, Tool
from interlock.core.policy.cedar_ast import APPROVAL_GRANTED, expression_mentions
from interlock.core.policy.cedar_text import CedarRefused, parse_expression
from interlock.core.policy.ceilings import read_execution
from interlock.core.policy.checks import Check, FieldsWithinScope, GuardRule
from interlock.core.policy.constraints import ConstraintReader
from interlock.core.policy.document import AgentFile, AllowedTool
from interlock.core.policy.guardrails import Guardrail, check_null_paths, check_path
from interlock.core.policy.matching import is_glob
from interlock.core.policy.rules import Rule, RuleKind
from interlock.core.policy.scopes import check_scope, common_scope
from interlock.core.policy.slices import ApprovalTerms, Slice, build_slice
from interlock.core.run import Ceilings

_CHECKS: Final[JsonObject] = {".": {"left": {"Var": "context"}, "attr": "checks"}}


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's envelope, compiled.

    Attributes:
        ceilings: What the file says; missing ones are the deployment's defaults.
        notify: Where a halt at a ceiling is escalated to; None does not escalate.
        slices: By qualified tool name; tools without any rule of this agent are absent.
    """

    id: str
    identity: str
    file: str
    ceilings: Ceilings
    notify: str | None
    slices: dict[str, Slice] = field(repr=False)


@dataclass(slots=True)
class _Parts:
    """What accumulates for one tool while the entries that name it are read."""

    tool: Tool
    policies: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    rules: dict[str, Rule] = field(default_factory=dict[str, Rule])
    checks: list[Check] = field(default_factory=list[Check])
    guards: list[tuple[GuardRule, Rule]] = field(default_factory=list[tuple[GuardRule, Rule]])
    scopes: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    timeouts: list[int] = field(default_factory=list[int])
    auto_denies: list[bool] = field(default_factory=list[bool])
    terms: list[str] = field(default_factory=list[str])


class AgentCompiler:
    """Compiles one agent file against the catalogue; every mistake is a finding in its place."""

    def __init__(
        self,
        file: Located[AgentFile],
        catalogue: Catalogue,
        guardrails: list[Guardrail],
        notify_names: frozenset[str],
        findings: list[Finding],
        warnings: list[Finding],
    ) -> None:
        self._file, self._catalogue, self._notify = file, catalogue, notify_names
        self._findings, self._warnings = findings, warnings
        self._id = file.value.agent.id
        self._guardrails = [guardrail for guardrail in guardrails if guardrail.covers_agent(self._id)]
        self._parts: dict[str, _Parts] = {}

    def compile(self) -> Agent | None:
        """Return the agent, or None if its file produced findings."""
        before = len(self._findings)
        self._agent_id()
        tools = self._file.value.tools
        for index, entry in enumerate(tools.allowed):
            for tool in self._resolve_allowed(f"tools.allowed[{index}]", entry):
                self._entry(f"tools.allowed[{index}]", entry, self._part(tool))
        for index, pattern in enumerate(tools.blocked):
            for tool in self._resolve_blocked(f"tools.blocked[{index}]", pattern):
                self._blocked(f"tools.blocked[{index}]", pattern, self._part(tool))
        ceilings, notify = read_execution(self._file, self._notify, self._findings)
        if len(self._findings) > before:
            return None
        slices = {name: self._finish(parts) for name, parts in self._parts.items()}
        if len(self._findings) > before:
            return None
        agent = self._file.value.agent
        return Agent(agent.id, agent.identity, self._file.file, ceilings, notify, slices)

    def _agent_id(self) -> None:
        """Where a run, an agent or everything can be meant, an agent's name must not mean another."""
        if self._id == "all" or any(is_id(kind, self._id) for kind in (RUN, CALL, HOLD)):
            problem = (
                f"{self._id!r} names {'every agent' if self._id == 'all' else 'something else'} on the command line"
            )
            self._report("agent.id", problem, "a name that is neither `all` nor an id of a run, call or approval")

    # Names -----------------------------------------------------------------------------------------

    def _resolve_allowed(self, path: str, entry: AllowedTool) -> list[Tool]:
        where = f"{path}.name"
        if is_glob(entry.name):
            if entry.effect is None:
                self._report(
                    where, f"{entry.name!r} is a glob", "`effect:` beside it", "a glob grants one effect alone"
                )
                return []
            found = [tool for tool in self._catalogue.grantable(entry.name) if tool.effect == entry.effect]
            if not found:
                self._report(where, f"{entry.name!r} matches no pinned tool with effect {entry.effect}", "a match")
            return found
        if entry.effect is not None:
            self._report(f"{path}.effect", "`effect` goes with a glob only", "no effect, or a name with * or ?")
        return self._one(where, entry.name)

    def _resolve_blocked(self, path: str, pattern: str) -> list[Tool]:
        if not is_glob(pattern):
            return self._one(path, pattern)
        found = self._catalogue.blockable(pattern)
        if not found:
            self._warnings.append(self._file.finding(path, f"{pattern!r} matches no pinned tool"))
        return found

    def _one(self, path: str, name: str) -> list[Tool]:
        found = self._catalogue.exact(name)
        if len(found) == 1:
            return found
        if found:
            names = " or ".join(tool.qualified for tool in found)
            self._report(path, f"{name!r} is ambiguous", names, "name the upstream: `upstream/tool`")
        else:
            self._report(path, f"there is no pinned tool {name!r}", "a pinned tool", self._catalogue.unknown_hint(name))
        return []

    def _part(self, tool: Tool) -> _Parts:
        return self._parts.setdefault(tool.qualified, _Parts(tool))

    # One entry of `allowed` ---------------------------------------------------------------------------

    def _entry(self, path: str, entry: AllowedTool, parts: _Parts) -> None:
        tool = parts.tool
        permit = self._rule(path, "permit", f"{self._id} may call {tool.qualified}.")
        self._add(parts, permit, "permit", None)
        if entry.scope is not None:
            self._scope(f"{path}.scope", entry.scope, parts)
        if entry.constraints is not None:
            reader = ConstraintReader(self._file, f"{path}.constraints", tool, self._findings)
            reader.read(entry.constraints)
            for check in reader.checks:
                self._check(parts, check)
            for guard in reader.guards:
                rule = self._rule(guard.key, "limit", f"{self._id} is limited: {guard.accepted}.", guard.accepted)
                parts.rules[rule.id] = rule
                parts.guards.append((guard, rule))
        if entry.arguments is not None:
            schema = read_arguments(self._file, f"{path}.arguments", entry.arguments, tool, self._findings)
            if schema:
                self._check(parts, schema)
        if entry.when is not None:
            self._when(f"{path}.when", entry.when, parts)
        self._approval(path, entry, parts)

    def _scope(self, path: str, scope: tuple[str, ...], parts: _Parts) -> None:
        check_scope(self._file, path, scope, parts.tool, self._findings, self._warnings)
        parts.scopes.append(scope)
        if parts.tool.fields_argument:
            self._check(parts, FieldsWithinScope(path, parts.tool.fields_argument, scope))

    def _when(self, path: str, text: str, parts: _Parts) -> None:
        try:
            body = parse_expression(text)
        except CedarRefused as refused:
            self._report(path, f"{refused.problem} (line {refused.line} of the expression)", refused.expected)
            return
        mentions = expression_mentions(body)
        for problem in mentions.problems:
            self._report(path, f"the expression {problem}", "attributes of `context` by name")
        if mentions.variables or mentions.entities:
            self._report(path, "the expression speaks of more than `context`", "an expression over `context` alone")
        for attribute in sorted(mentions.context):
            check_path(attribute, [parts.tool], partial(self._report, path))
        check_null_paths(mentions.nulls, [parts.tool], partial(self._report, path))
        rule = self._rule(path, "constraint", f"The condition of {self._id} must hold: {_short(text)}", _short(text))
        self._add(parts, rule, "forbid", {"kind": "unless", "body": body})

    def _approval(self, path: str, entry: AllowedTool, parts: _Parts) -> None:
        effect = parts.tool.effect
        needed = entry.requires_approval
        if needed is None:
            needed = effect == "irreversible"
        if entry.requires_approval is False and effect == "irreversible" and not entry.justification:
            problem = f"{parts.tool.qualified} is irreversible and would run without approval"
            self._report(f"{path}.requires_approval", problem, "a `justification`", "or leave requires_approval out")
        if entry.justification is not None and not (entry.requires_approval is False and effect == "irreversible"):
            problem = "`justification` explains nothing here"
            expected = "requires_approval: false on an irreversible tool"
            self._report(f"{path}.justification", problem, expected)
        if entry.approval_timeout_seconds is not None:
            parts.timeouts.append(entry.approval_timeout_seconds)
            parts.terms.append(f"{path}.approval_timeout_seconds")
        if entry.auto_deny_on_timeout is not None:
            parts.auto_denies.append(entry.auto_deny_on_timeout)
            parts.terms.append(f"{path}.auto_deny_on_timeout")
            if not entry.auto_deny_on_timeout and not self._escalates():
                problem = "the hold would stay open and nobody would be told"
                hint = "set execution.on_budget_exceeded to {action: halt_and_escalate, notify: NAME}"
                self._report(f"{path}.auto_deny_on_timeout", problem, "somebody to escalate to", hint)
        if needed:
            why = "" if entry.requires_approval else f" because it is {effect}"
            rule = self._rule(
                f"{path}.requires_approval", "approval", f"{parts.tool.qualified} needs a person's approval{why}."
            )
            self._add(parts, rule, "forbid", {"kind": "unless", "body": APPROVAL_GRANTED})

    def _escalates(self) -> bool:
        execution = self._file.value.execution
        exceeded = execution.on_budget_exceeded if execution else None
        return exceeded is not None and exceeded.notify is not None

    def _check(self, parts: _Parts, check: Check) -> None:
        parts.checks.append(check)
        rule = self._rule(check.key, "constraint", f"{self._id} is bounded: {check.accepted}.", check.accepted)
        holds: JsonObject = {
            "&&": {
                "left": {"has": {"left": _CHECKS, "attr": check.key}},
                "right": {".": {"left": _CHECKS, "attr": check.key}},
            }
        }
        self._add(parts, rule, "forbid", {"kind": "unless", "body": holds})

    def _blocked(self, path: str, pattern: str, parts: _Parts) -> None:
        rule = self._rule(path, "blocked", f"{pattern!r} is blocked for {self._id}.")
        self._add(parts, rule, "forbid", None)

    # Rules and policies -------------------------------------------------------------------------------

    def _rule(self, key: str, kind: RuleKind, sentence: str, accepted: str = "") -> Rule:
        return Rule(f"{self._id}:{key}", kind, self._file.file, self._file.place(key).line, key, sentence, accepted)

    def _add(
        self, parts: _Parts, rule: Rule, effect: Literal["permit", "forbid"], condition: JsonObject | None
    ) -> None:
        tool = parts.tool
        conditions: list[Json] = [condition] if condition else []
        parts.rules[rule.id] = rule
        parts.policies[rule.id] = {
            "effect": effect,
            "principal": _exactly("Agent", self._id),
            "action": _exactly("Action", tool.qualified),
            "resource": _exactly("Upstream", tool.pinned.upstream),
            "conditions": conditions,
            "annotations": {"id": rule.id},
        }

    def _finish(self, parts: _Parts) -> Slice:
        for guardrail in self._guardrails:
            if guardrail.covers_tool(parts.tool):
                parts.policies[guardrail.rule.id] = guardrail.policy
                parts.rules[guardrail.rule.id] = guardrail.rule
        scope = common_scope(parts.scopes)
        if scope is not None and not scope:
            self._report("tools", f"the scopes of the entries for {parts.tool.qualified} have no field in common")
        defaults = ApprovalTerms()
        approval = ApprovalTerms(
            min(parts.timeouts, default=defaults.timeout_s), any(parts.auto_denies) or not parts.auto_denies
        )
        found = build_slice(
            self._id, parts.tool, parts.policies, parts.rules, parts.checks, parts.guards, scope, approval
        )
        if not found.gated:
            problem = f"nothing asks for approval of {parts.tool.qualified}, so this does nothing"
            for path in parts.terms:
                self._warnings.append(self._file.finding(path, problem, hint="add `requires_approval: true`"))
        return found

    def _report(self, path: str, problem: str, expected: str = "", hint: str = "") -> None:
        self._findings.append(self._file.finding(path, problem, expected, hint))


def _exactly(kind: str, name: str) -> JsonObject:
    return {"op": "==", "entity": {"type": kind, "id": name}}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:117] + "..."
