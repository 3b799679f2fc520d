"""Who is meant: npub, nprofile, hex, or a name as people say it (NIP-05).

    key("npub1…")            read, nobody is asked
    key("bob@example.com")   asked of example.com once a day, by https, no redirect; remembered
                             another key than before ─▶ NameChanged, until it is accepted

Asking tells the server of the name that somebody here wants to write to it; so does nothing else. Names are the
person's own input: what strangers send is never looked up, and the relays in an answer are not dialled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from pennypost.keys import person
from pennypost.lnurl import check_public
from pennypost.protocol import nip05, nip19
from pennypost.protocol.errors import (
    InvalidInput,
    NameChanged,
    NameUnknown,
    NameUnreachable,
    OfficeMisbehaves,
    OfficeUnreachable,
)
from pennypost.store import Store
from pennypost.transport import Transport, is_loopback

ASKED_FOR: Final = 86_400
"""Seconds that an answer is believed without asking again."""
KNOWN_FOR: Final = 90 * 86_400
"""Seconds that it is believed while its server does not answer."""
MOST: Final = 1_000
"""Names that are remembered, those asked for last."""
TIMEOUT: Final = 10.0


class People:
    """The names that one home knows."""

    def __init__(
        self, store: Store, network: Transport, clock: Callable[[], float], tell: Callable[[str], None]
    ) -> None:
        """`tell` is told, in a sentence, when an answer of before had to do."""
        self._store, self._network, self._clock, self._tell = store, network, clock, tell

    async def key(self, who: str, *, accept: bool = False) -> bytes:
        """The public key (32 bytes) of somebody named by npub, nprofile, 64 hex digits or `name@domain`.

        `accept` asks anew, and takes the key that the name stands for now. Raises InvalidKey, NameUnknown, NameChanged,
        NameUnreachable, OfficeMisbehaves.
        """
        if not nip05.is_name(who):
            return person(who)
        name, now = nip05.parse_name(who), int(self._clock())
        known = await self._store.run(known_on, str(name))
        if known is not None and not accept and 0 <= now - known[1] < ASKED_FOR:
            return known[0]
        try:
            key = await self._ask(name)
        except (OfficeUnreachable, NameUnreachable):
            if known is None or accept or now - known[1] >= KNOWN_FOR:
                raise NameUnreachable from None
            self._tell(f"The server of {name} does not answer; its key of before is used.")
            return known[0]
        if known is not None and key != known[0] and not accept:
            self._tell(f"{name} was {nip19.encode_npub(known[0])}, and is {nip19.encode_npub(key)} now.")
            raise NameChanged
        await self._store.run(remember_on, str(name), key, now)
        return key

    async def _ask(self, name: nip05.Name) -> bytes:
        host = name.host.partition(":")[0]
        if not is_loopback(name.url):
            # A name that leads into a private network is a trap, or a mistake: this machine alone may be named.
            try:
                await check_public(host)
            except InvalidInput:
                raise NameUnreachable("it leads into a private network") from None
        answer = await self._network.request(
            "GET",
            name.url,
            headers={"accept": "application/json"},
            limit=nip05.ANSWER_LIMIT,
            timeout=TIMEOUT,
        )
        if answer.status == 404:
            raise NameUnknown
        if answer.status >= 500 or answer.status == 429:
            raise NameUnreachable
        if answer.status != 200:
            raise OfficeMisbehaves("the server of this name does not answer as NIP-05 says")
        return nip05.read_key(answer.body, name)


def known_on(connection: sqlite3.Connection, name: str) -> tuple[bytes, int] | None:
    """The key (32 bytes) that a name stood for, and when that was asked."""
    return connection.execute("SELECT key, asked_at FROM names WHERE name = ?", (name,)).fetchone()


def remember_on(connection: sqlite3.Connection, name: str, key: bytes, now: int) -> None:
    """This name stands for this key now; of too many, those asked for longest ago are forgotten."""
    connection.execute(
        "INSERT INTO names (name, key, asked_at) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET key = excluded.key, asked_at = excluded.asked_at",
        (name, key, now),
    )
    connection.execute(
        "DELETE FROM names WHERE name NOT IN (SELECT name FROM names ORDER BY asked_at DESC, name LIMIT ?)", (MOST,)
    )
