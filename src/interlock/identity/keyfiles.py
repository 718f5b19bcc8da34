"""Key files: made at first start, readable by the plane's user alone, refused otherwise."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from interlock.core.errors import SettingsInvalid


def private_folder(path: Path) -> Path:
    """Make (or check) a folder that only this user can enter. Raises SettingsInvalid."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path, "folder")
    except OSError as error:
        raise SettingsInvalid(f"The folder {path} cannot be used ({error.strerror}).") from None
    return path


def load_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a key file, or create it with fresh contents.

    The file appears complete or not at all: it is written beside and linked into place, so that two
    first starts cannot end up with different keys.

    Raises:
        SettingsInvalid: it cannot be made, or not be read as `read_private` reads it.
    """
    if not path.exists():
        fresh = make()
        try:
            _put_in_place(path, fresh)
        except OSError as error:
            raise SettingsInvalid(
                f"The file {path} cannot be made ({error.strerror}).", remedy="Make its folder writable for the plane."
            ) from None
    return read_private(path)


def _put_in_place(path: Path, content: bytes) -> None:
    # A name of its own, with mode 600: process numbers repeat, in containers and after a crash.
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Where another process was first, its key is the key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    # Without its name on disk a power loss would take the key, and with it every payload sealed since.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path) -> bytes:
    """Read a file that must be readable by its owner alone, and owned by this user (or root).

    Raises:
        SettingsInvalid: it is missing, no regular file, open to others or not readable.
    """
    try:
        _check_private(path, "file")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsInvalid(f"The file {path} does not exist.") from None
    except OSError as error:
        raise SettingsInvalid(
            f"The file {path} cannot be read ({error.strerror}).", remedy="Make the plane's user its owner."
        ) from None


def _check_private(path: Path, what: str) -> None:
    status = path.stat()
    # Reading a pipe or a device could wait for ever.
    if not (stat.S_ISDIR(status.st_mode) if what == "folder" else stat.S_ISREG(status.st_mode)):
        raise SettingsInvalid(f"{path} is no {what}.")
    if status.st_uid not in (os.getuid(), 0):
        raise SettingsInvalid(f"The {what} {path} belongs to another user.", remedy="Make the plane's user its owner.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = "700" if what == "folder" else "600"
        raise SettingsInvalid(
            f"The {what} {path} is open to other users (mode {stat.S_IMODE(status.st_mode):o}).",
            remedy=f"Run: chmod {mode} {path}",
        )
