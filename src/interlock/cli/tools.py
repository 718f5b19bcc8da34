"""`tools` and `token`: what upstreams offer, pinning it, and letting agents in."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import click

from interlock.cli.client import INVALID, REFUSED, CommandFailed
from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import line, note, print_json, table
from interlock.core.sentence import visible


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @main.group("tools")
    def group() -> None:
        """See and pin the tools of upstreams."""

    @command(group, "list")
    @click.option("--agent", help="Also show what this agent may see and what needs approval.")
    @pass_context
    def list_tools(context: Context, agent: str | None, as_json: bool) -> None:
        """List the pinned tools of the active bundle."""
        answer = context.plane().get("/v1/tools", agent=agent)
        if as_json:
            print_json(answer)
            return
        rows = [
            (
                tool["name"],
                tool["effect"],
                ", ".join(tool["tags"]),
                "changed" if tool["changed"] else "as pinned",
                *((_yes(tool["listed"]), _yes(tool["approval"])) if agent else ()),
            )
            for tool in answer["tools"]
        ]
        headings = ("tool", "effect", "tags", "state", *(("listed", "approval") if agent else ()))
        table(headings, rows, "no pinned tools: interlock tools pin UPSTREAM")

    @command(group, "pin")
    @click.argument("upstreams", nargs=-1, required=True)
    @click.option("--yes", "-y", is_flag=True, help="Pin without asking.")
    @pass_context
    def pin(context: Context, upstreams: tuple[str, ...], yes: bool, as_json: bool) -> None:
        """Look at an upstream's tools and pin them in tools.lock.

        The plane contacts the upstream, shows what is new, changed or gone, and after a yes the whole
        definitions are written to tools.lock in the policies folder. They take effect with
        `interlock policy activate`.
        """
        _pin(context, upstreams, yes, as_json)

    @command(main, "token")
    @click.option(
        "--agent", "agents", multiple=True, help="The agent; for a run opener, every agent it opens runs for."
    )
    @click.option("--opener", metavar="NAME", help="Make a run opener's token, for a host application.")
    @click.option("--run", help="Bind the agent's token to this run.")
    @click.option("--ttl", type=click.IntRange(1, 900), default=900, show_default=True, help="Seconds it is valid.")
    @pass_context
    def token(
        context: Context, agents: tuple[str, ...], opener: str | None, run: str | None, ttl: int, as_json: bool
    ) -> None:
        """Mint a token of at most 15 minutes for an agent, or for a run opener.

        The token is printed alone, so that it can be put into a variable; it is a secret.
        """
        if not agents or (opener is None and len(agents) != 1):
            raise click.UsageError("Name one --agent, or an --opener with the agents it opens runs for.")
        if opener is not None and run is not None:
            raise click.UsageError("--run goes with an agent's token.")
        body: dict[str, Any] = {"ttl_seconds": ttl}
        body |= {"opener": opener, "agents": list(agents)} if opener is not None else {"agent": agents[0]}
        if run is not None:
            body["run"] = run
        answer = context.plane().post("/v1/tokens", body)
        print_json(answer) if as_json else line(answer["token"])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _pin(context: Context, upstreams: tuple[str, ...], yes: bool, as_json: bool) -> None:
    from interlock.core.lockfile import LOCK_NAME, PinnedUpstream, merge_lock, read_lock, write_lock  # noqa: PLC0415
    from interlock.core.tool import pinned_tool  # noqa: PLC0415 - start-up time

    if as_json and not yes:
        raise click.UsageError("--json asks nobody, so it goes with --yes.")
    plane, path = context.plane(), Path(context.settings().policies) / LOCK_NAME
    data = path.read_bytes() if path.exists() else b'{"version": 1, "upstreams": {}}'
    lock, findings = read_lock(data)
    if findings:
        raise CommandFailed(INVALID, f"{path} cannot be read.", "Restore it.", tuple(map(str, findings)))
    pinned: list[PinnedUpstream] = []
    for name in upstreams:
        note(f"asking {name} for its tools …")
        answer = plane.post("/v1/tools/discover", {"upstream": name})
        definitions = {tool["definition"]["name"]: tool["definition"] for tool in answer["tools"]}
        before = lock.upstreams.get(name)
        known = {tool.name: tool.definition for tool in before.tools} if before else {}
        if not as_json:
            _show_changes(name, known, definitions, answer["refused"])
        tools = tuple(pinned_tool(name, definition) for definition in definitions.values())
        pinned.append(PinnedUpstream(name, answer["protocol"], answer["server"], tools))
    if not yes and not click.confirm(f"Pin these tools in {path}?"):
        raise CommandFailed(REFUSED, "Nothing was pinned.")
    text = write_lock(merge_lock(lock, pinned).upstreams)
    draft = path.with_name(f".{LOCK_NAME}.draft")
    draft.write_bytes(text)
    draft.replace(path)
    if as_json:
        print_json({"lock": str(path), "pinned": {one.id: [tool.name for tool in one.tools] for one in pinned}})
        return
    line(f"wrote {path}")
    line("Next: interlock policy check, then interlock policy activate --reason …")


def _show_changes(upstream: str, known: dict[str, Any], live: dict[str, Any], refused: dict[str, str]) -> None:
    for name in sorted(live):
        if name not in known:
            text = str(live[name].get("description") or "").strip().partition("\n")[0]
            line(f"+ {upstream}/{name}  {visible(text)[:100]}")
        elif known[name] != live[name]:
            line(f"~ {upstream}/{name}  changed:")
            before, after = (json.dumps(side[name], indent=2, sort_keys=True).splitlines() for side in (known, live))
            for text in difflib.unified_diff(before, after, "pinned", "live", lineterm="", n=1):
                line(f"    {text}")
    for name in sorted(known.keys() - live.keys()):
        line(f"- {upstream}/{name}  is not offered any more")
    for name, why in sorted(refused.items()):
        line(f"! {visible(name)}  cannot be pinned: {visible(why)}")
    if known == live and not refused:
        line(f"= {upstream}  nothing changed")
