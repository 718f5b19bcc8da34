"""Everything that can go wrong, in two trees.

`Code` is what an agent gets back: stable, documented, safe to show to an attacker.
`InterlockError` is what an operator gets: a sentence and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The stable error codes an agent may receive; `ERROR_CATALOGUE` says what each means."""

    POLICY_DENIED = "policy_denied"
    CONSTRAINT_VIOLATED = "constraint_violated"
    APPROVAL_PENDING = "approval_pending"
    APPROVAL_DENIED = "approval_denied"
    APPROVAL_EXPIRED = "approval_expired"
    RUN_HALTED = "run_halted"
    TOOL_CHANGED = "tool_changed"
    MALFORMED_CALL = "malformed_call"
    UPSTREAM_FAILED = "upstream_failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    RESULT_WITHHELD = "result_withheld"
    RESULT_NOT_PROJECTABLE = "result_not_projectable"
    UNAUTHENTICATED = "unauthenticated"
    AGENT_NOT_ACTIVE = "agent_not_active"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """One row of the catalogue of error codes."""

    when: str
    """The condition, for the reference page."""
    http_status: int
    """The status a plain HTTP door answers with (an MCP tool result is always 200)."""
    retryable: bool
    """Whether the very same call can succeed later without anybody changing it."""
    executed: str
    """Whether the upstream may have acted: `no`, `yes` or `maybe`."""


ERROR_CATALOGUE: dict[Code, CodeMeaning] = {
    Code.POLICY_DENIED: CodeMeaning("a rule forbids it, or none permits it", 403, False, "no"),
    Code.CONSTRAINT_VIOLATED: CodeMeaning(
        "the tool is allowed, the arguments are outside the envelope", 403, False, "no"
    ),
    Code.APPROVAL_PENDING: CodeMeaning("the call waits for a person; send the same call again later", 202, True, "no"),
    Code.APPROVAL_DENIED: CodeMeaning("a person refused the call", 403, False, "no"),
    Code.APPROVAL_EXPIRED: CodeMeaning("nobody decided in time, which denies", 403, False, "no"),
    Code.RUN_HALTED: CodeMeaning("a ceiling was hit, or the run, agent or fleet was halted", 403, False, "no"),
    Code.TOOL_CHANGED: CodeMeaning("the tool's live definition differs from its pin", 403, False, "no"),
    Code.MALFORMED_CALL: CodeMeaning(
        "the call cannot be represented exactly, or is not valid against the tool's schema", 400, False, "no"
    ),
    Code.UPSTREAM_FAILED: CodeMeaning("after the permit, the upstream failed", 502, False, "maybe"),
    Code.OUTCOME_UNKNOWN: CodeMeaning("after the permit, nobody can tell whether it happened", 504, False, "maybe"),
    Code.RESULT_WITHHELD: CodeMeaning("it ran; the result held something that may not be shown", 200, False, "yes"),
    Code.RESULT_NOT_PROJECTABLE: CodeMeaning(
        "it ran; the result has no structure to project to the granted fields", 200, False, "yes"
    ),
    Code.UNAUTHENTICATED: CodeMeaning("no valid token for this door", 401, False, "no"),
    Code.AGENT_NOT_ACTIVE: CodeMeaning("the token's agent is not in the active bundle", 403, False, "no"),
    Code.NOT_FOUND: CodeMeaning("nothing has this URL: no such upstream, session or run", 404, False, "no"),
    Code.RATE_LIMITED: CodeMeaning("too many calls in a short time; nothing was recorded", 429, True, "no"),
    Code.UNAVAILABLE: CodeMeaning(
        "the plane cannot decide, record or reach the upstream right now; nothing was executed", 503, True, "no"
    ),
}


class InterlockError(Exception):
    """Root of the operator-facing errors.

    Attributes:
        code: Stable, machine-readable name of the error.
        message: One sentence: what is wrong.
        remedy: One sentence: what to do about it.
    """

    code: str = "internal"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class SettingsInvalid(InterlockError):
    """The settings file cannot be used."""

    code = "settings_invalid"


class BundleInvalid(InterlockError):
    """The policy files do not form a bundle; `findings` are all the reasons, in file order."""

    code = "bundle_invalid"

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        count = len(findings)
        super().__init__(
            f"The policy files have {count} error{'s' if count != 1 else ''}; none of them is in force.",
            remedy="Mend them and run `interlock policy check`.",
        )
        self.findings = findings


class StoreUnavailable(InterlockError):
    """The store cannot record; nothing may execute until it can."""

    code = "store_unavailable"


class StoreRefused(InterlockError):
    """The store will not be opened as it stands (wrong version, in use, wrong place)."""

    code = "store_refused"


class UpstreamUnavailable(InterlockError):
    """An upstream cannot be reached or does not speak MCP; no tool of it can run."""

    code = "upstream_unavailable"


class SecretUnavailable(InterlockError):
    """A secret reference cannot be resolved. Never carries the value."""

    code = "secret_unavailable"


class TokenRefused(InterlockError):
    """A token is missing, malformed, expired, foreign or for another audience."""

    code = "token_refused"


class NotFound(InterlockError):
    """An administrative request names something that does not exist."""

    code = "not_found"


class Conflict(InterlockError):
    """An administrative request does not fit the present state."""

    code = "conflict"


class BadRequest(InterlockError):
    """An administrative request is malformed."""

    code = "bad_request"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One located problem in a policy or settings file.

    Attributes:
        file: Path relative to the bundle's folder.
        line: 1-based; 0 where the problem is the file as a whole.
        column: 1-based; 0 where the problem is the file as a whole.
        problem: What is wrong.
        expected: What was expected instead; may be empty.
        hint: `did you mean …` or what to do; may be empty.
    """

    file: str
    line: int
    column: int
    problem: str
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}:{self.column}: {self.problem}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)
