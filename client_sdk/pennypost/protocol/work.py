"""Proof of work of events (NIP-13): leading zero bits of the id, as far as the event commits to them."""

from __future__ import annotations

import re
from typing import Final

from pennypost.protocol.event import Event

ID_BITS: Final = 256

_TARGET: Final = re.compile(r"[0-9]{1,3}")


def difficulty(identifier: str) -> int:
    """Leading zero bits of an id of 64 hex digits."""
    return ID_BITS - int(identifier, 16).bit_length()


def committed_work(event: Event) -> int:
    """The difficulty that the event's first `nonce` tag commits to, where its id has it; else 0.

    Bits beyond the target count for nothing, nor do those without one: whoever mines for less and is lucky now and then
    has not done the work (NIP-13, Mining).
    """
    for tag in event.tags:
        if tag[0] == "nonce":
            target = int(tag[2]) if len(tag) > 2 and _TARGET.fullmatch(tag[2]) else 0
            return target if difficulty(event.id) >= target else 0
    return 0
