"""What an event becomes in the tables: its tag keys, its address, its line of the header feed."""

from __future__ import annotations

import re
from hashlib import sha256

from pennypost.protocol.event import KIND_GIFT_WRAP, Event, address, is_hex64
from pennypost.protocol.headers import RECORD, header_of

LONG_TAG = 64
"""Bytes of a tag value that is kept as it is; a longer one is kept as its hash, so that index rows stay narrow."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VIEW_TAG = re.compile(rb'\["vt","[0-9a-f]{8}"')
_OFFSET_BYTES = 4
_FLAG_BYTES = 2


def tag_key(letter: str, value: str) -> bytes:
    """The index key of a one-letter tag: the letter, a mark of the form, then 32 bytes, the text, or its hash."""
    if len(value) == 64:
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if raw.hex() == value:
            return letter.encode() + b"x" + raw
    text = value.encode()
    if len(text) <= LONG_TAG:
        return letter.encode() + b"t" + text
    return letter.encode() + b"h" + sha256(text).digest()


def tag_keys(event: Event) -> set[bytes]:
    """Keys of everything a filter can ask for by `#x` (NIP-01: only the first value of a one-letter tag)."""
    return {tag_key(tag[0], tag[1]) for tag in event.tags if len(tag) > 1 and tag[0] in _LETTERS}


def address_key(text: str) -> bytes:
    """32 bytes for an address `kind:pubkey:d`, however long its `d` is."""
    return sha256(text.encode()).digest()


def address_of(event: Event) -> bytes | None:
    """The key under which only the latest event is kept; None for ordinary events."""
    found = address(event)
    return None if found is None else address_key(found)


def vanish_key(pubkey: str) -> bytes:
    """What stands for a key that vanished (NIP-62): a hash, from which the key cannot be read."""
    return sha256(b"vanished" + bytes.fromhex(pubkey)).digest()


def vanish_keys(event: Event) -> list[bytes]:
    """Of everyone whose vanishing keeps this event out: its author, and whoever a gift wrap is addressed to."""
    keys = [vanish_key(event.pubkey)]
    if event.kind == KIND_GIFT_WRAP:
        keys += [vanish_key(tag[1]) for tag in event.tags if tag[0] == "p" and len(tag) > 1 and is_hex64(tag[1])]
    return keys


def feed_record(event: Event) -> bytes | None:
    """The 40 bytes of the header feed after the offset; None for an event that the feed does not show."""
    header = header_of(event)
    if header is None:
        return None
    return RECORD.pack(0, header.pubkey, header.view_tag, header.size_class, header.ttl_class, header.flags)[
        _OFFSET_BYTES:
    ]


def with_flags(record: bytes | None, flags: int) -> bytes | None:
    """The record of the header feed with these flags (`headers.HELD`, `headers.RELEASED`)."""
    return None if record is None else record[:-_FLAG_BYTES] + flags.to_bytes(_FLAG_BYTES)


def held_name(identifier: bytes) -> bytes:
    """What stands for a held event in the feed: a hash of its id. No event has it, so nothing is found by it."""
    return sha256(identifier).digest()


def is_concealed(kind: int, body: bytes) -> bool:
    """Whether it is a gift wrap without a view tag: served only to filters that name `#p` or `ids`.

    In compact JSON these bytes can only be a tag: inside of a string the quotes would be escaped.
    """
    return kind == KIND_GIFT_WRAP and _VIEW_TAG.search(body) is None
