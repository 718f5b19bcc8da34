"""`init`, `up`, `version`: getting a plane to run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from interlock import __version__
from interlock.cli.client import INVALID, REFUSED, CommandFailed
from interlock.cli.context import Context, command, pass_context
from interlock.cli.output import line, note, print_json


def register(main: click.Group) -> None:
    """Add the commands of this module."""

    @command(main, "version")
    def version(as_json: bool) -> None:
        """Print the version."""
        print_json({"version": __version__}) if as_json else line(f"interlock {__version__}")

    @command(main, "init")
    @click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
    def init(folder: Path, as_json: bool) -> None:
        """Make a working folder with commented examples.

        Writes FOLDER/interlock.yaml and FOLDER/policies; nothing that exists is overwritten.
        """
        written = _write_folder(folder)
        if as_json:
            print_json({"folder": str(folder), "written": written})
            return
        for name in written:
            line(f"wrote {name}")
        line("")
        line("Next:")
        if folder != Path():
            line(f"  cd {folder}")
        line("  edit interlock.yaml            name your upstreams")
        line("  interlock up                   start the plane")
        line("  interlock tools pin NAME       look at an upstream's tools and pin them")

    @command(main, "up")
    @click.option("--no-policy", is_flag=True, help="Start with nothing in force, to pin tools; every call is denied.")
    @click.option("--activate", metavar="REASON", help="Activate the policy files as they are, for this reason.")
    @click.option("--dev", is_flag=True, help="Activate the policy files whenever they change. Not for production.")
    @pass_context
    def up(context: Context, no_policy: bool, activate: str | None, dev: bool, as_json: bool) -> None:
        """Start the plane and keep it running.

        Resumes the bundle that was active before; the first start activates the policy files. Broken
        policy files are refused. SIGTERM and SIGINT drain and stop it.
        """
        if no_policy and (activate or dev):
            raise click.UsageError("--no-policy does not go with --activate or --dev.")
        _run(context, no_policy, activate, dev, as_json)


def _run(context: Context, no_policy: bool, activate: str | None, dev: bool, as_json: bool) -> None:
    from interlock.bootstrap.process import StartOptions, run_plane  # noqa: PLC0415 - start-up time
    from interlock.core.errors import BundleInvalid, InterlockError  # noqa: PLC0415

    settings = context.settings()

    def started(composed: Any) -> None:
        facts = {
            "gateway": composed.public_url,
            "watch": f"http://{composed.listeners.address(composed.listeners.watch)}",
            "socket": str(composed.settings.socket),
            "bundle": composed.policy.bundle.digest if composed.policy.bundle else None,
        }
        if as_json:
            print_json(facts)
            return
        note(f"interlock {__version__} is up")
        note(f"  agents       {facts['gateway']}/mcp/UPSTREAM")
        note(f"  watch        {facts['watch']}/readyz, /metrics")
        note(f"  operators    {facts['socket']}")
        note(f"  policy       {facts['bundle'] or 'none in force: every call is denied'}")
        if composed.policy.bundle and composed.policy.differs_from_files():
            note("  WARNING      the policy files differ from the active bundle: interlock policy activate")

    try:
        run_plane(settings, StartOptions(no_policy, activate, dev, started))
    except BundleInvalid as error:
        findings = tuple(str(finding) for finding in error.findings)
        remedy = f"{error.remedy} To pin tools first, start with --no-policy."
        raise CommandFailed(INVALID, error.message, remedy, findings) from None
    except InterlockError as error:
        code = INVALID if error.code == "settings_invalid" else REFUSED
        raise CommandFailed(code, error.message, error.remedy) from None


def _write_folder(folder: Path) -> list[str]:
    """Copy the template, add the editor schemas; refuse to overwrite anything."""
    import json  # noqa: PLC0415 - start-up time
    from importlib.resources import as_file, files  # noqa: PLC0415

    from interlock.cli.schemas import editor_schemas  # noqa: PLC0415

    target = folder / "interlock.yaml"
    if target.exists():
        raise CommandFailed(REFUSED, f"{target} exists already.", "Choose another folder, or edit that file.")
    written: list[str] = []
    with as_file(files("interlock.cli") / "template") as template:
        for source in sorted(path for path in template.rglob("*") if path.is_file()):
            name = source.relative_to(template)
            # A leading dot would hide the file from packaging.
            place = folder / name.with_name(name.name.replace("dot-", "."))
            if place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            written.append(str(place))
    for name, schema in editor_schemas().items():
        place = folder / "policies" / ".schema" / f"{name}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(schema, indent=2) + "\n", "utf-8")
        written.append(str(place))
    return written
