from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import InvalidKey
from tests.protocol.vectors import load

NUT00, NUT12 = load("nut00.json"), load("nut12.json")
KEY, OTHER, R = bytes([7] * 32), bytes([8] * 32), bytes([9] * 32)
PUBLIC = secp.point(KEY)

scalars = st.integers(1, secp.ORDER - 1).map(lambda number: number.to_bytes(32))


def unhex(values: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in values.items()}


@pytest.mark.parametrize("vector", NUT00["hash_to_curve"])
def test_hash_to_curve_vectors(vector: dict[str, str]) -> None:
    assert bdhke.hash_to_curve(bytes.fromhex(vector["message"])).hex() == vector["point"]


@pytest.mark.parametrize("vector", NUT00["blinded_messages"])
def test_blinded_message_vectors(vector: dict[str, str]) -> None:
    assert bdhke.blind(bytes.fromhex(vector["x"]), bytes.fromhex(vector["r"])).hex() == vector["B_"]


@pytest.mark.parametrize("vector", NUT00["blind_signatures"])
def test_blind_signature_vectors(vector: dict[str, str]) -> None:
    k, B_ = bytes.fromhex(vector["k"]), bytes.fromhex(vector["B_"])
    assert bdhke.sign(k, B_).hex() == vector["C_"]
    assert bdhke.sign_with_dleq(k, secp.point(k), B_)[0].hex() == vector["C_"]


def test_hash_e_vector() -> None:
    vector = unhex(NUT12["hash_e"])
    points = (vector[name] for name in ("R1", "R2", "K", "C_"))
    assert bdhke.hash_e(*(secp.serialize_uncompressed(secp.parse(point)) for point in points)) == vector["hash"]


def test_deterministic_nonce_vector() -> None:
    vector = unhex(NUT12["nonce"])
    proof = vector["e"], vector["s"]
    assert bdhke.sign_with_dleq(vector["a"], vector["A"], vector["B_"]) == (vector["C_"], *proof)
    assert bdhke.dleq_prove(vector["a"], vector["A"], vector["B_"], vector["C_"]) == proof
    assert bdhke.dleq_verify(vector["A"], vector["B_"], vector["C_"], *proof)


def test_dleq_vectors() -> None:
    alice = NUT12["blind_signature"]
    signature: dict[str, Any] = alice["signature"]
    parts = unhex({"A": alice["A"], "B_": alice["B_"], "C_": signature["C_"], **signature["dleq"]})
    assert bdhke.dleq_verify(parts["A"], parts["B_"], parts["C_"], parts["e"], parts["s"])
    carol = NUT12["proof"]
    proof: dict[str, Any] = carol["proof"]
    parts = unhex({"A": carol["A"], "C": proof["C"], **proof["dleq"]})
    secret = proof["secret"].encode()
    assert bdhke.dleq_verify_carol(parts["A"], secret, parts["C"], parts["e"], parts["s"], parts["r"])


@settings(max_examples=30)
@given(scalars, scalars, st.binary(max_size=64))
def test_from_blinding_to_verifying(k: bytes, r: bytes, secret: bytes) -> None:
    K, B_ = secp.point(k), bdhke.blind(secret, r)
    C_, e, s = bdhke.sign_with_dleq(k, K, B_)
    assert bdhke.sign(k, B_) == C_
    assert bdhke.dleq_verify(K, B_, C_, e, s)
    C = bdhke.unblind(C_, r, K)
    assert secp.ecdh_point(k, bdhke.hash_to_curve(secret)) == C
    assert bdhke.verify(k, secret, C)
    assert bdhke.verify_y(k, bdhke.hash_to_curve(secret), C)
    assert bdhke.verified_y(k, secret, C) == bdhke.hash_to_curve(secret)
    assert bdhke.dleq_verify_carol(K, secret, C, e, s, r)


GOOD = secp.ecdh_point(KEY, bdhke.hash_to_curve(b"secret"))


@pytest.mark.parametrize(
    ("k", "secret", "C"),
    [
        (OTHER, b"secret", GOOD),
        (KEY, b"Secret", GOOD),
        (KEY, b"secret", secp.negate_point(GOOD)),
        (KEY, b"secret", secp.serialize_uncompressed(secp.parse(GOOD))),
        (KEY, b"secret", bdhke.hash_to_curve(b"secret")),
        (KEY, b"secret", GOOD[:32]),
        (KEY, b"secret", GOOD + b"\x00"),
        (KEY, b"secret", b"\x02" + b"\xff" * 32),
        (KEY, b"secret", b""),
    ],
)
def test_forged_proofs(k: bytes, secret: bytes, C: bytes) -> None:
    assert bdhke.verify(KEY, b"secret", GOOD)
    assert not bdhke.verify(k, secret, C)
    assert not bdhke.verify_y(k, bdhke.hash_to_curve(secret), C)
    assert bdhke.verified_y(k, secret, C) is None


def test_false_dleq_proofs() -> None:
    B_ = bdhke.blind(b"secret", R)
    C_, e, s = bdhke.sign_with_dleq(KEY, PUBLIC, B_)
    good = (PUBLIC, B_, C_, e, s)
    assert bdhke.dleq_verify(*good)
    replacements: list[list[bytes]] = [
        [secp.point(OTHER), b"", PUBLIC[:32]],
        [bdhke.blind(b"other", R), b"\x02" + b"\xff" * 32],
        [bdhke.sign(OTHER, B_), secp.serialize_uncompressed(secp.parse(C_))],
        [s, b"\x00" * 32, b"\xff" * 32, e[:31], b""],
        [e, b"\x00" * 32, b"\xff" * 32, secp.ORDER.to_bytes(32), s + b"\x00"],
    ]
    for place, values in enumerate(replacements):
        for value in values:
            changed = [*good[:place], value, *good[place + 1 :]]
            assert not bdhke.dleq_verify(changed[0], changed[1], changed[2], changed[3], changed[4])
    C = bdhke.unblind(C_, R, PUBLIC)
    assert bdhke.dleq_verify_carol(PUBLIC, b"secret", C, e, s, R)
    for r in (OTHER, b"\x00" * 32, R[:31]):
        assert not bdhke.dleq_verify_carol(PUBLIC, b"secret", C, e, s, r)
    assert not bdhke.dleq_verify_carol(PUBLIC, b"other", C, e, s, R)


@pytest.mark.parametrize("B_", [b"", b"\x02" + b"\xff" * 32, b"\x04" + bytes(64)])
def test_only_points_are_signed(B_: bytes) -> None:
    with pytest.raises(InvalidKey):
        bdhke.sign(KEY, B_)
    with pytest.raises(InvalidKey):
        bdhke.sign_with_dleq(KEY, PUBLIC, B_)


def test_the_nonce_differs_with_what_is_proved() -> None:
    B_ = bdhke.blind(b"secret", R)
    first = bdhke.sign_with_dleq(KEY, PUBLIC, B_)
    assert first == bdhke.sign_with_dleq(KEY, PUBLIC, B_)
    other = bdhke.sign_with_dleq(KEY, PUBLIC, bdhke.blind(b"other", R))
    assert first[1:] != other[1:]
