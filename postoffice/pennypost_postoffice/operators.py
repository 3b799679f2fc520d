"""Who may run the office over HTTP: the keys of PENNYPOST_OPERATORS, by a request that one of them signed (NIP-98)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pennypost.protocol.errors import HttpAuthInvalid, NotFound
from pennypost.protocol.event import Event
from pennypost.protocol.nip98 import WINDOW, check_http_auth
from pennypost_mint.runtime.settings import Settings, keys_in

REMEMBERED = 10_000
"""Signed requests of the last minutes that are known; past it none is taken until the oldest are over."""


class Operators:
    """Takes each signed request once; `settings` gives the present ones, `now` Unix seconds."""

    def __init__(self, settings: Callable[[], Settings], now: Callable[[], int]) -> None:
        self._settings, self._now = settings, now
        self._seen: dict[str, int] = {}

    def public_keys(self) -> list[str]:
        """Their public keys in hex."""
        return keys_in(self._settings().operators)

    def authorize(self, header: str | None, *, urls: Collection[str], method: str, body: bytes) -> Event:
        """The signed event. Raises HttpAuthInvalid, and NotFound where nobody may manage."""
        operators = self.public_keys()
        if not operators:
            raise NotFound
        now = self._now()
        event = check_http_auth(header, urls=urls, method=method, body=body, now=now)
        if event.pubkey not in operators:
            raise HttpAuthInvalid("not a key of the operator")
        for identifier in [each for each, until in self._seen.items() if until < now]:
            del self._seen[identifier]
        if event.id in self._seen or len(self._seen) >= REMEMBERED:
            raise HttpAuthInvalid("it was used before")
        self._seen[event.id] = event.created_at + WINDOW
        return event
