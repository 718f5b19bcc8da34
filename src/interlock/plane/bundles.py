"""The bundle in force, and how another one takes its place."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping

from interlock.core.canonical import JsonObject, encode
from interlock.core.errors import BundleInvalid, Conflict, InterlockError
from interlock.core.lockfile import EMPTY_LOCK, Lock
from interlock.core.policy.bundle import Bundle, bundle_digest, load_bundle
from interlock.plane.commands import Activate
from interlock.plane.ports import Reader, Sealer, Store

_log = logging.getLogger("interlock.policy")


class ActivePolicy:
    """Holds the compiled bundle; activation is atomic, recorded, and keeps the last good one on error."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        sealer: Sealer,
        files: Callable[[], dict[str, bytes]],
        notify_names: frozenset[str],
    ) -> None:
        """Start with no bundle at all, which denies everything.

        Args:
            store: Records activations.
            reader: Knows the bundle that was active before a restart.
            sealer: Seals the reason.
            files: Reads the policies folder. Raises BundleInvalid.
            notify_names: Names that the settings resolve.
        """
        self._store, self._reader, self._sealer = store, reader, sealer
        self._files, self._notify_names = files, notify_names
        self._bundle: Bundle | None = None
        self._activating = asyncio.Lock()
        self._switching = asyncio.Lock()
        self.last_problem: BundleInvalid | None = None

    @property
    def bundle(self) -> Bundle | None:
        return self._bundle

    def lock(self) -> Lock:
        return self._bundle.lock if self._bundle else EMPTY_LOCK

    def check_files(self) -> Bundle:
        """Load what the folder holds now, without activating it. Raises BundleInvalid."""
        return load_bundle(self._files(), self._notify_names)

    async def start(self, by: str) -> None:
        """At start: refuse broken files; resume the bundle that was active, or activate the first one.

        Raises:
            BundleInvalid: the files have errors; nothing was started.
        """
        loaded = self.check_files()
        active = self._reader.active_bundle()
        if active is None:
            await self._activate(loaded, by, "first start")
            return
        digest, content = active
        if digest == loaded.digest:
            self._bundle = loaded
            return
        try:
            self._bundle = load_bundle(_unpack(content), self._notify_names)
        except BundleInvalid as error:
            raise InterlockError(
                f"The active bundle {digest} does not load with the present settings: {error.findings[0]}.",
                remedy="Restore what the settings had, or start with `--activate REASON` to take the files instead.",
            ) from None
        if self._bundle.digest != digest:
            raise InterlockError(
                f"The active bundle {digest} has another digest in this release.",
                remedy="Start with `--activate REASON` to put the files in force.",
            )
        _log.warning("policy files differ from the active bundle", extra={"active": digest, "files": loaded.digest})

    async def activate(self, by: str, reason: str, expect: str | None = None) -> Bundle:
        """Read, check and activate the files as they are now.

        Args:
            by: Who asks, as the door authenticated them.
            reason: Why, in their words.
            expect: The digest that the files must have; None takes them as they are.

        Raises:
            BundleInvalid: the last good bundle stays in force.
            Conflict: the files have another digest than the expected one.
        """
        # In a task of its own: once recorded it has to take force, whoever asked and went away.
        return await asyncio.shield(self._activate_files(by, reason, expect))

    async def _activate_files(self, by: str, reason: str, expect: str | None) -> Bundle:
        # One at a time, so that what the record calls active last is what decides; compiling stays off the loop.
        async with self._activating:
            try:
                bundle = await asyncio.to_thread(self.check_files)
            except BundleInvalid as error:
                self.last_problem = error
                _log.error("policy files are not usable; the last good bundle stays in force")
                raise
            if expect is not None and bundle.digest != expect:
                raise Conflict(
                    f"The files have the digest {bundle.digest}, not {expect}.", remedy="Check what changed since then."
                )
            await self._activate(bundle, by, reason)
            return bundle

    async def _activate(self, bundle: Bundle, by: str, reason: str) -> None:
        payload = self._sealer.seal(bundle.digest, "reason", reason.encode())
        async with self._switching:
            # From its leaf on no permit is given under another bundle; calls decided before are decided again.
            await self._store.activate(Activate(bundle.digest, pack(bundle.files), by, (payload,)))
            self._bundle, self.last_problem = bundle, None
        _log.info("policy activated", extra={"bundle": bundle.digest, "by": by})

    async def latest(self) -> Bundle | None:
        """The bundle in force, after an activation that is being recorded."""
        async with self._switching:
            return self._bundle

    def differs_from_files(self) -> bool:
        """Whether the folder holds something else than what is in force."""
        try:
            return self._bundle is None or bundle_digest(self._files()) != self._bundle.digest
        except BundleInvalid:
            return True


def pack(files: Mapping[str, bytes]) -> bytes:
    """A bundle's files as one JSON text; all of them are UTF-8, or they would not have loaded."""
    content: JsonObject = {path: data.decode("utf-8") for path, data in files.items()}
    return encode(content)


def _unpack(content: bytes) -> dict[str, bytes]:
    return {path: text.encode("utf-8") for path, text in json.loads(content).items()}
