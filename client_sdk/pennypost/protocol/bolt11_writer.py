"""Lightning invoices, written (BOLT 11): for play money, whose invoices no real wallet pays.

    ln | network | amount | 1 | time (35 bits), fields (type, length, data), signature (520 bits) | checksum

Only what such an invoice needs. `bolt11` reads what this writes. Randomness and time are passed in.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

from pennypost.protocol import bech32

NETWORK: Final = "bcrt"
"""The prefix of regtest: no wallet with money in it pays such an invoice."""

FEATURES: Final = 1 << 8 | 1 << 14
"""Onion payloads and the payment secret, both required (BOLT 9)."""

MAX_MEMO: Final = 639
"""Bytes of a description: its length is counted in 1,023 groups of five bits."""

_TIME_GROUPS: Final = 7
_PrivateKey: Any = import_module("coincurve").PrivateKey


def write_invoice(
    key: bytes,
    msat: int,
    payment_hash: bytes,
    payment_secret: bytes,
    description: str | bytes,
    created_at: int,
    expiry_seconds: int,
    network: str = NETWORK,
) -> str:
    """A signed invoice over `msat` (BOLT 11); `key` is the payee's 32-byte secret, the hashes 32 bytes each.

    `description` is a text, cut to 639 bytes, or the 32 bytes of its hash.
    """
    if isinstance(description, str):
        text = description.encode()[:MAX_MEMO].decode(errors="ignore").encode()
        described = _field("d", _groups(text))
    else:
        described = _field("h", _groups(description))
    groups = [
        *_number(created_at, _TIME_GROUPS),
        *_field("s", _groups(payment_secret)),
        *_field("p", _groups(payment_hash)),
        *described,
        *_field("x", _number(expiry_seconds)),
        *_field("9", _number(FEATURES)),
    ]
    prefix = f"ln{network}{_amount(msat)}"
    signature: bytes = _signer(key).sign_recoverable(sha256(prefix.encode() + _bytes(groups)).digest(), hasher=None)
    return bech32.encode(prefix, groups + _groups(signature))


@lru_cache(maxsize=1)
def _signer(key: bytes) -> Any:
    """It calculates two public keys when it is made, which costs more than a signature."""
    return _PrivateKey(key)


def _amount(msat: int) -> str:
    """The shortest BOLT11 amount: 1 msat is 10 pico-bitcoin."""
    value, unit = msat * 10, 0
    while unit < 4 and value % 1_000 == 0:
        value, unit = value // 1_000, unit + 1
    return f"{value}{('p', 'n', 'u', 'm', '')[unit]}"


def _field(kind: str, data: list[int]) -> list[int]:
    return [bech32.ALPHABET.index(kind), len(data) >> 5, len(data) & 31, *data]


def _number(value: int, width: int = 0) -> list[int]:
    groups: list[int] = []
    while value or len(groups) < width:
        groups.append(value & 31)
        value >>= 5
    return groups[::-1]


def _groups(data: bytes) -> list[int]:
    return bech32.regroup(data, 8, 5)


def _bytes(groups: list[int]) -> bytes:
    """Groups of five bits as bytes, the last filled with zeros: what is signed."""
    return bytes(bech32.regroup(groups, 5, 8))
