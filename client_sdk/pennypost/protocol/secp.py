"""The curve: keys, points, ECDH and Schnorr signatures over secp256k1.

    32-byte secret ──xonly──▶ 32-byte public key (BIP-340) ──lift_x──▶ 33-byte compressed point
    32-byte secret ──point──▶ 33-byte compressed point
    secret × public key ──ecdh_x──▶ raw x            (NIP-44, stealth wraps)
    secret × point ──ecdh_point──▶ compressed point  (blind signatures)
    secret × point ──ecdh_sha256──▶ SHA256(compressed point)  (verifying proofs)
    33-byte compressed point ──parse──▶ Parsed ──serialize──▶ 33 bytes

It speaks to libsecp256k1 through coincurve's cffi module, because coincurve's own classes hash every ECDH and copy
every key. Whatever multiplies a secret goes through `secp256k1_ecdh`, `…_keypair_create` or `…_ec_pubkey_create`, which
take the same time for every secret; `…_ec_pubkey_tweak_mul` does not, so `multiply_public` is for public numbers only.
A C function that hands out the raw point does not exist in the library: its hash function is a callback of ours, which
costs about 1 µs of some 40.

Every function takes and returns `bytes` of a fixed length and raises `InvalidKey` on anything else.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NewType

from pennypost.protocol.errors import InvalidKey

# The compiled module has no type stubs, and coincurve's own modules give its objects no types.
_native: Any = import_module("coincurve._libsecp256k1")
_ffi: Any = _native.ffi
_lib: Any = _native.lib
_context: Any = import_module("coincurve.context").GLOBAL_CONTEXT.ctx

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""n, the number of points of the curve; a secret is an integer from 1 to n - 1, big-endian."""

Parsed = NewType("Parsed", object)
"""A point already read: libsecp256k1's own form of it, for those who use one point twice."""

_ONE: Final = (1).to_bytes(32)
_COMPRESSED: Final[int] = _lib.SECP256K1_EC_COMPRESSED
_UNCOMPRESSED: Final[int] = _lib.SECP256K1_EC_UNCOMPRESSED
_new: Any = _ffi.new
_move: Any = _ffi.memmove

# Prepared types: cffi would parse the declaration at each call.
_Pubkey: Any = _ffi.typeof("secp256k1_pubkey *")
_Xonly: Any = _ffi.typeof("secp256k1_xonly_pubkey *")
_Keypair: Any = _ffi.typeof("secp256k1_keypair *")
_Size: Any = _ffi.typeof("size_t *")
_Bytes32: Any = _ffi.typeof("unsigned char[32]")
_Bytes33: Any = _ffi.typeof("unsigned char[33]")
_Bytes64: Any = _ffi.typeof("unsigned char[64]")
_Bytes65: Any = _ffi.typeof("unsigned char[65]")

_HASH_FUNCTION: Final = "int(unsigned char *, const unsigned char *, const unsigned char *, void *)"


@_ffi.callback(_HASH_FUNCTION)
def _raw_x(output: Any, x32: Any, y32: Any, data: Any) -> int:
    _move(output, x32, 32)
    return 1


@_ffi.callback(_HASH_FUNCTION)
def _raw_point(output: Any, x32: Any, y32: Any, data: Any) -> int:
    output[0] = 2 | (y32[31] & 1)
    _move(output + 1, x32, 32)
    return 1


@_ffi.callback(_HASH_FUNCTION)
def _raw_uncompressed(output: Any, x32: Any, y32: Any, data: Any) -> int:
    output[0] = 4
    _move(output + 1, x32, 32)
    _move(output + 33, y32, 32)
    return 1


@lru_cache(maxsize=64)
def _tag_state(name: str) -> Any:
    tag = hashlib.sha256(f"pennypost/{name}/v1".encode()).digest()
    return hashlib.sha256(tag + tag)


def tagged_hash(name: str, *parts: bytes) -> bytes:
    """32 bytes: BIP-340's tagged hash of the parts joined, with the tag `pennypost/<name>/v1`."""
    state = _tag_state(name).copy()
    for part in parts:
        state.update(part)
    return state.digest()


def _check_secret(secret: bytes) -> None:
    if len(secret) != 32:
        raise InvalidKey("a secret key has 32 bytes")


def try_parse(point33: bytes) -> Parsed | None:
    """The point of 33 compressed bytes, or None when they are none."""
    key = _new(_Pubkey)
    if len(point33) != 33 or not _lib.secp256k1_ec_pubkey_parse(_context, key, point33, 33):
        return None
    return key


def parse(point33: bytes) -> Parsed:
    """The point of 33 compressed bytes. Raises InvalidKey."""
    parsed = try_parse(point33)
    if parsed is None:
        raise InvalidKey("not a compressed point of the curve")
    return parsed


