"""Releases of held letters that are owed to offices, so that none that was away keeps a paid letter back.

    paid ─▶ owed, for each office ─▶ the office has the letter? ─▶ POST /v1/holds/<T> ─▶ row gone
                                       └─ still in the outbox: released after it was posted (outbox.py)

Rows are written before a message that was paid for counts as sent. Releasing twice is harmless, so after a crash all
are released again. Functions on a transaction of store.py.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from pennypost.protocol.event import Event, expiration


@dataclass(frozen=True, slots=True)
class Release:
    """What opens a held letter at one office: T, the preimage and the id of the request or offer (32 bytes each)."""

    office: str
    event_id: str
    hold: bytes
    preimage: bytes = field(repr=False)
    identifier: bytes
    stored: bool
    """Whether the office has said that it has the letter; else it may not, yet."""


def owe_on(connection: sqlite3.Connection, event: Event, hold: bytes, preimage: bytes, identifier: bytes) -> None:
    """A held letter was paid for: each office that has it, or is to have it, is to release it."""
    connection.execute(
        "INSERT INTO releases (office, event_id, hold, preimage, identifier, keep_until)"
        " SELECT office, event_id, ?, ?, ?, ? FROM outbox WHERE event_id = ? AND state <> 'refused'"
        " ON CONFLICT (office, event_id) DO NOTHING",
        (hold, preimage, identifier, expiration(event) or 0, event.id),
    )


def due_on(connection: sqlite3.Connection, office: str, now: int) -> list[Release]:
    """What an office is to release: it has the letter, or may have it. What it keeps no longer is forgotten."""
    connection.execute(
        "DELETE FROM releases WHERE keep_until BETWEEN 1 AND ? OR (office = ? AND NOT EXISTS (SELECT 1 FROM outbox o"
        " WHERE o.event_id = releases.event_id AND o.office = releases.office AND o.state <> 'refused'))",
        (now, office),
    )
    rows = connection.execute(
        "SELECT r.office, r.event_id, r.hold, r.preimage, r.identifier, o.state = 'accepted' FROM releases r"
        " JOIN outbox o ON o.event_id = r.event_id AND o.office = r.office"
        " WHERE r.office = ? AND o.state IN ('accepted', 'waiting')",
        (office,),
    )
    return [Release(url, id, hold, preimage, named, bool(stored)) for url, id, hold, preimage, named, stored in rows]


def done_on(connection: sqlite3.Connection, release: Release) -> None:
    """It was released, or the office knows nothing of it."""
    connection.execute("DELETE FROM releases WHERE office = ? AND event_id = ?", (release.office, release.event_id))
