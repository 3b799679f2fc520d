"""Blind signatures (NUT-00, Blind Diffie-Hellmann key exchange) and the proof that one key made them (NUT-12).

    wallet                                        mint, one key k per amount, K = k·G public
    Y  = hash_to_curve(secret)
    B_ = Y + r·G            ── blind ──▶
                            ◀─ sign_with_dleq ──  C_ = k·B_, (e, s)
    dleq_verify(K, B_, C_, e, s)
    C  = C_ - r·K  (= k·Y)      unblind
                            ── secret, C ──▶      verify: k·hash_to_curve(secret) == C

The mint's key k meets only functions of constant time: its products with points come from `secp256k1_ecdh`, its
multiplication in the DLEQ from libsecp256k1's scalar arithmetic, never from Python's integers.

Points are 33 bytes compressed, scalars 32 bytes big-endian, secrets the UTF-8 bytes of the proof's secret string.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import Final

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey

DOMAIN_SEPARATOR: Final = b"Secp256k1_HashToCurve_Cashu_"
DLEQ_NONCE_TAG: Final = b"Cashu_DLEQ_R_v1"

_COUNTERS: Final = tuple(counter.to_bytes(4, "little") for counter in range(256))


def _y(secret: bytes) -> secp.Parsed:
    message = sha256(DOMAIN_SEPARATOR + secret).digest()
    for counter in _COUNTERS:
        parsed = secp.try_parse(b"\x02" + sha256(message + counter).digest())
        if parsed is not None:
            return parsed
    # Half of all x lie on the curve: 256 misses in a row have never been seen and never will be.
    raise InvalidKey("no point of the curve belongs to this secret")


def hash_to_curve(secret: bytes) -> bytes:
    """Y, the 33-byte point of a secret (NUT-00, hash_to_curve)."""
    return secp.serialize(_y(secret))


def _sum(*points: secp.Parsed) -> bytes:
    total = secp.combine(*points)
    if total is None:
        raise InvalidKey("the points add up to infinity")
    return secp.serialize(total)


def blind(secret: bytes, r: bytes) -> bytes:
    """B_ = Y + r·G, 33 bytes, for a 32-byte blinding factor r. Raises InvalidKey."""
    return _sum(_y(secret), secp.create(r))


def unblind(C_: bytes, r: bytes, K: bytes) -> bytes:
    """C = C_ - r·K, 33 bytes. Raises InvalidKey."""
    return secp.add_points(C_, secp.negate_point(secp.ecdh_point(r, K)))


def sign(k: bytes, B_: bytes) -> bytes:
    """C_ = k·B_, 33 bytes, in constant time. Raises InvalidKey when B_ is no point."""
    return secp.ecdh_point(k, B_)


def verify(k: bytes, secret: bytes, C: bytes) -> bool:
    """Whether C = k·hash_to_curve(secret), in constant time; anything but the 33 right bytes is False."""
    return hmac.compare_digest(secp.ecdh_sha256_parsed(k, _y(secret)), sha256(C).digest())


def verify_y(k: bytes, Y: bytes, C: bytes) -> bool:
    """`verify` for whoever has Y = hash_to_curve(secret) already; raises InvalidKey if Y is no point."""
    return hmac.compare_digest(secp.ecdh_sha256(k, Y), sha256(C).digest())


def verified_y(k: bytes, secret: bytes, C: bytes) -> bytes | None:
    """Y of a proof if `verify` holds, else None: both for the price of one."""
    y = _y(secret)
    if hmac.compare_digest(secp.ecdh_sha256_parsed(k, y), sha256(C).digest()):
        return secp.serialize(y)
    return None


@lru_cache(maxsize=1024)
def _uncompressed(point33: bytes) -> bytes:
    return secp.serialize_uncompressed(secp.parse(point33))


def hash_e(*uncompressed: bytes) -> bytes:
    """NUT-12's hash: SHA256 over the hexadecimal text of 65-byte uncompressed points, joined."""
    return sha256(b"".join(uncompressed).hex().encode()).digest()


def _compressed(uncompressed: bytes) -> bytes:
    return bytes((2 | (uncompressed[64] & 1),)) + uncompressed[1:33]


def _reduced(e: bytes) -> bytes:
    return (int.from_bytes(e) % secp.ORDER).to_bytes(32)


def _prove(k: bytes, A: bytes, B: secp.Parsed, C: bytes) -> tuple[bytes, bytes]:
    """(e, s) for A = k·G and C = k·B, both uncompressed; the nonce follows from k and what is proved (NUT-12)."""
    message = DLEQ_NONCE_TAG + A + secp.serialize_uncompressed(B) + C
    for counter in range(256):
        nonce = hmac.digest(k, message + bytes((counter,)), "sha256")
        if secp.valid_secret(nonce):
            R1 = secp.serialize_uncompressed(secp.create(nonce))
            R2 = secp.ecdh_uncompressed(nonce, B)
            e = hash_e(R1, R2, A, C)
            return e, secp.secret_times_plus(k, _reduced(e), nonce)
    raise InvalidKey("no nonce for this key")


def sign_with_dleq(k: bytes, K: bytes, B_: bytes) -> tuple[bytes, bytes, bytes]:
    """(C_, e, s): the blind signature and the proof that k, of K = k·G, made it (NUT-12). Raises InvalidKey."""
    B = secp.parse(B_)
    C = secp.ecdh_uncompressed(k, B)
    return _compressed(C), *_prove(k, _uncompressed(K), B, C)


def dleq_prove(k: bytes, K: bytes, B_: bytes, C_: bytes) -> tuple[bytes, bytes]:
    """(e, s) for a blind signature C_ = k·B_ made earlier; the same bytes each time (NUT-12). Raises InvalidKey."""
    return _prove(k, _uncompressed(K), secp.parse(B_), secp.serialize_uncompressed(secp.parse(C_)))


def dleq_verify(K: bytes, B_: bytes, C_: bytes, e: bytes, s: bytes) -> bool:
    """Alice's check of a blind signature: one key made K and C_ (NUT-12, Alice verifies); never raises."""
    if len(e) != 32 or len(s) != 32:
        return False
    try:
        A, B, C = secp.parse(K), secp.parse(B_), secp.parse(C_)
        minus_e = (-int.from_bytes(e) % secp.ORDER).to_bytes(32)
        R1 = secp.combine(secp.create(s), secp.multiply_public(minus_e, A))
        R2 = secp.combine(secp.multiply_public(s, B), secp.multiply_public(minus_e, C))
    except InvalidKey:
        return False
    if R1 is None or R2 is None:
        return False
    return hmac.compare_digest(e, hash_e(*map(secp.serialize_uncompressed, (R1, R2, A, C))))


def dleq_verify_carol(K: bytes, secret: bytes, C: bytes, e: bytes, s: bytes, r: bytes) -> bool:
    """Carol's check of a proof she was given with its blinding factor r (NUT-12, Carol verifies); never raises."""
    try:
        C_ = secp.add_points(C, secp.ecdh_point(r, K))
        B_ = blind(secret, r)
    except InvalidKey:
        return False
    return dleq_verify(K, B_, C_, e, s)
