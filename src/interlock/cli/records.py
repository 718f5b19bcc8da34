"""`runs` and `calls`: what happened."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import block, fields, line, middle, moment, print_json, print_json_line, table
from interlock.core.sentence import visible


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @main.group("runs")
    def runs() -> None:
        """Runs of agents: their ceilings and what is used."""

    @command(runs, "list")
    @click.option("--agent")
    @click.option("--state", type=click.Choice(["open", "halted", "ended"]))
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
    @click.option("--before", metavar="RUN", help="Continue after this run.")
    @pass_context
    def list_runs(
        context: Context, agent: str | None, state: str | None, limit: int, before: str | None, as_json: bool
    ) -> None:
        """List runs, newest first."""
        answer = context.plane().get("/v1/runs", agent=agent, state=state, limit=limit, before=before)
        if as_json:
            print_json(answer)
            return
        rows = [
            (run["id"], run["agent"], run["state"], _steps(run), moment(run["opened_at"]), run["halt_reason"] or "")
            for run in answer["runs"]
        ]
        headings = ("run", "agent", "state", "steps", "opened", "why")
        table(headings, rows, "no runs yet: an agent's first call opens one")

    @command(runs, "show")
    @click.argument("run")
    @pass_context
    def show_run(context: Context, run: str, as_json: bool) -> None:
        """Show one run with its counters."""
        answer = context.plane().get(f"/v1/runs/{run}")
        print_json(answer) if as_json else _print_run(answer)

    @command(runs, "end")
    @click.argument("run")
    @pass_context
    def end(context: Context, run: str, as_json: bool) -> None:
        """End a run for good; its open approvals are closed."""
        answer = context.plane().post(f"/v1/runs/{run}/end", {})
        print_json(answer) if as_json else line(f"ended {run}")

    @main.group("calls")
    def calls() -> None:
        """Calls of agents: what was asked, decided and done."""

    @command(calls, "list")
    @click.option("--run")
    @click.option("--agent")
    @click.option("--upstream")
    @click.option("--tool")
    @click.option(
        "--state", type=click.Choice(["denied", "held", "permitted", "succeeded", "failed", "unknown", "closed"])
    )
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
    @click.option("--before", metavar="CALL", help="Continue after this call.")
    @pass_context
    def list_calls(context: Context, as_json: bool, **query: Any) -> None:
        """List calls, newest first."""
        answer = context.plane().get("/v1/calls", **query)
        if as_json:
            print_json(answer)
            return
        rows = [
            (
                call["id"],
                call["agent"],
                f"{call['upstream']}/{call['tool']}",
                call["state"],
                call["code"] or "",
                call["rule"],
                call["ring"],
                moment(call["opened_at"]),
            )
            for call in answer["calls"]
        ]
        headings = ("call", "agent", "tool", "state", "code", "rule", "ring", "when")
        table(headings, rows, "no calls yet: give an agent a token with `interlock token --agent ID`")

    @command(calls, "show")
    @click.argument("call")
    @pass_context
    def show_call(context: Context, call: str, as_json: bool) -> None:
        """Show one call: arguments, facts, decision, outcome."""
        answer = context.plane().get(f"/v1/calls/{call}")
        print_json(answer) if as_json else _print_call(answer)

    @command(calls, "follow")
    @click.option("--after", type=int, help="Begin after this sequence; default: with what comes next.")
    @click.option("--count", type=click.IntRange(1), help="Stop after this many leaves.")
    @pass_context
    def follow(context: Context, after: int | None, count: int | None, as_json: bool) -> None:
        """Print what is recorded, as it is recorded. Ends with Ctrl-C.

        With --json, one JSON object a line.
        """
        _follow(context, after, count, as_json)

    @command(calls, "resolve")
    @click.argument("call")
    @click.option("--ran/--did-not-run", required=True, help="What you found out.")
    @click.option("--note", required=True, help="How you know; it is recorded.")
    @pass_context
    def resolve(context: Context, call: str, ran: bool, note: str, as_json: bool) -> None:
        """Record what you found out about a call with an unknown outcome."""
        answer = context.plane().post(f"/v1/calls/{call}/finding", {"ran": ran, "note": note})
        print_json(answer) if as_json else line(f"recorded: {call} {answer['finding'].replace('_', ' ')}")


def _steps(run: dict[str, Any]) -> str:
    limit = run["ceilings"]["max_steps"]
    return f"{run['steps']}/{limit}" if limit is not None else str(run["steps"])


def _print_run(run: dict[str, Any]) -> None:
    limit = run["ceilings"]["max_wall_clock_us"]
    clock = f"{run['clock_us'] / 1_000_000:.1f} s" + (f" of {limit / 1_000_000:g} s" if limit else "")
    fields(
        [
            ("run", run["id"]),
            ("agent", run["agent"]),
            ("opened by", run["opener"]),
            ("state", run["state"]),
            ("why", run["halt_reason"]),
            ("task", run["task"]),
            ("labels", ", ".join(run["labels"])),
            ("opened", moment(run["opened_at"])),
            ("steps", _steps(run)),
            ("wall clock", clock),
            ("in flight", run["in_flight"]),
            ("open holds", run["open_holds"]),
            ("unmetered", ", ".join(run["unmetered"])),
        ]
    )
    rows = [(name, counter["spent"], counter["reserved"]) for name, counter in run["counters"].items()]
    if rows:
        line("")
        table(("counter", "spent", "reserved"), rows, "")


def _print_call(call: dict[str, Any]) -> None:
    fields(
        [
            ("call", call["id"]),
            ("agent", call["agent"]),
            ("run", call["run"]),
            ("tool", f"{call['upstream']}/{call['tool']}"),
            ("state", call["state"]),
            ("code", call["code"]),
            ("rule", call["rule"]),
            ("ring", call["ring"]),
            ("opened", moment(call["opened_at"])),
            ("ended", moment(call["ended_at"])),
            ("finding", (call["finding"] or "").replace("_", " ")),
        ]
    )
    for entry in call["leaves"]:
        leaf = entry["leaf"]
        line("")
        line(f"#{entry['seq']} {leaf['kind']}  {moment(leaf['at'])}  {_leaf_detail(leaf)}".rstrip())
        for name, value in entry["payloads"].items():
            block(f"  {name}", value)


def _leaf_detail(leaf: dict[str, Any]) -> str:
    parts = [leaf.get("verdict"), leaf.get("outcome"), leaf.get("code"), leaf.get("by"), leaf.get("why")]
    if "approve" in leaf:
        parts.insert(0, "approved" if leaf["approve"] else "denied")
    return visible(" ".join(str(part) for part in parts if part))


def _follow(context: Context, after: int | None, count: int | None, as_json: bool) -> None:
    plane = context.plane()
    seq = plane.get("/v1/status")["leaves"] if after is None else after
    printed = 0
    try:
        while count is None or printed < count:
            for leaf in plane.get("/v1/journal", after=seq, wait=25)["leaves"]:
                seq = leaf["seq"]
                if count is not None and printed >= count:
                    break
                printed += 1
                if as_json:
                    print_json_line(leaf)
                    continue
                tool = f"{leaf['upstream']}/{leaf['tool']}" if "tool" in leaf else ""
                who = visible(" ".join(part for part in (leaf.get("agent", ""), tool) if part))
                what = f"{leaf['kind']} {_leaf_detail(leaf)}".strip()
                line(f"{moment(leaf['at'])}  #{seq}  {what}  {who}  {middle(leaf.get('call', ''))}".rstrip())
    except KeyboardInterrupt:
        return
