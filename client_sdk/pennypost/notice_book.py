"""Notices that were begun, so that the same call again goes on with them: functions on a transaction of store.py.

    begun: letter, notice, preimage ─▶ letter posted (outbox.py) ─▶ invoice ─▶ payment (payments.py) ─▶ told
                                                                                without a key the row is gone then

A row is written before anything is posted, an invoice before it is paid. So whatever a crash interrupts, the next run
has the same event for the outbox, and the same payment hash for the journal of payments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from pennypost.letters import ONCE_FOR, Note
from pennypost.payments import payment_on
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import AlreadyPaid, OnceUsed
from pennypost.protocol.event import Event, event_json, parse_event


@dataclass(frozen=True, slots=True)
class Begun:
    """A letter and its notice. `preimage` (32 bytes) is that of a keysend payment; amounts are in msat."""

    id: str
    event: Event | None = field(repr=False)
    """None once it is told of."""
    text: str
    signed: bool
    kept_until: int
    preimage: bytes | None = field(default=None, repr=False)
    invoice: str | None = None
    carrier: str = ""
    """How it was told; empty until then."""
    msat: int = 0
    fee_msat: int = 0

    @property
    def payment_hash(self) -> bytes | None:
        """That of its payment (32 bytes), begun or not; None where none was chosen yet."""
        if self.preimage is not None:
            return sha256(self.preimage).digest()
        return None if self.invoice is None else parse_invoice(self.invoice).payment_hash


_BEGUN: Final = "event_id, event, text, signed, keep_until, preimage, invoice, carrier, msat, fee_msat"


def known_on(connection: sqlite3.Connection, note: Note, now: int, under_way: Collection[str] = ()) -> Begun | None:
    """The same call made before: by its key, else one that is not told of yet and not among `under_way` here.

    Raises OnceUsed for a key that another notice had.
    """
    connection.execute("DELETE FROM notices WHERE keep_until <= ? AND created_at < ?", (now, now - ONCE_FOR))
    if note.once is None:
        rows = connection.execute(
            f"SELECT {_BEGUN} FROM notices WHERE digest = ? AND once IS NULL ORDER BY rowid", (note.digest,)
        ).fetchall()
        return next((_begun(row) for row in rows if row[0] not in under_way), None)
    row = connection.execute(f"SELECT digest, {_BEGUN} FROM notices WHERE once = ?", (note.once,)).fetchone()
    if row is None:
        return None
    if row[0] != note.digest:
        raise OnceUsed
    return _begun(row[1:])


def begin_on(connection: sqlite3.Connection, note: Note, begun: Begun, now: int) -> Begun:
    """Write a notice before its letter is posted; what is there already, where another call was faster.

    Raises OnceUsed.
    """
    if note.once is not None and (known := known_on(connection, note, now)) is not None:
        return known
    assert begun.event is not None
    connection.execute(
        "INSERT INTO notices (event_id, once, digest, event, text, signed, keep_until, preimage, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
        (
            begun.id,
            note.once,
            note.digest,
            event_json(begun.event),
            begun.text,
            int(begun.signed),
            begun.kept_until,
            begun.preimage,
            now,
        ),
    )
    return begun


def order_on(connection: sqlite3.Connection, id: str, invoice: str, now: int) -> str:
    """The one invoice to pay for this notice: that of before, or this one where there is none that can be paid still.

    Raises AlreadyPaid where another run was faster.
    """
    row = connection.execute("SELECT invoice, carrier FROM notices WHERE event_id = ?", (id,)).fetchone()
    if row is None or row[1]:
        raise AlreadyPaid("another run has told of this letter")
    if row[0] is not None:
        before = parse_invoice(row[0])
        payment = payment_on(connection, before.payment_hash)
        if before.expires_at > now or (payment is not None and payment.state != "failed"):
            return row[0]
    connection.execute("UPDATE notices SET invoice = ? WHERE event_id = ?", (invoice, id))
    return invoice


def told_on(connection: sqlite3.Connection, id: str, carrier: str, msat: int, fee_msat: int) -> None:
    """It is told: only a key needs the row any longer, and no content of it."""
    connection.execute("DELETE FROM notices WHERE event_id = ? AND once IS NULL", (id,))
    connection.execute(
        "UPDATE notices SET carrier = ?, msat = ?, fee_msat = ?, event = NULL, preimage = NULL, invoice = NULL"
        " WHERE event_id = ?",
        (carrier, msat, fee_msat, id),
    )


def give_up_on(connection: sqlite3.Connection, id: str) -> None:
    """Forget a notice whose letter no office has or may have: nothing was paid for it."""
    connection.execute(
        "DELETE FROM notices WHERE event_id = ? AND carrier = '' AND NOT EXISTS"
        " (SELECT 1 FROM outbox o WHERE o.event_id = notices.event_id AND o.state IN ('waiting', 'accepted'))",
        (id,),
    )


def drop_on(connection: sqlite3.Connection, id: str) -> None:
    """Forget a notice whose letter is kept no longer, and that was not told."""
    connection.execute("DELETE FROM notices WHERE event_id = ? AND carrier = ''", (id,))


def _begun(row: tuple[object, ...]) -> Begun:
    id, event, text, signed, *rest = row
    return Begun(id, parse_event(event) if isinstance(event, bytes) else None, text, bool(signed), *rest)  # type: ignore[arg-type]
