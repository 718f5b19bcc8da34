"""Ceilings of a run, and where a halt is escalated to."""

from __future__ import annotations

import pytest

from interlock.core.policy.compile import Agent
from interlock.core.run import Ceilings, RunFacts
from support import bundles
from support.bundles import agent_file, entry, tool

TOOLS = [tool("look", {})]


def _files(execution: str) -> dict[str, bytes]:
    return bundles.files_of(TOOLS, agent_file(entry("look"), rest=f"execution:\n{execution}"))


def _agent(execution: str) -> Agent:
    return bundles.load(_files(execution)).agents["a"]


def test_ceilings_are_read_into_whole_units() -> None:
    agent = _agent(
        "  max_steps: 25\n  max_tokens_per_run: 50000\n  max_wall_clock_seconds: 120\n  max_cost_usd: 2.00\n"
    )
    assert agent.ceilings == Ceilings(25, 50_000, 120_000_000, 2_000_000)


@pytest.mark.parametrize(
    ("cost", "micro_usd"),
    [("2", 2_000_000), ("0.1", 100_000), ("0.000001", 1), ("1e-6", 1), ("1234567.891234", 1_234_567_891_234), ("0", 0)],
)
def test_money_is_exact_to_the_millionth(cost: str, micro_usd: int) -> None:
    assert _agent(f"  max_cost_usd: {cost}\n").ceilings.max_cost_micro_usd == micro_usd


def test_what_the_file_leaves_out_is_left_to_the_deployment() -> None:
    assert _agent("  max_steps: 5\n").ceilings == Ceilings(max_steps=5)
    without = bundles.load(bundles.files_of(TOOLS, agent_file(entry("look"))))
    assert without.agents["a"].ceilings == Ceilings()


@pytest.mark.parametrize(
    ("execution", "finding"),
    [
        ("  max_steps: 0\n", "6:14: `execution.max_steps` is 0; expected at least 1"),
        ("  max_steps: -3\n", "6:14: `execution.max_steps` is -3; expected at least 1"),
        ("  max_steps: 2.5\n", "6:14: `execution.max_steps` is 2.5; expected a whole number"),
        ("  max_steps: many\n", "6:14: `execution.max_steps` is 'many'; expected a whole number"),
        ("  max_steps:\n", "6:13: `execution.max_steps` is empty; expected a whole number"),
        ("  max_tokens_per_run: 0\n", "6:23: `execution.max_tokens_per_run` is 0; expected at least 1"),
        ("  max_wall_clock_seconds: 0\n", "6:27: `execution.max_wall_clock_seconds` is 0; expected at least 1"),
        ("  max_cost_usd: -0.01\n", "6:17: `execution.max_cost_usd` is -0.01; expected at least 0"),
        ("  max_cost_usd: $2\n", "6:17: `execution.max_cost_usd` is '$2'; expected a number"),
        ("  max_cost_usd: 0.0000001\n", "6:3: 1E-7 has more than six decimal places; expected micro-dollars"),
        (
            "  max_step: 5\n",
            "6:3: unknown key 'max_step' in `execution`; expected a known key; did you mean 'max_steps'?",
        ),
        ("  []\n", "6:3: `execution` is a list; expected a mapping of keys"),
    ],
)
def test_a_ceiling_that_is_none_is_a_finding(execution: str, finding: str) -> None:
    assert bundles.refusals(_files(execution)) == [f"agents/a.yaml:{finding}"]


@pytest.mark.parametrize(
    "execution",
    [
        "max_steps: 9999999999999999999999",
        "max_tokens_per_run: 9223372036854775808",
        "max_wall_clock_seconds: 9223372036855",
        "max_cost_usd: 9223372036855",
        "max_cost_usd: 1e300",
        "max_cost_usd: 1e9999999999999999999999",
        "max_cost_usd: 123456789012345678901234567890.1234567",
    ],
)
def test_a_ceiling_that_no_counter_could_hold_is_a_finding_and_no_crash(execution: str) -> None:
    # Counters are 64-bit integers of steps, tokens, microseconds and micro-dollars.
    [finding] = bundles.refusals(_files(f"  {execution}\n"))
    assert finding.startswith("agents/a.yaml:6:")