def _parse_xonly(pub: bytes) -> Any:
    key = _new(_Xonly)
    if len(pub) != 32 or not _lib.secp256k1_xonly_pubkey_parse(_context, key, pub):
        raise InvalidKey("not the x coordinate of a point of the curve")
    return key


def serialize(parsed: Parsed) -> bytes:
    """The 33 compressed bytes of a point."""
    output = _new(_Bytes33)
    _lib.secp256k1_ec_pubkey_serialize(_context, output, _new(_Size, 33), parsed, _COMPRESSED)
    return _bytes_of(output, 33)


def serialize_uncompressed(parsed: Parsed) -> bytes:
    """The 65 uncompressed bytes of a point, as NUT-12 hashes it."""
    output = _new(_Bytes65)
    _lib.secp256k1_ec_pubkey_serialize(_context, output, _new(_Size, 65), parsed, _UNCOMPRESSED)
    return _bytes_of(output, 65)


def _bytes_of(buffer: Any, length: int) -> bytes:
    return bytes(_ffi.buffer(buffer, length))


def _keypair(secret: bytes) -> Any:
    _check_secret(secret)
    pair = _new(_Keypair)
    if not _lib.secp256k1_keypair_create(_context, pair, secret):
        raise InvalidKey("a secret key is a number from 1 to n - 1")
    return pair


def valid_secret(secret: bytes) -> bool:
    """Whether these are 32 bytes that make a secret key: a number from 1 to n - 1."""
    return len(secret) == 32 and bool(_lib.secp256k1_ec_seckey_verify(_context, secret))


def xonly(secret: bytes) -> bytes:
    """The 32-byte public key of a 32-byte secret (BIP-340). Raises InvalidKey."""
    key, output = _new(_Xonly), _new(_Bytes32)
    _lib.secp256k1_keypair_xonly_pub(_context, key, _ffi.NULL, _keypair(secret))
    _lib.secp256k1_xonly_pubkey_serialize(_context, output, key)
    return _bytes_of(output, 32)


def create(secret: bytes) -> Parsed:
    """The point secret·G, in constant time. Raises InvalidKey."""
    _check_secret(secret)
    key = _new(_Pubkey)
    if not _lib.secp256k1_ec_pubkey_create(_context, key, secret):
        raise InvalidKey("a secret key is a number from 1 to n - 1")
    return key


def point(secret: bytes) -> bytes:
    """The 33-byte compressed point secret·G, in constant time. Raises InvalidKey."""
    return serialize(create(secret))


def is_point(point33: bytes) -> bool:
    """Whether these are the 33 bytes of a compressed point of the curve."""
    return try_parse(point33) is not None


def lift_x(pub: bytes) -> bytes:
    """The 33-byte compressed point with even Y of a 32-byte public key (BIP-340, lift_x). Raises InvalidKey."""
    if len(pub) != 32:
        raise InvalidKey("not the x coordinate of a point of the curve")
    point33 = b"\x02" + pub
    parse(point33)
    return point33


def _ecdh(secret: bytes, parsed: Parsed, output: Any, hash_function: Any) -> None:
    _check_secret(secret)
    if not _lib.secp256k1_ecdh(_context, output, parsed, secret, hash_function, _ffi.NULL):
        raise InvalidKey("a secret key is a number from 1 to n - 1")


def ecdh_x(secret: bytes, pub: bytes) -> bytes:
    """The raw 32-byte x of secret·lift_x(pub), in constant time. Raises InvalidKey.

    The sign of the secret does not matter to x, so no negation for odd Y is needed.
    """
    output = _new(_Bytes32)
    _ecdh(secret, parse(b"\x02" + pub), output, _raw_x)
    return _bytes_of(output, 32)


def ecdh_point(secret: bytes, point33: bytes) -> bytes:
    """The 33-byte compressed point secret·P, in constant time. Raises InvalidKey."""
    output = _new(_Bytes33)
    _ecdh(secret, parse(point33), output, _raw_point)
    return _bytes_of(output, 33)


def ecdh_uncompressed(secret: bytes, parsed: Parsed) -> bytes:
    """The 65-byte uncompressed point secret·P, in constant time. Raises InvalidKey."""
    output = _new(_Bytes65)
    _ecdh(secret, parsed, output, _raw_uncompressed)
    return _bytes_of(output, 65)


def ecdh_sha256(secret: bytes, point33: bytes) -> bytes:
    """SHA256 of the compressed point secret·P (32 bytes), in constant time. Raises InvalidKey."""
    return ecdh_sha256_parsed(secret, parse(point33))


def ecdh_sha256_parsed(secret: bytes, parsed: Parsed) -> bytes:
    """The same for a point already read."""
    output = _new(_Bytes32)
    _ecdh(secret, parsed, output, _ffi.NULL)
    return _bytes_of(output, 32)


