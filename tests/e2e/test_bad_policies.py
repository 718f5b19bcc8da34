"""Broken policy files, at start and at activation: refused whole, all findings told, the last good bundle decides."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import odd
from support.odd_http_upstream import AGENT, http_settings, odd_http, write_http_policies
from support.plane import PlaneDied, PlaneProcess, crm_policies, crm_settings, eventually, running
from support.scene import Scene, http_scene

AGENT_FILE, TOOLS_FILE, RAIL_FILE = "agents/odd.yaml", "tools/odd.yaml", "guardrails/rail.cedar"


def write(policies: Path, name: str, content: str | bytes) -> None:
    path = policies / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def edited(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(policies: Path) -> None:
        write(policies, name, change((policies / name).read_text()))

    return edit


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda policies: write(policies, name, content)


def pipe(policies: Path) -> None:
    os.mkfifo(policies / "agents" / "pipe.yaml")


def loop(policies: Path) -> None:
    (policies / "agents" / "loop.yaml").symlink_to("loop.yaml")


def device(policies: Path) -> None:
    (policies / "agents" / "zeros.yaml").symlink_to("/dev/zero")


# What is done to a folder of good files, and the file that a finding must name.
BREAK: dict[str, tuple[Callable[[Path], None], str]] = {
    "half a file": (edited(AGENT_FILE, lambda text: text[: len(text) // 2]), AGENT_FILE),
    "an unknown key": (edited(AGENT_FILE, lambda text: text.replace('"allowed"', '"alowed"', 1)), AGENT_FILE),
    "an unknown tool": (edited(AGENT_FILE, lambda text: text.replace("odd/echo", "odd/ecoh")), AGENT_FILE),
    "a wrong type": (edited(AGENT_FILE, lambda text: text.replace("1000000", '"many"')), AGENT_FILE),
    "a key twice": (edited(AGENT_FILE, lambda text: text[:-1] + ', "agent": {"id": "other"}}'), AGENT_FILE),
    "an empty file": (written(AGENT_FILE, ""), AGENT_FILE),
    "no text": (written(AGENT_FILE, bytes(range(256)) * 100), AGENT_FILE),
    "a large file": (written(AGENT_FILE, "# " + "x" * 5_000_000), AGENT_FILE),
    "a deep file": (written(AGENT_FILE, "a: " + "[" * 100_000), AGENT_FILE),
    "an alias bomb": (
        written(AGENT_FILE, "a: &a [x,x]\n" + "".join(f"{n}: &{n} [*a,*a]\n" for n in "bcdefghij")),
        AGENT_FILE,
    ),
    "a tag": (written(AGENT_FILE, "agent: !!python/object/apply:os.system ['id']"), AGENT_FILE),
    "two agents of one id": (
        lambda policies: write(policies, "agents/copy.yaml", (policies / AGENT_FILE).read_bytes()),
        "agents/",
    ),
    "a catalogue of what is not there": (
        edited(TOOLS_FILE, lambda text: text.replace('"tools": {', '"tools": {"ghost": {"effect": "read"}, ')),
        TOOLS_FILE,
    ),
    "half a lock": (edited("tools.lock", lambda text: text[: len(text) // 2]), "tools.lock"),
    "a lock that was edited": (
        edited("tools.lock", lambda text: text.replace("Does echo.", "Does everything.")),
        "tools.lock",
    ),
    "a permit among the guardrails": (written(RAIL_FILE, "permit (principal, action, resource);"), RAIL_FILE),
    "a guardrail that is no Cedar": (written(RAIL_FILE, "forbid (principal, action"), RAIL_FILE),
    "a guardrail of brackets": (
        written(RAIL_FILE, "forbid (principal, action, resource) when {" + "(" * 100_000),
        RAIL_FILE,
    ),
    "a guardrail that can never fire": (
        written(RAIL_FILE, "forbid (principal, action, resource) when { context.input has typo };"),
        RAIL_FILE,
    ),
    "a file that nobody knows": (written("agents/odd.yaml.bak", "x"), "agents/odd.yaml.bak"),
    "a pipe": (pipe, "agents/pipe.yaml"),
    "a link to itself": (loop, "agents/loop.yaml"),
    "a device": (device, "agents/zeros.yaml"),
}


@contextmanager
def broken(policies: Path, name: str) -> Generator[str]:
    """Break the folder and mend it again."""
    before = {path: path.read_bytes() for path in policies.rglob("*") if path.is_file()}
    change, file = BREAK[name]
    change(policies)
    try:
        yield file
    finally:
        for path in policies.rglob("*"):
            if not path.is_dir() and path not in before:
                path.unlink()
        for path, content in before.items():
            path.write_bytes(content)


# At activation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BREAK)
def test_a_broken_file_is_not_activated_and_the_last_good_bundle_goes_on(scene: Scene, name: str) -> None:
    active, leaves = scene.plane.api("GET", "/v1/policy")["active"], scene.leaves()
    with broken(scene.folder / "policies", name) as file:
        answer = scene.plane.operate("POST", "/v1/policy/activate", {"reason": "broken"})
        assert (answer.status, answer.json["code"]) == (422, "bundle_invalid")
        assert any(finding.startswith(file) for finding in answer.json["findings"]), answer.json["findings"]
        shown = scene.plane.api("GET", "/v1/policy")
        assert shown["active"] == active
        assert shown["differs_from_files"] is True
        assert shown["last_problem"] == answer.json["findings"]
        assert scene.leaves() == leaves, "nothing was activated"
        scene.serves()
    activated = scene.plane.api("POST", "/v1/policy/activate", {"reason": "mended"})
    assert activated["activated"] == active
    assert scene.plane.api("GET", "/v1/policy")["last_problem"] == []


def test_every_mistake_in_every_file_is_told_at_once_with_its_place_and_the_exit_code(scene: Scene) -> None:
    policies = scene.folder / "policies"
    with broken(policies, "an unknown key"):
        write(policies, RAIL_FILE, "permit (principal, action, resource);")
        write(policies, "agents/other.yaml", "agent: {id: other, identity: o@x}\ntools:\n  allowed:\n    - nmae: x\n")
        for command in (("policy", "activate", "--reason", "x"), ("policy", "check")):
            done = scene.plane.command(*command, check=False)
            assert done.returncode == 3
            said = done.stdout + done.stderr
            assert "agents/odd.yaml:1:" in said
            assert "agents/other.yaml:4:7: " in said
            assert "did you mean" in said
            assert f"{RAIL_FILE}:1:" in said
            assert "Traceback" not in said
    scene.serves()


def test_an_unreadable_or_missing_folder_is_not_activated(scene: Scene) -> None:
    policies = scene.folder / "policies"
    aside = policies.rename(scene.folder / "aside")
    try:
        answer = scene.plane.operate("POST", "/v1/policy/activate", {"reason": "gone"})
        assert (answer.status, answer.json["code"]) == (422, "bundle_invalid")
        scene.serves()
        policies.mkdir()
        answer = scene.plane.operate("POST", "/v1/policy/activate", {"reason": "empty"})
        assert answer.status in (200, 422)
        if answer.status == 200:  # no agents: everything is denied, which is what the folder says
            assert scene.modern(scene.message()).json["code"] == "agent_not_active"
        policies.rmdir()
    finally:
        aside.rename(policies)
    scene.plane.api("POST", "/v1/policy/activate", {"reason": "back"})
    scene.serves()


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"reason": ""}, 400), ({"reason": 1}, 400), ({"reason": "x", "expect": "sha256:0"}, 409)],
)
def test_an_activation_without_a_reason_or_of_other_files_than_expected_is_refused(
    scene: Scene, body: dict[str, Any], status: int
) -> None:
    leaves = scene.leaves()
    assert scene.plane.operate("POST", "/v1/policy/activate", body).status == status
    assert scene.leaves() == leaves


# At start -----------------------------------------------------------------------------------------------


def is_refused(plane: PlaneProcess, *files: str) -> None:
    """A start ends with the documented code and a finding for each of these files."""
    with pytest.raises(PlaneDied, match=r"exit 3\n") as died:
        plane.start()
    said = json.loads(str(died.value).partition("\n")[2].partition("\n}\n")[0] + "}")
    for file in files:
        assert any(finding.startswith(f"{file}:") for finding in said["findings"]), file


def test_a_start_with_broken_files_is_refused_with_every_finding(tmp_path: Path) -> None:
    with odd_http() as upstream:
        policies = write_http_policies(tmp_path / "policies")
        plane = PlaneProcess(tmp_path, http_settings(tmp_path, upstream))
        try:
            with broken(policies, "half a file") as file:
                write(policies, "agents/other.yaml", "agent: 1\n")
                is_refused(plane, file, "agents/other.yaml")
            plane.start()
            scene = Scene(plane, tmp_path, plane.token(AGENT), upstream.tools, upstream)
            scene.serves()
            plane.stop()
            # The bundle that was active is known, and a start with broken files still is no start.
            for name in ("half a file", "a guardrail of brackets", "a pipe"):
                with broken(policies, name) as file:
                    is_refused(plane, file)
            plane.start()
            scene.token = plane.token(AGENT)
            scene.serves()
        finally:
            plane.close()


def test_a_restart_resumes_the_bundle_that_was_active_and_not_edited_files(tmp_path: Path) -> None:
    with http_scene(tmp_path) as scene:
        scene.serves()
        digest = scene.plane.api("GET", "/v1/policy")["active"]
        scene.plane.stop()
        edited(AGENT_FILE, lambda text: text.replace('{"name": "odd/echo"}, ', ""))(tmp_path / "policies")
        scene.plane.start()
        scene.token = scene.plane.token(AGENT)
        shown = scene.plane.api("GET", "/v1/policy")
        assert (shown["active"], shown["differs_from_files"]) == (digest, True)
        assert "differ" in scene.plane.log
        scene.serves()
        scene.plane.stop()
        scene.plane.start("--activate", "the image is newer")
        scene.token = scene.plane.token(AGENT)
        assert scene.call("echo")["error"]["code"] == "policy_denied"
        assert scene.plane.api("GET", "/v1/policy/history")["activations"][0]["bundle"] != digest


def test_without_a_policy_everything_is_denied_until_one_is_activated(tmp_path: Path) -> None:
    with odd_http() as upstream:
        policies = write_http_policies(tmp_path / "policies")
        with (
            broken(policies, "half a file"),
            running(tmp_path, http_settings(tmp_path, upstream), "--no-policy") as plane,
        ):
            assert plane.operate("POST", "/v1/tokens", {"agent": AGENT}).status == 404
            assert plane.http("GET", "/readyz").json == {"ready": False}
            assert plane.operate("POST", "/v1/policy/activate", {"reason": "x"}).status == 422
            assert plane.http("GET", "/readyz").status == 503
            (policies / AGENT_FILE).unlink()
        assert upstream.reached == []


# While calls are in flight ------------------------------------------------------------------------------


def without_echo(text: str) -> str:
    return text.replace('{"name": "odd/echo"}, ', "")


def test_a_call_is_decided_by_one_bundle_whole_while_bundles_change(tmp_path: Path) -> None:
    with http_scene(tmp_path, more={"log": {"level": "warning"}}) as scene:
        policies, done = tmp_path / "policies", threading.Event()
        allows = scene.plane.api("GET", "/v1/policy")["active"]
        text = (policies / AGENT_FILE).read_text()
        answers: list[Any] = []

        def ask(_caller: int) -> None:
            while not done.is_set():
                answers.append(scene.call("echo", {"value": len(answers)}))

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask, caller) for caller in range(6)]
            try:
                for turn in range(12):
                    write(policies, AGENT_FILE, without_echo(text) if turn % 2 == 0 else text)
                    activated = scene.plane.api("POST", "/v1/policy/activate", {"reason": f"turn {turn}"})
                    assert (activated["activated"] == allows) is (turn % 2 == 1)
                    # After the answer every new call is decided by the new bundle.
                    assert ("error" in scene.call("echo", {"value": "now"})) is (turn % 2 == 0)
            finally:
                done.set()
            for future in asking:
                future.result()
        executed = [answer for answer in answers if "echo" in answer]
        assert {answer["error"]["code"] for answer in answers if "error" in answer} == {"policy_denied"}
        assert len(scene.witness()) == len(executed) + 6
        after = 0
        while leaves := scene.plane.api("GET", f"/v1/journal?after={after}")["leaves"]:
            after = leaves[-1]["seq"]
            for leaf in leaves:
                if leaf["kind"] == "decision":
                    assert (leaf["verdict"] == "permit") is (leaf["bundle"] == allows)


def test_activations_at_once_are_one_after_another_and_the_last_recorded_one_decides(tmp_path: Path) -> None:
    with http_scene(tmp_path) as scene:
        policies = tmp_path / "policies"
        text = (policies / AGENT_FILE).read_text()

        def activate(number: int) -> int:
            (policies / f".draft-{number}").write_text(text if number % 2 else without_echo(text))
            (policies / f".draft-{number}").replace(policies / AGENT_FILE)
            return scene.plane.operate("POST", "/v1/policy/activate", {"reason": str(number)}).status

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(activate, range(24))) == {200}
        active = scene.plane.api("GET", "/v1/policy")["active"]
        history = scene.plane.api("GET", "/v1/policy/history?limit=100")["activations"]
        assert history[0]["bundle"] == active
        assert len(history) == 25
        scene.plane.stop()
        scene.plane.start()
        assert scene.plane.api("GET", "/v1/policy")["active"] == active


def test_a_call_in_flight_ends_under_the_bundle_that_permitted_it(tmp_path: Path) -> None:
    policies = odd.write_policies(tmp_path / "policies")
    odd.pin(policies)
    with running(tmp_path, odd.odd_settings(tmp_path)) as plane:
        token = plane.token(odd.AGENT)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(plane.call, token, "slow", {"value": 1}, "odd")
            eventually(lambda: odd.reached(tmp_path, "slow"), "the call is in flight")
            edited(AGENT_FILE, lambda text: text.replace("    - name: odd/slow\n", ""))(policies)
            plane.command("policy", "activate", "--reason", "no more of it")
            assert plane.call(token, "slow", {"value": 2}, "odd")["error"]["code"] == "policy_denied"
            (tmp_path / "state.go").touch()
            assert waiting.result(30) == {"echo": {"value": 1}}
        assert len(odd.reached(tmp_path, "slow")) == 1
        states = [call["state"] for call in plane.api("GET", "/v1/calls?tool=slow")["calls"]]
        assert states == ["denied", "succeeded"]


def test_a_link_that_leads_nowhere_does_not_end_a_plane_that_watches_its_files(tmp_path: Path) -> None:
    settings = crm_settings(tmp_path / "crm.db", policies=str(crm_policies(tmp_path)))
    with running(tmp_path, settings, "--dev") as plane:
        loop = tmp_path / "policies" / "agents" / "loop.yaml"
        loop.symlink_to(loop.name)
        eventually(lambda: "loop.yaml" in plane.log, "the finding")
        assert "error" not in plane.call(plane.token(), "read_customer_record", {"customer_id": "C-0042"})
