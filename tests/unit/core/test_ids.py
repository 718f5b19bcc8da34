"""Identifiers: a prefix and a ULID."""

from __future__ import annotations

import pytest

from interlock.core.ids import CALL, RUN, is_id, make_id


def test_an_id_is_a_prefix_and_the_ulid_of_the_specification() -> None:
    # The specification's largest value, and its example of the encoding of time.
    assert make_id(CALL, 2**48 - 1, b"\xff" * 10) == "call_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    assert make_id(RUN, 1_469_918_176_385, b"\0" * 10) == "run_01ARYZ6S410000000000000000"


def test_ids_sort_by_time_and_then_by_entropy() -> None:
    made = [
        make_id(CALL, 1, b"\xff" * 10),
        make_id(CALL, 2, b"\0" * 10),
        make_id(CALL, 2, b"\0" * 9 + b"\1"),
        make_id(CALL, 2**40, b"\0" * 10),
    ]
    assert sorted(made) == made


@pytest.mark.parametrize("entropy", [b"", b"\0" * 9, b"\0" * 11])
def test_entropy_is_exactly_ten_bytes(entropy: bytes) -> None:
    with pytest.raises(ValueError, match="ten bytes"):
        make_id(CALL, 1, entropy)


def test_an_id_has_its_own_prefix_and_the_alphabet_of_crockford() -> None:
    made = make_id(CALL, 1_790_000_000_000, bytes(range(10)))
    assert is_id(CALL, made)
    assert not is_id(RUN, made)
    for wrong in (made + "\n", made[:-1], made + "0", made.lower(), made[:-1] + "U", made.replace("_", "-"), ""):
        assert not is_id(CALL, wrong)
