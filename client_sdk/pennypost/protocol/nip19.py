"""Keys and ids as people copy them: npub, nsec, note, nprofile, nevent, naddr (NIP-19).

    32 bytes ──encode_npub──▶ "npub1…" ──decode_npub──▶ 32 bytes
    Entity(prefix, key, relays, …) ──encode──▶ "nprofile1…" ──decode──▶ Entity

A leading `nostr:` (NIP-21) is passed over. Only `decode_nsec` and `parse_secret_key` read secret keys, so that none is
mistaken for something to show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pennypost.protocol import bech32, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey
from pennypost.protocol.event import MAX_KIND

MAX_LENGTH: Final = 5_000
"""Characters of one bech32 string (NIP-19, Notes)."""

_HEX64: Final = re.compile(r"[0-9a-f]{64}")

_SPECIAL, _RELAY, _AUTHOR, _KIND = range(4)
_SCAN: Final = 115
"""Type of the part with a scan key: "s", far from those that NIP-19 counts up."""
_BARE: Final = ("npub", "note")


@dataclass(frozen=True, slots=True)
class Entity:
    """What an identifier other than nsec stands for.

    `prefix` is npub, note, nprofile, nevent or naddr; `key` the 32 bytes of the public key or event id, empty for
    naddr, which has `identifier` (the `d` tag), `author` (32 bytes) and `kind` instead. An nprofile of ours may carry a
    `scan` key (32 bytes; wire contract, section 2), which other programs pass over.
    """

    prefix: str
    key: bytes = b""
    relays: tuple[str, ...] = ()
    author: bytes | None = None
    kind: int | None = None
    identifier: str | None = None
    scan: bytes | None = None


def encode_npub(pub: bytes) -> str:
    """The npub of a 32-byte public key."""
    return _encode_bare("npub", pub)


def decode_npub(text: str) -> bytes:
    """The 32-byte public key of an npub. Raises InvalidKey."""
    return _decode_bare("npub", text)


def encode_nsec(secret: bytes) -> str:
    """The nsec of a 32-byte secret key."""
    return _encode_bare("nsec", secret)


def decode_nsec(text: str) -> bytes:
    """The 32-byte secret key of an nsec. Raises InvalidKey."""
    return _decode_bare("nsec", text)


def encode_note(identifier: bytes) -> str:
    """The note of a 32-byte event id."""
    return _encode_bare("note", identifier)


def decode_note(text: str) -> bytes:
    """The 32-byte event id of a note. Raises InvalidKey."""
    return _decode_bare("note", text)


def encode(entity: Entity) -> str:
    """The identifier of an Entity. Raises InvalidInput where its fields do not fit the prefix or are too long."""
    if entity.prefix in _BARE:
        return _encode_bare(entity.prefix, entity.key)
    try:
        items = list(_items(entity))
    except (UnicodeEncodeError, OverflowError):
        raise InvalidInput("a part of the identifier cannot be written") from None
    if any(len(value) > 255 for _, value in items):
        raise InvalidInput("a part of the identifier has over 255 bytes")
    # What is written must be readable: the check is the reader's.
    data = b"".join(bytes((kind, len(value))) + value for kind, value in items)
    _entity(entity.prefix, data)
    text = _bech32(entity.prefix, data)
    if len(text) > MAX_LENGTH:
        raise InvalidInput("the identifier has over 5,000 characters")
    return text


def decode(text: str) -> Entity:
    """What an npub, note, nprofile, nevent or naddr stands for; parts of unknown type are passed over (NIP-19, Notes).

    Raises InvalidKey, also for an nsec.
    """
    prefix, data = _from_bech32(text)
    return _entity(prefix, data)


def parse_public_key(text: str) -> bytes:
    """The 32-byte public key of an npub, an nprofile or 64 lower-case hex digits; it is on the curve.

    Raises InvalidKey.
    """
    text = text.strip()
    if _HEX64.fullmatch(text):
        key = bytes.fromhex(text)
    else:
        entity = decode(text)
        if entity.prefix not in ("npub", "nprofile"):
            raise InvalidKey("this names an event, not a person")
        key = entity.key
    secp.lift_x(key)
    return key


def parse_secret_key(text: str) -> bytes:
    """The 32-byte secret key of an nsec or 64 lower-case hex digits. Raises InvalidKey."""
    text = text.strip()
    if text.startswith("bunker://"):
        raise InvalidKey("a signer elsewhere (NIP-46) cannot calculate what letters by stealth need")
    secret = bytes.fromhex(text) if _HEX64.fullmatch(text) else decode_nsec(text)
    if not secp.valid_secret(secret):
        raise InvalidKey
    return secret


def _encode_bare(prefix: str, data: bytes) -> str:
    if len(data) != 32:
        raise InvalidKey("a key or id has 32 bytes")
    return _bech32(prefix, data)


def _decode_bare(prefix: str, text: str) -> bytes:
    found, data = _from_bech32(text)
    if found != prefix or len(data) != 32:
        raise InvalidKey(f"this is no {prefix}")
    return data


def _entity(prefix: str, data: bytes) -> Entity:
    if prefix in _BARE:
        return Entity(prefix, _key(data))
    if prefix not in ("nprofile", "nevent", "naddr"):
        raise InvalidKey("this is no npub, note, nprofile, nevent or naddr")
    special = author = kind = scan = None
    relays: list[str] = []
    for number, value in _parts(data):
        if number == _SPECIAL and special is None:
            special = value
        elif number == _RELAY and value.isascii() and value.decode().isprintable():
            relays.append(value.decode())
        elif number == _AUTHOR and author is None and prefix != "nprofile":
            author = _key(value)
        elif number == _KIND and kind is None and prefix != "nprofile":
            kind = _kind(value)
        elif number == _SCAN and scan is None and prefix == "nprofile":
            scan = _key(value)
    if special is None:
        raise InvalidKey("the identifier is incomplete")
    if prefix != "naddr":
        return Entity(prefix, _key(special), tuple(relays), author, kind, scan=scan)
    if author is None or kind is None:
        raise InvalidKey("the identifier is incomplete")
    try:
        return Entity(prefix, b"", tuple(relays), author, kind, special.decode())
    except UnicodeDecodeError:
        raise InvalidKey("the identifier is no text") from None


def _items(entity: Entity) -> Iterator[tuple[int, bytes]]:
    """Type and value of each part that `encode` writes."""
    yield _SPECIAL, (entity.identifier or "").encode() if entity.prefix == "naddr" else entity.key
    for relay in entity.relays:
        yield _RELAY, relay.encode()
    if entity.author is not None:
        yield _AUTHOR, entity.author
    if entity.kind is not None:
        yield _KIND, entity.kind.to_bytes(4, "big")
    if entity.scan is not None:
        yield _SCAN, entity.scan


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each part (NIP-19, Shareable identifiers with extra metadata)."""
    position = 0
    while position < len(data):
        header = data[position : position + 2]
        end = position + 2 + (header[1] if len(header) == 2 else 0)
        if len(header) < 2 or end > len(data):
            raise InvalidKey("the identifier is cut off")
        yield header[0], data[position + 2 : end]
        position = end


def _key(data: bytes) -> bytes:
    if len(data) != 32:
        raise InvalidKey("a key or id has 32 bytes")
    return data


def _kind(data: bytes) -> int:
    kind = int.from_bytes(data, "big")
    if len(data) != 4 or kind > MAX_KIND:
        raise InvalidKey("the identifier names no kind of event")
    return kind


def _bech32(prefix: str, data: bytes) -> str:
    return bech32.encode(prefix, bech32.regroup(data, 8, 5))


def _from_bech32(text: str) -> tuple[str, bytes]:
    """Prefix and bytes of a bech32 string. Raises InvalidKey."""
    found = bech32.decode(text.strip().removeprefix("nostr:"), MAX_LENGTH)
    if found is None:
        raise InvalidKey("a character is wrong or missing")
    prefix, groups = found
    bits = len(groups) * 5
    padding = groups[-1] & ((1 << bits % 8) - 1) if groups else 0
    if bits % 8 > 4 or padding:
        raise InvalidKey
    return prefix, bytes(bech32.regroup(groups, 5, 8)[: bits // 8])
