"""A rule, as decisions name it and people read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interlock.core.canonical import JsonObject

RuleKind = Literal["permit", "blocked", "constraint", "limit", "approval", "guardrail", "plane"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a bundle.

    Attributes:
        id: Stable name: the agent's id or guardrail file, then the key path or policy name.
        kind: What it does; `limit` is a counter's, `plane` one that no file says.
        file: Path within the bundle; empty for the plane's own rules.
        line: 1-based line, 0 for the plane's own rules.
        key: Key path within the file.
        sentence: What the rule says, in words.
        accepted: What would be accepted instead; empty if nothing would.
    """

    id: str
    kind: RuleKind
    file: str
    line: int
    key: str
    sentence: str
    accepted: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "interlock"

    def as_json(self) -> JsonObject:
        return {"id": self.id, "kind": self.kind, "file": self.file, "line": self.line, "sentence": self.sentence}


NO_PERMIT = Rule("interlock:default-deny", "plane", "", 0, "", "No rule permits this agent to call this tool.", "")
UNKNOWN_OUTCOME = Rule(
    "interlock:outcome-unknown",
    "plane",
    "",
    0,
    "",
    "The same call ended before with an unknown outcome, so a person decides whether it may run again.",
)
UNREPRESENTABLE = Rule(
    "interlock:unrepresentable-argument",
    "plane",
    "",
    0,
    "",
    "A rule reads an argument whose value cannot be compared exactly.",
)
EVALUATION_ERROR = Rule(
    "interlock:evaluation-error", "plane", "", 0, "", "A rule could not be evaluated, which denies."
)
MALFORMED = Rule("interlock:malformed-call", "plane", "", 0, "", "The call cannot be represented exactly.")
TOOL_CHANGED = Rule(
    "interlock:tool-changed", "plane", "", 0, "", "The tool's live definition differs from the one that was pinned."
)
UPSTREAM_UNAVAILABLE = Rule(
    "interlock:upstream-unavailable", "plane", "", 0, "", "The upstream is not available right now; try again later."
)
