"""Rows of the journal that the operator closed: what is kept of them, functions in the caller's transaction.

    journal row ─ record_on ▶ closed ─┬─ the same event and stamps again ▶ outputs_on: a new row, the same outputs
                                      │                                    ▶ settle_on, when it is stored
                                      └─ the operator looks again ▶ collect_on: what the mint did sign after all

Nothing is decided by a closing: who comes again with the letter and the stamp of before is asked for no other stamp,
and the mint for no second swap. So neither a repeat nor a late signature costs anybody anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, select, update

from pennypost_mint.runtime.sets import delete_rows, insert_ignore, insert_rows, select_in
from pennypost_postoffice.tables import foreign_closed

if TYPE_CHECKING:
    from pennypost_postoffice.foreign.journal import Entry, Input

REASON = 256
"""Characters of a reason."""

_KEY = ("event_id", "stamps")


class Closed(NamedTuple):
    """One of them. `began_at` in Unix milliseconds, `closed_at` in seconds."""

    event_id: bytes
    stamps: bytes
    mint: str
    keyset: str
    counter: int
    amounts: str
    letter: bool
    began_at: int
    closed_at: int
    reason: str
    collected: bool


def stamps_of(inputs: Iterable[Input]) -> bytes:
    """What names a set of stamps, 32 bytes, and tells nothing of their secrets."""
    return hashlib.sha256(b"".join(sorted(each.y for each in inputs))).digest()


def closed_on(connection: Connection) -> list[Closed]:
    """All of them, the oldest first."""
    columns = foreign_closed.c
    rows = connection.execute(
        select(*(columns[name] for name in Closed._fields)).order_by(columns.closed_at, columns.event_id)
    )
    return [Closed(*row) for row in rows]


def record_on(connection: Connection, entry: Entry, reason: str, now: int) -> None:
    """Keeps what is needed of a row that goes; `now` in Unix seconds. One that was closed before is written anew."""
    key = (entry.event_id, stamps_of(entry.inputs))
    amounts = ",".join(map(str, entry.amounts))
    rest = (entry.mint, entry.keyset, entry.counter, amounts, entry.body is not None, entry.began_at, now, reason)
    before = _found_on(connection, entry.event_id, key[1])
    delete_rows(connection, foreign_closed, _KEY, [key])
    collected = before is not None and before.collected and before.counter == entry.counter
    insert_rows(connection, foreign_closed, Closed._fields, [(*key, *rest, collected)])


def reopen_on(connection: Connection, found: Sequence[Closed]) -> int:
    """Takes in rows of a backup; those that are here stay as they are. Returns how many came."""
    return len(insert_ignore(connection, foreign_closed, Closed._fields, sorted(found), "stamps"))


def outputs_on(
    connection: Connection, event_id: bytes, mint: str, inputs: Iterable[Input]
) -> tuple[str, tuple[int, ...], int] | None:
    """Keyset, amounts and first number of the outputs that were asked for this event and these stamps before."""
    found = _found_on(connection, event_id, stamps_of(inputs))
    if found is None or found.mint != mint:
        return None
    return found.keyset, tuple(map(int, found.amounts.split(","))), found.counter


def was_closed_on(connection: Connection, event_id: bytes) -> bool:
    """Whether a swap for this event was closed, with whatever stamps."""
    return bool(select_in(connection, foreign_closed, ("event_id",), "event_id", [event_id]))


def settle_on(connection: Connection, done: Sequence[Entry]) -> set[bytes]:
    """These are over now. Returns the ids of those whose proofs were collected before."""
    keys = {(entry.event_id, stamps_of(entry.inputs)): entry for entry in done}
    rows = select_in(connection, foreign_closed, Closed._fields, "event_id", [entry.event_id for entry in done])
    found = [each for each in map(Closed._make, rows) if each[:2] in keys]
    delete_rows(connection, foreign_closed, _KEY, sorted(each[:2] for each in found))
    return {
        each.event_id
        for each in found
        if each.collected and each[3:5] == (keys[each[:2]].keyset, keys[each[:2]].counter)
    }


def collect_on(connection: Connection, closed: Closed) -> bool:
    """Notes that its proofs come in; False when that was noted. Only a letter's row stays: somebody may come again."""
    here = (foreign_closed.c.event_id == closed.event_id, foreign_closed.c.stamps == closed.stamps)
    noted = connection.execute(update(foreign_closed).where(*here, ~foreign_closed.c.collected).values(collected=True))
    if noted.rowcount and not closed.letter:
        delete_rows(connection, foreign_closed, _KEY, [(closed.event_id, closed.stamps)])
    return bool(noted.rowcount)


def _found_on(connection: Connection, event_id: bytes, stamps: bytes) -> Closed | None:
    rows = select_in(connection, foreign_closed, Closed._fields, "event_id", [event_id])
    return next((each for each in map(Closed._make, rows) if each.stamps == stamps), None)
