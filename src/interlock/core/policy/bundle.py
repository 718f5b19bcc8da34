"""A bundle: one set of policy files, loaded whole or not at all, named by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import BundleInvalid, Finding
from interlock.core.files.located import parse
from interlock.core.files.reader import Located, read
from interlock.core.lockfile import EMPTY_LOCK, LOCK_NAME, Lock, read_lock
from interlock.core.policy import cedar
from interlock.core.policy.catalogue import Catalogue, build_catalogue
from interlock.core.policy.cedar_ast import asks_for_group, policy_id
from interlock.core.policy.cedar_schema import build_schema
from interlock.core.policy.compile import Agent, AgentCompiler
from interlock.core.policy.document import AgentFile, CatalogueFile
from interlock.core.policy.engine import RuleBook
from interlock.core.policy.guardrails import Guardrail, check_guardrail, read_guardrails
from interlock.core.policy.slices import Slice
from interlock.core.run import UNMETERED

T = TypeVar("T")
_DIGEST_DOMAIN: Final = b"interlock-bundle-v1"
_CEILING_KEYS: Final = {"max_tokens": "max_tokens_per_run", "max_cost_micro_usd": "max_cost_usd"}
_FOLDERS: Final = {"agents": ".yaml", "tools": ".yaml", "guardrails": ".cedar"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A compiled bundle.

    Attributes:
        digest: `sha256:` over the canonical content of all its files.
        files: The files as they were, by path.
        agents: By agent id.
        warnings: What is odd but not wrong.
    """

    digest: str
    files: Mapping[str, bytes] = field(repr=False)
    lock: Lock = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    agents: dict[str, Agent]
    guardrails: tuple[Guardrail, ...] = field(repr=False)
    book: RuleBook = field(repr=False)
    warnings: tuple[Finding, ...]

    def slice(self, agent: str, qualified: str) -> Slice | None:
        """The rules for one agent and tool; None if its file never speaks of the tool."""
        found = self.agents.get(agent)
        return found.slices.get(qualified) if found else None

    def listed(self, agent: str, upstream: str) -> list[Slice]:
        """The slices whose tools the agent may see in lists of one upstream (invariant I8)."""
        found = self.agents.get(agent)
        slices = found.slices.values() if found else ()
        return [rules for rules in slices if rules.listed and rules.tool.pinned.upstream == upstream]


def bundle_digest(files: Mapping[str, bytes]) -> str:
    """Digest over the paths and contents of the files."""
    content: JsonObject = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    return "sha256:" + hashlib.sha256(_DIGEST_DOMAIN + encode(content)).hexdigest()


def load_bundle(files: Mapping[str, bytes], notify_names: frozenset[str]) -> Bundle:
    """Load and compile a set of files.

    Args:
        files: Contents by path relative to the policies folder, with `/` as separator.
        notify_names: The names that the settings resolve for `notify:`.

    Raises:
        BundleInvalid: with every finding, in file order.
    """
    return _Loader(files, notify_names).load()


