"""The older encryption of Nostr (NIP-04), for wallets that know no other (NIP-47, Encryption).

    secret × public key ──ecdh──▶ x, the AES key        text ──AES-256-CBC──▶ "<base64>?iv=<base64>"

It has no MAC: whoever reads a payload has verified the signature of the event it came in. Nothing new uses it.
"""

from __future__ import annotations

import binascii
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from pennypost.protocol.errors import InvalidInput, InvalidPayload

MAX_PLAINTEXT: Final = 65_535
"""Bytes of a text, as in NIP-44."""

_BLOCK: Final = 16
_MARK: Final = "?iv="
_LONGEST: Final = (MAX_PLAINTEXT + _BLOCK) * 4 // 3 + 64


def encrypt(plaintext: str, key: bytes, iv: bytes) -> str:
    """The payload of a text of at most 65,535 bytes; `key` is `secp.ecdh_x`, `iv` 16 bytes of fresh randomness.

    Raises InvalidInput for other texts.
    """
    try:
        text = plaintext.encode()
    except UnicodeEncodeError:
        raise InvalidInput("lone surrogates have no UTF-8") from None
    if len(text) > MAX_PLAINTEXT:
        raise InvalidInput("a text to encrypt has at most 65,535 bytes")
    missing = _BLOCK - len(text) % _BLOCK
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    ciphertext = encryptor.update(text + bytes([missing]) * missing) + encryptor.finalize()
    return f"{_base64(ciphertext)}{_MARK}{_base64(iv)}"


def decrypt(payload: str, key: bytes) -> str:
    """The text of a payload, which the caller has seen signed. Raises InvalidPayload."""
    if len(payload) > _LONGEST:
        raise InvalidPayload("its length is wrong")
    text, mark, vector = payload.partition(_MARK)
    try:
        ciphertext, iv = (binascii.a2b_base64(part, strict_mode=True) for part in (text, vector))
    except ValueError:
        raise InvalidPayload("it is not base64") from None
    if not mark or len(iv) != _BLOCK or not ciphertext or len(ciphertext) % _BLOCK:
        raise InvalidPayload("its length is wrong")
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    count = padded[-1]
    if not 0 < count <= _BLOCK or padded[-count:] != bytes([count]) * count:
        raise InvalidPayload("its padding is wrong")
    try:
        return padded[:-count].decode()
    except UnicodeDecodeError:
        raise InvalidPayload("it is not text") from None


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
