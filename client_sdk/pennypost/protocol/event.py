"""Nostr events: strict reading, canonical bytes, id, signature, and what tags say (NIP-01, NIP-40).

    JSON ──parse_event──▶ Event ──canonical──▶ bytes ──SHA-256──▶ id ──BIP-340──▶ sig
                            └──event_json──▶ compact JSON, made once, stored and sent

`parse_event` answers only for the form. `verify_event` checks id and signature; a server does the latter in its worker
processes and calls `check_id` alone.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, Final, cast

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidEvent, InvalidSignature

MAX_TAGS: Final = 2_000
"""Tags of one event. Follow lists of some 1,500 entries are real; beyond this, indexing costs more than a stamp."""

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON implementation carries exactly."""

MAX_KIND: Final = 65_535

KIND_DELETION: Final = 5
KIND_SEAL: Final = 13
KIND_CHAT: Final = 14
KIND_VANISH: Final = 62
KIND_GIFT_WRAP: Final = 1059
KIND_AUTH: Final = 22242

_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Kind = Annotated[int, msgspec.Meta(ge=0, le=MAX_KIND)]
_Tag = Annotated[list[str], msgspec.Meta(min_length=1)]
_Tags = Annotated[list[_Tag], msgspec.Meta(max_length=MAX_TAGS)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A signed event (NIP-01, Events and signatures): hex in lower case, `created_at` in Unix seconds."""

    id: str
    pubkey: str
    created_at: _Time
    kind: _Kind
    tags: _Tags
    content: str
    sig: str


_decoder: Final = msgspec.json.Decoder(Event)
_encode: Final = msgspec.json.Encoder().encode

_KEYS: Final = len(Event.__struct_fields__)
_FIELD: Final = re.compile(r"\$\.([a-z_]+)")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_ESCAPE: Final = re.compile(rb"\\(?:u00([01][0-9a-f])|.)")
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_DIGITS: Final = re.compile(r"[0-9]{1,16}")


def is_hex64(value: object) -> bool:
    """Whether this is a str of exactly 64 lower-case hex digits: an event id or a public key."""
    return isinstance(value, str) and _HEX64.fullmatch(value) is not None


def parse_event(value: object) -> Event:
    """Read an event strictly; its id and signature are not checked.

    `value` is JSON (bytes, str or the `msgspec.Raw` that a frame carries) or the dict decoded from it. Unknown, missing
    and doubled keys, integers that are not JSON integers or out of bounds, upper-case hex, lone surrogates, NUL (which
    NIP-01 gives no serialisation, and databases no place) and empty tags are refused. Raises InvalidEvent.
    """
    if not isinstance(value, (msgspec.Raw, bytes, str)):
        if not isinstance(value, (dict, Event)):
            raise InvalidEvent("not an object")
        value = _to_json(cast("dict[str, object] | Event", value))
    try:
        text = value.encode() if isinstance(value, str) else bytes(value)
        event = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidEvent(_where(error)) from None
    _check_hex(event)
    if text.count(b":") != _KEYS and _has_doubled_key(text, event):
        raise InvalidEvent("a key is given twice")
    if b"\\u0000" in text and _has_nul(event):
        raise InvalidEvent("NUL characters are not allowed")
    return event


def _to_json(value: dict[str, object] | Event) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        raise InvalidEvent from None


def _where(error: Exception) -> str:
    """The field a decoding error is about, if one of ours: nothing that was sent is repeated."""
    found = _FIELD.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
    return found[1] if found and found[1] in Event.__struct_fields__ else ""


def _check_hex(event: Event) -> None:
    joined = event.id + event.pubkey + event.sig
    try:
        if len(event.id) == len(event.pubkey) == 64 and len(event.sig) == 128 and bytes.fromhex(joined).hex() == joined:
            return
    except ValueError:
        pass
    raise InvalidEvent("id, pubkey and sig are 64, 64 and 128 lower-case hex digits")


def _has_doubled_key(text: bytes, event: Event) -> bool:
    """Whether more than the seven keys are in the JSON: whether it has more colons outside of strings."""
    inside = event.content.count(":") + sum(item.count(":") for tag in event.tags for item in tag)
    if text.count(b":") == _KEYS + inside and b"\\u00" not in text:
        return False
    return _STRING.sub(b"", text).count(b":") != _KEYS


def _has_nul(event: Event) -> bool:
    return "\0" in event.content or any("\0" in item for tag in event.tags for item in tag)


def canonical(event: Event) -> bytes:
    """The bytes whose SHA-256 is the event's id (NIP-01, Events and signatures)."""
    return serialize(event.pubkey, event.created_at, event.kind, event.tags, event.content)


def serialize(pubkey: str, created_at: int, kind: int, tags: list[list[str]], content: str) -> bytes:
    r"""The canonical bytes of the given fields; raises InvalidEvent for text that has no UTF-8.

    The seven characters NIP-01 lists are escaped as it says, everything else is verbatim, U+007F and U+2028 included.
    Only the other control characters (U+0001 to U+001F) are written `\u00xx`, as JSON demands and as the
    implementations in use do: the NIP's letter, verbatim, is no JSON. `check_id` takes both.
    """
    try:
        return _encode((0, pubkey, created_at, kind, tags, content))
    except UnicodeEncodeError:
        raise InvalidEvent("lone surrogates have no UTF-8") from None


def _to_the_letter(serialized: bytes) -> bytes:
    """The same bytes with control characters verbatim, as NIP-01's wording has it."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[0], serialized)


def compute_id(pubkey: str, created_at: int, kind: int, tags: list[list[str]], content: str) -> str:
    """The event id, 64 lower-case hex digits (NIP-01, Events and signatures). Raises InvalidEvent as `serialize`."""
    return sha256(serialize(pubkey, created_at, kind, tags, content)).hexdigest()


def check_id(event: Event) -> None:
    """Raise InvalidSignature unless the id is that of the other fields."""
    serialized = canonical(event)
    if sha256(serialized).hexdigest() == event.id:
        return
    if b"\\u00" in serialized and sha256(_to_the_letter(serialized)).hexdigest() == event.id:
        return
    raise InvalidSignature


def verify_event(event: Event) -> None:
    """Raise InvalidSignature unless id and signature are right (NIP-01, Events and signatures; BIP-340)."""
    check_id(event)
    if not secp.schnorr_verify(bytes.fromhex(event.pubkey), bytes.fromhex(event.id), bytes.fromhex(event.sig)):
        raise InvalidSignature


def sign_event(secret: bytes, *, created_at: int, kind: int, tags: list[list[str]], content: str, aux: bytes) -> Event:
    """A signed event by the 32-byte secret key; `aux` is 32 bytes of fresh randomness (BIP-340).

    Raises InvalidKey, and InvalidEvent where the event would not be accepted by `parse_event`.
    """
    pubkey = secp.xonly(secret).hex()
    identifier = compute_id(pubkey, created_at, kind, tags, content)
    signature = secp.schnorr_sign(secret, bytes.fromhex(identifier), aux)
    return parse_event(Event(identifier, pubkey, created_at, kind, tags, content, signature.hex()))


def event_json(event: Event) -> bytes:
    """The event as compact JSON, keys in NIP-01's order."""
    return _encode(event)


def tag_value(event: Event, name: str) -> str | None:
    """The value of the first tag of that name; None when there is none, or it has no value."""
    for tag in event.tags:
        if tag[0] == name:
            return tag[1] if len(tag) > 1 else None
    return None


def expiration(event: Event) -> int | None:
    """The Unix time of the first `expiration` tag (NIP-40), None without one.

    Raises InvalidEvent where it is not 1 to 16 ASCII digits: to guess would keep mail longer than its author wants.
    """
    for tag in event.tags:
        if tag[0] == "expiration":
            if len(tag) < 2 or not _DIGITS.fullmatch(tag[1]):
                raise InvalidEvent("the expiration is not a Unix time")
            return min(int(tag[1]), MAX_INTEGER)
    return None


def is_replaceable(kind: int) -> bool:
    """Whether only the latest event of a pubkey and this kind is kept (NIP-01, Kinds)."""
    return 10_000 <= kind < 20_000 or kind in (0, 3)


def is_ephemeral(kind: int) -> bool:
    """Whether events of this kind are passed on and never stored (NIP-01, Kinds)."""
    return 20_000 <= kind < 30_000


def is_addressable(kind: int) -> bool:
    """Whether only the latest event of a pubkey, this kind and a `d` tag is kept (NIP-01, Kinds)."""
    return 30_000 <= kind < 40_000


def address(event: Event) -> str | None:
    """`kind:pubkey:d` of an addressable event, `kind:pubkey:` of a replaceable one, else None (NIP-01, Tags).

    A `d` tag that is missing or has no value counts as the empty string.
    """
    if is_replaceable(event.kind):
        return f"{event.kind}:{event.pubkey}:"
    if is_addressable(event.kind):
        return f"{event.kind}:{event.pubkey}:{tag_value(event, 'd') or ''}"
    return None


def is_newer(event: Event, stored: Event) -> bool:
    """Whether `event` replaces `stored` under one address: later, or at the same second with the lower id (NIP-01)."""
    if event.created_at != stored.created_at:
        return event.created_at > stored.created_at
    return event.id < stored.id
