"""What the API offers, as one value that `bootstrap` puts together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from interlock.core.canonical import JsonObject
from interlock.core.lockfile import PinnedUpstream
from interlock.plane.approvals import Approvals
from interlock.plane.bundles import ActivePolicy
from interlock.plane.deciding import Deciding
from interlock.plane.ports import Clock, Reader, Sealer, Store, Upstreams
from interlock.plane.stopping import Stopping


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token to mint: for an agent (one id), or for a run opener (a name and its agents)."""

    opener: str | None
    agents: tuple[str, ...]
    run: str | None
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Administration:
    """Use cases and facts behind the API.

    Attributes:
        mint: Makes a token; returns its text, id and expiry in seconds since the epoch.
        discover: Lists an upstream's live tools, and why others cannot be pinned.
        settings: The effective settings, for people.
        status: Facts about the process: version, addresses, since when.
        doctor: Checks, as a list of findings.
    """

    store: Store
    reader: Reader
    sealer: Sealer
    clock: Clock
    policy: ActivePolicy
    deciding: Deciding
    approvals: Approvals
    stopping: Stopping
    upstreams: Upstreams
    mint: Callable[[TokenRequest, str], tuple[str, str, int]]
    discover: Callable[[str], Awaitable[tuple[PinnedUpstream, dict[str, str]]]]
    settings: Callable[[], JsonObject]
    status: Callable[[], JsonObject]
    doctor: Callable[[], Awaitable[list[JsonObject]]]
