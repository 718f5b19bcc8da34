"""Every command, against a real plane: people's output, JSON, exit codes; nothing a terminal would obey."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
import pytest

from interlock.cli.client import EXIT_CODES
from interlock.cli.main import main
from support.plane import PlaneProcess, crm_settings, running

CALLS = [
    ("read_customer_record", {"customer_id": "C-0042"}),
    ("update_order_status", {"order_ids": ["O-10001"], "status": "refunded"}),
    ("delete_customer_record", {"customer_id": "C-0042"}),
    ("send_customer_email", {"to": ["a@b.example"], "subject": "\x1b]0;owned\x07\x1b[2J", "body": "\u202egnp"}),
]


def _leaves(group: click.Group, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        path = (*before, name)
        found |= _leaves(command, path) if isinstance(command, click.Group) else {path: command}
    return found


COMMANDS = _leaves(main)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Generator[PlaneProcess]:
    """A plane with a policies folder of its own, and one call of each kind behind it."""
    folder = tmp_path_factory.mktemp("cli")
    assert _interlock(folder, "init", "work").returncode == 0
    settings = crm_settings(folder / "crm.db")
    with running(folder, settings) as started:
        token = started.token()
        for tool, arguments in CALLS:
            started.call(token, tool, arguments)
        yield started


def _interlock(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interlock", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120, input=stdin)


def _ids(plane: PlaneProcess) -> dict[str, str]:
    approvals = plane.api("GET", "/v1/approvals?limit=1")["approvals"]
    calls = plane.api("GET", "/v1/calls?limit=4")["calls"]
    return {"HOLD": approvals[0]["id"], "CALL": calls[-1]["id"], "RUN": calls[-1]["run"]}


LINES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("version",): (),
    ("status",): (),
    ("doctor",): (),
    ("config", "check"): (),
    ("config", "show"): (),
    ("policy", "check"): (),
    ("policy", "show"): (),
    ("policy", "history"): (),
    ("policy", "schema"): ("agent",),
    ("policy", "activate"): ("--reason", "the same again"),
    ("policy", "explain"): ("support-agent-v2", "update_order_status", "-a", '{"order_ids": [], "status": "lost"}'),
    ("tools", "list"): ("--agent", "support-agent-v2"),
    ("token",): ("--agent", "support-agent-v2", "--ttl", "60"),
    ("runs", "list"): (),
    ("runs", "show"): ("RUN",),
    ("calls", "list"): (),
    ("calls", "show"): ("CALL",),
    ("calls", "follow"): ("--after", "0", "--count", "3"),
    ("approvals", "list"): (),
    ("approvals", "show"): ("HOLD",),
}
"""Commands that can be run again and again on one plane; the others have tests of their own below."""
ONCE = {
    ("init",),
    ("up",),
    ("tools", "pin"),
    ("approvals", "approve"),
    ("approvals", "deny"),
    ("runs", "end"),
    ("halt",),
    ("resume",),
    ("calls", "resolve"),
}


def test_every_command_is_tried_here() -> None:
    assert set(LINES) | ONCE == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert "as_json" in {parameter.name for parameter in command.params}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in {"agent", "run", "state", "upstream", "tool"}:
            assert parameter.help or parameter.show_default, f"{path}: {parameter.name} is not explained"


@pytest.mark.parametrize("path", LINES, ids=" ".join)
def test_a_command_answers_people_and_scripts(plane: PlaneProcess, path: tuple[str, ...]) -> None:
    known = _ids(plane)
    rest = tuple(known.get(word, word) for word in LINES[path])
    for_people = plane.command(*path, *rest)
    assert for_people.stdout.strip()
    for_scripts = plane.command(*path, *rest, "--json")
    if path == ("calls", "follow"):
        assert [json.loads(text)["seq"] for text in for_scripts.stdout.splitlines()] == [1, 2, 3]
    else:
        assert isinstance(json.loads(for_scripts.stdout), dict)


def test_nothing_that_an_agent_sent_is_obeyed_by_the_terminal(plane: PlaneProcess) -> None:
    known = _ids(plane)
    for words in (("approvals", "show", known["HOLD"]), ("approvals", "list"), ("calls", "list"), ("calls", "follow")):
        more = ("--after", "0", "--count", "5") if words[-1] == "follow" else ()
        for form in ((), ("--json",)):
            shown = plane.command(*words, *more, *form).stdout
            assert not [found for found in shown if found != "\n" and not found.isprintable()], words


def test_a_verdict_is_given_once(plane: PlaneProcess) -> None:
    held = plane.call(plane.token(), "send_customer_email", {"to": ["c@d.example"], "subject": "s", "body": "b"})
    approval = held["error"]["approval_id"]
    assert json.loads(plane.command("approvals", "deny", approval, "--reason", "no", "--json").stdout)
    again = plane.command("approvals", "approve", approval, check=False)
    assert again.returncode == 1
    assert "denied" in again.stderr
    other = plane.call(plane.token(), "send_customer_email", {"to": ["e@f.example"], "subject": "s", "body": "b"})
    assert "approve" in plane.command("approvals", "approve", other["error"]["approval_id"]).stdout


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_halt_is_lifted_once(plane: PlaneProcess, form: tuple[str, ...]) -> None:
    for words, again in (("halt", "halted already"), ("resume", "No halt")):
        done = plane.command(words, "support-agent-v2", "--reason", "to see", *form)
        assert json.loads(done.stdout) if form else "support-agent-v2" in done.stdout
        repeated = plane.command(words, "support-agent-v2", *form, check=False)
        assert repeated.returncode == 1
        assert again in repeated.stdout + repeated.stderr


def test_a_run_is_ended_and_a_call_that_is_known_has_nothing_to_find_out(plane: PlaneProcess) -> None:
    opened = plane.http(
        "POST",
        "/v1/runs",
        json.dumps({"agent": "support-agent-v2"}).encode(),
        {"Authorization": f"Bearer {plane.opener_token()}"},
    ).json
    assert opened["run"] in plane.command("runs", "end", opened["run"]).stdout
    assert plane.api("GET", f"/v1/runs/{opened['run']}")["state"] == "ended"
    late = plane.command("token", "--agent", "support-agent-v2", "--run", opened["run"], check=False)
    assert (late.returncode, late.stdout) == (1, "")
    refused = plane.command("calls", "resolve", _ids(plane)["CALL"], "--ran", "--note", "looked", check=False)
    assert refused.returncode == 1


def test_tools_are_pinned_only_after_a_yes(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    lock = tmp_path / "policies" / "tools.lock"
    with running(tmp_path, crm_settings(tmp_path / "crm.db", policies="policies"), "--no-policy") as plane:
        base = ("-c", str(plane.config), "tools", "pin", "crm")
        assert _interlock(tmp_path, *base, stdin="n\n").returncode == 1
        assert _interlock(tmp_path, *base, stdin="").returncode == 1
        assert _interlock(tmp_path, *base, "--json").returncode == 2
        assert not lock.exists()
        asked = _interlock(tmp_path, *base, stdin="y\n")
        assert asked.returncode == 0, asked.stderr
        assert "+ crm/read_customer_record" in asked.stdout
        assert lock.exists()
        again = _interlock(tmp_path, *base, "--yes", "--json")
        assert "read_customer_record" in json.loads(again.stdout)["pinned"]["crm"]


# Exit codes -----------------------------------------------------------------------------------------


def test_each_documented_exit_code_is_given(plane: PlaneProcess, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("upstreems: {}\n")
    seen = {
        plane.command("version", check=False).returncode,
        plane.command("calls", "show", "call_01", check=False).returncode,
        plane.command("calls", "show", check=False).returncode,
        _interlock(tmp_path, "-c", str(broken), "config", "check").returncode,
        _interlock(tmp_path, "--socket", str(tmp_path / "none.sock"), "status").returncode,
    }
    assert seen | {5} == set(EXIT_CODES)


def test_doctor_fails_with_its_own_code_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    with running(tmp_path, crm_settings(tmp_path / "crm.db", policies="policies"), "--no-policy") as plane:
        done = plane.command("doctor", check=False)
    assert done.returncode == 5
    assert "FAILURE" in done.stdout
    assert "no policy is active" in done.stdout


def test_doctor_finds_secrets_that_no_call_ever_gets(tmp_path: Path) -> None:
    settings = crm_settings(tmp_path / "crm.db")
    source = {"from": {"env": "CRM_TOKEN"}, "env": "TOKEN"}
    settings["upstreams"]["crm"]["secrets"] = [
        source,
        {**source, "agent": "support-agent-v3"},
        {**source, "tool": "read_custmer_record"},
        {**source, "agent": "support-agent-v2", "tool": "read_customer_record"},
    ]
    with running(tmp_path, settings) as plane:
        checks = json.loads(plane.command("doctor", "--json", check=False).stdout)["checks"]
        log = plane.log
    found = [check["detail"] for check in checks if check["check"] == "secrets"]
    assert len(found) == 2
    assert "'support-agent-v3'" in found[0]
    assert "'read_custmer_record'" in found[1]
    assert log.count("a secret is never used") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("no-such-command",), 2, "No such command"),
        (("token",), 2, "Name one --agent"),
        (("token", "--agent", "a", "--ttl", "901"), 2, "1<=x<=900"),
        (("policy", "explain", "a", "t", "-a", '{"v": 1, "v": 2}'), 2, "no JSON with one exact meaning"),
        (("config", "check"), 3, "There is no settings file"),
        (("--socket", "none.sock", "halt", "all"), 4, "No plane answers"),
        (("--socket", "garbage.sock", "status"), 4, "No plane answers"),
    ],
)
def test_what_went_wrong_is_said_in_one_line_and_never_as_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "garbage.sock")) if "garbage.sock" in arguments else None
        done = _interlock(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_in_json_is_json(tmp_path: Path) -> None:
    done = _interlock(tmp_path, "--socket", "none.sock", "status", "--json")
    problem: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, set(problem)) == (4, {"error", "remedy", "findings"})
    assert "interlock up" in problem["remedy"]


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    assert _interlock(tmp_path, "init").returncode == 0
    (tmp_path / "interlock.yaml").write_text("mine\n")
    again = _interlock(tmp_path, "init")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (tmp_path / "interlock.yaml").read_text() == "mine\n"
    file = tmp_path / "file"
    file.write_text("")
    inside = _interlock(tmp_path, "init", "file/below")
    assert (inside.returncode, "Traceback" in inside.stderr) == (1, False)
