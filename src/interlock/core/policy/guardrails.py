"""Guardrails: organisation-wide Cedar rules that only forbid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, cast

from interlock.core.canonical import JsonObject
from interlock.core.errors import Finding
from interlock.core.files.located import MAX_FILE_BYTES
from interlock.core.files.reader import did_you_mean
from interlock.core.policy.catalogue import Tool
from interlock.core.policy.cedar_ast import Path, mentions_of, scope_covers_agent, scope_covers_tool
from interlock.core.policy.cedar_schema import RUN_RECORDS, can_be_null, is_declared, is_unseen, readable_names
from interlock.core.policy.cedar_text import parse_statements
from interlock.core.policy.document import EFFECTS, TAGS
from interlock.core.policy.rules import Rule

_UNREADABLE: Final = "arguments that are unions, free objects or recursive cannot be read by rules; use `arguments:`"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One forbid of a guardrail file."""

    rule: Rule
    column: int
    text: str
    policy: JsonObject

    def covers_tool(self, tool: Tool) -> bool:
        """Whether its scope can match a call of this tool."""
        return scope_covers_tool(self.policy, tool.qualified, tool.groups, tool.pinned.upstream)

    def covers_agent(self, agent: str) -> bool:
        """Whether its scope can match a call by this agent."""
        return scope_covers_agent(self.policy, agent)


def read_guardrails(file: str, data: bytes, findings: list[Finding]) -> list[Guardrail]:
    """Parse one file; whatever is not a plain forbid is a finding."""
    if len(data) > MAX_FILE_BYTES:
        findings.append(Finding(file, 0, 0, f"the file has {len(data)} bytes", f"at most {MAX_FILE_BYTES}"))
        return []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        findings.append(Finding(file, 0, 0, "the file is not UTF-8"))
        return []
    statements, refusals = parse_statements(text)
    findings.extend(Finding(file, r.line, r.column, r.problem, r.expected) for r in refusals)
    found: list[Guardrail] = []
    names: set[str] = set()
    for index, statement in enumerate(statements):
        policy = statement.policy
        if policy["effect"] != "forbid":
            problem = "a guardrail may not permit; rights are granted in agent files alone"
            findings.append(Finding(file, statement.line, statement.column, problem, "forbid"))
            continue
        annotations = cast("dict[str, str]", policy.get("annotations") or {})
        name = annotations.get("id") or f"policy{index}"
        if name in names:
            findings.append(Finding(file, statement.line, statement.column, f"two policies have the @id {name!r}"))
            continue
        names.add(name)
        sentence = annotations.get("reason") or f"The guardrail {name!r} forbids it."
        rule = Rule(f"{file}:{name}", "guardrail", file, statement.line, name, sentence)
        compiled: JsonObject = {**policy, "annotations": {"id": rule.id}}
        found.append(Guardrail(rule, statement.column, statement.text, compiled))
    return found


def check_guardrail(
    guardrail: Guardrail, tools: list[Tool], agents: set[str], findings: list[Finding], warnings: list[Finding]
) -> bool:
    """Check what a guardrail speaks of; return whether it covers any pinned tool."""
    mentions = mentions_of(guardrail.policy)

    def report(problem: str, expected: str = "", hint: str = "") -> None:
        findings.append(Finding(guardrail.rule.file, guardrail.rule.line, guardrail.column, problem, expected, hint))

    for problem in mentions.problems:
        report(f"the guardrail {problem}", "attributes of `context` by name")
    upstreams = {tool.pinned.upstream for tool in tools}
    known = {
        "Agent": agents,
        "Upstream": upstreams,
        "Action": {tool.qualified for tool in tools}
        | {f"effect:{effect}" for effect in EFFECTS}
        | {f"tag:{tag}" for tag in TAGS}
        | {f"upstream:{upstream}" for upstream in upstreams},
    }
    for kind, name in sorted(mentions.entities):
        if kind not in known:
            report(f"there is no entity type {kind!r}", "Agent, Action or Upstream")
        elif name not in known[kind]:
            report(f'{kind}::"{name}" does not exist', "a name of the bundle", did_you_mean(name, known[kind]))
    covered = [tool for tool in tools if guardrail.covers_tool(tool)]
    for path in sorted(mentions.context):
        check_path(path, covered or tools, report)
    check_null_paths(mentions.nulls, covered or tools, report)
    if not _possible(guardrail.policy, upstreams, tools, agents):
        report("no call could ever be in the scope of the guardrail", "Agent, Action and Upstream, each in its place")
    elif not covered or (agents and not any(map(guardrail.covers_agent, agents))):
        place = (guardrail.rule.file, guardrail.rule.line, guardrail.column)
        warnings.append(Finding(*place, "the guardrail applies to no pinned tool of any agent"))
    return bool(covered)


def _possible(policy: JsonObject, upstreams: set[str], tools: list[Tool], agents: set[str]) -> bool:
    """Whether some call could be in the scope: of a pinned tool, or of one to come that is in every group."""
    everywhere = frozenset({*(f"effect:{effect}" for effect in EFFECTS), *(f"tag:{tag}" for tag in TAGS)})
    for_tool = any(scope_covers_tool(policy, t.qualified, t.groups, t.pinned.upstream) for t in tools) or any(
        scope_covers_tool(policy, "", everywhere | {f"upstream:{upstream}"}, upstream) for upstream in upstreams or {""}
    )
    return for_tool and any(scope_covers_agent(policy, agent) for agent in agents or {""})


class Report(Protocol):
    """How `check_path` reports a problem."""

    def __call__(self, problem: str, expected: str = "", hint: str = "") -> None: ...


def check_path(path: Path, tools: list[Tool], report: Report) -> None:
    """Report an attribute of `context` that none of the tools has, or that rules may not or cannot read."""
    shown = "context." + ".".join(path)
    if path[0] == "approval":
        report("`approval` may only appear as `unless { context.approval.granted }`", "an approval gate of its own")
    elif path[0] == "checks":
        report("`context.checks` belongs to the agent files' own constraints", "attributes of input, run or time")
    elif path == RUN_RECORDS:
        for tool in tools:
            if tool.list_arguments and not tool.count_declared:
                problem = f"reads `{shown}`, and the catalogue does not say how {tool.qualified} counts records"
                report(problem, hint="add `records: {count: ARGUMENT}` or `records: {per_call: 1}` to its entry")
    else:
        unseen = [tool.qualified for tool in tools if is_unseen(tool, path)]
        if not any(is_declared(tool, path) for tool in tools):
            known = {f"context.input.{name}" for tool in tools for name in tool.input.attributes}
            hint = _UNREADABLE if unseen else did_you_mean(shown, [*known, *readable_names()])
            report(f"no action in scope has the attribute `{shown}`", "an attribute that exists", hint)
        elif unseen:
            # Otherwise the rule would bind some tools in its scope, and pass over the same argument of these.
            problem = f"in {', '.join(sorted(unseen))} rules cannot see `{shown}`, which that tool may take"
            report(problem, "a scope of tools that declare it plainly", _UNREADABLE)


def check_null_paths(paths: set[str], tools: list[Tool], report: Report) -> None:
    """Report a path that `context.input_null` of none of the tools can hold."""
    for path in sorted(paths):
        if not any(can_be_null(tool, path) for tool in tools):
            known = {name for tool in tools for name in tool.pinned.arguments.declared}
            problem = f"no action in scope has the argument `{path}`, which `context.input_null` is asked for"
            report(problem, "the dotted path of an argument", did_you_mean(path, known))
