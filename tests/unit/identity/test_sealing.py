"""Sealed payloads open where they were sealed, with the deployment's key, unaltered; nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.journal.leaf import commitment
from interlock.identity.sealing import AesSealer, PayloadUnreadable
from support.entropy import CountingEntropy
from support.examples import tries


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> AesSealer:
    return AesSealer(tmp_path_factory.mktemp("key") / "data.key", CountingEntropy())


@tries(200)
@given(text=st.binary(max_size=300))
def test_what_was_sealed_opens_again(sealer: AesSealer, text: bytes) -> None:
    payload = sealer.seal("call_1", "input", text)
    assert sealer.open("call_1", "input", payload.sealed) == text
    assert payload.name == "input"


def test_a_payload_does_not_hold_its_plaintext(sealer: AesSealer) -> None:
    assert b"nobody may know" not in sealer.seal("call_1", "input", b"nobody may know").sealed


def test_equal_texts_do_not_look_equal(sealer: AesSealer) -> None:
    one, two = (sealer.seal("call_1", "input", b"same") for _ in range(2))
    assert one.sealed != two.sealed
    assert one.commitment != two.commitment, "a commitment must not confirm a guess"


def test_a_commitment_can_be_checked_by_who_opens_the_payload(tmp_path: Path) -> None:
    class Known(CountingEntropy):
        def take(self, count: int) -> bytes:
            return bytes(range(count))

    payload = AesSealer(tmp_path / "data.key", Known()).seal("call_1", "input", b"text")
    salt = bytes(range(32, 48))
    assert payload.commitment == commitment(salt, b"text")


@pytest.mark.parametrize(
    ("context", "name"), [("call_2", "input"), ("call_1", "output"), ("", "input"), ("call_1", "")]
)
def test_a_payload_opens_nowhere_else(sealer: AesSealer, context: str, name: str) -> None:
    payload = sealer.seal("call_1", "input", b"text")
    with pytest.raises(PayloadUnreadable, match="another record"):
        sealer.open(context, name, payload.sealed)


def test_context_and_name_cannot_be_shifted_into_each_other(sealer: AesSealer) -> None:
    payload = sealer.seal("call_1", "input", b"text")
    with pytest.raises(PayloadUnreadable):
        sealer.open("call_", "1input", payload.sealed)


def test_a_payload_altered_anywhere_does_not_open(sealer: AesSealer) -> None:
    whole = sealer.seal("call_1", "input", b"text").sealed
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1
        with pytest.raises(PayloadUnreadable):
            sealer.open("call_1", "input", bytes(altered))


def test_a_payload_cut_anywhere_does_not_open(sealer: AesSealer) -> None:
    whole = sealer.seal("call_1", "input", b"").sealed
    for length in range(len(whole)):
        with pytest.raises(PayloadUnreadable):
            sealer.open("call_1", "input", whole[:length])
    with pytest.raises(PayloadUnreadable):
        sealer.open("call_1", "input", whole + b"\0")


def test_the_data_key_of_one_payload_opens_no_other(sealer: AesSealer) -> None:
    one, two = (sealer.seal("call_1", "input", text).sealed for text in (b"text", b"other"))
    with pytest.raises(PayloadUnreadable):
        sealer.open("call_1", "input", one[:65] + two[65:])


def test_another_deployment_s_key_opens_nothing_and_says_which(sealer: AesSealer, tmp_path: Path) -> None:
    other_entropy = CountingEntropy()
    other_entropy.take(1)
    other = AesSealer(tmp_path / "other.key", other_entropy)
    with pytest.raises(PayloadUnreadable, match="not sealed by this deployment's key"):
        other.open("call_1", "input", sealer.seal("call_1", "input", b"text").sealed)


def test_the_key_is_the_file_s(tmp_path: Path) -> None:
    payload = AesSealer(tmp_path / "data.key", CountingEntropy()).seal("call_1", "input", b"text")
    again = AesSealer(tmp_path / "data.key", CountingEntropy())
    assert again.open("call_1", "input", payload.sealed) == b"text"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_file_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "data.key"
    file.touch(0o600)
    file.write_bytes(b"k" * length)
    with pytest.raises(PayloadUnreadable, match="32 bytes"):
        AesSealer(file, CountingEntropy())
