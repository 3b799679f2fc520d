"""Channels: letters that every member finds and opens, and nobody else can tell from a letter (wire contract, 5).

    chain key C_i ──"channel-next"──▶ C_i+1 ──▶ …        one step an epoch; who has C_i has all later ones
        └─"channel-epoch"──▶ K_i                         what opens the posts of one epoch, and can be sold alone

    s  = HMAC(K_i, R)          in the place of the ECDH of a letter: 100,000 headers take less than a second
    b  = H("channel-spend", K_i), B = b·G              P* = x(B + H("stealth", s ‖ R)·G), as for a letter
    rumor ──seal by the author's npub──▶ wrap by R     tags p, vt, expiration, as for a letter

A key of an epoch that is over is deleted, and then nobody, not even its holder, opens that epoch's posts. Whoever
leaves is not in the next generation: a fresh random chain, told to those who stay. The drop box is an ordinary address
whose secret all members hold: letters to it are ordinary letters.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidPayload
from pennypost.protocol.event import MAX_INTEGER, Event
from pennypost.protocol.giftwrap import Rumor
from pennypost.protocol.headers import Header
from pennypost.protocol.stealth import Hit, derive_shared, open_shared, wrap_to

KIND_CHANNEL: Final = 4_510
"""The kind of the rumor that tells a member of a channel, or of a change in it. It is seen by its receiver alone."""

TAG: Final = "channel"
"""The tag that a post's rumor names its channel by."""

SHORTEST: Final = 86_400
LONGEST: Final = 366 * 86_400
"""Seconds that an epoch lasts, at least and at most."""
MAX_NAME: Final = 64
MAX_POSTERS: Final = 200
MAX_STEPS: Final = 10_000
PREFIX: Final = "ppch1"
MAX_TEXT: Final = 24 * 1024

_Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Epoch:
    """The key of one epoch of a channel, 32 bytes; its times are Unix seconds."""

    channel: str
    starts_at: int
    ends_at: int
    key: bytes = field(repr=False)

    @cached_property
    def spend_secret(self) -> bytes:
        """b: the secret key, 32 bytes, that every member's P* derives from."""
        for counter in range(256):
            secret = secp.tagged_hash("channel-spend", self.key, bytes([counter]) if counter else b"")
            if secp.valid_secret(secret):
                return secret
        raise AssertionError("256 hashes in a row outside the curve order")

    @cached_property
    def spend_pub(self) -> bytes:
        """x(B), 32 bytes."""
        return secp.xonly(self.spend_secret)

    def shared(self, one_time_pub: bytes) -> bytes:
        """s of a one-time key (32 bytes)."""
        return hmac.digest(self.key, one_time_pub, "sha256")


