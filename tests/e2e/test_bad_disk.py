"""A disk that is full, read-only or failing: nothing executes without a record, and nothing recorded is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.odd_http_upstream import AGENT, http_settings, odd_http, write_http_policies
from support.plane import PlaneDied, PlaneProcess, eventually
from support.scene import Scene

# Inside a user namespace anybody may mount; root needs none.
_UNSHARE = ["-m"] if os.geteuid() == 0 else ["-rm"]
_ENTER = ["-m"] if os.geteuid() == 0 else ["-U", "-m", "--preserve-credentials"]


@pytest.fixture(scope="module")
def mounts() -> None:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("a disk of its own needs unshare and nsenter (util-linux)")
    probe = ["unshare", *_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, check=False).returncode != 0:
        pytest.skip("a disk of its own needs mount namespaces")


needs_mounts = pytest.mark.usefixtures("mounts")


@dataclass(frozen=True)
class Disk:
    """A small file system that only processes in its namespace see, mounted as the plane's data folder."""

    folder: Path
    holder: int

    @property
    def enter(self) -> tuple[str, ...]:
        """A command's prefix: what follows runs in the namespace, as the same process."""
        return ("nsenter", "-t", str(self.holder), *_ENTER)

    @property
    def files(self) -> Path:
        """The same folder, as seen from outside."""
        return Path(f"/proc/{self.holder}/root{self.folder}")

    def mount(self, *options: str) -> None:
        subprocess.run([*self.enter, "mount", *options], check=True, capture_output=True)

    def fill(self, but: int = 0) -> None:
        """Leave `but` bytes free, to a block."""
        ballast = self.files / "ballast"
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 4096):
                pass
        os.truncate(ballast, ballast.stat().st_size - but)

    def empty(self) -> None:
        (self.files / "ballast").unlink()


