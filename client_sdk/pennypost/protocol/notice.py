"""The Lightning notice: a payment tells its receiver that mail waits for him (wire contract, section 3).

    e, E: a fresh key      s = x(e · B)      t = H("notice-key", s ‖ E)
    r = e + t, R = E + t·G: the one-time key of the letter, a stealth wrap like any other
    plain  = 1 ‖ expiry(4) ‖ [sender(32) ‖ identity(64)] ‖ [where: relays, or "blastr"]
    notice = "ppn1" + base64url(E ‖ ChaCha20-Poly1305(H("notice-aead", s ‖ E), nonce 0, plain, aad = "ppn1" ‖ E))

    sender    new_notice ─▶ r, plain, text ─▶ letter by r with the tag ["notice", sig_R(H("notice", plain))] ─▶ payment
    receiver  text ─▶ read_notice: who, until when, where; nothing is looked up ─▶ decision ─▶ fetch R ─▶ confirms

The identity is the sender's signature over H("identity", R ‖ B ‖ expiry): it can be checked offline, and is good for
this letter to this receiver alone. The tag shows that the writer of the notice wrote the letter, not who paid.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidNotice
from pennypost.protocol.giftwrap import Rumor

PREFIX: Final = "ppn1"
TLV: Final = 34349334
"""The TLV type of a chat message in keysend payments; it carries the notice's text."""
BLASTR: Final = "blastr"
"""Where, of a letter that was sent to very many relays."""
TAG: Final = "notice"
MAX_WHERE: Final = 39
"""Bytes of the relays: then the notice has 255 characters at most."""
MAX_NOTICE: Final = 255
SHORTEST: Final = 75
"""Characters of a notice without sender and relays."""

_VERSION: Final = 1
_HEAD: Final = 5
_SENDER: Final = 96
_TAG: Final = 16
_NONCE: Final = bytes(12)
_FORM: Final = re.compile(r"ppn1[A-Za-z0-9_-]{71,251}(?![A-Za-z0-9_-])")
_WHERE: Final = re.compile(rb"[!-~]+(?: [!-~]+)*")


@dataclass(frozen=True, slots=True)
class Notice:
    """What a notice says. `author` is R, the key of the letter to fetch (32 bytes); `expiry` in Unix seconds.

    `sender` is the writer's key (32 bytes), proved by his signature; None where he does not say. `where` are relays
    without their scheme, separated by spaces, or "blastr", or nothing.
    """

    author: bytes
    expiry: int
    sender: bytes | None
    where: str
    plain: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A notice to send: its text, and the secret of the letter's author with the tag for the rumor inside."""

    text: str
    author_secret: bytes = field(repr=False)
    tag: list[str]


def new_notice(
    receiver: bytes,
    ephemeral_secret: bytes,
    *,
    expiry: int,
    sender_secret: bytes | None = None,
    where: str = "",
    aux: bytes,
) -> NewNotice:
    """A notice for `receiver` (32-byte public key); `ephemeral_secret` and `aux` are 32 fresh random bytes each.

    With `sender_secret` it says who writes, and proves it. Raises InvalidKey, InvalidInput for relays that do not fit.
    """
    if not 0 < expiry < 2**32:
        raise InvalidInput("a notice ends before the year 2106")
    written = where.encode(errors="replace")
    if len(written) > MAX_WHERE or (written and not _WHERE.fullmatch(written)):
        raise InvalidInput("the relays of a notice have 39 characters of ASCII at most")
    ephemeral = secp.xonly(ephemeral_secret)
    shared = secp.ecdh_x(ephemeral_secret, receiver)
    secret = secp.tweak_secret(ephemeral_secret, _tweak(shared, ephemeral))
    author, head = secp.xonly(secret), bytes((_VERSION,)) + expiry.to_bytes(4, "big")
    identity = b""
    if sender_secret is not None:
        signature = secp.schnorr_sign(sender_secret, _identity(author, receiver, head), aux)
        identity = secp.xonly(sender_secret) + signature
    plain = head + identity + written
    sealed = ChaCha20Poly1305(_key(shared, ephemeral)).encrypt(_NONCE, plain, PREFIX.encode() + ephemeral)
    text = PREFIX + urlsafe_b64encode(ephemeral + sealed).rstrip(b"=").decode()
    signed = secp.schnorr_sign(secret, secp.tagged_hash("notice", plain), aux)
    return NewNotice(text, secret, [TAG, signed.hex()])


