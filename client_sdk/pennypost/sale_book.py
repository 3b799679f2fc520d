"""Sales that were begun, so that the same call again goes on with them: functions on a transaction of store.py.

    begun: invoice, letters ─▶ ciphertext posted ─▶ key posted ─▶ offer posted ─▶ done     without a key the row is gone

The row and the invoice's are one transaction, before anything is posted: whatever a crash interrupts, the next run has
the same letters for the outbox, and the buyer the same offer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pennypost import trade
from pennypost.letters import ONCE_FOR, Note
from pennypost.lightning import Made
from pennypost.protocol.errors import OnceUsed
from pennypost.protocol.event import Event, event_json, parse_event


@dataclass(frozen=True, slots=True)
class Begun:
    """A sale to one buyer (64 hex digits): `id` and `text` are those of the offer."""

    id: str
    buyer: str
    text: str = field(repr=False)
    sat: int
    hold: bool
    expires_at: int
    letters: list[Event] = field(repr=False)
    """Ciphertext, the key where the office is trusted with it, and offer; none once all are posted."""
    posted: list[str] = field(default_factory=list[str])
    """Ids of what was posted, once all are."""


_letters: Final = msgspec.json.Decoder(list[str | dict[str, Any]])
_BEGUN: Final = "offer, buyer, text, sat, hold, expires_at, letters"


def known_on(
    connection: sqlite3.Connection, note: Note, buyer: str, now: int, under_way: Collection[str] = ()
) -> Begun | None:
    """The same call for this buyer made before: by its key, else one that is not done and not among `under_way` here.

    Raises OnceUsed for a key that another sale had.
    """
    connection.execute(
        "DELETE FROM sales WHERE expires_at <= ? AND (once IS NULL OR created_at < ?)", (now, now - ONCE_FOR)
    )
    if note.once is None:
        rows = connection.execute(
            f"SELECT {_BEGUN} FROM sales WHERE digest = ? AND buyer = ? AND once IS NULL ORDER BY rowid",
            (note.digest, buyer),
        ).fetchall()
        return next((_begun(row) for row in rows if row[0] not in under_way), None)
    rows = connection.execute(f"SELECT digest, {_BEGUN} FROM sales WHERE once = ?", (note.once,)).fetchall()
    if any(digest != note.digest for digest, *_ in rows):
        raise OnceUsed
    return next((_begun(row) for _, *row in rows if row[1] == buyer), None)


def begin_on(connection: sqlite3.Connection, note: Note, begun: Begun, msat: int, made: Made, now: int) -> Begun:
    """Write a sale and its invoice; what is there already, where another call with its key was faster."""
    known = None if note.once is None else known_on(connection, note, begun.buyer, now)
    if known is not None:
        return known
    trade.add_invoice_on(connection, "offer", begun.id, begun.buyer, msat, made, now)
    connection.execute(
        f"INSERT INTO sales ({_BEGUN}, once, digest, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            begun.id,
            begun.buyer,
            begun.text,
            begun.sat,
            int(begun.hold),
            begun.expires_at,
            b"[" + b",".join(event_json(each) for each in begun.letters) + b"]",
            note.once,
            note.digest,
            now,
        ),
    )
    return begun


def done_on(connection: sqlite3.Connection, begun: Begun) -> None:
    """All its letters are posted: only a key needs the row any longer, and of the letters their ids."""
    connection.execute("DELETE FROM sales WHERE offer = ? AND once IS NULL", (begun.id,))
    posted = msgspec.json.encode([each.id for each in begun.letters])
    connection.execute("UPDATE sales SET letters = ? WHERE offer = ?", (posted, begun.id))


def give_up_on(connection: sqlite3.Connection, begun: Begun) -> None:
    """Forget a sale of whose letters no office has or may have any."""
    ids = [each.id for each in begun.letters]
    marks = ", ".join("?" * len(ids))
    connection.execute(
        "DELETE FROM sales WHERE offer = ? AND NOT EXISTS (SELECT 1 FROM outbox WHERE state IN ('waiting', 'accepted')"
        f" AND event_id IN ({marks}))",
        (begun.id, *ids),
    )


def _begun(row: tuple[object, ...] | list[object]) -> Begun:
    *rest, hold, expires_at, written = row
    assert isinstance(written, bytes)
    letters = _letters.decode(written)
    posted = [each for each in letters if isinstance(each, str)]
    events = [parse_event(msgspec.json.encode(each)) for each in letters if not isinstance(each, str)]
    return Begun(*rest, bool(hold), expires_at, events, posted)  # type: ignore[arg-type]
