"""Deletion requests (NIP-09): what one names, whom it may delete, and what keeps the deleted out.

    kind 5 ─ e ─▶ events of its author, or gift wraps that `p`-tag its author       tombstone: id, by whose right
           └ a ─▶ the current version at one of its author's own addresses          address tombstone: up to when

A request that names something stored and its own is free, and is kept as long as its targets. A deletion request is
not deleted by another. What is named before it arrives stays out too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pennypost.protocol.event import (
    KIND_DELETION,
    KIND_GIFT_WRAP,
    MAX_KIND,
    Event,
    is_addressable,
    is_hex64,
    is_replaceable,
    parse_event,
)
from pennypost_postoffice.rows import address_key

_KIND = re.compile(r"[0-9]{1,5}")


OPERATOR = bytes(32)
"""By whose right the operator deletes: no key, for nobody can sign with it."""


class Deletion(NamedTuple):
    """What a kind 5 names: event ids, and keys of addresses that are its author's own."""

    ids: list[bytes]
    addresses: list[bytes]


class Target(NamedTuple):
    """A stored event that a deletion names."""

    id: bytes
    pubkey: bytes
    kind: int
    created_at: int
    keep_until: int
    body: bytes


def read_deletion(event: Event) -> Deletion | None:
    """What a deletion names; None for other kinds. Names that are malformed or another author's are passed over."""
    if event.kind != KIND_DELETION:
        return None
    ids = {bytes.fromhex(tag[1]) for tag in event.tags if tag[0] == "e" and len(tag) > 1 and is_hex64(tag[1])}
    addresses = {key for tag in event.tags if tag[0] == "a" and len(tag) > 1 if (key := _own_address(tag[1], event))}
    return Deletion(sorted(ids), sorted(addresses))


def _own_address(text: str, event: Event) -> bytes | None:
    kind, _, rest = text.partition(":")
    pubkey, separator, d = rest.partition(":")
    if pubkey != event.pubkey or not _KIND.fullmatch(kind) or int(kind) > MAX_KIND:
        return None
    if is_replaceable(int(kind)):
        return address_key(f"{int(kind)}:{pubkey}:")
    if is_addressable(int(kind)) and separator:
        return address_key(f"{int(kind)}:{pubkey}:{d}")
    return None


def may_delete(author: bytes, target: Target) -> bool:
    """Whether the author of a deletion may delete a stored event."""
    if target.kind == KIND_DELETION:
        return False
    return target.pubkey == author or (target.kind == KIND_GIFT_WRAP and is_receiver(author, parse_event(target.body)))


def is_receiver(pubkey: bytes, event: Event) -> bool:
    """Whether a gift wrap is addressed to this key: its writer threw his own away, so the receiver may delete it."""
    text = pubkey.hex()
    return event.kind == KIND_GIFT_WRAP and any(tag[0] == "p" and len(tag) > 1 and tag[1] == text for tag in event.tags)
