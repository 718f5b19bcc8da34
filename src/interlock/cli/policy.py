"""`policy`: check, explain, activate, schema, show, history."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.client import INVALID, USAGE, CommandFailed
from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import block, fields, line, middle, moment, note, print_json, table
from interlock.core.sentence import visible


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @main.group("policy")
    def group() -> None:
        """Check, explain and activate policy files."""

    @command(group, "check")
    @pass_context
    def check(context: Context, as_json: bool) -> None:
        """Check the policy files, without a running plane.

        Prints every error as file:line:column and exits with 3 if there is any.
        """
        _check(context, as_json)

    @command(group, "explain")
    @click.argument("agent")
    @click.argument("tool")
    @click.option("--arguments", "-a", default="{}", help="The call's arguments as JSON.", show_default=True)
    @click.option("--run", help="Decide as in this run, with its counters.")
    @click.option("--approved", is_flag=True, help="Decide as if a person had approved it.")
    @pass_context
    def explain(
        context: Context, agent: str, tool: str, arguments: str, run: str | None, approved: bool, as_json: bool
    ) -> None:
        """Say how a call would be decided, and by which lines. Nothing is recorded or executed."""
        _explain(context, agent, tool, arguments, run, approved, as_json)

    @command(group, "activate")
    @click.option("--reason", required=True, help="Why; it is recorded.")
    @click.option("--expect", metavar="DIGEST", help="Refuse unless the files have this digest (from `check`).")
    @pass_context
    def activate(context: Context, reason: str, expect: str | None, as_json: bool) -> None:
        """Make the policy files the active bundle; with any error the last good one stays in force."""
        body = {"reason": reason, **({"expect": expect} if expect else {})}
        answer = context.plane().post("/v1/policy/activate", body)
        if as_json:
            print_json(answer)
            return
        line(f"activated {answer['activated']}")
        for warning in answer["warnings"]:
            note(f"warning: {warning}")

    @command(group, "schema")
    @click.argument("kind", type=click.Choice(["agent", "catalogue", "settings"]))
    def schema(kind: str, as_json: bool) -> None:
        """Print the JSON Schema of a kind of file, for editors."""
        from interlock.cli.schemas import editor_schemas  # noqa: PLC0415 - start-up time

        del as_json  # it is JSON either way
        print_json(editor_schemas()[kind])

    @command(group, "show")
    @pass_context
    def show(context: Context, as_json: bool) -> None:
        """Show what is in force."""
        answer = context.plane().get("/v1/policy")
        if as_json:
            print_json(answer)
            return
        line(f"active {answer['active'] or 'nothing: every call is denied'}")
        if answer["differs_from_files"]:
            line("the policy files differ from it; `interlock policy activate --reason …` takes them")
        rows = [
            (agent["id"], len(agent["listed"]), agent["file"], ", ".join(agent["unmetered"]) or "-")
            for agent in answer.get("agents", ())
        ]
        table(("agent", "tools", "file", "unmetered"), rows, "no agents: write policies/agents/NAME.yaml")

    @command(group, "history")
    @click.option("--limit", default=20, show_default=True)
    @pass_context
    def history(context: Context, limit: int, as_json: bool) -> None:
        """List activations, newest first."""
        answer = context.plane().get("/v1/policy/history", limit=limit)
        if as_json:
            print_json(answer)
            return
        rows = [(moment(row["at"]), row["by"], row["bundle"]) for row in answer["activations"]]
        table(("when", "by", "bundle"), rows, "nothing was ever activated")


def _check(context: Context, as_json: bool) -> None:
    from interlock.core.errors import BundleInvalid  # noqa: PLC0415 - start-up time
    from interlock.core.policy.bundle import load_bundle  # noqa: PLC0415
    from interlock.settings.policy_files import read_policy_files  # noqa: PLC0415

    settings = context.settings()
    try:
        bundle = load_bundle(read_policy_files(settings.policies), settings.notify_names)
    except BundleInvalid as error:
        findings = tuple(visible(str(finding)) for finding in error.findings)
        raise CommandFailed(INVALID, error.message, "", findings) from None
    warnings = [str(warning) for warning in bundle.warnings]
    if as_json:
        agents = {agent.id: len(agent.slices) for agent in bundle.agents.values()}
        print_json({"digest": bundle.digest, "agents": agents, "warnings": warnings, "findings": []})
        return
    for warning in warnings:
        note(f"warning: {visible(warning)}")
    tools, rails = len(bundle.catalogue.tools), len(bundle.guardrails)
    line(f"ok: {len(bundle.agents)} agents, {tools} pinned tools, {rails} guardrails")
    line(bundle.digest)


def _explain(
    context: Context, agent: str, tool: str, arguments: str, run: str | None, approved: bool, as_json: bool
) -> None:
    from interlock.core.canonical import Unrepresentable, decode  # noqa: PLC0415 - start-up time

    try:
        parsed = decode(arguments.encode("utf-8", "surrogateescape"))
    except Unrepresentable as error:
        raise CommandFailed(USAGE, f"--arguments is no JSON with one exact meaning: {error}.") from None
    body: dict[str, Any] = {"agent": agent, "tool": tool, "arguments": parsed, "approved": approved}
    if run:
        body["run"] = run
    answer = context.plane().post("/v1/policy/explain", body)
    if as_json:
        print_json(answer)
        return
    line(f"{answer['verdict'].upper()}  {visible(answer['sentence'])}")
    line("")
    rows = [
        (
            "decides" if rule["decided"] else ("holds" if rule.get("holds") else ""),
            rule["kind"],
            f"{rule['file']}:{rule['line']}",
            rule["text"] or rule["sentence"],
        )
        for rule in answer["considered"]
    ]
    table(("", "kind", "where", "text"), rows, "no rule speaks of this tool for this agent")
    line("")
    pairs = [("listed", answer["listed"]), ("effect", answer["effect"]), ("digest", answer["digest"])]
    fields([*pairs, ("bundle", middle(answer["bundle"], 40))])
    if answer["facts"]:
        block("facts", answer["facts"]["context"])
