"""Authentication to relays (NIP-42): a signed answer to the challenge of one connection."""

from __future__ import annotations

from pennypost.protocol.event import KIND_AUTH, Event, sign_event


def answer_challenge(secret: bytes, relay: str, challenge: str, *, created_at: int, aux: bytes) -> Event:
    """The kind 22242 event by which the owner of a secret key (32 bytes) signs in at a relay (NIP-42, Signed Event).

    `relay` is its address as it was dialled, `aux` 32 bytes of fresh randomness. Raises InvalidKey.
    """
    tags = [["relay", relay], ["challenge", challenge]]
    return sign_event(secret, created_at=created_at, kind=KIND_AUTH, tags=tags, content="", aux=aux)
