"""The scan key: it finds a person's letters and opens none of them (wire contract, section 2, Headers).

    nsec ──scan_secret_of──▶ scan secret b_scan ──▶ B_scan, beside the npub in an address
    ScanKey(b_scan, npub) ──encode_scan_key──▶ "ppscan1…" ──decode_scan_key──▶ ScanKey ──▶ stealth.Scanner

It is a hash of the nsec, so a copy of the nsec is a copy of both, and nothing leads back. A letter is opened with
b_spend + t: whoever has the scan key knows t, and lacks b_spend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pennypost.protocol import bech32, secp
from pennypost.protocol.errors import InvalidKey

PREFIX: Final = "ppscan"

_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class ScanKey:
    """What a watcher needs: the scan secret and the person's spend key, which is his npub (32 bytes each)."""

    secret: bytes = field(repr=False)
    spend: bytes


def scan_secret_of(secret: bytes) -> bytes:
    """The 32-byte scan secret that goes with a person's secret key (32 bytes). Raises InvalidKey."""
    found = secp.tagged_hash("scan-key", secret)
    if not secp.valid_secret(secret) or not secp.valid_secret(found):
        raise InvalidKey
    return found


def encode_scan_key(key: ScanKey) -> str:
    """The text `ppscan1…` for a watcher."""
    return bech32.encode(PREFIX, bech32.regroup(key.secret + key.spend, 8, 5))


def decode_scan_key(text: str) -> ScanKey:
    """The scan key of a text. Raises InvalidKey."""
    found = bech32.decode(text.strip(), _LENGTH)
    # 64 bytes are 102 groups and two bits, which are followed by three bits of nothing.
    if found is None or found[0] != PREFIX or len(found[1]) != 103 or found[1][-1] & 0b111:
        raise InvalidKey("this is no scan key (ppscan1…)")
    data = bytes(bech32.regroup(found[1], 5, 8)[:64])
    key = ScanKey(data[:32], data[32:])
    if not secp.valid_secret(key.secret):
        raise InvalidKey("this is no scan key (ppscan1…)")
    secp.lift_x(key.spend)
    return key
