"""Retention: what has expired is deleted for real, and free events stay within their quota.

    sweep ▶ expired events, held ones too, a few at a time ▶ remove_on ▶ old tombstones, hold tags, postmarks
          ▶ free events over their quota, oldest first ▶ tombstones made early, or of those, over theirs
          ▶ checkpoint, also after a sweep that deleted nothing

Between its expiry and its deletion an event is not served: every read asks for `keep_until > now`. On SQLite deleted
pages are overwritten (secure_delete) and the write-ahead log, which holds bodies too, is emptied after each sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, select, tuple_

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sets import delete_in
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.holds import expired_on
from pennypost_postoffice.known import targets_on
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.tables import (
    EARLY,
    FREE,
    OF_FREE,
    UNPRICED,
    address_tombstones,
    addresses,
    events,
    feed,
    held,
    holds,
    postmarks,
    tombstones,
)
from pennypost_postoffice.vanish import forget_on as forget_vanished_on

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

STEP = 500
"""Events deleted in one transaction, so that no letter waits long behind a sweep."""

JUMP = 300
"""Seconds the clock may be put forward and be believed at once."""

PATIENCE = 3_600.0
"""Seconds after which a larger jump is believed: time to put a wrong clock right before it costs mail."""

log = logger("retention")

_COLUMNS = [events.c[name] for name in Target._fields]

_CROWD = select(func.count(), func.coalesce(func.sum(events.c.free_bytes), 0)).where(FREE)


def remove_expired_on(connection: Connection, now: int) -> int:
    """Deletes up to STEP events whose time is over at `now`, with everything that leads to them; returns how many."""
    over = select(feed.c.seq, feed.c.event_id).where(feed.c.keep_until <= now).order_by(feed.c.keep_until).limit(STEP)
    rows = connection.execute(over).all()
    remove_on(connection, targets_on(connection, [row.event_id for row in rows]).values())
    delete_in(connection, feed, "seq", sorted(row.seq for row in rows))
    return len(rows)


def remove_held_over_on(connection: Connection, now: int) -> int:
    """Deletes up to STEP events that nobody released in time; returns how many. Their headers go with the feed's."""
    found = expired_on(connection, now, STEP)
    remove_on(connection, found)
    return len(found)


def forget_on(connection: Connection, now: int) -> int:
    """Deletes tombstones, addresses, hold tags and postmarks whose time is over; returns how many."""
    tables: Sequence[Any] = (tombstones, address_tombstones, addresses, holds, postmarks)
    return sum(connection.execute(delete(each).where(each.c.keep_until <= now)).rowcount for each in tables)


def is_crowded_on(connection: Connection, rows: int, size: int) -> bool:
    """Whether free events are over their quota: this counts all of them in their index, so it is for a reader."""
    count, total = connection.execute(_CROWD).one()
    return count > rows or total > size


def over_quota_on(connection: Connection, rows: int, size: int) -> int:
    """Deletes up to STEP of the oldest free events while they are over their quota; returns how many.

    What a deletion among them deleted stays deleted: its tombstones are left alone.
    """
    count, total = connection.execute(_CROWD).one()
    if count <= rows and total <= size:
        return 0
    oldest = connection.execute(select(*_COLUMNS).where(FREE).order_by(events.c.created_at).limit(STEP))
    doomed: list[Target] = []
    for row in oldest:
        if count <= rows and total <= size:
            break
        doomed.append(Target(*row))
        count -= 1
        total -= len(doomed[-1].body)
    remove_on(connection, doomed)
    return len(doomed)


def unpriced_on(connection: Connection) -> tuple[int, int]:
    """How many letters there are that their price rule asked nothing for, held ones too, and their bytes."""
    rows = size = 0
    for table in (events, held):
        here = table.c.unpriced_bytes
        found = connection.execute(select(func.count(), func.coalesce(func.sum(here), 0)).where(UNPRICED)).one()
        rows, size = rows + found[0], size + int(found[1])
    return rows, size


def graves_over_quota_on(connection: Connection, rows: int) -> int:
    """Forgets up to STEP tombstones of each sort of more than `rows`, for ids and for addresses; returns how many.

    Of names that free deletions told before anything of that name was stored, those whose time is over soonest; of
    events that no stamp paid, the oldest, as the quota of those takes them.
    """
    sorts: Sequence[tuple[Any, str]] = ((EARLY, "keep_until"), (OF_FREE, "free_since"))
    return sum(
        _forget_over_on(connection, table, sort, order, rows)
        for table in (tombstones, address_tombstones)
        for sort, order in sorts
    )


def _forget_over_on(connection: Connection, table: Any, sort: Any, order: str, rows: int) -> int:
    count = connection.execute(select(func.count()).select_from(table).where(sort)).scalar_one()
    if count <= rows:
        return 0
    key = tuple_(*table.primary_key.columns)
    first = select(*table.primary_key.columns).where(sort).order_by(table.c[order])
    # one statement: a deletion at the same moment may make one of them last
    return connection.execute(delete(table).where(sort, key.in_(first.limit(min(STEP, count - rows))))).rowcount


class PatientClock:
    """Notices that the clock was put forward, by one that only ever goes on; `steady` gives its seconds."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._ahead: float | None = None
        self._jumped = 0.0

    def believes(self, now: int) -> bool:
        """Whether `now`, Unix seconds, is what the last one believed and the time since then make it."""
        steady = self._steady()
        ahead = now - steady
        if self._ahead is None or ahead <= self._ahead + JUMP:
            self._ahead, self._jumped = ahead, 0.0
            return True
        self._jumped = self._jumped or steady
        if steady - self._jumped < PATIENCE:
            return False
        self._ahead, self._jumped = ahead, 0.0
        return True


class Retention:
    """Sweeps every `every` seconds, but not for a while after the clock was put forward: what is deleted is gone."""

    def __init__(self, office: Office, every: float) -> None:
        self._office = office
        self._alone = asyncio.Lock()
        self.every = every

    async def run(self) -> None:
        """Works until it is cancelled; a database that is away is left for the next sweep."""
        clock = PatientClock(monotonic)
        while True:
            try:
                if clock.believes(self._office.now()):
                    await self.sweep()
                else:
                    log.warning("the clock was put forward; expired mail is deleted once that has lasted")
            except DatabaseUnavailable:
                log.warning("expired mail could not be deleted now")
            await asyncio.sleep(self.every)

    async def sweep(self) -> int:
        """Deletes everything that is over now; returns the number of events. Raises DatabaseUnavailable."""
        async with self._alone:
            return await self._sweep()

    async def _sweep(self) -> int:
        office = self._office
        now = office.now()
        gone = 0
        while count := await office.database.write(remove_expired_on, now):
            gone += count
        while count := await office.database.write(remove_held_over_on, now):
            gone += count
        await office.database.write(forget_on, now)
        await office.database.write(forget_vanished_on)
        rows, size = office.settings.free_rows, office.settings.free_bytes
        while await office.database.read(is_crowded_on, rows, size):
            await office.database.write(over_quota_on, rows, size)
        while await office.database.write(graves_over_quota_on, rows):
            pass
        office.unpriced.measuring()
        office.unpriced.measured(*await office.database.read(unpriced_on))
        # always: what deletions, newer versions and releases took away since the last sweep is in the log, too
        await office.database.checkpoint()
        office.metrics.office_expired.inc(gone)
        return gone
