"""Held events: mail that an office shows to nobody until the preimage of a payment is presented (wire contract, 4).

T = H("hold", payment hash ‖ id)        id: that of the sealed request or offer, so the payment hash stays private
event with ["hold", T]  ─▶ stored, its header shown as held
["RELEASE", T, x, id]   ─▶ T = H("hold", SHA256(x) ‖ id)?  ─▶ open
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from pennypost.protocol.errors import InvalidEvent
from pennypost.protocol.event import (
    KIND_DELETION,
    Event,
    is_addressable,
    is_ephemeral,
    is_hex64,
    is_replaceable,
)
from pennypost.protocol.secp import tagged_hash

TAG: Final = "hold"


def hold_tag(payment_hash: bytes, identifier: bytes) -> bytes:
    """The 32 bytes T for a payment hash and the id of the request or offer, 32 bytes each."""
    if not len(payment_hash) == len(identifier) == 32:
        raise ValueError("a payment hash and an id have 32 bytes each")
    return tagged_hash("hold", payment_hash, identifier)


def opens(hold: bytes, preimage: bytes, identifier: bytes) -> bool:
    """Whether the preimage x of a payment, with this id, releases T; compared in constant time."""
    return compare_digest(hold_tag(sha256(preimage).digest(), identifier), hold)


def hold_of(event: Event) -> bytes | None:
    """T of an event that is to be held; None for one without a `hold` tag.

    Raises InvalidEvent for two of them, for one that is not 64 lower-case hex digits, and for an event that cannot
    wait: ephemeral, replaceable, or a deletion. To store it openly would give away what was to be paid for.
    """
    found: list[str] | None = None
    for tag in event.tags:
        if tag[0] == TAG:
            if found is not None:
                raise InvalidEvent("it has two hold tags")
            found = tag
    if found is None:
        return None
    if len(found) < 2 or not is_hex64(found[1]):
        raise InvalidEvent("a hold tag has 64 lower-case hex digits")
    kind = event.kind
    if kind == KIND_DELETION or is_ephemeral(kind) or is_replaceable(kind) or is_addressable(kind):
        raise InvalidEvent("an event of this kind cannot be held")
    return bytes.fromhex(found[1])
