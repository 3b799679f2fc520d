"""A watcher: says which letters of an office are somebody's, by his scan key, and can do nothing else.

    ppscan1… ─▶ Watcher ─▶ GET /v1/headers ─▶ Scanner ─▶ Found, Found, …

It has no home, keeps nothing, opens no connection but to the header feed, and fetches no letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from pennypost.home import Home
from pennypost.inbox import PAUSE, SCAN_LIMIT, WAIT
from pennypost.office import Office
from pennypost.protocol.errors import OfficeMisbehaves, OfficeUnreachable, ServerError, TooMany
from pennypost.protocol.headers import HELD, RELEASED
from pennypost.protocol.scan_key import decode_scan_key
from pennypost.protocol.stealth import Scanner
from pennypost.store import Store
from pennypost.transport import Transport, parse_address


@dataclass(frozen=True, slots=True)
class Found:
    """A letter to the owner of the scan key, as its header shows it."""

    number: int
    """In the office's feed: what to go on from."""
    author: str
    """The one-time key R that signed it, 64 hex digits: the letter's name in the feed and in a REQ."""
    receiver: str
    """The one-time key P* in its `p` tag, 64 hex digits."""
    size_class: int
    ttl_class: int
    held: bool
    """Whether it waits for a payment (section 4)."""


class Watcher:
    """Watches the header feed of one office for the owner of one scan key."""

    def __init__(self, office: str, scan_key: str, transport: Transport) -> None:
        """`office` is an address, `scan_key` its text. Raises InvalidKey, InvalidInput."""
        key = decode_scan_key(scan_key)
        self._scanner = Scanner(key.secret, key.spend)
        # Nothing is opened in it: the office's prices are never asked for.
        self._office = Office(parse_address(office), transport, Store(Home(None)))

    async def found(self, *, after: int = 0, watch: bool = False) -> AsyncGenerator[Found]:
        """The letters behind number `after` of the feed, in its order; with `watch` it goes on as they come.

        Raises OfficeUnreachable, OfficeMisbehaves.
        """
        scanned = 0
        while True:
            try:
                headers = await self._office.headers(after, wait=WAIT if watch and scanned else 0)
            except (OfficeUnreachable, ServerError, TooMany):
                if not watch:
                    raise
                await asyncio.sleep(PAUSE)
                continue
            for hit in await asyncio.to_thread(self._scanner.scan, headers):
                header = hit.header
                held = bool(header.flags & HELD and not header.flags & RELEASED)
                author, receiver = header.pubkey.hex(), hit.pubkey.hex()
                yield Found(header.seq, author, receiver, header.size_class, header.ttl_class, held)
            if headers:
                after = headers[-1].seq
            elif not watch:
                return
            scanned += max(1, len(headers))
            if scanned > SCAN_LIMIT and not watch:
                raise OfficeMisbehaves("its header feed has no end")
