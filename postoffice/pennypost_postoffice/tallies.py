"""Sums by day for the operator: what was stored, by kind, and what was refused, by code. Of nobody in particular.

    answers, commits ─▶ counted in memory ─▶ every ten seconds and at the end ─▶ table `tallies` ─▶ `office report`

Counting in the commit's own transaction would cost every letter; so a kill -9 loses up to ten seconds of these sums,
and never a letter or a stamp. The day is that of Unix time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.tables import tallies

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

EVERY = 10.0
"""Seconds between two writes."""

KEPT = 400
"""Days that sums are kept."""

DAY = 86_400
STORED, REFUSED = "stored", "refused"

log = logger("tallies")


class Tally(NamedTuple):
    """A sum: Unix day, `stored` or `refused`, a kind in decimal or a code, events, and sat of their stamps."""

    day: int
    subject: str
    label: str
    events: int
    sat: int


Key = tuple[int, str, str]


def add_on(connection: Connection, sums: Mapping[Key, tuple[int, int]]) -> None:
    """Adds to the sums of these days, and forgets those of long ago."""
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(tallies)
    statement = insert.on_conflict_do_update(
        index_elements=["day", "subject", "label"],
        set_={"events": tallies.c.events + insert.excluded.events, "sat": tallies.c.sat + insert.excluded.sat},
    )
    rows = [Tally(*key, *counts)._asdict() for key, counts in sorted(sums.items())]
    connection.execute(statement, rows)
    connection.execute(delete(tallies).where(tallies.c.day < max(key[0] for key in sums) - KEPT))


def tallies_on(connection: Connection, since: int, until: int) -> list[Tally]:
    """The sums from Unix day `since` to `until`, both included."""
    found = select(tallies).where(tallies.c.day.between(since, until))
    rows = connection.execute(found.order_by(tallies.c.day, tallies.c.subject.desc(), tallies.c.label))
    return [Tally(*row) for row in rows]


class Tallies:
    """The sums of this process that are not written yet."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._sums: dict[Key, tuple[int, int]] = {}

    def stored(self, kind: int, events: int, sat: int) -> None:
        """So many events of a kind were stored; `sat` is what their stamps were worth."""
        self._add(STORED, str(kind), events, sat)

    def refused(self, code: str) -> None:
        """An event was refused."""
        self._add(REFUSED, code, 1, 0)

    def _add(self, subject: str, label: str, events: int, sat: int) -> None:
        key = (self._office.now() // DAY, subject, label)
        before = self._sums.get(key, (0, 0))
        self._sums[key] = (before[0] + events, before[1] + sat)

    async def write(self) -> None:
        """Adds them to the table; a database that is away is left for the next time."""
        sums, self._sums = self._sums, {}
        if not sums:
            return
        try:
            await self._office.database.write(add_on, sums)
        except DatabaseUnavailable:
            log.warning("the sums of the day wait for the database")
            for key, (events, sat) in sums.items():
                more = self._sums.get(key, (0, 0))
                self._sums[key] = (events + more[0], sat + more[1])

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.write()
