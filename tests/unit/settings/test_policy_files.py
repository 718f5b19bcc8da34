"""The policies folder is read whole: what somebody relies on is read, or said not to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interlock.core.errors import BundleInvalid
from interlock.settings.policy_files import read_policy_files


def _write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def _problems(folder: Path) -> list[str]:
    with pytest.raises(BundleInvalid) as caught:
        read_policy_files(folder)
    return [str(finding) for finding in caught.value.findings]


def test_files_are_read_by_their_place_in_the_folder(tmp_path: Path) -> None:
    _write(tmp_path, "agents/a.yaml", "tools/t.yaml", "guardrails/g.cedar", "tools.lock", "README.md", "agents/odd.txt")
    found = read_policy_files(tmp_path)
    assert found == {
        name: name.encode()
        for name in ("agents/a.yaml", "agents/odd.txt", "guardrails/g.cedar", "tools/t.yaml", "tools.lock")
    }


def test_a_folder_that_is_a_link_is_read(tmp_path: Path) -> None:
    shared = _write(tmp_path / "org", "guardrails/g.cedar")
    policies = _write(tmp_path / "policies", "agents/a.yaml")
    (policies / "guardrails").symlink_to(shared / "guardrails")
    assert set(read_policy_files(policies)) == {"agents/a.yaml", "guardrails/g.cedar"}


def test_files_that_are_mounted_as_links_into_a_hidden_folder_are_read_once(tmp_path: Path) -> None:
    _write(tmp_path, "..2026/a.yaml")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "a.yaml").symlink_to("../..data/a.yaml")
    assert read_policy_files(tmp_path) == {"agents/a.yaml": b"..2026/a.yaml"}


def test_a_link_to_a_folder_above_ends_in_a_finding(tmp_path: Path) -> None:
    _write(tmp_path, "agents/a.yaml")
    (tmp_path / "agents" / "all").symlink_to("..")
    assert any("too deep, or a link to a folder above it" in problem for problem in _problems(tmp_path))


@pytest.mark.parametrize("name", ["guardrails/.org.cedar", "agents/.a.yaml"])
def test_a_hidden_policy_file_is_a_finding(tmp_path: Path, name: str) -> None:
    [problem] = _problems(_write(tmp_path, "agents/b.yaml", name))
    assert problem.startswith(name)
    assert "the policy file is hidden" in problem


def test_what_editors_and_people_leave_beside_the_files_is_left_alone(tmp_path: Path) -> None:
    _write(tmp_path, "agents/a.yaml", "agents/.a.yaml.swp", ".gitkeep", ".schema/agent.json", "agents/NOTES.md")
    (tmp_path / "agents" / ".#a.yaml").symlink_to("user@host.1234")
    assert set(read_policy_files(tmp_path)) == {"agents/a.yaml"}


def test_what_is_no_file_or_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    _write(tmp_path, "agents/a.yaml")
    os.mkfifo(tmp_path / "agents" / "pipe.yaml")
    (tmp_path / "agents" / "gone.yaml").symlink_to("nowhere.yaml")
    assert [problem.partition(":")[0] for problem in _problems(tmp_path)] == ["agents/gone.yaml", "agents/pipe.yaml"]
    assert "no such folder" in _problems(tmp_path / "none")[0]
