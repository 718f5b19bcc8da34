"""`interlock`: the command line."""

from __future__ import annotations

from pathlib import Path

import click

from interlock import __version__
from interlock.cli import control, inspection, policy, records, setup, tools
from interlock.cli.client import EXIT_CODES
from interlock.cli.context import Context

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("interlock.yaml"),
    envvar="INTERLOCK_CONFIG",
    show_default=True,
    help="The settings file.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="INTERLOCK_SOCKET",
    help="The operator socket, where the settings file is not at hand.",
)
@click.version_option(__version__, prog_name="interlock")
@click.pass_context
def main(context: click.Context, config: Path, socket: Path | None) -> None:
    """The enforcement plane for AI agents: every tool call is decided before it executes.

    \b
    Start here:
      interlock init               a working folder with commented examples
      interlock up                 start the plane
      interlock tools pin NAME     look at an upstream's tools and pin them
      interlock policy check       check the policy files
      interlock doctor             what is weaker than it should be
    """  # noqa: D301 - the backslash is a character that tells click to keep the lines
    context.obj = Context(config, socket)


for module in (setup, policy, tools, records, control, inspection):
    module.register(main)