def test_ceilings_without_a_meter_are_pointed_out() -> None:
    bundle = bundles.load(_files("  max_steps: 5\n  max_tokens_per_run: 5\n  max_cost_usd: 1\n"))
    warnings = [str(warning) for warning in bundle.warnings]
    assert len(warnings) == 2
    assert all(warning.startswith("agents/a.yaml:") and "no meter is connected yet" in warning for warning in warnings)
    assert "max_tokens" in warnings[0]
    assert "max_cost" in warnings[1]


def test_an_unmetered_ceiling_is_pointed_out_under_the_name_and_at_the_line_that_the_file_has() -> None:
    [warning] = bundles.load(_files("  max_steps: 5\n  max_cost_usd: 1\n")).warnings
    assert "max_cost_usd" in warning.problem
    assert (warning.line, warning.column) == (7, 3)


# on_budget_exceeded ----------------------------------------------------------------------------------------------


def test_a_halt_is_escalated_where_the_file_says_so() -> None:
    escalating = '  on_budget_exceeded: {action: halt_and_escalate, notify: "#oncall-agents"}\n'
    assert _agent(escalating).notify == "#oncall-agents"
    assert _agent("  on_budget_exceeded: {action: halt}\n").notify is None
    assert _agent("  max_steps: 5\n").notify is None


@pytest.mark.parametrize(
    ("exceeded", "finding"),
    [
        (
            "{action: halt_and_escalate}",
            "6:3: halt_and_escalate says nobody to escalate to; expected `notify:` beside it",
        ),
        (
            '{action: halt, notify: "#oncall-agents"}',
            "6:38: `notify` goes with halt_and_escalate only; expected action: halt_and_escalate",
        ),
        (
            '{action: halt_and_escalate, notify: "#oncal"}',
            "6:51: the settings do not resolve '#oncal'; expected a key of `notify:`; the settings resolve: #oncall-agents",
        ),
        (
            "{action: continue}",
            "6:32: `execution.on_budget_exceeded.action` is 'continue'; expected one of halt, halt_and_escalate",
        ),
        (
            "{action: halt_and_escalat}",
            "6:32: `execution.on_budget_exceeded.action` is 'halt_and_escalat'; expected one of halt, halt_and_escalate; did you mean 'halt_and_escalate'?",
        ),
        (
            "{}",
            "6:23: `execution.on_budget_exceeded` lacks the key 'action'; expected what to do when a ceiling of the run is hit",
        ),
        ("halt", "6:23: `execution.on_budget_exceeded` is 'halt'; expected a mapping of keys"),
        (
            "{action: halt, notfy: x}",
            "6:38: unknown key 'notfy' in `execution.on_budget_exceeded`; expected a known key; did you mean 'notify'?",
        ),
    ],
)
def test_a_mistake_in_what_happens_at_a_ceiling_is_a_finding(exceeded: str, finding: str) -> None:
    findings = bundles.refusals(_files(f"  on_budget_exceeded: {exceeded}\n"))
    assert findings == [f"agents/a.yaml:{finding}"]


# Ceilings as values ----------------------------------------------------------------------------------------------


def test_defaults_fill_what_is_missing_and_nothing_else() -> None:
    defaults = Ceilings(10, 20, 30, 40)
    assert Ceilings(max_steps=99).with_defaults(defaults) == Ceilings(99, 20, 30, 40)
    assert Ceilings(max_cost_micro_usd=0).with_defaults(defaults) == Ceilings(10, 20, 30, 0)


def test_who_opens_a_run_narrows_its_ceilings_and_never_widens_them() -> None:
    own = Ceilings(10, 20, None, 40)
    assert own.narrowed(Ceilings(5, 99, 7, None)) == Ceilings(5, 20, 7, 40)
    assert own.narrowed(Ceilings()) == own


def test_ceilings_survive_being_written_as_json() -> None:
    ceilings = Ceilings(1, None, 3, 0)
    assert Ceilings.from_json(ceilings.as_json()) == ceilings


def test_the_facts_of_a_run_leave_out_a_task_that_is_not_there() -> None:
    facts = RunFacts("run_1", implicit=False, task=None, labels=("x",), steps=1, calls=2, records=3)
    assert facts.as_json() == {
        "id": "run_1",
        "implicit": False,
        "labels": ["x"],
        "steps": 1,
        "calls": 2,
        "records": 3,
    }
