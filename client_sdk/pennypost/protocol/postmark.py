"""Postmarks: what an office signs that it keeps for you (wire contract, section 1).

    H("postmark", id(32) ‖ office(32) ‖ stored_at(8) ‖ keep_until(8) ‖ sat(8)), big-endian ─▶ Schnorr, by the office

It is proof of posting, and evidence where the event is not kept until `keep_until`. `office` is the key that the relay
information document names as `self` (NIP-11).
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, Any, Final

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import OfficeMisbehaves
from pennypost.protocol.event import is_hex64

_NUMBERS: Final = Struct(">QQQ")
_AUX: Final = bytes(32)
"""No randomness: the same statement has the same signature, whenever it is asked for (BIP-340, Default Signing)."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
_Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]


class Postmark(msgspec.Struct, frozen=True, gc=False):
    """What stands in `["POSTMARK", id, {…}]`: keys and signature in hex, times in Unix seconds.

    `sat` is what the stamp paid for this event, 0 where none was needed.
    """

    office: _Hex64
    stored_at: _Number
    keep_until: _Number
    sat: _Number
    sig: _Hex128


def postmark_hash(identifier: bytes, office: bytes, stored_at: int, keep_until: int, sat: int) -> bytes:
    """The 32 bytes that the office signs; `identifier` is the event's id and `office` its public key, 32 bytes each."""
    if not len(identifier) == len(office) == 32:
        raise ValueError("an id and a public key have 32 bytes each")
    return secp.tagged_hash("postmark", identifier, office, _NUMBERS.pack(stored_at, keep_until, sat))


def sign_postmark(secret: bytes, identifier: bytes, stored_at: int, keep_until: int, sat: int) -> Postmark:
    """The postmark of the office with this secret key for the event with this id (32 bytes). Raises InvalidKey."""
    office = secp.xonly(secret)
    signature = secp.schnorr_sign(secret, postmark_hash(identifier, office, stored_at, keep_until, sat), _AUX)
    return Postmark(office.hex(), stored_at, keep_until, sat, signature.hex())


def read_postmark(value: object) -> Postmark:
    """A postmark as an office sent it (decoded JSON). Raises OfficeMisbehaves."""
    try:
        return msgspec.convert(value, Postmark)
    except msgspec.ValidationError:
        raise OfficeMisbehaves("a malformed postmark") from None


def is_genuine(postmark: Postmark, event_id: str) -> bool:
    """Whether the office that it names signed it for the event with this id (64 hex digits); never raises."""
    if not is_hex64(event_id):
        return False
    office = bytes.fromhex(postmark.office)
    signed = postmark_hash(bytes.fromhex(event_id), office, postmark.stored_at, postmark.keep_until, postmark.sat)
    return secp.schnorr_verify(office, signed, bytes.fromhex(postmark.sig))


def postmark_json(postmark: Postmark) -> dict[str, Any]:
    """The object of the frame."""
    return msgspec.structs.asdict(postmark)
