"""Secrets that a wallet can derive again from its seed (NUT-13).

seed, keyset id "01…", counter ── HMAC-SHA256 ──▶ secret (64 hex digits) and blinding factor r (32 bytes)
seed, keyset id "00…", counter ── BIP-32 ───────▶ the same (older)
twelve words ── mnemonic_seed ──▶ seed (BIP-39)
"""

from __future__ import annotations

import hmac
import unicodedata
from hashlib import pbkdf2_hmac
from typing import Final

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey
from pennypost.protocol.keyset import is_keyset_id

DOMAIN: Final = b"Cashu_KDF_HMAC_SHA256"

_HARDENED: Final = 1 << 31
_PURPOSE: Final = 129_372


def is_derivable(keyset_id: str) -> bool:
    """Whether secrets for this keyset can be derived: it is a full id of version 2 or 1."""
    return is_keyset_id(keyset_id)


def derive(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    """(secret, r) number `counter` of a full keyset id; up to 2^64 - 1, for version 1 up to 2^31 - 1.

    Raises ValueError for another keyset id or counter, and InvalidKey for the one counter in 2^127 that has no r.
    """
    if not is_keyset_id(keyset_id):
        raise ValueError("only full keyset ids have derived secrets")
    return (_derive_hmac if keyset_id.startswith("01") else _derive_bip32)(seed, keyset_id, counter)


def mnemonic_seed(words: str, passphrase: str = "") -> bytes:
    """The 64-byte seed of a sentence of words (BIP-39, From mnemonic to seed); its checksum is not looked at."""
    sentence, salt = (unicodedata.normalize("NFKD", text).encode() for text in (words, "mnemonic" + passphrase))
    return pbkdf2_hmac("sha512", sentence, salt, 2048)


def _derive_hmac(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    if not 0 <= counter < 1 << 64:
        raise ValueError("a counter has 64 bits")
    message = DOMAIN + bytes.fromhex(keyset_id) + counter.to_bytes(8)
    secret = hmac.digest(seed, message + b"\x00", "sha256")
    r = int.from_bytes(hmac.digest(seed, message + b"\x01", "sha256")) % secp.ORDER
    if r == 0:
        raise InvalidKey("this counter has no blinding factor")
    return secret.hex(), r.to_bytes(32)


def _derive_bip32(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    """m / 129372' / 0' / keyset' / counter' / 0 for the secret, … / 1 for r (NUT-13, Legacy Derivation)."""
    if not 0 <= counter < _HARDENED:
        raise ValueError("a counter has 31 bits")
    keyset = int(keyset_id, 16) % (_HARDENED - 1)
    node = _split(hmac.digest(b"Bitcoin seed", seed, "sha512"))
    for index in (_PURPOSE, 0, keyset, counter):
        node = _child(*node, _HARDENED | index)
    return _child(*node, 0)[0].hex(), _child(*node, 1)[0]


def _split(digest: bytes) -> tuple[bytes, bytes]:
    return digest[:32], digest[32:]


def _child(key: bytes, chain: bytes, index: int) -> tuple[bytes, bytes]:
    """Key and chain code of a child (BIP-32, Private parent key → private child key). Raises InvalidKey."""
    parent = b"\x00" + key if index & _HARDENED else secp.point(key)
    summand, below = _split(hmac.digest(chain, parent + index.to_bytes(4), "sha512"))
    return secp.add_secrets(key, summand), below
