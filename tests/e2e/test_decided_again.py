"""I6: a recorded decision, decided again from its record and its bundle, gives the same answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interlock.bootstrap.system import SystemEntropy
from interlock.core.call import canonical_arguments, canonical_call
from interlock.core.canonical import decode
from interlock.core.policy.bundle import Bundle, load_bundle
from interlock.core.policy.engine import Circumstances, decide
from interlock.core.run import RunFacts
from interlock.identity.sealing import AesSealer
from interlock.plane.ports import CallFilter, Page
from interlock.store.sqlite.reader import SqliteReader
from support.plane import PlaneProcess


class Record:
    """A stopped plane's journal, opened with its keys."""

    def __init__(self, folder: Path) -> None:
        self._reader = SqliteReader(folder / "journal.db")
        self._sealer = AesSealer(folder / "data.key", SystemEntropy())
        self._bundles: dict[str, Bundle] = {}

    def decisions(self) -> list[tuple[dict[str, Any], dict[str, Any], bytes]]:
        """Leaf, facts and arguments of every decision and hold that rules made."""
        found: list[tuple[dict[str, Any], dict[str, Any], bytes]] = []
        for call in self._reader.list_calls(CallFilter(), Page(500)):
            for _, leaf, payloads in self._reader.call_leaves(str(call["id"])):
                if leaf["kind"] in ("decision", "hold"):
                    opened = {name: self._sealer.open(str(call["id"]), name, data) for name, data in payloads.items()}
                    found.append((leaf, json.loads(opened["facts"]), opened["input"]))
        return found

    def bundle(self, digest: str) -> Bundle:
        if digest not in self._bundles:
            content = self._reader.bundle(digest)
            assert content is not None, "a bundle that decided was not kept"
            files = {path: text.encode() for path, text in json.loads(content).items()}
            self._bundles[digest] = load_bundle(files, frozenset({"#oncall-agents"}))
            assert self._bundles[digest].digest == digest
        return self._bundles[digest]


def again(record: Record, leaf: dict[str, Any], facts: dict[str, Any], arguments: bytes) -> tuple[Any, ...]:
    """Decide from the record alone."""
    bundle = record.bundle(leaf["bundle"])
    name = f"{leaf['upstream']}/{leaf['tool']}"
    tool, rules = bundle.catalogue.tools[name], bundle.slice(leaf["agent"], name)
    value = decode(arguments)
    assert isinstance(value, dict)
    canonical = canonical_arguments(tool.pinned, value, additional=tool.additional_arguments)
    assert canonical.canonical == arguments, "the recorded arguments are the canonical ones"
    run = facts["context"]["run"]
    seen = RunFacts(
        run["id"],
        run["implicit"],
        run.get("task"),
        tuple(run["labels"]),
        run["steps"],
        run["calls"],
        run["records"],
    )
    call = canonical_call(leaf["agent"], leaf["run"], tool.pinned, canonical, {})
    assert call.digest == facts["digest"]
    circumstances = Circumstances(seen, facts["now_us"], facts["approved"], facts["repeats_unknown"])
    made = decide(bundle.book, rules, call, circumstances)
    return made.verdict, [rule.id for rule in made.rules], made.slice, made.facts


def test_every_recorded_decision_can_be_made_again(crm_plane: PlaneProcess, tmp_path: Path) -> None:
    token = crm_plane.token()
    mail = {"to": ["a@example.com"], "subject": "s", "body": "b"}
    crm_plane.call(token, "read_customer_record", {"customer_id": "C-0001"})
    crm_plane.call(token, "read_customer_record", {"customer_id": "C-0001", "fields": ["payment_card"]})
    crm_plane.call(token, "update_order_status", {"order_ids": ["O-0001-1"], "status": "cancelled"})
    crm_plane.call(token, "update_order_status", {"order_ids": ["O-0001-1"], "status": "lost"})
    crm_plane.call(token, "delete_customer_record", {"customer_id": "C-0001"})
    approval = crm_plane.call(token, "send_customer_email", mail)["error"]["approval_id"]
    crm_plane.command("approvals", "approve", approval)
    crm_plane.call(token, "send_customer_email", mail)
    crm_plane.stop()
    record = Record(tmp_path / "data")
    decisions = record.decisions()
    assert sorted(leaf["verdict"] for leaf, _, _ in decisions) == ["deny"] * 3 + ["hold"] + ["permit"] * 3
    for leaf, facts, arguments in decisions:
        verdict, rules, digest, fresh = again(record, leaf, facts, arguments)
        assert (verdict, rules, digest) == (leaf["verdict"], leaf["rules"], leaf["slice"])
        assert {**fresh, "digest": facts["digest"]} == facts


def test_payloads_are_closed_without_the_key(crm_plane: PlaneProcess, tmp_path: Path) -> None:
    crm_plane.call(crm_plane.token(), "read_customer_record", {"customer_id": "C-0815"})
    crm_plane.stop()
    raw = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("journal.db*"))
    assert b"C-0815" not in raw
    assert b"customer-0815@example.com" not in raw
    assert (tmp_path / "data" / "data.key").stat().st_size == 32