@contextmanager
def small_disk(folder: Path) -> Generator[Disk]:
    """8 MB, mounted at `folder`, gone with the block."""
    folder.mkdir(mode=0o700)
    script = 'mount -t tmpfs -o size=8m,mode=700 tmpfs "$1" && echo mounted && exec cat'
    holder = subprocess.Popen(
        ["unshare", *_UNSHARE, "sh", "-c", script, "sh", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"mounted\n"
        yield Disk(folder, holder.pid)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


@contextmanager
def prepared(folder: Path) -> Generator[Scene]:
    """A plane that is not started yet, and its upstream."""
    with odd_http() as upstream:
        write_http_policies(folder / "policies")
        plane = PlaneProcess(folder, http_settings(folder, upstream))
        try:
            yield Scene(plane, folder, "", upstream.tools, upstream)
        finally:
            plane.close()


def start(scene: Scene, wrapper: tuple[str, ...] = ()) -> None:
    scene.plane.start(wrapper=wrapper)
    scene.token = scene.plane.token(AGENT)


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def is_ready(scene: Scene) -> bool:
    return get(f"{scene.plane.watch}/readyz")[0] == 200


def call_until_refused(scene: Scene) -> Counter[str]:
    """Calls until one is not executed; how many ended how, which the upstream's record agrees with."""
    before, ends = len(scene.witness()), Counter[str]()
    while ends["unavailable"] == 0:
        answer = scene.call("echo", {"value": f"call {ends.total()}"})
        assert answer.get("echo") or answer["error"]["code"] in ("unavailable", "outcome_unknown"), answer
        ends[answer["error"]["code"] if "error" in answer else "succeeded"] += 1
        assert ends.total() < 5000, "the disk never got full"
    assert len(scene.witness()) - before == ends["succeeded"] + ends["outcome_unknown"]
    return ends


def is_stopped_for_lack_of_a_record(scene: Scene) -> None:
    """The plane is there, says what is wrong, and neither executes nor changes anything."""
    before = scene.witness()
    for tool, arguments in (("echo", {"value": "x"}), ("nowhere", {}), ("echo", {"admin": True})):
        error = scene.call(tool, arguments)["error"]
        assert (error["code"], error["retryable"]) == ("unavailable", True)
    status, said = get(f"{scene.plane.watch}/readyz")
    assert (status, said["ready"]) == (503, False)
    assert "journal cannot be written" in said["why"]
    assert get(f"{scene.plane.url}/readyz") == (503, {"ready": False})
    assert get(f"{scene.plane.url}/healthz")[0] == 200
    opener = {"Authorization": f"Bearer {scene.plane.opener_token(AGENT)}", "Content-Type": "application/json"}
    opened = scene.plane.http("POST", "/v1/runs", json.dumps({"agent": AGENT}).encode(), opener)
    assert (opened.status, opened.json["code"]) == (503, "unavailable")
    for path, body in (
        ("/v1/halts", {"scope": "all"}),
        ("/v1/policy/activate", {"reason": "x"}),
    ):
        answer = scene.plane.operate("POST", path, body)
        assert (answer.status, answer.json["code"]) == (503, "store_unavailable"), path
        assert answer.json["remedy"]
    [halt] = scene.plane.api("GET", "/v1/halts")["halts"]
    assert (halt["scope"], halt["recorded"]) == ("all", False)
    assert scene.plane.api("GET", "/v1/status")["ready"] is False
    assert scene.witness() == before
    assert scene.plane.running


def a_halt_of_then_is_recorded_now(scene: Scene) -> None:
    """The halt that could not be recorded was in force all the time; a person lifts it."""
    [halt] = eventually(lambda: scene.plane.api("GET", "/v1/halts")["halts"], "the halt is recorded")
    assert halt["scope"] == "all"
    assert scene.call("echo", {"value": "x"})["error"]["code"] == "run_halted"
    scene.plane.api("POST", "/v1/resumes", {"scope": "all", "reason": "there is room again"})


def recorded(scene: Scene) -> Counter[str]:
    """How the recorded calls of the good tool ended."""
    calls, before = Counter[str](), ""
    while True:
        page = scene.plane.api("GET", f"/v1/calls?tool=echo&limit=500{before}")
        calls.update(call["state"] for call in page["calls"])
        if page["next"] is None:
            return calls
        before = f"&before={page['next']}"


@needs_mounts
def test_on_a_full_disk_nothing_executes_and_nothing_is_lost_and_room_is_enough_to_go_on(tmp_path: Path) -> None:
    with prepared(tmp_path) as scene, small_disk(tmp_path / "data") as disk:
        start(scene, disk.enter)
        scene.serves()
        disk.fill()
        ends = call_until_refused(scene)
        is_stopped_for_lack_of_a_record(scene)
        disk.empty()
        eventually(lambda: is_ready(scene), "the plane goes on by itself once there is room")
        a_halt_of_then_is_recorded_now(scene)
        scene.serves()
        assert scene.plane.stop() == 0
        start(scene, disk.enter)
        scene.serves()
        found = recorded(scene)
        assert found["succeeded"] == ends["succeeded"] + 3
        assert found["unknown"] == ends["outcome_unknown"]
        assert found["permitted"] == 0
        scene.plane.stop()


@needs_mounts
def test_a_plane_that_is_killed_on_a_full_disk_has_every_acknowledged_call_afterwards(tmp_path: Path) -> None:
    with prepared(tmp_path) as scene, small_disk(tmp_path / "data") as disk:
        start(scene, disk.enter)
        disk.fill(but=200_000)
        ends = call_until_refused(scene)
        assert ends["succeeded"] > 0
        scene.plane.kill()
        disk.empty()
        start(scene, disk.enter)
        scene.serves()
        found = recorded(scene)
        assert found["succeeded"] == ends["succeeded"] + 1
        assert found["unknown"] == ends["outcome_unknown"]
        scene.plane.stop()


@needs_mounts
@pytest.mark.parametrize("free", [0, 16_384])
def test_a_first_start_on_a_full_disk_is_refused_and_leaves_nothing_broken(tmp_path: Path, free: int) -> None:
    with prepared(tmp_path) as scene, small_disk(tmp_path / "data") as disk:
        disk.fill(but=free)
        with pytest.raises(PlaneDied, match=r"exit [13]\n") as died:
            start(scene, disk.enter)
        assert "Traceback" not in str(died.value)
        assert "space" in str(died.value)
        disk.empty()
        start(scene, disk.enter)
        scene.serves()
        scene.plane.stop()


@needs_mounts
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_start_on_a_read_only_journal_is_refused_and_what_was_recorded_is_still_there(
    tmp_path: Path, what: str
) -> None:
    with prepared(tmp_path) as scene, small_disk(tmp_path / "data") as disk:
        start(scene, disk.enter)
        scene.serves()
        assert scene.plane.stop() == 0
        journal = str(disk.folder / "journal.db")
        if what == "folder":
            disk.mount("-o", "remount,ro", str(disk.folder))
        else:
            disk.mount("--bind", journal, journal)
            disk.mount("-o", "remount,bind,ro", journal)
        with pytest.raises(PlaneDied, match="exit 1") as died:
            start(scene, disk.enter)
        assert "Traceback" not in str(died.value)
        assert "read-only" in str(died.value).lower() or "readonly" in str(died.value)
        if what == "folder":
            disk.mount("-o", "remount,rw", str(disk.folder))
        else:
            subprocess.run([*disk.enter, "umount", journal], check=True)
        start(scene, disk.enter)
        scene.serves()
        assert recorded(scene) == {"succeeded": 2}
        scene.plane.stop()


def test_when_writing_fails_nothing_executes_and_a_restart_goes_on(tmp_path: Path) -> None:
    with prepared(tmp_path) as scene:
        start(scene)
        scene.serves()
        # The kernel refuses every byte that would be written to a file; the plane's own log is one of them.
        resource.prlimit(scene.plane.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        ends = call_until_refused(scene)
        is_stopped_for_lack_of_a_record(scene)
        scene.plane.stop()
        start(scene)
        scene.serves()
        found = recorded(scene)
        assert found["succeeded"] == ends["succeeded"] + 2
        assert found["unknown"] == ends["outcome_unknown"]
        scene.plane.stop()


def test_a_stopped_plane_leaves_its_whole_journal_in_one_file(tmp_path: Path) -> None:
    with prepared(tmp_path) as scene:
        start(scene)
        scene.serves()
        scene.plane.stop()
        data = tmp_path / "data"
        for log in (data / "journal.db-wal", data / "journal.db-shm"):
            log.unlink(missing_ok=True)
        start(scene)
        scene.serves()
        assert recorded(scene) == {"succeeded": 2}


@pytest.mark.parametrize("content", [b"no database at all " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_journal_that_is_no_journal_is_refused_and_not_touched(tmp_path: Path, content: bytes) -> None:
    with prepared(tmp_path) as scene:
        journal = tmp_path / "data" / "journal.db"
        journal.parent.mkdir(mode=0o700)
        journal.write_bytes(content)
        with pytest.raises(PlaneDied, match="exit 1") as died:
            start(scene)
        assert "Traceback" not in str(died.value)
        assert journal.read_bytes() == content
        journal.unlink()
        start(scene)
        scene.serves()
