"""A journal that is taken away: nothing is acknowledged that would be lost, and no halt is forgotten in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
import pytest

from support.plane import PlaneDied, PlaneProcess, crm_settings

UPDATE = {"order_ids": ["O-10001"], "status": "refunded"}


@pytest.mark.parametrize("how", ["file", "folder"])
def test_a_plane_whose_journal_is_removed_executes_nothing_more(tmp_path: Path, how: str) -> None:
    plane = PlaneProcess(tmp_path, crm_settings(tmp_path / "crm.db"))
    try:
        plane.start()
        token = plane.token()
        assert "error" not in plane.call(token, "update_order_status", UPDATE)
        if how == "folder":
            shutil.rmtree(tmp_path / "data")
        else:
            (tmp_path / "data" / "journal.db").unlink()
        error = plane.call(token, "update_order_status", UPDATE)["error"]
        assert error["code"] == "unavailable"
        ready = httpx2.get(f"{plane.watch}/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "the file was removed" in ready.json()["why"]
        assert "interlock_ready 0.0" in httpx2.get(f"{plane.watch}/metrics").text
        status = plane.operate("GET", "/v1/status")
        assert status.status == 200 or status.json["code"] == "store_unavailable"
        refused = plane.operate("POST", "/v1/halts", {"scope": "all"})
        assert refused.status == 503
        assert "Do not restart yet" in refused.json["remedy"]
        assert plane.stop() == 1, "a halt that was never recorded ends with the process, which says so"
    finally:
        plane.close()


def test_without_the_journal_of_its_keys_a_plane_does_not_begin_anew(tmp_path: Path) -> None:
    plane = PlaneProcess(tmp_path, crm_settings(tmp_path / "crm.db"))
    plane.start()
    plane.command("halt", "all", "--reason", "enough")
    assert plane.stop() == 0
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    with pytest.raises(PlaneDied, match="the keys beside it are those of a plane that has run"):
        plane.start()
    assert not (tmp_path / "data" / "journal.db").exists()
    plane.close()
