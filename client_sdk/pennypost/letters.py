"""Which letters of a home are on their way, and which text they were: functions on a transaction of store.py.

    letters   one row for each event of a call of `send`: how to know the same call again
              without a key: until every office has answered · with one (`once`): for a year
    outbox    one row for each event at each office (outbox.py)

A letter cannot be read any more by the one who sealed it, so its text is known by a digest, and that only with the key
of the identity: whoever finds the file can not try texts on it.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pennypost.protocol.errors import InvalidInput, OnceUsed
from pennypost.protocol.event import Event, expiration

ONCE_LIMIT: Final = 200
"""Characters of a key given by the caller."""
ONCE_FOR: Final = 366 * 86_400
"""Seconds that such a key is remembered, at least."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a letter beside its event."""

    receiver: str
    """64 hex digits."""
    digest: bytes = field(repr=False)
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter in the outbox that has no answer yet."""

    event_id: str
    office: str
    to: str
    """The receiver's public key, 64 hex digits; empty where it was no letter of `send`."""
    stamps: int
    """Reserved for it, in sat; 0 where it was not stamped yet."""
    created_at: int
    kept_until: int
    """Unix seconds; it is given up then."""


def note_of(secret: bytes, receiver: bytes, once: str | None, *parts: object) -> Note:
    """The note of a letter by the holder of `secret` (32 bytes); `parts`: all that makes it another, as JSON has it.

    Raises InvalidInput for a key that is none, and for a text that has no form in UTF-8.
    """
    if once is not None and not (0 < len(once) <= ONCE_LIMIT and once.isprintable()):
        raise InvalidInput("a key is of 1 to 200 printable characters")
    try:
        said = msgspec.json.encode([receiver.hex(), *parts])
    except UnicodeEncodeError:
        raise InvalidInput("the text is not UTF-8") from None
    return Note(receiver.hex(), hmac.digest(secret, b"pennypost/letter/v1" + said, "sha256"), once)


def known_on(connection: sqlite3.Connection, note: Note, under_way: Collection[str] = ()) -> list[str]:
    """The events of the same call made before: by its key, else those still on their way, but not `under_way` here.

    Raises OnceUsed for a key that another letter had.
    """
    if note.once is None:
        rows = connection.execute(
            "SELECT event_id FROM letters WHERE digest = ? AND once IS NULL ORDER BY rowid", (note.digest,)
        )
        return [id for (id,) in rows if id not in under_way]
    found = connection.execute(
        "SELECT event_id, digest FROM letters WHERE once = ? ORDER BY rowid", (note.once,)
    ).fetchall()
    if any(digest != note.digest for _, digest in found):
        raise OnceUsed
    return [id for id, _ in found]


def add_letters_on(connection: sqlite3.Connection, note: Note, events: Sequence[Event], now: int) -> None:
    """Remember the events of a call."""
    connection.executemany(
        "INSERT INTO letters (event_id, once, digest, receiver, keep_until, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        [(each.id, note.once, note.digest, note.receiver, expiration(each) or 0, now) for each in events],
    )


def follow_on(connection: sqlite3.Connection, event_id: str) -> None:
    """One of its offices has answered, or will not be asked: forget what is not needed to know the call again.

    A key whose letters were all refused is free again: nothing of them is stored anywhere.
    """
    row = connection.execute("SELECT once FROM letters WHERE event_id = ?", (event_id,)).fetchone()
    if row is None:
        return
    once: str | None = row[0]
    states = {
        state
        for (state,) in connection.execute(
            "SELECT o.state FROM outbox o JOIN letters l ON l.event_id = o.event_id WHERE l.event_id = ? OR l.once = ?",
            (event_id, once),
        )
    }
    if states & {"drafted", "waiting"}:
        return
    if once is None or "accepted" not in states:
        connection.execute("DELETE FROM letters WHERE event_id = ? OR once = ?", (event_id, once))
    else:
        connection.execute("UPDATE letters SET receiver = '' WHERE once = ?", (once,))


def drop_letters_on(connection: sqlite3.Connection, now: int) -> None:
    """Forget letters whose kept time is over, and those with a key a year after."""
    connection.execute(
        "DELETE FROM letters WHERE keep_until BETWEEN 1 AND ? AND (once IS NULL OR created_at < ?)",
        (now, now - ONCE_FOR),
    )


def outbox_on(connection: sqlite3.Connection) -> list[Waiting]:
    """Everything without an answer, the oldest first."""
    rows = connection.execute(
        "SELECT o.event_id, o.office, coalesce(l.receiver, ''), o.sat, o.created_at, o.keep_until FROM outbox o"
        " LEFT JOIN letters l ON l.event_id = o.event_id WHERE o.state IN ('drafted', 'waiting')"
        " ORDER BY o.created_at, o.event_id, o.office"
    )
    return [Waiting(*row) for row in rows]
