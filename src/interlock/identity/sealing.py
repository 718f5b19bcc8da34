"""Payload encryption: AES-256-GCM, one data key for each payload, wrapped by the deployment's key.

Layout of a sealed payload: version (1 byte), key id (4), wrap nonce (12), wrapped data key (48),
nonce (12), ciphertext with tag. The plaintext begins with the 16-byte salt of its commitment, so that
erasing the payload also erases what could confirm a guess.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.core.errors import InterlockError
from interlock.core.journal.leaf import SALT_BYTES, Payload, commitment
from interlock.identity.keyfiles import load_or_make
from interlock.plane.ports import Entropy

_VERSION: Final = 1
_HEAD: Final = 1 + 4 + 12 + 48 + 12


class PayloadUnreadable(InterlockError):
    """A payload was altered, moved to another record, or sealed under another key."""

    code = "payload_unreadable"


class AesSealer:
    """Implements `plane.ports.Sealer` with a key file of 32 random bytes."""

    def __init__(self, key_file: Path, entropy: Entropy) -> None:
        key = load_or_make(key_file, lambda: entropy.take(32))
        if len(key) != 32:
            raise PayloadUnreadable(f"The key file {key_file} does not hold 32 bytes.", remedy="Restore its backup.")
        self._entropy = entropy
        self._wrapping = AESGCM(key)
        self._key_id = hashlib.sha256(b"interlock-data-key-id" + key).digest()[:4]

    def seal(self, context: str, name: str, plaintext: bytes) -> Payload:
        random = self._entropy.take(32 + SALT_BYTES + 24)
        data_key, salt = random[:32], random[32 : 32 + SALT_BYTES]
        wrap_nonce, nonce = random[-24:-12], random[-12:]
        place = self._place(context, name)
        wrapped = self._wrapping.encrypt(wrap_nonce, data_key, place)
        body = AESGCM(data_key).encrypt(nonce, salt + plaintext, place)
        sealed = b"".join((bytes([_VERSION]), self._key_id, wrap_nonce, wrapped, nonce, body))
        return Payload(name, sealed, commitment(salt, plaintext))

    def open(self, context: str, name: str, sealed: bytes) -> bytes:
        if len(sealed) < _HEAD + SALT_BYTES + 16 or sealed[0] != _VERSION or sealed[1:5] != self._key_id:
            raise PayloadUnreadable("The payload was not sealed by this deployment's key.")
        place = self._place(context, name)
        try:
            data_key = self._wrapping.decrypt(sealed[5:17], sealed[17:65], place)
            return AESGCM(data_key).decrypt(sealed[65:77], sealed[77:], place)[SALT_BYTES:]
        except InvalidTag:
            raise PayloadUnreadable("The payload was altered or belongs to another record.") from None

    @staticmethod
    def _place(context: str, name: str) -> bytes:
        return f"interlock-payload-v1\x00{context}\x00{name}".encode()
