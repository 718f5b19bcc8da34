"""`execution:` in agent files: the ceilings of a run, and who is told when one is reached."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from interlock.core.errors import Finding
from interlock.core.files.reader import Located
from interlock.core.policy.document import AgentFile
from interlock.core.run import Ceilings

_MICRO: Final = 1_000_000


def read_execution(
    file: Located[AgentFile], notify_names: Collection[str], findings: list[Finding]
) -> tuple[Ceilings, str | None]:
    """The ceilings that the file says, and the name of whom to tell.

    Args:
        file: The agent file.
        notify_names: Names that the settings resolve.
        findings: Takes what is wrong.
    """

    def report(path: str, problem: str, expected: str, hint: str = "") -> None:
        findings.append(file.finding(path, problem, expected, hint))

    execution = file.value.execution
    if execution is None:
        return Ceilings(), None
    exceeded = execution.on_budget_exceeded
    notify = exceeded.notify if exceeded else None
    where = "execution.on_budget_exceeded"
    if exceeded and exceeded.action == "halt_and_escalate" and notify is None:
        report(where, "halt_and_escalate says nobody to escalate to", "`notify:` beside it")
    if exceeded and exceeded.action == "halt" and notify is not None:
        report(f"{where}.notify", "`notify` goes with halt_and_escalate only", "action: halt_and_escalate")
    if notify is not None and notify not in notify_names:
        known = ", ".join(sorted(notify_names)) or "none"
        hint = f"the settings resolve: {known}"
        report(f"{where}.notify", f"the settings do not resolve {notify!r}", "a key of `notify:`", hint)
    clock, cost = execution.max_wall_clock_seconds, execution.max_cost_usd
    micro_usd = None if cost is None else cost * _MICRO
    if micro_usd is not None and micro_usd != micro_usd.to_integral_value():
        report("execution.max_cost_usd", f"{cost} has more than six decimal places", "micro-dollars")
    return Ceilings(
        execution.max_steps,
        execution.max_tokens_per_run,
        clock * _MICRO if clock else None,
        None if micro_usd is None else int(micro_usd),
    ), notify
