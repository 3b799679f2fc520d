"""HTTP requests signed by a Nostr key (NIP-98), as NIP-86 wants them: with the hash of the body.

    Authorization: Nostr <base64 of a kind 27235 event>      tags: u (address), method, payload (SHA-256 of the body)

An event is good for a minute, so whoever checks it remembers the ids of that time.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Collection
from hashlib import sha256
from typing import Final

from pennypost.protocol.errors import HttpAuthInvalid, InvalidEvent
from pennypost.protocol.event import Event, event_json, parse_event, sign_event, verify_event

KIND_HTTP_AUTH: Final = 27_235

WINDOW: Final = 60
"""Seconds that `created_at` may be off, to either side."""

MAX_HEADER: Final = 8_192
SCHEME: Final = "nostr"


def check_http_auth(header: str | None, *, urls: Collection[str], method: str, body: bytes, now: int) -> Event:
    """The signed event of a request (NIP-98, Nostr event; NIP-86, Authorization); its `pubkey` is who asks.

    `urls`: all spellings of the one address that is meant; `now` in Unix seconds. A GET has no body, and may go
    without `payload`. Raises HttpAuthInvalid.
    """
    event = _read(header)
    if event.kind != KIND_HTTP_AUTH:
        raise HttpAuthInvalid("not of kind 27235")
    if abs(event.created_at - now) > WINDOW:
        raise HttpAuthInvalid("its time is not now")
    if _only(event, "u") not in urls:
        raise HttpAuthInvalid("another address")
    if _only(event, "method") != method:
        raise HttpAuthInvalid("another method")
    bodiless = method == "GET" and not body and not any(tag[:1] == ["payload"] for tag in event.tags)
    if not bodiless and not hmac.compare_digest(_only(event, "payload").encode(), sha256(body).hexdigest().encode()):
        raise HttpAuthInvalid("another body")
    try:
        verify_event(event)
    except InvalidEvent:
        raise HttpAuthInvalid("its signature is not valid") from None
    return event


def http_auth(secret: bytes, *, url: str, method: str, body: bytes, now: int, aux: bytes) -> str:
    """The Authorization header for a request; `aux` are 32 random bytes for the signature."""
    tags = [["u", url], ["method", method], ["payload", sha256(body).hexdigest()]]
    event = sign_event(secret, created_at=now, kind=KIND_HTTP_AUTH, tags=tags, content="", aux=aux)
    return f"Nostr {b64encode(event_json(event)).decode()}"


def spellings(url: str) -> frozenset[str]:
    """How the address of a relay may be written: as http or ws, with and without the last slash."""
    scheme, _, rest = url.rstrip("/").partition("://")
    secure = scheme in ("https", "wss")
    return frozenset(
        f"{each}://{rest}{end}" for each in (("https", "wss") if secure else ("http", "ws")) for end in ("", "/")
    )


def _read(header: str | None) -> Event:
    if header is None or len(header) > MAX_HEADER:
        raise HttpAuthInvalid("an Authorization header is needed")
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != SCHEME:
        raise HttpAuthInvalid("an Authorization header is needed")
    try:
        return parse_event(b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError, InvalidEvent):
        raise HttpAuthInvalid("it holds no event") from None


def _only(event: Event, name: str) -> str:
    """The value of a tag that is there once; "" otherwise."""
    found = [tag[1] for tag in event.tags if tag[0] == name and len(tag) > 1]
    return found[0] if len(found) == 1 else ""
