"""Giving up a letter that waits in the outbox: one whose office is gone, or that is not to be sent any more.

    waiting ─▶ which of its stamps are spent? asked at their mint ─▶ spent: the office has the letter, its row says so
                                                                  └▶ not: given back, and the letter is forgotten

Where the mint cannot be reached the stamps are given back unseen. They were shown to the office, so they are swapped
before they are used again (ledger.py), which finds out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pennypost import ledger, letters, notice_book
from pennypost.mail import DUPLICATE
from pennypost.outbox import Letter, finish_on, known_on
from pennypost.protocol.errors import InvalidInput, NotFound, PennypostError
from pennypost.protocol.token import Proof
from pennypost.purse import Purse
from pennypost.store import Store


@dataclass(frozen=True, slots=True)
class Dropped:
    """What became of a letter to one office, and of its stamps, in sat."""

    event_id: str
    office: str
    returned: int
    """Given back to the wallet."""
    taken: int
    """Spent: the office took them, and has the letter."""
    checked: bool
    """Whether the mint was asked; else what was returned may turn out to be spent."""


async def drop(store: Store, purse: Purse, event_id: str, under_way: Collection[str]) -> list[Dropped]:
    """Give up a letter (64 hex digits) at every office that has not answered.

    Raises NotFound where none waits, InvalidInput while it is being sent (`under_way`).
    """
    if event_id in under_way:
        raise InvalidInput("this letter is being sent")
    waiting = await store.run(unanswered_on, event_id)
    if not waiting:
        raise NotFound("no letter of this id is in the outbox")
    return [await _drop(store, purse, each) for each in waiting]


async def _drop(store: Store, purse: Purse, letter: Letter) -> Dropped:
    held = await store.run(ledger.held_on, letter.holder)
    spent: list[Proof] = []
    checked = True
    if held:
        try:
            states = await purse.exchange_of(letter.mint).mint.states(held)
            spent = [proof for proof, state in zip(held, states, strict=True) if state == "SPENT"]
        except PennypostError:
            # The mint may be gone together with the office.
            checked = False
    returned, taken = await store.run(drop_on, letter, spent)
    return Dropped(letter.event.id, letter.office, returned, taken, checked)


def unanswered_on(connection: sqlite3.Connection, event_id: str) -> list[Letter]:
    """A letter at each office that has not answered."""
    offices = connection.execute("SELECT office FROM outbox WHERE event_id = ? ORDER BY office", (event_id,)).fetchall()
    known = [known_on(connection, event_id, office) for (office,) in offices]
    return [each for each in known if isinstance(each, Letter)]


def drop_on(connection: sqlite3.Connection, letter: Letter, spent: Sequence[Proof]) -> tuple[int, int]:
    """Forget a letter at one office, its `spent` stamps too: the sat given back, and the sat spent.

    Raises NotFound where it had its answer, or another stamp, since it was looked at.
    """
    known = known_on(connection, letter.event.id, letter.office)
    if not isinstance(known, Letter) or known.token != letter.token:
        raise NotFound("the letter was sent meanwhile")
    held = sum(each.amount for each in ledger.held_on(connection, letter.holder))
    taken = sum(each.amount for each in spent)
    ledger.settle_holder_on(connection, letter.holder, spent)
    if spent:
        finish_on(connection, letter, "accepted", DUPLICATE)
    else:
        connection.execute("DELETE FROM outbox WHERE event_id = ? AND office = ?", (letter.event.id, letter.office))
        letters.follow_on(connection, letter.event.id)
        notice_book.give_up_on(connection, letter.event.id)
    return held - taken, taken
