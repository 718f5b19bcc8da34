"""Identifiers: a prefix that says what is named, then a ULID (48-bit milliseconds, 80 random bits).

They sort by time of creation and are made from bytes that the caller supplies, so that this module
stays pure. Source of the encoding: Crockford's base 32 as in the ULID specification.
"""

from __future__ import annotations

import re

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BODY = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

CALL, RUN, HOLD, TOKEN = "call", "run", "hold", "tok"


def make_id(prefix: str, unix_ms: int, entropy: bytes) -> str:
    """Return `prefix_<26 characters>`.

    Args:
        prefix: One of the constants of this module.
        unix_ms: Milliseconds since the epoch.
        entropy: Exactly ten random bytes.
    """
    if len(entropy) != 10:
        raise ValueError("entropy must be ten bytes")
    number = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy, "big")
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an identifier of this kind."""
    head, _, body = text.partition("_")
    return head == prefix and _BODY.fullmatch(body) is not None
