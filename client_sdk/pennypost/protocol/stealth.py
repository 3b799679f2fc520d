"""The stealth wrap: a gift wrap whose receiver nobody but he can tell (wire contract, section 2, Headers).

    r, R: one-time key                     s = x(r · B_scan) = x(b_scan · R)
    vt  = H("viewtag", s ‖ R)[0:4]         what a receiver compares for each R of the header feed
    t   = H("stealth", s ‖ R)
    P*  = x(B_spend + t·G)                 the receiver's key for this letter; its secret is b_spend + t

    rumor ──pad──▶ seal to P* ──▶ wrap by R to P*, tags p, vt, expiration
    feed  ──Scanner──▶ hits ──fetch R──▶ open_letter ──▶ sender, rumor

The seal is bound to R through P*: wrapped again under another key it does not open. The secret of P* is equal to the
receiver's own: with it and the scan secret the spend secret follows, so it never leaves the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidPayload, LetterTooLarge
from pennypost.protocol.event import Event, tag_value
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, seal, unwrap, wrap
from pennypost.protocol.headers import TTL_CLASSES, Header, decode_headers, view_tag

PADDED: Final = (1_024, 4_096, 16_384)
"""Bytes that the rumor's JSON is filled up to: the sizes a letter can be seen to have."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where letters go: the receiver's spend key (his npub) and scan key (the same unless he publishes another)."""

    spend: bytes
    scan: bytes


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A header whose view tag fits: a letter to us, or one time in 2^32 somebody else's. `pubkey` is P* (32 bytes)."""

    header: Header
    pubkey: bytes


def derive(one_time_secret: bytes, address: Address) -> tuple[bytes, bytes]:
    """P* (32 bytes) and view tag (4 bytes) of a letter by this one-time key.

    Raises InvalidKey where a key is unusable; for a fresh secret that chances once in 2^128: take another.
    """
    shared = secp.ecdh_x(one_time_secret, address.scan)
    return derive_shared(secp.xonly(one_time_secret), shared, address.spend)


def derive_shared(one_time_pub: bytes, shared: bytes, spend: bytes) -> tuple[bytes, bytes]:
    """As `derive`, from the secret that both sides share about this one-time key. Raises InvalidKey."""
    return _stealth_key(spend, shared, one_time_pub), _view_tag(shared, one_time_pub)


def _view_tag(shared: bytes, one_time_pub: bytes) -> bytes:
    return secp.tagged_hash("viewtag", shared, one_time_pub)[:4]


def _tweak(shared: bytes, one_time_pub: bytes) -> bytes:
    return secp.tagged_hash("stealth", shared, one_time_pub)


def _stealth_key(spend_pub: bytes, shared: bytes, one_time_pub: bytes) -> bytes:
    return secp.tweak_pub(spend_pub, _tweak(shared, one_time_pub))


class Scanner:
    """Finds our letters among headers; holds the scan secret (32 bytes) and the spend key (32 bytes), not its secret.

    A header costs one constant-time ECDH and one hash, some 45 µs.
    """

    def __init__(self, scan_secret: bytes, spend_pub: bytes) -> None:
        """Raises InvalidKey."""
        if not secp.valid_secret(scan_secret):
            raise InvalidKey
        secp.lift_x(spend_pub)
        self._scan_secret = scan_secret
        self._spend_pub = spend_pub
        tag = sha256(b"pennypost/viewtag/v1").digest()
        self._view_tag = sha256(tag + tag)

    def scan(self, records: bytes | Iterable[Header]) -> list[Hit]:
        """The headers that fit, in their order; `records` are headers or the bytes of the feed.

        Released records of letters found before come again. Raises OfficeMisbehaves for bytes that are no feed.
        """
        headers = decode_headers(records)[1] if isinstance(records, bytes) else records
        secret, ecdh_x, start = self._scan_secret, secp.ecdh_x, self._view_tag
        hits: list[Hit] = []
        for header in headers:
            one_time_pub = header.pubkey
            try:
                shared = ecdh_x(secret, one_time_pub)
                state = start.copy()
                state.update(shared + one_time_pub)
                if state.digest()[:4] == header.view_tag:
                    hits.append(Hit(header, _stealth_key(self._spend_pub, shared, one_time_pub)))
            except InvalidKey:
                # Not on the curve: no office accepts such an event, but a feed may claim it.
                continue
        return hits


