"""Name resolution for upstreams: a host name may not lead into private networks by its DNS alone."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is assigned to public hosts (RFC 4291 §2.4, IANA's registry)."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052 §2.1."""


class AddressRefused(OSError):
    """A host name resolved to an address that was not configured."""


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses private, loopback and link-local results that are not configured.

    An address or `localhost` written in the settings is configured by being written there.
    """

    def __init__(self, host: str, networks: tuple[str, ...]) -> None:
        self._inner = ThreadedResolver()
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._literal = host == "localhost"

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._allowed(result["host"])]
        if not allowed:
            raise AddressRefused(f"{host} resolves to a private address that allow_addresses does not name")
        return allowed

    def _allowed(self, address: str) -> bool:
        ip = ipaddress.ip_address(address.partition("%")[0])
        end = _destination(ip)
        if self._literal and end.is_loopback:
            return True
        return _is_public(end) or any(ip in network or end in network for network in self._networks)

    async def close(self) -> None:
        await self._inner.close()


def _destination(ip: Address) -> Address:
    """Where packets to an address end up: IPv6 that only wraps an IPv4 address leads to that one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _is_public(ip: Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST:
        return False
    # is_global is false for every private, shared, loopback, link-local, reserved and test range.
    return ip.is_global and not ip.is_multicast
