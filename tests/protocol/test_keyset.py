from __future__ import annotations

from typing import Any

import pytest

from pennypost.protocol.errors import StampUnknownKeyset
from pennypost.protocol.keyset import is_keyset_id, keyset_id_v1, keyset_id_v2, resolve_id, short_id
from tests.protocol.vectors import load

NUT02 = load("nut02.json")
A, B = "01" + "a" * 64, "01" + "a" * 14 + "b" * 50
OTHER, OLD = "01" + "c" * 64, "00" + "c" * 14


def keys(vector: dict[str, Any]) -> dict[int, bytes]:
    return {int(amount): bytes.fromhex(key) for amount, key in vector["keys"].items()}


@pytest.mark.parametrize("vector", NUT02["version1"], ids=lambda vector: vector["id"])
def test_version_1_vectors(vector: dict[str, Any]) -> None:
    assert keyset_id_v1(keys(vector)) == vector["id"]
    assert is_keyset_id(vector["id"])
    assert short_id(vector["id"]) == vector["id"]


@pytest.mark.parametrize("vector", NUT02["version2"], ids=lambda vector: vector["id"][:8])
def test_version_2_vectors(vector: dict[str, Any]) -> None:
    reversed_keys = dict(reversed(keys(vector).items()))
    computed = keyset_id_v2(reversed_keys, vector["unit"], vector["input_fee_ppk"], vector["final_expiry"])
    assert computed == vector["id"]
    assert is_keyset_id(computed)
    assert short_id(computed) == computed[:16]


def test_no_fee_and_a_fee_of_zero_are_the_same() -> None:
    some = keys(NUT02["version2"][0])
    assert keyset_id_v2(some, "sat") == keyset_id_v2(some, "SAT", None, 0) == keyset_id_v2(some, "sat", 0, None)
    assert len({keyset_id_v2(some, "sat"), keyset_id_v2(some, "sat", 1), keyset_id_v2(some, "sat", 0, 1)}) == 3
    assert keyset_id_v2(some, "sat") != keyset_id_v2(some, "usd")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "01",
        "02" + "a" * 14,
        A.upper(),
        A + "\n",
        A[:65],
        OLD + "0",
        "../v1/keys",
        "0I2eN+bxO4kT",
        "٠١" + "a" * 64,
    ],
)
def test_what_is_no_id(text: str) -> None:
    assert not is_keyset_id(text)
    with pytest.raises(StampUnknownKeyset):
        resolve_id(text, [A, OLD, OTHER])


def test_ids_are_resolved() -> None:
    known = [A, OTHER, OLD]
    for written, full in ((A, A), (short_id(A), A), (OLD, OLD), (short_id(OTHER), OTHER)):
        assert resolve_id(written, known) == full
        assert resolve_id(written, iter(known)) == full


@pytest.mark.parametrize("text", [B, "01" + "d" * 14, "00" + "d" * 14, A[:10], A[:18]])
def test_unknown_ids(text: str) -> None:
    with pytest.raises(StampUnknownKeyset):
        resolve_id(text, [A, OTHER, OLD])


def test_an_ambiguous_short_id_is_unknown() -> None:
    assert short_id(A) == short_id(B)
    assert resolve_id(A, [A, B]) == A
    assert resolve_id(short_id(A), [A, A]) == A
    with pytest.raises(StampUnknownKeyset):
        resolve_id(short_id(A), [A, B])
