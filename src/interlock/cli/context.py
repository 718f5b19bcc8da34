"""What commands share: which settings, which plane, JSON or not, and how failures end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from interlock.cli.client import INVALID, REFUSED, CommandFailed, PlaneClient
from interlock.cli.output import note, print_json

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Context:
    """Options before the command.

    Attributes:
        config: The settings file.
        socket: The operator socket, where it is named instead of the settings.
    """

    config: Path
    socket: Path | None

    def settings(self) -> Any:
        """The loaded settings (`LoadedSettings`). Raises CommandFailed."""
        from interlock.core.errors import SettingsInvalid  # noqa: PLC0415 - start-up time
        from interlock.settings.load import SettingsFindings, load_settings  # noqa: PLC0415

        try:
            return load_settings(self.config)
        except SettingsFindings as error:
            findings = tuple(str(finding) for finding in error.findings)
            raise CommandFailed(INVALID, error.message, error.remedy, findings) from None
        except SettingsInvalid as error:
            raise CommandFailed(INVALID, error.message, error.remedy) from None

    def plane(self) -> PlaneClient:
        """The running plane; it is contacted when the first request is made."""
        return PlaneClient(self.socket or self.settings().socket)


pass_context = click.make_pass_decorator(Context)


def command(group: click.Group, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a command with `--json`; failures become a message (or a JSON object) and an exit code."""

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except CommandFailed as failed:
                _say(failed, as_json=bool(kwargs.get("as_json")))
                raise click.exceptions.Exit(failed.code) from None
            except BrokenPipeError:
                raise  # click ends quietly when nobody reads on
            except OSError as error:
                failed = CommandFailed(REFUSED, f"{error.filename or 'The file'}: {error.strerror}.")
                _say(failed, as_json=bool(kwargs.get("as_json")))
                raise click.exceptions.Exit(failed.code) from None

        wrapped = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(run)
        summary = (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        group.command(name, short_help=summary)(wrapped)
        return run

    return declare


def _say(failed: CommandFailed, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": failed.message, "remedy": failed.remedy, "findings": list(failed.findings)})
        return
    for finding in failed.findings:
        note(finding)
    note(f"{failed.message} {failed.remedy}".strip())
