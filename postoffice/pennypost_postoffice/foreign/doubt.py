"""Rows of the journal of which nobody knows what became, for the operator: look again, or close.

    look ▶ what did the mint do? ─┬─ swapped    ▶ stored, our proofs in the treasury      a repeat hears `duplicate`
                                  │               or over: deleted, or its time ended     … `deleted`, `expired`
      (never asks for a swap)     ├─ untouched  ▶ row gone                                a repeat pays with the stamp
                                  ├─ spent      ▶ row gone                                a repeat hears `stamp-spent`
                                  └─ not known  ▶ the row stays                           a repeat joins it
    close ▶ look; not known ▶ row gone, its outputs and the reason are kept               a repeat goes on with them

Every sender of such a letter was told `overloaded` long ago: not stored, and the same stamp is good for the same
letter. All of this keeps that word. A server that runs beside it notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import InvalidInput, Overloaded
from pennypost.protocol.price import PriceList
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_postoffice.commit import Done, RaceLost, commit_on
from pennypost_postoffice.foreign import swap as swaps
from pennypost_postoffice.foreign.closed import REASON, Closed, closed_on, collect_on
from pennypost_postoffice.foreign.journal import DAY, MS, Entry, Paid, close_on, drop_on, end_on, entries_on
from pennypost_postoffice.foreign.letter import letter_of
from pennypost_postoffice.foreign.line import Nonsense, Refusal, Unanswered
from pennypost_postoffice.foreign.mint import Mint
from pennypost_postoffice.foreign.outputs import run_here
from pennypost_postoffice.foreign.swap import Gone, Refused, Swap, Swapped, Unknown
from pennypost_postoffice.operate.mailbag import Carrier
from pennypost_postoffice.tables import treasury

TRIES = 40
PAUSE = 0.25
"""Tries, and seconds between them, of a commit that meets another transaction."""

Result = Literal[
    "stored", "over", "changed", "untouched", "spent", "unknown", "away", "unlisted", "gone", "closed", "collected"
]
"""`over`: the stamp was taken, but the letter was deleted or its time ended meanwhile. `changed`: proofs of the
treasury's own were swapped. `unlisted`: PENNYPOST_MINT_URLS does not name the mint. `gone`: a server was faster.
`collected`: proofs of a row that was closed came in."""


class Look(NamedTuple):
    """What one look said: `id` in hex, `mint` its address, `sat` what is to come in."""

    id: str
    mint: str
    letter: bool
    sat: int
    result: Result


class Doubts:
    """The operator's side; `mints` are those of the settings by address, and only these are asked. Close it."""

    def __init__(self, database: Database, urls: Sequence[str], seed: bytes, prices: PriceList) -> None:
        self._database, self._seed, self._prices = database, seed, prices
        self._mints = {url: Mint(url) for url in urls}

    async def end(self) -> None:
        """Leaves the mints."""
        for mint in self._mints.values():
            await mint.close()

    async def look(self, names: Sequence[str] = ()) -> list[Look]:
        """What became of these rows, open and closed ones, of all of them without a name.

        Raises InvalidInput, DatabaseUnavailable.
        """
        entries, closed = await self._database.read(_all_on)
        known = {each.event_id.hex() for each in (*entries, *closed)}
        if not known.issuperset(names):
            raise InvalidInput("the journal has no swap of this id")
        wanted = set(names) or known
        found = [await self._look(each) for each in entries if each.event_id.hex() in wanted]
        return found + [await self._collect(each) for each in closed if each.event_id.hex() in wanted]

    async def close(self, name: str, reason: str) -> Look:
        """Ends a row of which the mint says nothing; what the mint does say goes first.

        Raises InvalidInput for an unknown id and a bad reason, DatabaseUnavailable, and Overloaded while a request for
        a letter may be under way.
        """
        if not reason.strip() or len(reason) > REASON or not reason.isprintable():
            raise InvalidInput(f"a reason has 1 to {REASON} characters on one line")
        entries = await self._database.read(entries_on)
        entry = next((each for each in entries if each.event_id.hex() == name), None)
        if entry is None:
            raise InvalidInput("the journal has no swap of this id")
        if entry.body is not None and time.time() - entry.asked_at / MS < swaps.QUIET:
            raise Overloaded("the mint was asked for it within the last ten minutes, and may still do it")
        looked = await self._look(entry)
        if looked.result not in ("unknown", "away", "unlisted"):
            return looked
        if not await self._database.write(close_on, entry, reason.strip(), int(time.time())):
            raise Overloaded("somebody came again with this letter just now")
        return looked._replace(result="closed")

    async def _look(self, entry: Entry) -> Look:
        return Look(
            entry.event_id.hex(), entry.mint, entry.body is not None, sum(entry.amounts), await self._decide(entry)
        )

    async def _decide(self, entry: Entry) -> Result:
        mint = self._mints.get(entry.mint)
        if mint is None:
            return "unlisted"
        swap = Swap(entry, mint, self._database, run_here, self._seed, fresh=False)
        match await swap.attempt(forward=False):
            case Swapped(earned):
                return await self._store(Paid(entry, earned))
            case Unknown(away):
                return "away" if away else "unknown"
            case Gone():
                return "gone"
            case Refused():
                result: Result = "spent"
            case _:
                result = "untouched"
        return result if await self._database.write(drop_on, entry) else "gone"

    async def _store(self, paid: Paid) -> Result:
        """As a server does: letter, proofs and the end of the row in one transaction."""
        now = int(time.time())
        if paid.entry.body is None:
            await self._database.write(end_on, [paid], now)
            return "changed"
        post = letter_of(paid.entry, Carrier(), self._prices)
        post.pay(paid)
        for _ in range(TRIES):
            try:
                done: Done = await self._database.write(commit_on, [post], now, True)
                if not done.waiting:
                    return "stored" if done.stored or done.duplicates else "over"
            except RaceLost:
                pass
            await asyncio.sleep(PAUSE)
        return "unknown"

    async def _collect(self, closed: Closed) -> Look:
        """Proofs that its mint did sign: money that came for a letter whose sender may still come again."""
        amounts = tuple(map(int, closed.amounts.split(",")))
        look = Look(closed.event_id.hex(), closed.mint, closed.letter, sum(amounts), "closed")
        mint = self._mints.get(closed.mint)
        if mint is None or closed.collected:
            return look
        entry = Entry(closed.event_id, closed.mint, None, closed.keyset, closed.counter, amounts, 0, 0, ())
        swap = Swap(entry, mint, self._database, run_here, self._seed, fresh=False)
        try:
            earned = await swap.restored()
        except (Unanswered, Nonsense, Refusal):
            return look
        if not earned:
            return look
        rows = sorted(
            (each.y, closed.mint, each.keyset, each.counter, each.amount, each.c, int(time.time()) // DAY)
            for each in earned
        )
        return look._replace(result="collected") if await self._database.write(_take_in_on, closed, rows) else look


def open_on(connection: Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the journal, and those that were closed, as the operator reads them; times in Unix seconds."""
    entries, closed = _all_on(connection)
    swaps = [
        {
            "id": each.event_id.hex(),
            "mint": each.mint,
            "letter": each.body is not None,
            "sat": sum(each.amounts),
            "since": each.began_at // MS,
            "asked": each.asked_at // MS,
        }
        for each in entries
    ]
    return swaps, [
        {
            "id": each.event_id.hex(),
            "mint": each.mint,
            "letter": each.letter,
            "sat": sum(map(int, each.amounts.split(","))),
            "since": each.began_at // MS,
            "closed": each.closed_at,
            "reason": each.reason,
            "collected": each.collected,
        }
        for each in closed
    ]


def _all_on(connection: Connection) -> tuple[list[Entry], list[Closed]]:
    return entries_on(connection), closed_on(connection)


def _take_in_on(connection: Connection, closed: Closed, rows: list[tuple[Any, ...]]) -> bool:
    if not collect_on(connection, closed):
        return False
    insert_ignore(connection, treasury, ("y", "mint", "keyset", "counter", "amount", "c", "day"), rows, "y")
    return True
