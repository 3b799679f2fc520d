from __future__ import annotations

import hashlib

import coincurve
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey
from tests.protocol.vectors import load

G = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
P = 2**256 - 2**32 - 977
ZERO, ONE, TWO, THREE = ((number).to_bytes(32) for number in (0, 1, 2, 3))
LAST = (secp.ORDER - 1).to_bytes(32)
NO_SECRETS = [b"", ZERO, secp.ORDER.to_bytes(32), b"\xff" * 32, ONE[:31], ONE + b"\x00"]
# x = 5 is not on the curve.
OFF_CURVE = (5).to_bytes(32)
NO_POINTS = [
    b"",
    b"\x02" + OFF_CURVE,
    b"\x00" * 33,
    b"\x04" + G[1:],
    b"\x06" + G[1:],
    G[:32],
    G + b"\x00",
    coincurve.PublicKey(G).format(compressed=False),
    b"\x02" + P.to_bytes(32),
]

secrets = st.integers(1, secp.ORDER - 1).map(lambda number: number.to_bytes(32))


def test_tagged_hash_is_bip340s_of_our_tag() -> None:
    tag = hashlib.sha256(b"pennypost/viewtag/v1").digest()
    expected = hashlib.sha256(tag + tag + b"ab" + b"c").digest()
    assert secp.tagged_hash("viewtag", b"ab", b"c") == expected
    assert secp.tagged_hash("viewtag", b"abc") == expected
    assert secp.tagged_hash("stealth", b"abc") != expected


@pytest.mark.parametrize("vector", load("bip340.json")["vectors"], ids=lambda vector: str(vector["index"]))
def test_schnorr_vectors(vector: dict[str, str | bool | None]) -> None:
    message = bytes.fromhex(str(vector["message"]))
    signature, public = bytes.fromhex(str(vector["signature"])), bytes.fromhex(str(vector["public"]))
    # Only hashes are signed here, so messages of other lengths are never good.
    assert secp.schnorr_verify(public, message, signature) is (vector["valid"] and len(message) == 32)
    if vector["secret"] and len(message) == 32:
        secret, aux = bytes.fromhex(str(vector["secret"])), bytes.fromhex(str(vector["aux"]))
        assert secp.xonly(secret) == public
        assert secp.schnorr_sign(secret, message, aux) == signature


@pytest.mark.parametrize(("pub", "message", "signature"), [(31, 32, 64), (33, 32, 64), (32, 31, 64), (32, 32, 63)])
def test_schnorr_verify_never_reads_past_its_arguments(pub: int, message: int, signature: int) -> None:
    assert secp.schnorr_verify(G[1:][:pub].ljust(pub), bytes(message), bytes(signature)) is False


@pytest.mark.parametrize("secret", NO_SECRETS)
def test_what_is_no_secret(secret: bytes) -> None:
    assert not secp.valid_secret(secret)
    for use in (
        lambda: secp.xonly(secret),
        lambda: secp.point(secret),
        lambda: secp.ecdh_x(secret, G[1:]),
        lambda: secp.ecdh_point(secret, G),
        lambda: secp.ecdh_sha256(secret, G),
        lambda: secp.ecdh_uncompressed(secret, secp.parse(G)),
        lambda: secp.schnorr_sign(secret, ONE, ONE),
        lambda: secp.tweak_secret(secret, ONE),
        lambda: secp.multiply_public(secret, secp.parse(G)),
        lambda: secp.secret_times_plus(ONE, secret, ONE),
        lambda: secp.secret_times_plus(secret, ONE, ONE),
    ):
        with pytest.raises(InvalidKey):
            use()


@pytest.mark.parametrize("point", NO_POINTS)
def test_what_is_no_point(point: bytes) -> None:
    assert not secp.is_point(point)
    assert secp.try_parse(point) is None
    for use in (
        lambda: secp.ecdh_point(ONE, point),
        lambda: secp.ecdh_sha256(ONE, point),
        lambda: secp.add_points(G, point),
        lambda: secp.negate_point(point),
    ):
        with pytest.raises(InvalidKey):
            use()


@pytest.mark.parametrize("pub", [b"", OFF_CURVE, G, G[1:32], P.to_bytes(32)])
def test_what_is_no_public_key(pub: bytes) -> None:
    for use in (
        lambda: secp.lift_x(pub),
        lambda: secp.ecdh_x(ONE, pub),
        lambda: secp.tweak_pub(pub, ONE),
    ):
        with pytest.raises(InvalidKey):
            use()


@pytest.mark.parametrize("lengths", [(31, 32), (32, 33)])
def test_schnorr_sign_wants_32_bytes_each(lengths: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        secp.schnorr_sign(ONE, bytes(lengths[0]), bytes(lengths[1]))


def test_points() -> None:
    assert secp.point(ONE) == G == secp.lift_x(G[1:])
    assert secp.negate_point(G) == secp.point(LAST)
    assert secp.add_points(G) == G
    assert secp.add_points(G, G, G) == secp.point(THREE)
    assert secp.serialize(secp.multiply_public(THREE, secp.parse(G))) == secp.point(THREE)
    with pytest.raises(InvalidKey):
        secp.add_points(G, secp.negate_point(G))
    with pytest.raises(InvalidKey):
        secp.add_points()


def test_multiplying_leaves_the_point_as_it_was() -> None:
    parsed = secp.parse(G)
    secp.multiply_public(THREE, parsed)
    assert secp.serialize(parsed) == G


def test_scalars() -> None:
    assert secp.secret_times_plus(TWO, THREE, ONE) == (7).to_bytes(32)
    assert secp.add_secrets(LAST, TWO) == ONE
    with pytest.raises(InvalidKey):
        secp.add_secrets(LAST, ONE)


@settings(max_examples=50)
@given(secrets, secrets)
def test_ecdh_agrees_in_all_forms(ours: bytes, theirs: bytes) -> None:
    point = secp.ecdh_point(ours, secp.point(theirs))
    assert point == secp.ecdh_point(theirs, secp.point(ours))
    assert point == coincurve.PublicKey(secp.point(theirs)).multiply(ours).format()
    assert secp.ecdh_x(ours, secp.xonly(theirs)) == point[1:] == secp.ecdh_x(theirs, secp.xonly(ours))
    assert secp.ecdh_sha256(ours, secp.point(theirs)) == hashlib.sha256(point).digest()
    uncompressed = secp.ecdh_uncompressed(ours, secp.parse(secp.point(theirs)))
    assert uncompressed == coincurve.PublicKey(point).format(compressed=False)
    assert uncompressed == secp.serialize_uncompressed(secp.parse(point))


@settings(max_examples=50)
@given(secrets, secrets)
def test_tweaked_keys_belong_together(secret: bytes, t: bytes) -> None:
    assume(int.from_bytes(secret) not in (int.from_bytes(t), secp.ORDER - int.from_bytes(t)))
    pub = secp.tweak_pub(secp.xonly(secret), t)
    assert secp.xonly(secp.tweak_secret(secret, t)) == pub
    assert pub == secp.add_points(secp.lift_x(secp.xonly(secret)), secp.point(t))[1:]


def test_tweaks_that_cannot_be_used() -> None:
    # 1·G has even Y: n - 1 takes it to infinity.
    for t in (LAST, secp.ORDER.to_bytes(32), b"", ONE[:31]):
        with pytest.raises(InvalidKey):
            secp.tweak_pub(G[1:], t)
        with pytest.raises(InvalidKey):
            secp.tweak_secret(ONE, t)
