"""Deciding with what the run has done so far: the same for a call and for an explanation of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from interlock.core.call import CanonicalCall, MalformedCall
from interlock.core.decision import Decision
from interlock.core.errors import Code
from interlock.core.policy.bundle import Bundle
from interlock.core.policy.engine import Circumstances, decide
from interlock.core.policy.rules import MALFORMED, NO_PERMIT, TOOL_CHANGED, Rule
from interlock.core.policy.slices import Slice
from interlock.core.run import RunFacts
from interlock.plane.commands import Run
from interlock.plane.ports import Clock, Reader, Upstreams

_NO_RUN = RunFacts("run_explained", implicit=True, task=None, labels=(), steps=0, calls=0, records=0)


class Deciding:
    """Gathers what a decision sees, and decides."""

    def __init__(self, reader: Reader, upstreams: Upstreams, clock: Clock, task: Callable[[str], str | None]) -> None:
        """Wire it up; `task` gives the task text of a run."""
        self._reader, self._upstreams, self._clock, self._task = reader, upstreams, clock, task

    def decide(self, bundle: Bundle, rules: Slice, call: CanonicalCall, run: Run | None, *, approved: bool) -> Decision:
        """Permit, deny or hold.

        Args:
            bundle: The rules in force.
            rules: Those of them that speak of this agent and tool.
            call: The canonical call.
            run: Its run; None explains a call of a run that has done nothing yet.
            approved: A person approved this very call.
        """
        decision = decide(bundle.book, rules, call, self.circumstances(rules, call, run, approved=approved))
        if decision.verdict != "deny" and self._upstreams.is_changed(call.tool.upstream, call.tool.name):
            return plane_denial(bundle, rules, TOOL_CHANGED, Code.TOOL_CHANGED)
        return decision

    def circumstances(self, rules: Slice, call: CanonicalCall, run: Run | None, *, approved: bool) -> Circumstances:
        """The facts that are not the call's own; counters are read only where a rule asks for them."""
        if run is None:
            return Circumstances(_NO_RUN, self._clock.now_us(), approved, repeats_unknown=False)
        calls = records = 0
        if rules.reads_counters:
            calls = self._reader.counter(run.id, f"calls:{call.tool.qualified}")
            records = self._reader.counter(run.id, f"records:{call.tool.qualified}")
        facts = RunFacts(run.id, run.implicit, self._task(run.id), run.labels, run.steps, calls, records)
        unknown = not rules.tool.idempotent and self._reader.repeats_unknown(run.id, call.digest)
        return Circumstances(facts, self._clock.now_us(), approved, unknown)


def malformed_denial(bundle: Bundle, rules: Slice | None, error: MalformedCall) -> Decision:
    """The denial of a call without a canonical form; says why only for a tool that the agent may see."""
    if rules is None or not rules.listed:
        return plane_denial(bundle, rules, NO_PERMIT, Code.POLICY_DENIED)
    rule = replace(MALFORMED, sentence=f"The call is malformed: {error}.")
    return plane_denial(bundle, rules, rule, Code.MALFORMED_CALL)


def plane_denial(bundle: Bundle, rules: Slice | None, rule: Rule, code: Code) -> Decision:
    """A denial that no file says: its rule is the plane's own."""
    return Decision("deny", (rule,), code, bundle.digest, rules.digest if rules else "")
