"""Private direct messages as other programs know them (NIP-17): the plain gift wrap, and what a rumor says.

    rumor (kind 14, or 15 for a file) ──pad──▶ seal to the npub ──▶ wrap by a one-time key, tags p, expiration
    kind 1059 without `vt` ──giftwrap.unwrap──▶ sender, rumor ──▶ subject_of · parent_of · file_of

Its receiver is visible to everyone who sees the event; the stealth wrap (stealth.py) hides him. The rumor inside is the
same, so that subject, reply and file mean the same in both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.event import Event
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, seal, wrap
from pennypost.protocol.stealth import padded_size

KIND_FILE: Final = 15
SHIFT: Final = 2 * 86_400
"""Seconds that seal and wrap are dated back at most (NIP-17, Encrypting)."""
SUBJECT_LIMIT: Final = 256
"""Characters of a subject that is written here."""

_DAY: Final = 86_400
_HEX64: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """A file message (NIP-17, File Message), as its writer describes it: nothing of it is checked or fetched."""

    url: str
    """Where the encrypted file is."""
    media_type: str
    algorithm: str
    key: str = field(repr=False)
    nonce: str = field(repr=False)
    digest: str
    """SHA-256 of the encrypted file, 64 hex digits; empty where the writer gives none."""
    size: int = 0
    """Bytes of the encrypted file; 0 where the writer does not say."""


def message_tags(receiver: bytes, *, subject: str = "", reply_to: str = "", relay: str = "") -> list[list[str]]:
    """The tags of a message's rumor: `p`, and `subject` and `e` where they are given (NIP-17, Chat Message).

    `reply_to` is the id of the rumor that is answered (64 hex digits). Raises InvalidInput.
    """
    if len(subject) > SUBJECT_LIMIT or any(not each.isprintable() for each in subject):
        raise InvalidInput(f"a subject is one line of up to {SUBJECT_LIMIT} characters")
    if reply_to and not _HEX64.fullmatch(reply_to):
        raise InvalidInput("a reply names the message it answers by 64 lower-case hex digits")
    tags = [["p", receiver.hex(), *([relay] if relay else [])]]
    return tags + ([["e", reply_to]] if reply_to else []) + ([["subject", subject]] if subject else [])


def wrap_message(
    rumor: Rumor,
    sender_secret: bytes,
    receiver: bytes,
    one_time_secret: bytes,
    *,
    sealed_at: int,
    created_at: int,
    now: int,
    keep: int,
    randomness: bytes,
) -> Event:
    """The plain gift wrap of a rumor to `receiver` (32 bytes), padded to 1, 4 or 16 KiB like every letter.

    `sealed_at` and `created_at` (Unix seconds) are to lie up to SHIFT before `now`, each by chance. It is kept for
    `keep` seconds (see stealth.lifetime) and then until the day is full, or the hour for an hour: an exact expiration
    would show the time that those two hide.
    `one_time_secret` is 32 fresh bytes and `randomness` RANDOMNESS more. Raises LetterTooLarge over 16 KiB, InvalidKey
    for unusable keys and InvalidInput where the rumor names another author than the sender.
    """
    if len(randomness) != RANDOMNESS:
        raise ValueError("a message takes 128 bytes of randomness")
    half = RANDOMNESS // 2
    sealed = seal(
        rumor,
        sender_secret,
        receiver,
        created_at=sealed_at,
        randomness=randomness[:half],
        pad_to=padded_size(rumor),
    )
    step = min(keep, _DAY)
    until = -(-(now + keep) // step) * step
    return wrap(
        sealed,
        one_time_secret,
        receiver,
        created_at=created_at,
        randomness=randomness[half:],
        tags=[["expiration", str(until)]],
    )


def subject_of(rumor: Rumor) -> str:
    """The conversation's title that a message sets; empty without."""
    return _value(rumor, "subject")


def parent_of(rumor: Rumor) -> str:
    """The id of the message that a message answers (64 hex digits); empty where it answers none."""
    found = _value(rumor, "e")
    return found if _HEX64.fullmatch(found) else ""


def file_of(rumor: Rumor) -> File | None:
    """The file of a kind 15 message; None for other kinds, and where what is needed to open the file is missing."""
    if rumor.kind != KIND_FILE:
        return None
    algorithm, key, nonce = (
        _value(rumor, name) for name in ("encryption-algorithm", "decryption-key", "decryption-nonce")
    )
    if not (rumor.content and algorithm and key and nonce):
        return None
    digest, size = _value(rumor, "x"), _value(rumor, "size")
    return File(
        rumor.content,
        _value(rumor, "file-type"),
        algorithm,
        key,
        nonce,
        digest if _HEX64.fullmatch(digest) else "",
        int(size) if re.fullmatch(r"[0-9]{1,15}", size) else 0,
    )


def _value(rumor: Rumor, name: str) -> str:
    for tag in rumor.tags:
        if tag[0] == name and len(tag) > 1:
            return tag[1]
    return ""
