"""The settings file: strict, every mistake at once with its place, secrets never in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from interlock.core.errors import SettingsInvalid
from interlock.settings.load import SettingsFindings, load_settings, shown
from interlock.settings.tree import Settings


def _load(folder: Path, text: str) -> Any:
    file = folder / "interlock.yaml"
    file.write_text(text, "utf-8")
    return load_settings(file)


def _findings(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsFindings) as caught:
        _load(folder, text)
    return [str(finding) for finding in caught.value.findings]


def test_an_empty_file_has_every_default(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "{}\n")
    assert loaded.tree == Settings()
    assert loaded.data_dir == tmp_path / "data"
    assert loaded.socket == tmp_path / "data" / "operator.sock"


def test_every_limit_has_a_default() -> None:
    tree = Settings()
    for part in (tree.gateway, tree.limits, tree.runs):
        for item in dataclasses.fields(part):
            if item.name.startswith("max_") and item.name not in {"max_tokens_per_run", "max_cost_usd"}:
                assert getattr(part, item.name) > 0


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("upstreems: {}\n", "1:1", "did you mean 'upstreams'"),
        ("gateway: {listen: 7600}\n", "1:19", "expected text"),
        ("gateway: {listen: localhost}\n", "1:19", "host:port"),
        ("gateway:\n  max_body_bytes: 12\n", "2:19", "1024"),
        ("runs: {max_steps: 0}\n", "1:19", "1"),
        ("runs: {max_steps: many}\n", "1:19", "whole number"),
        ("runs: {max_steps: true}\n", "1:19", "whole number"),
        ("runs: {max_cost_usd: -1}\n", "1:22", "0"),
        ("drain_seconds: 1\ndrain_seconds: 2\n", "2:1", "drain_seconds"),
        ("version: 2\n", "1:10", "1"),
        ("notify: {ops: {type: log}}\nnotify_approvals: opps\n", "2:1", "did you mean 'ops'"),
        ("notify: {ops: {type: file}}\n", "1:10", "needs a `path`"),
        ("notify: {ops: {type: log, url: 'https://a.example'}}\n", "1:10", "has no `url`"),
        ("upstreams: {Crm: {command: [x]}}\n", "1:13", "'Crm' is not an upstream id"),
        ("upstreams: {crm: {}}\n", "1:13", "either `command` or `url`"),
        ("upstreams: {crm: {command: [x], url: 'https://a.example'}}\n", "1:13", "either `command` or `url`"),
        ("upstreams: {crm: {command: []}}\n", "1:28", "1"),
        ("upstreams: {crm: {url: 'file:///etc/passwd'}}\n", "1:24", "http(s) URL"),
        ("upstreams: {crm: {url: 'https://a.example', env: {A: b}}}\n", "1:45", "`env` does nothing"),
        (
            "upstreams: {crm: {command: [x], allow_addresses: ['10.0.0.0/8']}}\n",
            "1:33",
            "`allow_addresses` does nothing",
        ),
        ("upstreams: {crm: {url: 'https://a.example', allow_addresses: [ten]}}\n", "1:63", "'ten' is not a network"),
        ("upstreams: {crm: {command: [x], secrets: [{from: {}, env: A}]}}\n", "1:44", "either `env` or `file`"),
        (
            "upstreams: {crm: {command: [x], secrets: [{from: {env: A}, header: X}]}}\n",
            "1:43",
            "`env:` and no `header:`",
        ),
        ("upstreams: {crm: {command: [x], secrets: [{from: hunter2, env: A}]}}\n", "1:50", "mapping"),
    ],
)
def test_a_mistake_is_found_at_its_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    [finding] = _findings(tmp_path, text)
    assert finding.startswith(f"interlock.yaml:{place}: "), finding
    assert said in finding


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    text = "gatway: {}\nnotify: {ops: {type: file}}\nupstreams: {crm: {}}\nlog: {levle: info}\n"
    assert [finding.split(":")[1] for finding in _findings(tmp_path, text)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("text", ["", "[]\n", "text\n", "{", "a: &a [*a]\n", "\x00", "!!python/object:os.system x\n"])
def test_what_is_no_settings_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsFindings):
        _load(tmp_path, text)


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="no settings file"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings(tmp_path)


def test_a_socket_path_that_no_kernel_takes_is_found_before_the_start(tmp_path: Path) -> None:
    [finding] = _findings(tmp_path, f"operations: {{socket: '{'s' * 120}'}}\n")
    assert "too long for a socket" in finding


def test_paths_are_relative_to_the_file_and_only_a_leading_tilde_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/operator")
    loaded = _load(tmp_path, "data_dir: ~/plane\npolicies: $HOME/p\n")
    assert loaded.data_dir == Path("/home/operator/plane")
    assert loaded.policies == tmp_path / "$HOME" / "p"


def test_what_is_shown_has_references_to_secrets_and_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", "hunter2-value")
    loaded = _load(tmp_path, "upstreams: {crm: {command: [x], secrets: [{from: {env: CRM_TOKEN}, env: TOKEN}]}}\n")
    assert shown(loaded.tree)["upstreams"]["crm"]["secrets"][0]["from"] == {"env": "CRM_TOKEN", "file": None}
    assert "hunter2" not in str(shown(loaded.tree))
