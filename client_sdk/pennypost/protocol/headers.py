"""The header feed: what every receiver scans to find his mail (wire contract, section 2, Headers).

    start(8) ‖ { offset(4) ‖ R(32) ‖ view tag(4) ‖ size class(1) ‖ TTL class(1) ‖ flags(2) } …      all big-endian

A record's number is start + offset. Numbers only rise; one event may come twice, the second time as released.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from struct import Struct
from typing import Final

import msgspec

from pennypost.protocol.errors import OfficeMisbehaves
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, expiration, tag_value

HELD: Final = 1
RELEASED: Final = 2

START: Final = Struct(">Q")
RECORD: Final = Struct(">I32s4sBBH")
"""44 bytes."""

MEDIA_TYPE: Final = "application/octet-stream"

SIZE_CLASSES: Final = (4_096, 16_384, 65_536)
"""Largest content, in bytes, of size classes 0, 1 and 2: what a letter padded to 1, 4 or 16 KiB becomes, with room."""

TTL_CLASSES: Final = (3_600, 86_400, 7 * 86_400, 30 * 86_400)
"""Longest time to live, in seconds, of TTL classes 0 to 3; class 4 is beyond."""

_VIEW_TAG: Final = re.compile(r"[0-9a-f]{8}")
_MAX_SEQUENCE: Final = 2**63 - 1


class Header(msgspec.Struct, frozen=True, gc=False):
    """One record: its number in the feed, the event's author R (32 bytes), view tag (4 bytes), classes and flags."""

    seq: int
    pubkey: bytes
    view_tag: bytes
    size_class: int
    ttl_class: int
    flags: int = 0


def size_class(size: int) -> int:
    """The class of a content of that many bytes: 0, 1, 2, or 3 beyond all of SIZE_CLASSES."""
    return _class_of(size, SIZE_CLASSES)


def ttl_class(seconds: int) -> int:
    """The class of a time to live: 0 to 3, or 4 beyond all of TTL_CLASSES."""
    return _class_of(seconds, TTL_CLASSES)


def _class_of(value: int, limits: tuple[int, ...]) -> int:
    for number, limit in enumerate(limits):
        if value <= limit:
            return number
    return len(limits)


def view_tag(event: Event) -> bytes | None:
    """The 4 bytes of a gift wrap's `vt` tag; None where the event is of another kind or has no well-formed one."""
    if event.kind != KIND_GIFT_WRAP:
        return None
    value = tag_value(event, "vt")
    return bytes.fromhex(value) if value and _VIEW_TAG.fullmatch(value) else None


def header_of(event: Event, seq: int = 0, flags: int = 0) -> Header | None:
    """The feed's record of an event; None for one that is not in the feed: no gift wrap, or one without `vt`.

    It depends on the event alone: the TTL class is that of `expiration` − `created_at`, and 3 without an expiration
    (30 days is the default). Raises InvalidEvent for an unreadable expiration.
    """
    tag = view_tag(event)
    if tag is None:
        return None
    until = expiration(event)
    ttl = 3 if until is None else ttl_class(until - event.created_at)
    return Header(seq, bytes.fromhex(event.pubkey), tag, size_class(len(event.content.encode())), ttl, flags)


def encode_headers(start: int, headers: Iterable[Header]) -> bytes:
    """The feed's bytes from number `start` on. A header before `start` or 2^32 beyond it raises ValueError."""
    parts = [START.pack(start)]
    for header in headers:
        offset = header.seq - start
        if not 0 <= offset < 2**32:
            raise ValueError("a header's number does not fit beside the start")
        parts.append(
            RECORD.pack(offset, header.pubkey, header.view_tag, header.size_class, header.ttl_class, header.flags)
        )
    return b"".join(parts)


def decode_headers(data: bytes) -> tuple[int, list[Header]]:
    """Start and headers of the feed's bytes, as a client reads them.

    Raises OfficeMisbehaves where bytes are missing or left over, or numbers do not rise: a cursor must not go back.
    """
    if len(data) < START.size or (len(data) - START.size) % RECORD.size:
        raise OfficeMisbehaves("a broken header feed")
    (start,) = START.unpack_from(data)
    headers = [Header(start + offset, *rest) for offset, *rest in RECORD.iter_unpack(memoryview(data)[START.size :])]
    last = start - 1
    for header in headers:
        if header.seq <= last:
            raise OfficeMisbehaves("numbers of the header feed that do not rise")
        last = header.seq
    if last > _MAX_SEQUENCE or start > _MAX_SEQUENCE:
        raise OfficeMisbehaves("numbers of the header feed beyond 63 bits")
    return start, headers
