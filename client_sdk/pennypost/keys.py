"""A person's identity: one nsec, kept in the home; and how a person is named.

new_identity(home)   import_identity(home, "nsec1…")   load_identity(home)      person("npub1…") ▶ public key
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from pennypost.home import IDENTITY, Home
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import HomeUnusable, InvalidKey, KeyExists


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair. Its text shows the npub alone."""

    secret: bytes = field(repr=False)
    """32 bytes."""
    pub: bytes = field(repr=False)
    """32 bytes, x-only."""

    @property
    def npub(self) -> str:
        """The public key as NIP-19 text: what to tell others."""
        return nip19.encode_npub(self.pub)

    @property
    def nsec(self) -> str:
        """The secret key as NIP-19 text: what to tell nobody."""
        return nip19.encode_nsec(self.secret)

    def __str__(self) -> str:
        return self.npub


def identity_of(secret: bytes) -> Identity:
    """The identity of a 32-byte secret key. Raises InvalidKey."""
    return Identity(secret, secp.xonly(secret))


def load_identity(home: Home) -> Identity | None:
    """The home's identity, or None when it has none yet. Raises HomeUnusable when its file is damaged."""
    text = home.read(IDENTITY)
    if text is None:
        return None
    try:
        return identity_of(nip19.decode_nsec(text))
    except InvalidKey:
        raise HomeUnusable("its identity file is damaged") from None


def new_identity(home: Home) -> Identity:
    """A fresh identity, stored. Raises KeyExists when the home has one: a key is never overwritten."""
    while not secp.valid_secret(secret := secrets.token_bytes(32)):
        pass
    return _store(home, identity_of(secret))


def import_identity(home: Home, text: str) -> Identity:
    """Store the identity of an nsec or of 64 lower-case hex digits. Raises InvalidKey, KeyExists."""
    text = text.strip()
    if len(text) == 64 and all(digit in "0123456789abcdef" for digit in text):
        return _store(home, identity_of(bytes.fromhex(text)))
    return _store(home, identity_of(nip19.decode_nsec(text)))


def person(name: str) -> bytes:
    """The 32-byte public key of somebody named by npub, nprofile or 64 hex digits. Raises InvalidKey."""
    name = name.strip().removeprefix("nostr:")
    if name.startswith("nsec"):
        raise InvalidKey("this is a secret key; name a person by npub")
    return nip19.parse_public_key(name)


def scan_key_of(name: str) -> bytes | None:
    """The scan key (32 bytes) that an nprofile of somebody names beside his npub; None for any other name of his.

    Raises InvalidKey.
    """
    name = name.strip().removeprefix("nostr:")
    scan = nip19.decode(name).scan if name[:9].lower() == "nprofile1" else None
    if scan is not None:
        secp.lift_x(scan)
    return scan


def _store(home: Home, identity: Identity) -> Identity:
    if not home.create(IDENTITY, identity.nsec):
        raise KeyExists
    return identity