@dataclass(frozen=True, slots=True)
class Chain:
    """One generation's keys from epoch `index` on; epoch 0 starts at `start` (Unix seconds), each lasts `period`."""

    channel: str
    start: int
    period: int
    index: int
    key: bytes = field(repr=False)

    def index_at(self, time: int) -> int:
        """The number of the epoch in which `time` (Unix seconds) lies; 0 before the first."""
        return max(0, (time - self.start) // self.period)

    def at(self, index: int) -> Chain:
        """The chain from a later epoch on: what came before cannot be had from it.

        Raises InvalidInput for an epoch before this one, or more than MAX_STEPS behind it.
        """
        if not self.index <= index <= self.index + MAX_STEPS:
            raise InvalidInput("this epoch's key is not held")
        key = self.key
        for _ in range(index - self.index):
            key = _expand(key, b"channel-next")
        return Chain(self.channel, self.start, self.period, index, key)

    def epoch(self) -> Epoch:
        """The epoch that this chain begins with."""
        starts_at = self.start + self.index * self.period
        return Epoch(self.channel, starts_at, starts_at + self.period, _expand(self.key, b"channel-epoch"))

    def epochs(self, first: int, last: int) -> list[Epoch]:
        """Epochs number `first` to `last`, both included, as far as this chain has them."""
        found: list[Epoch] = []
        for index in range(max(first, self.index), last + 1):
            self = self.at(index)
            found.append(self.epoch())
        return found


def _expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand of 32 bytes (RFC 5869, section 2.3): the key is as random as a PRK has to be."""
    return hmac.digest(key, b"pennypost/" + info + b"/v1\x01", "sha256")


class ChannelScanner:
    """Finds the posts of some epochs among headers: an HMAC and a hash for each header and epoch."""

    def __init__(self, epochs: Iterable[Epoch]) -> None:
        self._epochs = tuple(epochs)
        tag = sha256(b"pennypost/viewtag/v1").digest()
        self._view_tag = sha256(tag + tag)

    def scan(self, headers: Iterable[Header]) -> list[tuple[Hit, Epoch]]:
        """The headers that fit, in their order, with the epoch they belong to."""
        found: list[tuple[Hit, Epoch]] = []
        for epoch in self._epochs:
            key, start = epoch.key, self._view_tag
            for header in headers:
                one_time_pub = header.pubkey
                state = start.copy()
                state.update(hmac.digest(key, one_time_pub, "sha256") + one_time_pub)
                if state.digest()[:4] == header.view_tag:
                    try:
                        pub, _ = derive_shared(one_time_pub, epoch.shared(one_time_pub), epoch.spend_pub)
                    except InvalidKey:
                        continue
                    found.append((Hit(header, pub), epoch))
        found.sort(key=lambda each: each[0].header.seq)
        return found


def wrap_post(
    rumor: Rumor,
    author_secret: bytes,
    epoch: Epoch,
    one_time_secret: bytes,
    *,
    created_at: int,
    expiration: int,
    randomness: bytes,
) -> Event:
    """The event that carries a rumor to the members, sealed by its author; arguments as of `stealth.wrap_letter`.

    Raises LetterTooLarge over 16 KiB, InvalidKey for unusable keys, InvalidInput where the rumor names another author.
    """
    one_time_pub = secp.xonly(one_time_secret)
    stealth_pub, tag = derive_shared(one_time_pub, epoch.shared(one_time_pub), epoch.spend_pub)
    return wrap_to(
        stealth_pub,
        tag,
        rumor,
        author_secret,
        one_time_secret,
        created_at=created_at,
        expiration=expiration,
        randomness=randomness,
    )


def open_post(event: Event, epoch: Epoch) -> tuple[bytes, Rumor]:
    """Author (32-byte public key, proved by his signature) and rumor of a post of this epoch.

    Raises InvalidPayload where it is none, or names another channel; InvalidSignature for the event's own signature.
    """
    author, rumor = open_shared(event, epoch.shared(bytes.fromhex(event.pubkey)), epoch.spend_secret)
    if not any(tag[:2] == [TAG, epoch.channel] for tag in rumor.tags):
        raise InvalidPayload("it is a post of another channel")
    return author, rumor


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a member holds: an invitation, with the chain, or the key of one epoch alone, as it is sold.

    `channel` is 32 random bytes that name it, `owner` the npub whose word counts, `version` rises with each change he
    tells. `posters` may post (their public keys; nobody named: whoever is in it). `box` is the drop box's secret key.
    """

    channel: _Hex64
    name: _Name
    owner: _Hex64
    version: _Time
    start: _Time
    period: Annotated[int, msgspec.Meta(ge=SHORTEST, le=LONGEST)]
    index: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    chain: _Hex64 | None = None
    epoch: _Hex64 | None = None
    box: _Hex64 | None = None
    posters: Annotated[list[_Hex64], msgspec.Meta(max_length=MAX_POSTERS)] = []

    def __repr__(self) -> str:
        return f"Grant({self.name!r}, version={self.version})"


_decoder: Final = msgspec.json.Decoder(Grant)


def encode_grant(grant: Grant) -> str:
    """`ppch1…`: a grant as one word, to be sealed in a letter, sold as the text of an offer, or shown as a QR code.

    Raises InvalidInput for a name that has no form in UTF-8.
    """
    try:
        body = msgspec.json.encode(grant)
    except UnicodeEncodeError:
        raise InvalidInput("the channel's name is not UTF-8") from None
    return PREFIX + urlsafe_b64encode(body).rstrip(b"=").decode()


def parse_grant(text: str) -> Grant:
    """The grant in a text `ppch1…`. Raises InvalidInput for whatever is none, and for keys that are none."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MAX_TEXT or not text.isascii():
        raise InvalidInput("it is no channel invitation")
    try:
        encoded = text.removeprefix(PREFIX)
        grant = _decoder.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (msgspec.DecodeError, Base64Error, ValueError, RecursionError):
        raise InvalidInput("this channel invitation is damaged") from None
    if (grant.chain is None) == (grant.epoch is None) or _CONTROL.search(grant.name) or not grant.name.strip():
        raise InvalidInput("this channel invitation is damaged")
    if grant.start + (grant.index + 1) * grant.period > MAX_INTEGER:
        raise InvalidInput("this channel invitation is damaged")
    if grant.box is not None and not secp.valid_secret(bytes.fromhex(grant.box)):
        raise InvalidInput("this channel invitation is damaged")
    return grant


def chain_of(grant: Grant) -> Chain | None:
    """The chain of an invitation; None for the key of one epoch."""
    if grant.chain is None:
        return None
    return Chain(grant.channel, grant.start, grant.period, grant.index, bytes.fromhex(grant.chain))


def epochs_of(grant: Grant, first: int, last: int) -> Sequence[Epoch]:
    """The epochs of a grant that touch the time from `first` to `last` (Unix seconds), at most MAX_STEPS of them.

    Raises InvalidInput where the chain would have to be wound on for longer than that.
    """
    chain = chain_of(grant)
    if chain is not None:
        start = chain.index_at(first)
        if start > chain.index:
            chain = chain.at(start)
        return chain.epochs(chain.index, min(chain.index_at(last), chain.index + MAX_STEPS))
    assert grant.epoch is not None
    starts_at = grant.start + grant.index * grant.period
    if starts_at > last or starts_at + grant.period < first:
        return []
    return [Epoch(grant.channel, starts_at, starts_at + grant.period, bytes.fromhex(grant.epoch))]
