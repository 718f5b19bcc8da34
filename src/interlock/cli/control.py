"""`approvals`, `halt`, `resume`: deciding and stopping."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import block, fields, line, moment, print_json, table
from interlock.core.ids import RUN, is_id
from interlock.core.sentence import visible


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @main.group("approvals")
    def group() -> None:
        """Calls that wait for a person."""

    @command(group, "list")
    @click.option(
        "--state",
        type=click.Choice(["open", "approved", "denied", "expired", "redeemed", "void", "all"]),
        default="open",
        show_default=True,
    )
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
    @pass_context
    def list_approvals(context: Context, state: str, limit: int, as_json: bool) -> None:
        """List approvals, newest first."""
        answer = context.plane().get("/v1/approvals", state=None if state == "all" else state, limit=limit)
        if as_json:
            print_json(answer)
            return
        rows = [
            (hold["id"], hold["state"], moment(hold["expires_at"]), hold["sentence"]) for hold in answer["approvals"]
        ]
        table(("approval", "state", "expires", "what"), rows, "nothing waits for you")

    @command(group, "show")
    @click.argument("approval")
    @pass_context
    def show(context: Context, approval: str, as_json: bool) -> None:
        """Show exactly what an approval is for."""
        answer = context.plane().get(f"/v1/approvals/{approval}")
        print_json(answer) if as_json else _print(answer)

    @command(group, "approve")
    @click.argument("approval")
    @click.option("--reason", default="", help="Why; it is recorded.")
    @pass_context
    def approve(context: Context, approval: str, reason: str, as_json: bool) -> None:
        """Approve one call, exactly as it is.

        It runs when the agent sends the same call again, within five minutes.
        """
        _verdict(context, approval, approve=True, reason=reason, as_json=as_json)

    @command(group, "deny")
    @click.argument("approval")
    @click.option("--reason", default="", help="Why; it is recorded, and the agent gets it.")
    @pass_context
    def deny(context: Context, approval: str, reason: str, as_json: bool) -> None:
        """Refuse one call."""
        _verdict(context, approval, approve=False, reason=reason, as_json=as_json)

    @command(main, "halt")
    @click.argument("target", metavar="RUN|AGENT|all")
    @click.option("--reason", default="", help="Why; it is recorded.")
    @pass_context
    def halt(context: Context, target: str, reason: str, as_json: bool) -> None:
        """Stop a run, every run of an agent, or everything, until you resume it.

        When this returns no further call is permitted in that scope, and what was in flight is cancelled.
        """
        answer = context.plane().post("/v1/halts", {**_scope(target), "reason": reason})
        if as_json:
            print_json(answer)
            return
        line(f"halted {answer['scope']} {'' if target == 'all' else visible(target)}".rstrip())
        for run in answer["runs"]:
            line(f"  {run}")

    @command(main, "resume")
    @click.argument("target", metavar="RUN|AGENT|all")
    @click.option("--reason", default="", help="Why; it is recorded.")
    @pass_context
    def resume(context: Context, target: str, reason: str, as_json: bool) -> None:
        """Lift a halt. A run gets a fresh allowance of steps and wall clock."""
        answer = context.plane().post("/v1/resumes", {**_scope(target), "reason": reason})
        print_json(answer) if as_json else line(f"resumed {visible(target)}")


def _scope(target: str) -> dict[str, str]:
    if target == "all":
        return {"scope": "all"}
    return {"scope": "run" if is_id(RUN, target) else "agent", "target": target}


def _verdict(context: Context, approval: str, *, approve: bool, reason: str, as_json: bool) -> None:
    answer = context.plane().post(f"/v1/approvals/{approval}/verdict", {"approve": approve, "reason": reason})
    if as_json:
        print_json(answer)
        return
    line(f"{answer['state']}  {answer['sentence']}")
    if approve:
        line(f"It runs when the agent sends the same call again, until {moment(answer['redeem_until'])}.")


def _print(hold: dict[str, Any]) -> None:
    line(hold["sentence"])
    line("")
    for rule in hold["held_by"]:
        line(f"why   {visible(rule['sentence'])} ({rule['where']})")
    fields(
        [
            ("state", hold["state"]),
            ("agent", hold["agent"]),
            ("run", hold["run"]),
            ("task", hold["task"]),
            ("call", hold["call"]),
            ("digest", hold["digest"]),
            ("held", moment(hold["created_at"])),
            ("expires", f"{moment(hold['expires_at'])}, then {'denied' if hold['auto_deny'] else 'escalated'}"),
            ("decided", f"{moment(hold['decided_at'])} by {hold['decided_by']}" if hold["decided_by"] else ""),
        ]
    )
    line("")
    block("arguments", hold["arguments"])
