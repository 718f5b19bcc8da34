"""Leaves: the small envelopes of the journal. Stored once, byte for byte, never rewritten.

A leaf holds no personal data and no free text: arguments, results, reasons and facts live in encrypted
payloads, and the leaf holds a salted commitment to each, so that a payload can be erased later and the
leaf still stands.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from interlock.core.canonical import Json, JsonObject, encode

LEAF_VERSION: Final = 1
_COMMITMENT_DOMAIN: Final = b"interlock-payload-v1"
SALT_BYTES: Final = 16


class LeafKind(StrEnum):
    """What a leaf records."""

    STARTED = "started"
    RUN_OPENED = "run_opened"
    RUN_ENDED = "run_ended"
    DECISION = "decision"
    OUTCOME = "outcome"
    HOLD = "hold"
    VERDICT = "verdict"
    HOLD_CLOSED = "hold_closed"
    HALT = "halt"
    RESUME = "resume"
    RESOLUTION = "resolution"
    ACTIVATION = "activation"
    REFUSALS = "refusals"
    CLOCK_JUMP = "clock_jump"


@dataclass(frozen=True, slots=True)
class Payload:
    """One encrypted part of a record.

    Attributes:
        name: `input`, `facts`, `output`, `reason`, `task`, …
        sealed: Ciphertext with everything needed to open it but the deployment's key.
        commitment: Hex digest that the leaf carries.
    """

    name: str
    sealed: bytes
    commitment: str


def commitment(salt: bytes, plaintext: bytes) -> str:
    """Hex SHA-256 over a domain, a secret salt of 16 bytes and the plaintext."""
    return hashlib.sha256(_COMMITMENT_DOMAIN + salt + plaintext).hexdigest()


def leaf_bytes(
    kind: LeafKind,
    seq: int,
    at_us: int,
    fields: JsonObject,
    payloads: tuple[Payload, ...] = (),
    previous: int | None = None,
) -> bytes:
    """The exact bytes of a leaf: canonical JSON.

    Args:
        kind: What it records.
        seq: Its place in the journal, gap-free from 1.
        at_us: The store's time, microseconds since the epoch.
        fields: What is particular to the kind; None values are left out.
        payloads: Their commitments go into the leaf.
        previous: Sequence of the previous leaf of the same run.
    """
    body: JsonObject = {name: value for name, value in fields.items() if value is not None}
    body |= {"v": LEAF_VERSION, "kind": str(kind), "seq": seq, "at": at_us}
    if previous is not None:
        body["prev"] = previous
    if payloads:
        commitments: dict[str, Json] = {payload.name: payload.commitment for payload in payloads}
        body["payloads"] = commitments
    return encode(body)
