"""Encrypted payloads, version 2 (NIP-44).

    secret × public key ──ecdh──▶ x ──HKDF-extract──▶ conversation key
    conversation key ──HKDF-expand(nonce)──▶ cipher key, cipher nonce, MAC key
    text ──pad──▶ ChaCha20 ──▶ version(1) ‖ nonce(32) ‖ ciphertext ‖ HMAC-SHA256(32) ──▶ base64

Who reads a payload has verified the signature of the event it came in.
"""

from __future__ import annotations

import binascii
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidPayload

MAX_PLAINTEXT: Final = 65_535
"""Bytes of a text. The NIP lets each implementation set its maximum; up to here its two length prefixes agree."""

VERSION: Final = 2

_OVERHEAD: Final = 1 + 32 + 32
_SHORTEST: Final = _OVERHEAD + 2 + 32
_LONGEST: Final = _OVERHEAD + 2 + 65_536
_FIRST_COUNTER: Final = bytes(4)


def conversation_key(secret: bytes, pub: bytes) -> bytes:
    """The 32-byte key two people share: of one's secret (32 bytes) and the other's public key (32 bytes).

    Raises InvalidKey (NIP-44, Encryption, step 1).
    """
    return digest(b"nip44-v2", secp.ecdh_x(secret, pub), sha256)


def message_keys(key: bytes, nonce: bytes) -> tuple[bytes, bytes, bytes]:
    """ChaCha20 key (32 bytes) and nonce (12), and HMAC key (32) of one message (NIP-44, Encryption, step 3)."""
    if len(key) != 32 or len(nonce) != 32:
        raise ValueError("conversation key and nonce have 32 bytes each")
    block = expanded = b""
    for counter in (1, 2, 3):
        block = digest(key, block + nonce + bytes((counter,)), sha256)
        expanded += block
    return expanded[:32], expanded[32:44], expanded[44:76]


def padded_length(length: int) -> int:
    """Bytes that a text of `length` bytes (1 or more) is padded to, without the prefix (NIP-44, Encryption, step 4)."""
    if length <= 32:
        return 32
    next_power = 1 << (length - 1).bit_length()
    chunk = max(32, next_power // 8)
    return chunk * ((length - 1) // chunk + 1)


def _pad(text: bytes) -> bytes:
    if not 0 < len(text) <= MAX_PLAINTEXT:
        raise InvalidInput("a text to encrypt has 1 to 65,535 bytes")
    return len(text).to_bytes(2, "big") + text.ljust(padded_length(len(text)), b"\0")


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:2], "big")
    text = padded[2 : 2 + length]
    if length == 0 or len(padded) != 2 + padded_length(length):
        raise InvalidPayload("its padding is wrong")
    return text


def _chacha20(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(ChaCha20(key, _FIRST_COUNTER + nonce), mode=None).encryptor().update(data)


def encrypt(plaintext: str, key: bytes, nonce: bytes) -> str:
    """The base64 payload of a text of 1 to 65,535 bytes in UTF-8.

    `key` is the conversation key, `nonce` 32 bytes of fresh randomness. Raises InvalidInput for other texts.
    """
    try:
        padded = _pad(plaintext.encode())
    except UnicodeEncodeError:
        raise InvalidInput("lone surrogates have no UTF-8") from None
    cipher_key, cipher_nonce, mac_key = message_keys(key, nonce)
    ciphertext = _chacha20(cipher_key, cipher_nonce, padded)
    mac = digest(mac_key, nonce + ciphertext, sha256)
    return binascii.b2a_base64(bytes((VERSION,)) + nonce + ciphertext + mac, newline=False).decode()


def decrypt(payload: str, key: bytes) -> str:
    """The text of a payload, which the caller has seen signed (NIP-44, Decryption). Raises InvalidPayload."""
    if not payload or payload[0] == "#":
        raise InvalidPayload("its encryption version is not known here")
    if not _SHORTEST <= len(payload) * 3 // 4 <= _LONGEST + 2:
        raise InvalidPayload("its length is wrong")
    try:
        data = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:
        raise InvalidPayload("it is not base64") from None
    if not _SHORTEST <= len(data) <= _LONGEST:
        raise InvalidPayload("its length is wrong")
    if data[0] != VERSION:
        raise InvalidPayload("its encryption version is not known here")
    nonce, ciphertext, mac = data[1:33], data[33:-32], data[-32:]
    cipher_key, cipher_nonce, mac_key = message_keys(key, nonce)
    if not compare_digest(digest(mac_key, nonce + ciphertext, sha256), mac):
        raise InvalidPayload("it was written for another key, or changed")
    try:
        return _unpad(_chacha20(cipher_key, cipher_nonce, ciphertext)).decode()
    except UnicodeDecodeError:
        raise InvalidPayload("it is not text") from None
