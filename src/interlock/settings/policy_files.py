"""Reading the policies folder: a snapshot in memory, so that what is checked is what is activated."""

from __future__ import annotations

import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

from interlock.core.errors import BundleInvalid, Finding
from interlock.core.lockfile import LOCK_NAME, MAX_LOCK_BYTES

_MAX_FILES: Final = 5000
_MAX_DEPTH: Final = 3
_SUFFIXES: Final = (".yaml", ".cedar")
_MAX_READ: Final = 1024 * 1024
"""Policy files over their own limit are read this far, so that the limit is reported as such."""


def read_policy_files(folder: Path) -> dict[str, bytes]:
    """Read every file of a policies folder, through links too.

    Markdown, hidden folders and hidden files that are no policy files are left out; everything else must be
    a policy file, and the loader says so where it is not.

    Returns:
        Contents by path relative to the folder.

    Raises:
        BundleInvalid: the folder or a file cannot be read.
    """
    if not folder.is_dir():
        raise BundleInvalid((Finding(str(folder), 0, 0, "there is no such folder", "the policies folder"),))
    found: dict[str, bytes] = {}
    problems: list[Finding] = []
    for name, path in _files(folder, "", problems):
        if len(found) >= _MAX_FILES:
            problems.append(Finding(str(folder), 0, 0, f"more than {_MAX_FILES} files"))
            break
        limit = MAX_LOCK_BYTES + 1 if name == LOCK_NAME else _MAX_READ
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                # Opening a pipe waits for whoever writes into it, and a device may have no end.
                problems.append(Finding(name, 0, 0, "this is not a regular file"))
                continue
            with path.open("rb") as file:
                found[name] = file.read(limit)
        except OSError as error:
            problems.append(Finding(name, 0, 0, f"the file cannot be read ({error.strerror})"))
    if problems:
        raise BundleInvalid(tuple(problems))
    return found


def _files(folder: Path, below: str, problems: list[Finding]) -> Generator[tuple[str, Path]]:
    """Names and paths in order; a folder may be a link, as it is where policies are shared or mounted."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        problems.append(Finding(below or str(folder), 0, 0, f"the folder cannot be read ({error.strerror})"))
        return
    for path in entries:
        name = f"{below}{path.name}"
        try:
            is_folder = path.is_dir()
        except OSError as error:
            problems.append(Finding(name, 0, 0, f"it cannot be looked at ({error.strerror})"))
            continue
        if is_folder:
            if path.name.startswith("."):
                continue
            if name.count("/") >= _MAX_DEPTH:
                problems.append(Finding(name, 0, 0, "the folder is too deep, or a link to a folder above it"))
                continue
            yield from _files(path, f"{name}/", problems)
        elif path.name.startswith("."):
            # Editors leave `.#name` and `.name.swp`; a hidden policy file is one that somebody relies on.
            if path.suffix in _SUFFIXES and not path.name.startswith(".#"):
                problems.append(Finding(name, 0, 0, "the policy file is hidden, so it would do nothing", "a name"))
        elif path.suffix != ".md":
            yield name, path