def find_notice(text: str) -> str | None:
    """The notice inside a payment's comment, or in what was pasted; None where there is none."""
    found = _FORM.search(text[:8_192])
    return found[0] if found else None


def read_notice(text: str, receiver_secret: bytes) -> Notice:
    """Open a notice with the receiver's secret key and check who wrote it; nothing else is needed and nobody asked.

    Raises InvalidNotice, whatever is sent, also for a notice to somebody else.
    """
    if not _FORM.fullmatch(text):
        raise InvalidNotice("it begins with ppn1 and has 75 to 255 characters")
    try:
        data = urlsafe_b64decode(text[len(PREFIX) :] + "=" * (-(len(text) - len(PREFIX)) % 4))
    except (binascii.Error, ValueError):
        raise InvalidNotice("it is damaged") from None
    ephemeral, sealed = data[:32], data[32:]
    if len(sealed) < _HEAD + _TAG or urlsafe_b64encode(data).rstrip(b"=").decode() != text[len(PREFIX) :]:
        raise InvalidNotice("it is damaged")
    try:
        shared = secp.ecdh_x(receiver_secret, ephemeral)
        plain = ChaCha20Poly1305(_key(shared, ephemeral)).decrypt(_NONCE, sealed, PREFIX.encode() + ephemeral)
        author = secp.tweak_pub(ephemeral, _tweak(shared, ephemeral))
    except (InvalidKey, InvalidTag):
        raise InvalidNotice("it is for somebody else, or damaged") from None
    return _parse(plain, author, secp.xonly(receiver_secret))


def _parse(plain: bytes, author: bytes, receiver: bytes) -> Notice:
    head, rest = plain[:_HEAD], plain[_HEAD:]
    if head[0] != _VERSION:
        raise InvalidNotice("a newer version made it")
    sender = None
    if len(rest) >= _SENDER:
        sender, signature, rest = rest[:32], rest[32:_SENDER], rest[_SENDER:]
        if not secp.schnorr_verify(sender, _identity(author, receiver, head), signature):
            raise InvalidNotice("who wrote it did not sign it")
    if len(rest) > MAX_WHERE or (rest and not _WHERE.fullmatch(rest)):
        raise InvalidNotice("its relays cannot be read")
    return Notice(author, int.from_bytes(head[1:], "big"), sender, rest.decode("ascii"), plain)


def confirms(notice: Notice, sender: bytes, rumor: Rumor) -> bool:
    """Whether this letter is the one of the notice: its key signed the notice, and the sender is the one it names."""
    if notice.sender is not None and notice.sender != sender:
        return False
    for tag in rumor.tags:
        if tag[0] == TAG and len(tag) == 2 and re.fullmatch(r"[0-9a-f]{128}", tag[1]):
            return secp.schnorr_verify(notice.author, secp.tagged_hash("notice", notice.plain), bytes.fromhex(tag[1]))
    return False


def _tweak(shared: bytes, ephemeral: bytes) -> bytes:
    return secp.tagged_hash("notice-key", shared, ephemeral)


def _key(shared: bytes, ephemeral: bytes) -> bytes:
    return secp.tagged_hash("notice-aead", shared, ephemeral)


def _identity(author: bytes, receiver: bytes, head: bytes) -> bytes:
    return secp.tagged_hash("identity", author, receiver, head[1:])
