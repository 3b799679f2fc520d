"""Writes BOLT11 invoices, for the play-money node.

    lnbcrt | amount | 1 | time (35 bits), fields (type, length, data), signature (520 bits) | checksum

Only what such an invoice needs. The package `bolt11` does not import beside the `bitstring` that an ordinary
install brings, and takes a hundred times as long.
"""

from __future__ import annotations

from hashlib import sha256

from coincurve import PrivateKey

from pennypost.protocol import bech32

NETWORK = "bcrt"
"""The prefix of regtest: no wallet with money in it pays such an invoice."""

FEATURES = 1 << 8 | 1 << 14
"""Onion payloads and the payment secret, both required (BOLT 9)."""

MAX_MEMO = 639
"""Bytes of a description: its length is counted in 1,023 groups of five bits."""

_TIME_GROUPS = 7


def encode_invoice(
    key: bytes,
    amount: int,
    payment_hash: bytes,
    payment_secret: bytes,
    memo: str,
    created_at: int,
    expiry_seconds: int,
    network: str = NETWORK,
) -> str:
    """A signed invoice over `amount` sat (BOLT 11); `key` is the payee's 32-byte secret, the hashes 32 bytes each."""
    description = memo.encode()[:MAX_MEMO].decode(errors="ignore").encode()
    groups = [
        *_number(created_at, _TIME_GROUPS),
        *_field("s", _groups(payment_secret)),
        *_field("p", _groups(payment_hash)),
        *_field("d", _groups(description)),
        *_field("x", _number(expiry_seconds)),
        *_field("9", _number(FEATURES)),
    ]
    prefix = f"ln{network}{_amount(amount)}"
    signature = PrivateKey(key).sign_recoverable(sha256(prefix.encode() + _bytes(groups)).digest(), hasher=None)
    return bech32.encode(prefix, groups + _groups(signature))


def _amount(amount: int) -> str:
    """Sat as the shortest BOLT11 amount: 1 sat is 10 nano-bitcoin."""
    value, unit = amount * 10, 0
    while unit < 3 and value % 1_000 == 0:
        value, unit = value // 1_000, unit + 1
    return f"{value}{('n', 'u', 'm', '')[unit]}"


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
