"""Who is at the other end of a local connection: its user, from the kernel's table (Linux).

An agent that shares the plane's user can go round the plane (read its keys, trace its process); its calls
are then labelled *cooperative* instead of *structural*. Where the user cannot be told, the weaker label
is taken.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import TypeAlias

from interlock.plane.commands import Ring

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"
"""Host and port; of version 6 also the flow and the scope."""


class Connection:
    """A connection's two ends; the peer's user is looked up when it is first asked for, and only on this machine."""

    def __init__(self, peer: Address | None, local: Address | None) -> None:
        """Describe a connection; an end of None is gone already."""
        self._peer, self._local = peer, local
        self._ring: Ring | None = None

    def ring(self) -> Ring:
        """The ring of whoever is at the other end."""
        if self._ring is None:
            self._ring = self._look_up()
        return self._ring

    def _look_up(self) -> Ring:
        if self._peer is None or self._local is None:
            return ring_of(None, local=True)
        if not is_local(self._peer):
            return ring_of(None, local=False)
        return ring_of(peer_user(self._peer[:2], self._local[:2]), local=True)


def peer_user(peer: tuple[str, int], local: tuple[str, int]) -> int | None:
    """The user that owns the other end of a TCP connection on this machine; None if it cannot be told."""
    version_4 = _version_4(peer[0]) is not None
    # A client of version 4 may have a socket of either version, whatever the listener sees.
    tables = ("/proc/net/tcp", "/proc/net/tcp6") if version_4 else ("/proc/net/tcp6",)
    for name in tables:
        wide = name.endswith("6")
        try:
            wanted = _in_table(*peer, wide=wide), _in_table(*local, wide=wide)
            with Path(name).open(encoding="ascii") as rows:
                for row in rows:
                    fields = row.split(maxsplit=8)
                    if (fields[1], fields[2]) == wanted:
                        return int(fields[7])
        except (OSError, ValueError, IndexError):
            continue
    return None


def is_local(peer: Address) -> bool:
    """Whether an address is one of this machine's, by loopback or by any other of its networks.

    Beside loopback, only those can be bound to. Where that cannot be tried, the address counts as local.
    """
    version_4 = _version_4(peer[0])
    if peer[0] == "::1" or (version_4 is not None and version_4.startswith("127.")):
        return True
    family, address = (socket.AF_INET, (version_4, 0)) if version_4 else (socket.AF_INET6, (peer[0], 0, *peer[2:]))
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def ring_of(peer_uid: int | None, *, local: bool) -> Ring:
    """The ring of a connection: another user, or another machine, cannot go round the plane."""
    if not local:
        return "structural"
    shares = peer_uid is None or peer_uid in (os.getuid(), 0)
    return "cooperative" if shares else "structural"


def _version_4(address: str) -> str | None:
    """The address of version 4 that an address is, or that it stands for (RFC 4291 §2.5.5.2)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped) if ip.ipv4_mapped else None


def _in_table(address: str, port: int, *, wide: bool) -> str:
    """An endpoint as the kernel prints it: 32-bit words in the machine's byte order, four in the `wide` table."""
    narrow = _version_4(address)
    if wide:
        packed = socket.inet_pton(socket.AF_INET6, f"::ffff:{narrow}" if narrow else address.partition("%")[0])
    else:
        packed = socket.inet_pton(socket.AF_INET, narrow or "")
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