def multiply_public(scalar: bytes, parsed: Parsed) -> Parsed:
    """scalar·P in **variable time**: for numbers that anyone may know, such as those of a signature being verified.

    Raises InvalidKey when the scalar is not a number from 1 to n - 1.
    """
    product = _new(_Pubkey, _ffi.cast(_Pubkey, parsed)[0])
    if len(scalar) != 32 or not _lib.secp256k1_ec_pubkey_tweak_mul(_context, product, scalar):
        raise InvalidKey("a scalar is a number from 1 to n - 1")
    return product


def add_secrets(secret: bytes, summand: bytes) -> bytes:
    """The 32-byte secret + summand mod n, in constant time. Raises InvalidKey when one or the sum is no secret key."""
    return secret_times_plus(secret, _ONE, summand)


def secret_times_plus(secret: bytes, factor: bytes, summand: bytes) -> bytes:
    """The 32-byte secret·factor + summand mod n, in constant time.

    Raises InvalidKey when a value is 0 or >= n, or the result is 0.
    """
    if not len(secret) == len(factor) == len(summand) == 32:
        raise InvalidKey("a scalar has 32 bytes")
    result = _new(_Bytes32, secret)
    if not _lib.secp256k1_ec_seckey_tweak_mul(_context, result, factor):
        raise InvalidKey("a scalar is a number from 1 to n - 1")
    if not _lib.secp256k1_ec_seckey_tweak_add(_context, result, summand):
        raise InvalidKey("the result is zero")
    return _bytes_of(result, 32)


def tweak_pub(pub: bytes, t: bytes) -> bytes:
    """The 32-byte x of lift_x(pub) + t·G. Raises InvalidKey when t >= n or the sum is infinite."""
    key, combined, output = _parse_xonly(pub), _new(_Pubkey), _new(_Xonly)
    if len(t) != 32 or not _lib.secp256k1_xonly_pubkey_tweak_add(_context, combined, key, t):
        raise InvalidKey("the tweak cannot be used")
    _lib.secp256k1_xonly_pubkey_from_pubkey(_context, output, _ffi.NULL, combined)
    serialized = _new(_Bytes32)
    _lib.secp256k1_xonly_pubkey_serialize(_context, serialized, output)
    return _bytes_of(serialized, 32)


def tweak_secret(secret: bytes, t: bytes) -> bytes:
    """The 32-byte secret of `tweak_pub(xonly(secret), t)`, in constant time.

    The secret is negated first when its public key has odd Y (BIP-340). Raises InvalidKey when t >= n or the sum is 0.
    """
    pair = _keypair(secret)
    if len(t) != 32 or not _lib.secp256k1_keypair_xonly_tweak_add(_context, pair, t):
        raise InvalidKey("the tweak cannot be used")
    output = _new(_Bytes32)
    _lib.secp256k1_keypair_sec(_context, output, pair)
    return _bytes_of(output, 32)


def combine(*parsed: Parsed) -> Parsed | None:
    """The sum of one or more points, or None when it is infinite."""
    total = _new(_Pubkey)
    return total if _lib.secp256k1_ec_pubkey_combine(_context, total, parsed, len(parsed)) else None


def add_points(*points: bytes) -> bytes:
    """The 33-byte sum of one or more compressed points. Raises InvalidKey, also when the sum is infinite."""
    total = combine(*(parse(each) for each in points)) if points else None
    if total is None:
        raise InvalidKey("the points add up to infinity")
    return serialize(total)


def negate_point(point33: bytes) -> bytes:
    """The 33-byte -P. Raises InvalidKey."""
    parse(point33)
    return bytes((point33[0] ^ 1,)) + point33[1:]


def schnorr_sign(secret: bytes, message32: bytes, aux32: bytes) -> bytes:
    """A 64-byte BIP-340 signature of a 32-byte message; `aux32` is 32 bytes of fresh randomness. Raises InvalidKey."""
    if len(message32) != 32 or len(aux32) != 32:
        raise ValueError("message and auxiliary randomness have 32 bytes each")
    signature = _new(_Bytes64)
    if not _lib.secp256k1_schnorrsig_sign32(_context, signature, message32, _keypair(secret), aux32):
        raise InvalidKey("a secret key is a number from 1 to n - 1")
    return _bytes_of(signature, 64)


def schnorr_verify(pub: bytes, message32: bytes, sig64: bytes) -> bool:
    """Whether `sig64` is the BIP-340 signature of the 32-byte message by the 32-byte public key; never raises."""
    if len(pub) != 32 or len(message32) != 32 or len(sig64) != 64:
        return False
    key = _new(_Xonly)
    if not _lib.secp256k1_xonly_pubkey_parse(_context, key, pub):
        return False
    return bool(_lib.secp256k1_schnorrsig_verify(_context, sig64, message32, 32, key))
