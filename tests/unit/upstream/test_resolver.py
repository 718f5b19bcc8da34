"""Names of upstreams resolve to public addresses, and to private ones only where the settings say so."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from interlock.upstream.resolver import AddressRefused, GuardedResolver


class FixedResolver(AbstractResolver):
    """Whatever is asked, these are the addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        self.closed = True


Guard = Callable[..., GuardedResolver]


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    made: list[GuardedResolver] = []

    def make(*addresses: str, host: str = "crm.example", networks: tuple[str, ...] = ()) -> GuardedResolver:
        resolver = GuardedResolver(host, networks)
        resolver._inner = FixedResolver(*addresses)  # type: ignore[assignment]
        made.append(resolver)
        return resolver

    yield make
    for resolver in made:
        await resolver.close()


async def _resolved(resolver: GuardedResolver, host: str = "crm.example") -> list[str]:
    return [result["host"] for result in await resolver.resolve(host, 443)]


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
async def test_a_public_address_is_used(guard: Guard, address: str) -> None:
    assert await _resolved(guard(address)) == [address]


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
]
HIDDEN = {
    "IPv4-compatible": "::10.0.0.1",
    "NAT64": "64:ff9b::10.0.0.1",
    "local NAT64": "64:ff9b:1::10.0.0.1",
    "6to4": "2002:0a00:0001::",
    "translated": "::ffff:0:10.0.0.1",
    "Teredo": "2001:0:5db8:d822::f5ff:fffe",
}


@pytest.mark.parametrize("address", [*PRIVATE, *HIDDEN.values()])
async def test_an_address_that_is_not_public_is_refused_in_any_spelling(guard: Guard, address: str) -> None:
    with pytest.raises(AddressRefused, match="allow_addresses"):
        await _resolved(guard(address))


async def test_of_several_addresses_only_the_public_ones_are_used(guard: Guard) -> None:
    assert await _resolved(guard("10.0.0.1", "8.8.8.8", "127.0.0.1", "1.1.1.1")) == ["8.8.8.8", "1.1.1.1"]


async def test_a_private_network_is_open_where_the_settings_name_it(guard: Guard) -> None:
    resolver = guard("10.1.2.3", "10.2.0.1", "192.168.0.1", networks=("10.1.0.0/16", "192.168.0.1/32"))
    assert await _resolved(resolver) == ["10.1.2.3", "192.168.0.1"]
    assert await _resolved(guard("fd00::7", networks=("fd00::/8",))) == ["fd00::7"]
    assert await _resolved(guard("::ffff:10.1.2.3", networks=("10.1.0.0/16",))) == ["::ffff:10.1.2.3"]
    with pytest.raises(AddressRefused):
        await _resolved(guard("fd00::7", networks=("10.0.0.0/8",)))


async def test_localhost_in_the_settings_may_be_loopback_and_nothing_else(guard: Guard) -> None:
    assert await _resolved(guard("127.0.0.1", "::1", host="localhost")) == ["127.0.0.1", "::1"]
    with pytest.raises(AddressRefused):
        await _resolved(guard("10.0.0.1", host="localhost"))
    with pytest.raises(AddressRefused):
        await _resolved(guard("127.0.0.1", host="localhost.example"))


async def test_a_name_that_changes_its_address_later_is_checked_again(guard: Guard) -> None:
    resolver = guard("8.8.8.8")
    assert await _resolved(resolver) == ["8.8.8.8"]
    resolver._inner.addresses = ("10.0.0.1",)  # type: ignore[attr-defined]
    with pytest.raises(AddressRefused):
        await _resolved(resolver)


async def test_closing_closes_what_it_asks(guard: Guard) -> None:
    resolver = guard("8.8.8.8")
    await resolver.close()
    assert resolver._inner.closed  # type: ignore[attr-defined]
