"""Who is at the other end of a local connection, by the kernel's table."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from interlock.gateway import peers
from interlock.gateway.peers import Connection, is_local, peer_user, ring_of

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@contextmanager
def _connected(address: str) -> Generator[tuple[socket.socket, socket.socket]]:
    """A connection on this machine: the client's end and the server's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with closing(client), closing(server):
            yield client, server


def _endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    return address[0], address[1]


def _has_version_6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


VERSION_6 = _has_version_6()


@pytest.mark.parametrize("address", ["127.0.0.1", *(["::1"] if VERSION_6 else [])])
def test_the_user_of_a_real_connection_is_found(address: str) -> None:
    with _connected(address) as (client, server):
        ends = _endpoint(server.getpeername()), _endpoint(server.getsockname())
        assert ends[0] == _endpoint(client.getsockname())
        assert peer_user(*ends) == os.getuid()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table in the kernel's format, in place of the kernel's."""
    path = tmp_path / "tcp"
    monkeypatch.setattr(peers, "Path", lambda _name: path)
    return path


def _row(local: str, remote: str, uid: int) -> str:
    return f"   0: {local} {remote} 01 00000000:00000000 00:00000000 00000000  {uid:>5}        0 1234 1 0000 20 4 30\n"


@pytest.mark.skipif(sys.byteorder != "little", reason="the rows below are those of a little-endian machine")
def test_the_row_of_the_peer_is_the_one_whose_local_end_is_the_peer(table: Path) -> None:
    rows = [
        _row("0100007F:1DB0", "0100007F:D431", 33),  # the server's own end of the same connection
        _row("0100007F:D431", "0100007F:1DB0", 1001),
        _row("0100007F:D432", "0100007F:1DB0", 1002),
    ]
    table.write_text(HEAD + "".join(rows))
    assert peer_user(("127.0.0.1", 0xD431), ("127.0.0.1", 0x1DB0)) == 1001
    assert peer_user(("127.0.0.1", 0xD432), ("127.0.0.1", 0x1DB0)) == 1002
    assert peer_user(("127.0.0.1", 0xD433), ("127.0.0.1", 0x1DB0)) is None
    assert peer_user(("127.0.0.2", 0xD431), ("127.0.0.1", 0x1DB0)) is None


@pytest.mark.skipif(sys.byteorder != "little", reason="the rows below are those of a little-endian machine")
def test_rows_of_the_sixth_version_are_four_words(table: Path) -> None:
    loopback = "00000000000000000000000001000000"
    table.write_text(HEAD + _row(f"{loopback}:D431", f"{loopback}:1DB0", 1001))
    assert peer_user(("::1", 0xD431), ("::1", 0x1DB0)) == 1001


@pytest.mark.parametrize("content", ["", HEAD, HEAD + "nonsense\n", HEAD + "1: 0100007F:D431 0100007F:1DB0\n"])
def test_a_table_that_does_not_say_leaves_the_user_unknown(table: Path, content: str) -> None:
    table.write_text(content)
    assert peer_user(("127.0.0.1", 0xD431), ("127.0.0.1", 0x1DB0)) is None


def test_a_machine_without_the_table_leaves_the_user_unknown(table: Path) -> None:
    assert not table.exists()
    assert peer_user(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_in_any_spelling_is_this_machine(address: str) -> None:
    assert is_local((address, 1)) or (address == "::1" and not VERSION_6)


def test_an_address_of_any_network_of_this_machine_is_this_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel picks the address it would come from
        except OSError:
            pytest.skip("this machine has no other network")
        assert is_local((probe.getsockname()[0], 1))


@pytest.mark.parametrize("address", ["192.0.2.1", "203.0.113.7", "::ffff:198.51.100.1"])
def test_other_addresses_are_other_machines(address: str) -> None:
    assert not is_local((address, 1))


@pytest.mark.skipif(not VERSION_6, reason="the machine does not speak version 6")
def test_other_addresses_of_the_sixth_version_are_other_machines() -> None:
    assert not is_local(("2001:db8::1", 1, 0, 0))


def test_an_address_that_cannot_be_tried_counts_as_local() -> None:
    assert is_local(("fe80::1", 1, 0, 4_000_000_000))


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Peers that were looked up in the kernel's table; all of them are another user's."""
    found: list[tuple[str, int]] = []

    def look_up(peer: tuple[str, int], _local: tuple[str, int]) -> int:
        found.append(peer)
        return os.getuid() + 1

    monkeypatch.setattr(peers, "peer_user", look_up)
    return found


def test_another_machine_is_never_looked_up(looked_up: list[tuple[str, int]]) -> None:
    assert Connection(("192.0.2.1", 5), ("127.0.0.1", 7600)).ring() == "structural"
    assert looked_up == []


def test_a_local_peer_is_looked_up_once_and_not_before_somebody_asks(looked_up: list[tuple[str, int]]) -> None:
    connection = Connection(("127.0.0.1", 5), ("127.0.0.1", 7600))
    assert looked_up == []
    assert [connection.ring(), connection.ring()] == ["structural", "structural"]
    assert looked_up == [("127.0.0.1", 5)]


def test_a_connection_whose_end_is_gone_gets_the_weaker_label(looked_up: list[tuple[str, int]]) -> None:
    assert Connection(None, ("127.0.0.1", 7600)).ring() == "cooperative"
    assert looked_up == []


def test_a_local_client_of_a_listener_for_both_versions_is_local_and_its_user_is_found() -> None:
    """Such a listener sees a client of 127.0.0.1 as ::ffff:127.0.0.1."""
    with _connected("127.0.0.1") as (_client, server):
        (host, port), (_, own) = _endpoint(server.getpeername()), _endpoint(server.getsockname())
        peer = (f"::ffff:{host}", port)
        assert is_local(peer)
        uid = peer_user(peer, ("::ffff:127.0.0.1", own))
        assert uid == os.getuid()
        assert ring_of(uid, local=True) == "cooperative"


@pytest.mark.parametrize(
    ("uid", "local", "ring"),
    [
        (4711, True, "cooperative"),
        (0, True, "cooperative"),
        (None, True, "cooperative"),
        (4712, True, "structural"),
        (None, False, "structural"),
        (4711, False, "structural"),
    ],
)
def test_whoever_shares_the_plane_s_user_is_cooperative_and_so_is_who_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, uid: int | None, local: bool, ring: str
) -> None:
    monkeypatch.setattr(peers.os, "getuid", lambda: 4711)
    assert ring_of(uid, local=local) == ring