def lifetime(seconds: int) -> int:
    """The time to live to use: the shortest of 1 h, 1 d, 7 d and 30 d that is not under `seconds`.

    Raises InvalidInput for more than 30 days. A letter's `expiration` is its `created_at` + this.
    """
    for limit in TTL_CLASSES:
        if 0 < seconds <= limit:
            return limit
    raise InvalidInput("a letter is kept for up to 30 days")


def wrap_letter(
    rumor: Rumor,
    sender_secret: bytes,
    address: Address,
    one_time_secret: bytes,
    *,
    created_at: int,
    expiration: int,
    randomness: bytes,
    sealed_at: int | None = None,
    hold: bytes | None = None,
) -> Event:
    """The event that carries the rumor to `address`, and whose receiver only he can tell.

    `one_time_secret` is 32 fresh bytes and `randomness` RANDOMNESS more, both for this letter alone; times are in Unix
    seconds, `sealed_at` is `created_at` unless given. With `hold` (T, 32 bytes) it is shown once it is released.
    Raises LetterTooLarge over 16 KiB, InvalidKey for unusable keys and InvalidInput where the rumor names another
    author than the sender.
    """
    return wrap_to(
        *derive(one_time_secret, address),
        rumor,
        sender_secret,
        one_time_secret,
        created_at=created_at,
        expiration=expiration,
        randomness=randomness,
        sealed_at=sealed_at,
        hold=hold,
    )


def wrap_to(
    stealth_pub: bytes,
    tag: bytes,
    rumor: Rumor,
    sender_secret: bytes,
    one_time_secret: bytes,
    *,
    created_at: int,
    expiration: int,
    randomness: bytes,
    sealed_at: int | None = None,
    hold: bytes | None = None,
) -> Event:
    """`wrap_letter` for P* (32 bytes) and view tag (4 bytes) that were derived before."""
    if len(randomness) != RANDOMNESS:
        raise ValueError("a letter takes 128 bytes of randomness")
    half = RANDOMNESS // 2
    sealed = seal(
        rumor,
        sender_secret,
        stealth_pub,
        created_at=created_at if sealed_at is None else sealed_at,
        randomness=randomness[:half],
        pad_to=padded_size(rumor),
    )
    return wrap(
        sealed,
        one_time_secret,
        stealth_pub,
        created_at=created_at,
        randomness=randomness[half:],
        tags=[["vt", tag.hex()], ["expiration", str(expiration)], *([] if hold is None else [["hold", hold.hex()]])],
    )


def padded_size(rumor: Rumor) -> int:
    """The bytes the rumor's JSON is filled up to: 1, 4 or 16 KiB. Raises LetterTooLarge beyond."""
    size = len(msgspec.json.encode(rumor))
    for limit in PADDED:
        if size <= limit:
            return limit
    raise LetterTooLarge


def open_letter(event: Event, scan_secret: bytes, spend_secret: bytes) -> tuple[bytes, Rumor]:
    """Sender (32-byte public key, proved by his signature) and rumor of a letter to us.

    Raises InvalidPayload where it is not for these keys or damaged, InvalidSignature for the event's own signature.
    """
    try:
        shared = secp.ecdh_x(scan_secret, bytes.fromhex(event.pubkey))
    except InvalidKey:
        raise InvalidPayload("it is for somebody else") from None
    return open_shared(event, shared, spend_secret)


def open_shared(event: Event, shared: bytes, spend_secret: bytes) -> tuple[bytes, Rumor]:
    """As `open_letter`, from the secret that both sides share about the event's one-time key."""
    tag, one_time_pub = view_tag(event), bytes.fromhex(event.pubkey)
    if tag is None:
        raise InvalidPayload("it is not a stealth wrap")
    if not compare_digest(_view_tag(shared, one_time_pub), tag):
        raise InvalidPayload("it is for somebody else")
    try:
        secret = secp.tweak_secret(spend_secret, _tweak(shared, one_time_pub))
    except InvalidKey:
        raise InvalidPayload("it is for somebody else") from None
    if tag_value(event, "p") != secp.xonly(secret).hex():
        raise InvalidPayload("it is for somebody else")
    return unwrap(event, secret)
