"""Key files: made once, whole, for the plane's user alone, and refused otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from interlock.core.errors import SettingsInvalid
from interlock.identity import keyfiles
from interlock.identity.keyfiles import load_or_make, private_folder, read_private


def _refuse() -> bytes:
    raise AssertionError("the key exists already")


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    assert load_or_make(path, lambda: b"one") == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make(path, _refuse) == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.key"], "no draft stays behind"


def test_a_key_is_private_whatever_the_process_allows_by_default(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_make(tmp_path / "a.key", lambda: b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_of_two_first_starts_at_once_both_get_the_key_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.key"
    inner: list[bytes] = []

    def while_another_starts() -> bytes:
        with monkeypatch.context() as other:
            other.setattr(keyfiles.os, "getpid", lambda: 99_999_999)
            inner.append(load_or_make(path, lambda: b"theirs"))
        return b"ours"

    assert load_or_make(path, while_another_starts) == b"theirs"
    assert inner == [b"theirs"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.key"]


def test_two_first_starts_may_have_the_same_process_number(tmp_path: Path) -> None:
    """In containers that share a folder every plane is process 1."""
    path = tmp_path / "a.key"
    assert load_or_make(path, lambda: load_or_make(path, lambda: b"theirs") and b"ours") == b"theirs"


def test_a_draft_that_a_crash_left_behind_does_not_prevent_the_next_start(tmp_path: Path) -> None:
    (tmp_path / f".a.key.{os.getpid()}").write_bytes(b"ha")
    assert load_or_make(tmp_path / "a.key", lambda: b"whole") == b"whole"


def test_a_key_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def breaks() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_or_make(tmp_path / "a.key", breaks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"key")
    path.chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"mode {mode:o}") as refused:
        read_private(path)
    assert refused.value.remedy == f"Run: chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_that_only_its_owner_can_touch_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"key")
    path.chmod(mode)
    assert read_private(path) == b"key"


@pytest.mark.parametrize(("owner", "accepted"), [(4711, True), (0, True), (4712, False)])
def test_a_key_is_the_plane_s_user_s_or_root_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, accepted: bool
) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"key")
    path.chmod(0o600)
    found = path.stat()
    owned = os.stat_result((*found[:4], owner, *found[5:]))
    monkeypatch.setattr(keyfiles.os, "getuid", lambda: 4711)
    monkeypatch.setattr(Path, "stat", lambda _path: owned)
    if accepted:
        assert read_private(path) == b"key"
        return
    with pytest.raises(SettingsInvalid, match="another user"):
        read_private(path)


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="does not exist"):
        read_private(tmp_path / "a.key")


@pytest.mark.parametrize("place", ["folder", "file/below"])
def test_what_is_no_file_is_said(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "file").touch(0o600)
    with pytest.raises(SettingsInvalid):
        read_private(tmp_path / place)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.key", 0o600)
    with pytest.raises(SettingsInvalid, match="no file"):
        read_private(tmp_path / "a.key")


def test_a_place_where_no_key_can_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be made"):
        load_or_make(tmp_path / "nowhere" / "a.key", lambda: b"key")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    for place in ("file", "file/below"):
        with pytest.raises(SettingsInvalid):
            private_folder(tmp_path / place)


def test_a_folder_is_made_for_the_plane_s_user_alone(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "deep" / "data")
    assert folder == tmp_path / "deep" / "data"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder(folder) == folder


def test_a_folder_that_others_can_enter_is_refused_and_not_mended(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o750)
    with pytest.raises(SettingsInvalid, match="mode 750") as refused:
        private_folder(folder)
    assert refused.value.remedy == f"Run: chmod 700 {folder}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
