"""Sessions carry their own sealed state, for one agent and one upstream."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from interlock.gateway.sessions import Sessions
from interlock.identity.sealing import AesSealer
from support.entropy import CountingEntropy


@pytest.fixture
def sealer(tmp_path: Path) -> AesSealer:
    return AesSealer(tmp_path / "data.key", CountingEntropy())


@pytest.fixture
def sessions(sealer: AesSealer) -> Sessions:
    return Sessions(sealer, CountingEntropy())


def test_a_session_is_found_by_its_id(sessions: Sessions) -> None:
    session = sessions.open("a", "crm", "2025-06-18")
    assert sessions.find(session.id, "a", "crm") == session
    assert session.version == "2025-06-18"
    assert session.id.isascii()
    assert session.id.isprintable()
    assert len(session.id) <= 1024


def test_two_sessions_of_one_agent_are_told_apart(sessions: Sessions) -> None:
    one, two = (sessions.open("a", "crm", "2025-11-25") for _ in range(2))
    sessions.end(one)
    assert sessions.find(one.id, "a", "crm") is None
    assert sessions.find(two.id, "a", "crm") == two


def test_a_session_belongs_to_one_agent_and_one_upstream(sessions: Sessions) -> None:
    session = sessions.open("a", "crm", "2025-11-25")
    assert sessions.find(session.id, "b", "crm") is None
    assert sessions.find(session.id, "a", "other") is None


def test_a_session_survives_a_restart(sealer: AesSealer, sessions: Sessions) -> None:
    session = sessions.open("a", "crm", "2025-11-25")
    assert Sessions(sealer, CountingEntropy()).find(session.id, "a", "crm") == session


def test_a_session_says_nothing_to_who_reads_its_id(sessions: Sessions) -> None:
    session = sessions.open("support-agent", "crm", "2025-11-25")
    raw = base64.urlsafe_b64decode(session.id + "=" * (-len(session.id) % 4))
    assert b"support-agent" not in raw


@pytest.mark.parametrize("session_id", ["", "x", "abcd", "=" * 8, "é" * 8, "\x00", "a" * 1024, "a" * 100_000])
def test_what_is_no_session_id_finds_none(sessions: Sessions, session_id: str) -> None:
    assert sessions.find(session_id, "a", "crm") is None


def test_another_payload_of_the_same_key_is_no_session(sealer: AesSealer, sessions: Sessions) -> None:
    sealed = sealer.seal("call_1", "input", b'{"agent":"a","upstream":"crm","version":"x"}').sealed
    assert sessions.find(base64.urlsafe_b64encode(sealed).decode().rstrip("="), "a", "crm") is None


@pytest.mark.parametrize("spelling", ["{0}=", "{0}==", "{0}!", "!{0}", "{0}\n", "{1}.{2}"])
def test_an_ended_session_stays_ended_however_its_id_is_spelled(sessions: Sessions, spelling: str) -> None:
    session = sessions.open("a", "crm", "2025-11-25")
    sessions.end(session)
    assert sessions.find(spelling.format(session.id, session.id[:40], session.id[40:]), "a", "crm") is None


def test_an_id_has_one_spelling(sessions: Sessions) -> None:
    session = sessions.open("a", "crm", "2025-11-25")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = session.id[-1]
    others = [session.id[:-1] + other for other in alphabet if other != last]
    assert not [other for other in others if sessions.find(other, "a", "crm") is not None]
