"""Authentication (NIP-42): a challenge at once on connecting, an answer for this relay, now, to that challenge."""

from __future__ import annotations

import secrets
from collections.abc import Set
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from pennypost.protocol.errors import AuthInvalid, TooManyKeys
from pennypost.protocol.event import KIND_AUTH, Event, tag_value
from pennypost_mint.runtime.limits import AUTH_KEYS

WINDOW = 600
"""Seconds that `created_at` may be off."""


def new_challenge() -> str:
    """A challenge nobody can guess: 32 hex digits."""
    return secrets.token_hex(16)


def relay_name(url: str) -> str | None:
    """`host[:port]` of a relay's address in lower case, without a default port; None for what is none."""
    try:
        parts = urlsplit(url.strip().lower())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme in ("wss", "https") else 80
    return host if port in (None, default) else f"{host}:{port}"


@lru_cache(maxsize=256)
def own_names(address: tuple[str, int | None] | None, origin: str) -> frozenset[str]:
    """What a connection may call this office beside its public name: the socket it came to, and loopback.

    `address`: host and port of that socket (ASGI's `server`); `origin`: the Host it gave. One that is not loopback is
    no name of ours: a relay between us and a client would give its own, and hand on what the client signed for it.
    """
    host, port = address or ("", None)
    socket = relay_name(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}")
    return frozenset(name for name in (socket, origin if _is_loopback(origin) else None) if name)


def _is_loopback(name: str) -> bool:
    try:
        host = urlsplit(f"//{name}").hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_room(pubkey: str, authenticated: Set[str]) -> None:
    """Whether a connection with these keys may have this one, too. Raises TooManyKeys."""
    if len(authenticated) >= AUTH_KEYS and pubkey not in authenticated:
        raise TooManyKeys


def check_auth(event: Event, challenge: str, names: set[str], now: int) -> None:
    """Everything about an AUTH event but its signature. `names`: how this office is called. Raises AuthInvalid."""
    if event.kind != KIND_AUTH:
        raise AuthInvalid("not of kind 22242")
    if abs(event.created_at - now) > WINDOW:
        raise AuthInvalid("its time is not now")
    given = tag_value(event, "challenge") or ""
    if not secrets.compare_digest(given.encode(), challenge.encode()):
        raise AuthInvalid("another challenge")
    if relay_name(tag_value(event, "relay") or "") not in names:
        raise AuthInvalid("another relay")