class _Loader:
    def __init__(self, files: Mapping[str, bytes], notify_names: frozenset[str]) -> None:
        self._notify = notify_names
        self._findings: list[Finding] = []
        self._warnings: list[Finding] = []
        self._agent_files: dict[str, Located[AgentFile]] = {}
        self._files = {path: data for path, data in files.items() if self._is_policy_file(path)}

    def load(self) -> Bundle:
        lock = self._lock()
        agent_files = self._read("agents", AgentFile)
        self._agent_files = {file.file: file for file in agent_files}
        catalogue_files = self._read("tools", CatalogueFile)
        catalogue = build_catalogue(lock, catalogue_files, self._findings, self._warnings)
        guardrails = self._guardrails(catalogue, {file.value.agent.id for file in agent_files})
        agents = self._agents(agent_files, catalogue, guardrails)
        digest = bundle_digest(self._files)
        book = self._book(digest, catalogue, agents, guardrails)
        if self._findings or book is None:
            raise BundleInvalid(tuple(sorted(set(self._findings))))
        warnings = tuple(sorted(set(self._warnings)))
        by_id = {agent.id: agent for agent in agents}
        return Bundle(digest, dict(self._files), lock, catalogue, by_id, tuple(guardrails), book, warnings)

    def _is_policy_file(self, path: str) -> bool:
        folder, _, name = path.partition("/")
        suffix = _FOLDERS.get(folder)
        problem = "this is no policy file, so it would do nothing"
        # The name goes into the digest, into records and onto screens, none of which can hold half a surrogate pair.
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        if shown != path:
            problem, hint = "the file's name is not UTF-8", "rename it"
        elif path == LOCK_NAME or (suffix and "/" not in name and name.endswith(suffix)):
            return True
        elif suffix and "/" in name:
            hint = f"move it to {folder}/, or out of the policies folder"
        else:
            hint = f"rename it to end in {suffix}" if suffix else "move it out of the policies folder"
        expected = "agents/*.yaml, tools/*.yaml, guardrails/*.cedar or tools.lock"
        self._findings.append(Finding(shown, 0, 0, problem, expected, hint))
        return False

    def _lock(self) -> Lock:
        data = self._files.get(LOCK_NAME)
        if data is None:
            return EMPTY_LOCK
        lock, findings = read_lock(data)
        self._findings.extend(findings)
        return lock

    def _read(self, folder: str, target: type[T]) -> list[Located[T]]:
        found: list[Located[T]] = []
        for path in sorted(self._files):
            if path.startswith(f"{folder}/"):
                node, findings = parse(path, self._files[path])
                located = read(path, node, target, findings)
                self._findings.extend(findings)
                if located:
                    found.append(located)
        return found

    def _guardrails(self, catalogue: Catalogue, agents: set[str]) -> list[Guardrail]:
        found: list[Guardrail] = []
        for path in sorted(self._files):
            if path.startswith("guardrails/"):
                before = len(self._findings)
                rules = read_guardrails(path, self._files[path], self._findings)
                if not rules and len(self._findings) == before:
                    self._warnings.append(Finding(path, 0, 0, "the file has no rule, so it does nothing"))
                found.extend(rules)
        tools = list(catalogue.tools.values())
        # A guardrail that covers nothing has no types to be checked against; it was warned of.
        return [
            guardrail
            for guardrail in found
            if check_guardrail(guardrail, tools, agents, self._findings, self._warnings)
        ]

    def _agents(
        self, files: list[Located[AgentFile]], catalogue: Catalogue, guardrails: list[Guardrail]
    ) -> list[Agent]:
        agents: list[Agent] = []
        ids: dict[str, str] = {}
        identities: dict[str, str] = {}
        for file in files:
            section = file.value.agent
            for what, value, seen in (("id", section.id, ids), ("identity", section.identity, identities)):
                if value in seen:
                    problem = f"the {what} {value!r} is already that of {seen[value]}"
                    self._findings.append(file.finding(f"agent.{what}", problem, f"a unique {what}"))
                seen[value] = file.file
            compiler = AgentCompiler(file, catalogue, guardrails, self._notify, self._findings, self._warnings)
            agent = compiler.compile()
            if agent:
                agents.append(agent)
                for name in UNMETERED:
                    if getattr(agent.ceilings, name) is not None:
                        key = _CEILING_KEYS[name]
                        self._warnings.append(file.finding(f"execution.{key}", f"no meter is connected yet for {key}"))
        return agents

    def _book(
        self, digest: str, catalogue: Catalogue, agents: list[Agent], guardrails: list[Guardrail]
    ) -> RuleBook | None:
        checks: dict[str, set[str]] = {}
        for agent in agents:
            for name, rules in agent.slices.items():
                checks.setdefault(name, set()).update(check.key for check in rules.checks)
        try:
            schema = build_schema(list(catalogue.tools.values()), checks)
        except ValueError as error:
            problem = f"the tools cannot be described to Cedar: {str(error).partition(chr(10))[0]}"
            self._findings.append(Finding(LOCK_NAME, 0, 0, problem))
            return None
        if not self._findings:
            self._validate(schema, agents, guardrails)
        return RuleBook(digest, schema)

    def _validate(self, schema: cedar.Schema, agents: list[Agent], guardrails: list[Guardrail]) -> None:
        """Cedar's own validator over everything that was compiled, each finding at its rule."""
        places = {found.rule.id: (found.rule.file, found.rule.line, found.column) for found in guardrails}
        policies: list[JsonObject] = [guardrail.policy for guardrail in guardrails]
        for agent in agents:
            for compiled in agent.slices.values():
                for rule in compiled.rules.values():
                    place = self._agent_files[agent.file].place(rule.key)
                    places.setdefault(rule.id, (agent.file, place.line, place.column))
                policies.extend(compiled.own_policies)
        complaints = cedar.validate(policies, schema)
        for complaint in complaints:
            place = places.get(complaint.policy_id, (LOCK_NAME, 0, 0))
            self._findings.append(Finding(*place, f"Cedar refuses the rule: {complaint.problem}"))
        if not complaints:
            conditions = [found.policy for found in guardrails if found.policy["conditions"]]
            for agent in agents:
                for compiled in agent.slices.values():
                    conditions += [own for own in compiled.own_policies if policy_id(own).endswith(".when")]
            self._find_idle(schema, conditions, places)

    def _find_idle(
        self, schema: cedar.Schema, policies: list[JsonObject], places: dict[str, tuple[str, int, int]]
    ) -> None:
        """Conditions that people wrote and that keep their rule from ever applying."""
        # A group that no tool is in today may have one tomorrow.
        waiting = {policy_id(policy) for policy in policies if asks_for_group(policy)}
        for name in cedar.never_apply(policies, schema):
            found = Finding(*places[name], "the condition makes the rule do nothing, whatever the call")
            (self._warnings if name in waiting else self._findings).append(found)
