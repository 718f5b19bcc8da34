"""Make the generated reference pages from the code: `generate_reference.py [--check]`.

Settings, policy files, error codes and the command line are described once, in the code; the pages under
docs/reference are made from there, and a test fails when they differ.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal

import click

from interlock.cli.client import EXIT_CODES
from interlock.cli.main import main as cli
from interlock.core.errors import ERROR_CATALOGUE
from interlock.core.files.located import MAX_FILE_BYTES, MAX_FILE_DEPTH
from interlock.core.files.reader import Key, collecting_field, file_key, is_raw
from interlock.core.policy.cedar_text import MAX_STATEMENT_TOKENS
from interlock.core.policy.document import AgentFile, CatalogueFile
from interlock.settings.tree import Settings

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
_HEAD = "<!-- Made by scripts/generate_reference.py; change the code instead. -->\n\n"


def pages() -> dict[str, str]:
    """Every generated page by file name."""
    return {
        "settings.md": settings_page(),
        "policy-keys.md": policy_page(),
        "errors.md": errors_page(),
        "cli.md": cli_page(),
    }


def settings_page() -> str:
    rows = keys_of(Settings, "")
    return (
        f"{_HEAD}# Settings\n\n"
        "One YAML file, `interlock.yaml` by default (`--config`, `INTERLOCK_CONFIG`). Paths are relative to it.\n"
        "`interlock config check` reads it without a plane, `interlock config show` prints what is in effect,\n"
        "and `interlock policy schema settings` prints a JSON Schema for editors. Unknown keys are errors.\n\n"
        f"{table(rows)}"
    )


def policy_page() -> str:
    return (
        f"{_HEAD}# Keys of policy files\n\n"
        "What they mean together: [policy files](policy-files.md). JSON Schemas for editors:\n"
        "`interlock policy schema agent` and `interlock policy schema catalogue`.\n"
        f"A file has at most {MAX_FILE_BYTES // 1024} KiB and nests at most {MAX_FILE_DEPTH} deep;\n"
        f"a guardrail or expression has at most {MAX_STATEMENT_TOKENS} tokens.\n\n"
        f"## Agent files, `agents/*.yaml`\n\n{table(keys_of(AgentFile, ''))}\n"
        f"## Catalogue files, `tools/*.yaml`\n\n{table(keys_of(CatalogueFile, ''))}"
    )


def errors_page() -> str:
    rows = [
        (f"`{code}`", meaning.when, str(meaning.http_status), "yes" if meaning.retryable else "no", meaning.executed)
        for code, meaning in ERROR_CATALOGUE.items()
    ]
    head = ("code", "when", "HTTP status", "retryable", "did it execute?")
    return (
        f"{_HEAD}# Error codes\n\n"
        "What an agent gets instead of a result: an MCP tool result with `isError: true` and this structured\n"
        "content:\n\n"
        "```json\n"
        '{"error": {"code": "constraint_violated", "message": "…", "rule": "…", "call_id": "call_…",\n'
        ' "run_id": "run_…", "retryable": false}}\n'
        "```\n\n"
        "`approval_id` and `retry_after_ms` are there where they say something. `retryable` says whether the\n"
        "very same call can succeed later without anybody changing it.\n\n"
        "HTTP doors answer with a problem document (RFC 9457): these members at its top, beside `status`, `title`\n"
        "and `detail`. Its status is the one below or a more exact one: 403 for an origin and 421 for a host name\n"
        "that are not the plane's (`unauthenticated`), 413 for a body that is too large (`malformed_call`), 409\n"
        "for a run that has ended (`run_halted`). 405, 406 and 415 have no body.\n\n"
        f"{markdown_table(head, rows)}"
    )


def cli_page() -> str:
    parts = [f"{_HEAD}# Command line\n\nEvery command takes `--json`. Exit codes:\n\n"]
    parts.append(markdown_table(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()]))
    parts.append("\n")
    context = click.Context(cli, info_name="interlock", max_content_width=100, terminal_width=100)
    parts.append(f"```text\n{cli.get_help(context)}\n```\n")
    parts += [command_text(cli.commands[name], f"interlock {name}", context) for name in sorted(cli.commands)]
    return "".join(parts)


def command_text(command: click.Command, path: str, parent: click.Context) -> str:
    context = click.Context(command, info_name=path, parent=None, max_content_width=100, terminal_width=100)
    text = f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            text += command_text(command.commands[name], f"{path} {name}", parent)
    return text


Row = tuple[str, str, str, str]


def keys_of(target: type[Any], prefix: str) -> list[Row]:
    """Rows (key, type, default, meaning) of a file's dataclass and of those inside of it."""
    rows: list[Row] = []
    hints = typing.get_type_hints(target)
    collector = collecting_field(target)
    for item in dataclasses.fields(target):
        if item is collector:
            rows += [
                (f"{prefix}{kind}_<argument>", "see meaning", "", schema["description"])
                for pattern, schema in target.PATTERN_KEYS.items()
                for kind in pattern.partition("_")[0].strip("^()").split("|")
            ]
            continue
        name, declared = file_key(item)
        hint = hints[item.name]
        rows.append((f"{prefix}{name}", type_name(hint, declared), default_text(item), declared.doc))
        inner, suffix = inside(hint)
        if inner is not None:
            rows += keys_of(inner, f"{prefix}{name}{suffix}.")
    return rows


def inside(hint: Any) -> tuple[type[Any] | None, str]:
    """The dataclass within a type, and how its keys are reached."""
    if dataclasses.is_dataclass(hint):
        return typing.cast("type[Any]", hint), ""
    origin = typing.get_origin(hint)
    if is_raw(hint):
        return None, ""
    if origin in (types.UnionType, typing.Union):
        for option in typing.get_args(hint):
            found = inside(option)
            if found[0] is not None:
                return found
    if origin is tuple:
        return inside(typing.get_args(hint)[0])[0], "[]"
    if origin is dict:
        return inside(typing.get_args(hint)[1])[0], ".NAME"
    return None, ""


def type_name(hint: Any, declared: Key) -> str:
    origin = typing.get_origin(hint)
    if is_raw(hint):
        return "object"
    if origin in (types.UnionType, typing.Union):
        names = [type_name(option, declared) for option in typing.get_args(hint) if option is not type(None)]
        return " or ".join(names)
    if origin is tuple:
        return f"list of {type_name(typing.get_args(hint)[0], declared)}"
    if origin is dict:
        return "mapping"
    if origin is Literal:
        return " or ".join(f"`{option}`" for option in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return "mapping"
    return {"str": "text", "int": "whole number", "Decimal": "number", "bool": "true or false"}[hint.__name__]


def default_text(item: dataclasses.Field[Any]) -> str:
    if item.default is MISSING:
        return "required"
    value = item.default
    if value is None or value == () or dataclasses.is_dataclass(value):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table(rows: list[Row]) -> str:
    shown = [(f"`{key}`", kind, default, meaning) for key, kind, default, meaning in rows]
    return markdown_table(("key", "type", "default", "meaning"), shown)


def markdown_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    stale: list[str] = []
    for name, text in pages().items():
        path = REFERENCE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text("utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, "utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run scripts/generate_reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
