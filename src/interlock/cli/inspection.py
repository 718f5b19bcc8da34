"""`config`, `status`, `doctor`: looking after a plane."""

from __future__ import annotations

import click

from interlock.cli.client import UNHEALTHY
from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import fields, line, moment, note, print_json
from interlock.core.sentence import visible

_MARKS = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILURE"}


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @main.group("config")
    def group() -> None:
        """The settings file."""

    @command(group, "check")
    @pass_context
    def check(context: Context, as_json: bool) -> None:
        """Check the settings file, without a running plane."""
        settings = context.settings()
        facts = {"file": str(settings.file), "data_dir": str(settings.data_dir), "policies": str(settings.policies)}
        if as_json:
            print_json({**facts, "findings": []})
            return
        line("ok")
        fields(list(facts.items()))

    @command(group, "show")
    @pass_context
    def show(context: Context, as_json: bool) -> None:
        """Show the settings in effect in the running plane, defaults included."""
        del as_json  # it is JSON either way
        print_json(context.plane().get("/v1/settings"))

    @command(main, "status")
    @pass_context
    def status(context: Context, as_json: bool) -> None:
        """Show what the plane is doing."""
        answer = context.plane().get("/v1/status")
        if as_json:
            print_json(answer)
            return
        ready = "ready" if answer["ready"] else f"NOT READY: {answer['why_not_ready']}"
        pairs = [
            ("plane", f"interlock {answer['version']}, {ready}"),
            ("agents", f"{answer['gateway']}/mcp/UPSTREAM"),
            ("policy", answer["bundle"] or "none: every call is denied"),
            ("journal", f"{answer['leaves']} leaves, last {moment(answer['last_leaf_at'])}"),
            ("in flight", answer["in_flight"]),
            ("halts", answer["halts"]),
        ]
        pairs += [(f"calls {state}", count) for state, count in answer["calls"].items()]
        pairs += [(f"approvals {state}", count) for state, count in answer["holds"].items()]
        fields(pairs)
        for name, health in answer["upstreams"].items():
            changed = ", ".join(health["changed"])
            line(f"upstream {name}: {health['connected']} connections" + (f", changed: {changed}" if changed else ""))

    @command(main, "doctor")
    @pass_context
    def doctor(context: Context, as_json: bool) -> None:
        """Say what is weaker than it should be, and what to do about it.

        Contacts every upstream. Exits with 5 if there is a failure.
        """
        plane = context.plane()
        if not as_json:
            note("checking, upstreams too …")
        checks = plane.get("/v1/doctor")["checks"]
        if as_json:
            print_json({"checks": checks})
        else:
            for found in checks:
                line(f"{_MARKS[found['level']]}  {found['check']}: {visible(found['detail'])}")
                if found["remedy"]:
                    line(f"         {visible(found['remedy'])}")
        if any(found["level"] == "failure" for found in checks):
            raise click.exceptions.Exit(UNHEALTHY)
