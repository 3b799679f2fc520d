"""Gift wraps: a rumor in a seal in a wrap (NIP-59), as private messages use them (NIP-17).

    Rumor ──seal──▶ kind 13, signed by the sender ──wrap──▶ kind 1059, signed by a one-time key
    kind 1059 ──unwrap──▶ sender, Rumor

Each arrow encrypts by NIP-44 to the receiver. All randomness is passed in. The stealth wrap, which hides the receiver,
is in `stealth` and uses the same seal.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pennypost.protocol import nip44, secp
from pennypost.protocol.errors import InvalidEvent, InvalidInput, InvalidKey, InvalidPayload
from pennypost.protocol.event import (
    KIND_CHAT,
    KIND_GIFT_WRAP,
    KIND_SEAL,
    MAX_INTEGER,
    MAX_KIND,
    MAX_TAGS,
    Event,
    compute_id,
    event_json,
    parse_event,
    sign_event,
    verify_event,
)

KIND_EPHEMERAL_WRAP: Final = 21_059

RANDOMNESS: Final = 128
"""Bytes of fresh randomness that seal and wrap together take."""

_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Kind = Annotated[int, msgspec.Meta(ge=0, le=MAX_KIND)]
_Tag = Annotated[list[str], msgspec.Meta(min_length=1)]
_Tags = Annotated[list[_Tag], msgspec.Meta(max_length=MAX_TAGS)]


class Rumor(msgspec.Struct, frozen=True, gc=False):
    """An unsigned event (NIP-59, The Rumor Event Kind): what is said, by whom and when."""

    pubkey: str
    created_at: _Time
    kind: _Kind
    tags: _Tags
    content: str
    id: str = ""


_decoder: Final = msgspec.json.Decoder(Rumor)
_encode: Final = msgspec.json.Encoder().encode


def make_rumor(
    pub: bytes, *, created_at: int, content: str, tags: list[list[str]] | None = None, kind: int = KIND_CHAT
) -> Rumor:
    """A rumor by the 32-byte public key; kind 14 is a chat message (NIP-17). Raises InvalidEvent for text not UTF-8."""
    pubkey, tags = pub.hex(), tags or []
    identifier = compute_id(pubkey, created_at, kind, tags, content)
    return Rumor(pubkey, created_at, kind, tags, content, identifier)


def seal(
    rumor: Rumor, sender_secret: bytes, receiver_pub: bytes, *, created_at: int, randomness: bytes, pad_to: int = 0
) -> Event:
    """The kind 13 event that holds the rumor for `receiver_pub` (32 bytes), signed by its author's secret key.

    `randomness` is 64 fresh bytes. The rumor's JSON is filled up to `pad_to` bytes with spaces, which JSON allows.
    Raises InvalidKey, and InvalidInput where the rumor is somebody else's or over 65,535 bytes long.
    """
    if secp.xonly(sender_secret).hex() != rumor.pubkey:
        raise InvalidInput("the message names another author than the key that seals it")
    nonce, aux = _split(randomness)
    text = _encode(rumor).decode()
    text += " " * (pad_to - len(text.encode()))
    key = nip44.conversation_key(sender_secret, receiver_pub)
    content = nip44.encrypt(text, key, nonce)
    return sign_event(sender_secret, created_at=created_at, kind=KIND_SEAL, tags=[], content=content, aux=aux)


def wrap(
    sealed: Event,
    one_time_secret: bytes,
    receiver_pub: bytes,
    *,
    created_at: int,
    randomness: bytes,
    tags: list[list[str]] | None = None,
) -> Event:
    """The kind 1059 event that holds the seal for `receiver_pub` (32 bytes), signed by a key used this once.

    `randomness` is 64 fresh bytes; `tags` come after the receiver's `p` tag. Raises InvalidKey and InvalidInput.
    """
    nonce, aux = _split(randomness)
    key = nip44.conversation_key(one_time_secret, receiver_pub)
    return sign_event(
        one_time_secret,
        created_at=created_at,
        kind=KIND_GIFT_WRAP,
        tags=[["p", receiver_pub.hex()], *(tags or [])],
        content=nip44.encrypt(event_json(sealed).decode(), key, nonce),
        aux=aux,
    )


def _split(randomness: bytes) -> tuple[bytes, bytes]:
    if len(randomness) != RANDOMNESS // 2:
        raise ValueError("a seal and a wrap take 64 bytes of randomness each")
    return randomness[:32], randomness[32:]


def unwrap(event: Event, receiver_secret: bytes) -> tuple[bytes, Rumor]:
    """Sender (32-byte public key, proved by the seal's signature) and rumor of a gift wrap to this secret key.

    Every signature on the way is verified (NIP-44: before decrypting), and that seal and rumor name the same author
    (NIP-17: or anyone could impersonate anyone). Raises InvalidPayload, and InvalidSignature for the wrap's own.
    """
    if event.kind not in (KIND_GIFT_WRAP, KIND_EPHEMERAL_WRAP):
        raise InvalidPayload("it is not a gift wrap")
    verify_event(event)
    return open_seal(_open(event.content, event.pubkey, receiver_secret), receiver_secret)


def open_seal(text: str, receiver_secret: bytes) -> tuple[bytes, Rumor]:
    """Sender and rumor of a seal's JSON, as `unwrap`. Raises InvalidPayload."""
    try:
        sealed = parse_event(text)
        verify_event(sealed)
    except InvalidEvent:
        raise InvalidPayload("its seal is malformed or not signed by its author") from None
    if sealed.kind != KIND_SEAL:
        raise InvalidPayload("there is no seal in it")
    rumor = _read_rumor(_open(sealed.content, sealed.pubkey, receiver_secret), sealed.pubkey)
    return bytes.fromhex(sealed.pubkey), rumor


def _open(content: str, author: str, secret: bytes) -> str:
    try:
        key = nip44.conversation_key(secret, bytes.fromhex(author))
    except InvalidKey:
        raise InvalidPayload("its author is no key") from None
    return nip44.decrypt(content, key)


def _read_rumor(text: str, author: str) -> Rumor:
    try:
        rumor = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidPayload("there is no message in it") from None
    if rumor.pubkey != author:
        raise InvalidPayload("seal and message name different authors")
    identifier = compute_id(rumor.pubkey, rumor.created_at, rumor.kind, rumor.tags, rumor.content)
    if rumor.id not in ("", identifier):
        raise InvalidPayload("its id is wrong")
    return msgspec.structs.replace(rumor, id=identifier)
