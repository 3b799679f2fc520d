"""Whom we know, and whom we do not want to hear.

    contact   with contacts-only, the inbox shows letters of contacts alone
    blocked   never shown, answered or filed, whatever was asked for

Both are told by the key that a letter was sealed with, so nobody can pass for a contact. What contacts-only passes over
is not lost: while the office keeps it, `inbox(again=True)` shows it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pennypost.people import People
from pennypost.protocol import nip19
from pennypost.protocol.errors import InvalidInput
from pennypost.store import Store

MOST: Final = 10_000
NAME: Final = 100
"""Characters of what we call somebody."""

Standing = Literal["contact", "blocked"]


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody we know, or have blocked."""

    npub: str
    name: str
    """What we call them; nobody else sees it."""
    standing: Standing
    added_at: int


class Contacts:
    """The contacts of one home."""

    def __init__(self, store: Store, people: People, clock: Callable[[], float]) -> None:
        self._store, self._people, self._clock = store, people, clock

    async def add(self, who: str, name: str = "") -> Contact:
        """Make somebody a contact, also one who was blocked. `who` as People.key, whose errors it raises; InvalidInput.

        `name` is what we call them, by default the name they were given by.
        """
        return await self._put(who, name, "contact")

    async def block(self, who: str, name: str = "") -> Contact:
        """Hear nothing of somebody any more. Raises as `add`."""
        return await self._put(who, name, "blocked")

    async def remove(self, who: str) -> bool:
        """Forget a contact, or that somebody was blocked; False where there was nothing to forget."""
        return await self._store.run(drop_on, await self._people.key(who))

    async def all(self) -> list[Contact]:
        """Contacts and blocked ones, in the order they came."""
        return [
            Contact(nip19.encode_npub(key), name, standing, added_at)
            for key, name, standing, added_at in await self._store.run(contacts_on)
        ]

    async def name(self, npub: str) -> str:
        """What we call somebody; empty for a stranger, and where no name was given. Raises InvalidKey."""
        return await self._store.run(name_on, nip19.parse_public_key(npub))

    async def shows(self, sender: bytes, *, only: bool = False) -> bool:
        """Whether letters of somebody (32-byte public key) are shown; with `only` those of contacts alone."""
        standing = await self._store.run(standing_on, sender)
        return standing == "contact" if only else standing != "blocked"

    async def _put(self, who: str, name: str, standing: Standing) -> Contact:
        given = name or (who.strip() if "@" in who else "")
        if len(given) > NAME or not given.isprintable():
            raise InvalidInput("a name is of at most 100 printable characters")
        key, now = await self._people.key(who), int(self._clock())
        if not await self._store.run(put_on, key, given, standing, now):
            raise InvalidInput(f"a home has at most {MOST} contacts")
        return Contact(nip19.encode_npub(key), given, standing, now)


def put_on(connection: sqlite3.Connection, key: bytes, name: str, standing: Standing, now: int) -> bool:
    """Note how somebody stands; False where there are too many. A name is kept where no other is given."""
    known = standing_on(connection, key) is not None
    if not known and connection.execute("SELECT count(*) FROM contacts").fetchone()[0] >= MOST:
        return False
    connection.execute(
        "INSERT INTO contacts (key, name, standing, added_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET standing = excluded.standing, name = CASE excluded.name WHEN '' THEN name ELSE excluded.name END",
        (key, name, standing, now),
    )
    return True


def drop_on(connection: sqlite3.Connection, key: bytes) -> bool:
    """Forget how somebody stands."""
    return connection.execute("DELETE FROM contacts WHERE key = ?", (key,)).rowcount > 0


def standing_on(connection: sqlite3.Connection, key: bytes) -> Standing | None:
    """How somebody stands; None for a stranger."""
    row = connection.execute("SELECT standing FROM contacts WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def name_on(connection: sqlite3.Connection, key: bytes) -> str:
    """What we call somebody."""
    row = connection.execute("SELECT name FROM contacts WHERE key = ?", (key,)).fetchone()
    return row[0] if row else ""


def contacts_on(connection: sqlite3.Connection) -> list[tuple[bytes, str, Standing, int]]:
    """Key (32 bytes), name, standing and time of everybody noted."""
    return connection.execute("SELECT key, name, standing, added_at FROM contacts ORDER BY added_at, key").fetchall()
