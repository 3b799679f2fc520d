"""Retention: what has expired is deleted for real, and free events stay within their quota.

    sweep ▶ expired events, held ones too, a few at a time ▶ remove_on ▶ old tombstones, hold tags, postmarks
          ▶ free kinds over their quota, oldest first ▶ checkpoint

Between its expiry and its deletion an event is not served: every read asks for `keep_until > now`. On SQLite deleted
pages are overwritten (secure_delete) and the write-ahead log, which holds bodies too, is emptied after each sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, delete, func, literal_column, select

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost.protocol.event import KIND_GIFT_WRAP
from pennypost_mint.runtime.limits import FREE_BYTES, FREE_ROWS
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sets import delete_in
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.holds import expired_on
from pennypost_postoffice.known import targets_on
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.tables import address_tombstones, addresses, events, feed, holds, postmarks, tombstones

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

STEP = 500
"""Events deleted in one transaction, so that no letter waits long behind a sweep."""

log = logger("retention")

_COLUMNS = [events.c[name] for name in Target._fields]


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


def over_quota_on(connection: Connection, kinds: Sequence[int], rows: int, size: int) -> int:
    """Deletes up to STEP of the oldest events of the free kinds while they are over their quota; returns how many."""
    free = and_(events.c.kind.in_(kinds), events.c.kind != literal_column(str(KIND_GIFT_WRAP)))
    count, total = connection.execute(
        select(func.count(), func.coalesce(func.sum(func.length(events.c.body)), 0)).where(free)
    ).one()
    if count <= rows and total <= size:
        return 0
    oldest = connection.execute(select(*_COLUMNS).where(free).order_by(events.c.created_at).limit(STEP))
    doomed: list[Target] = []
    for row in oldest:
        if count <= rows and total <= size:
            break
        doomed.append(Target(*row))
        count -= 1
        total -= len(doomed[-1].body)
    remove_on(connection, doomed)
    return len(doomed)


class Retention:
    """Sweeps every `every` seconds."""

    def __init__(self, office: Office, every: float) -> None:
        self._office = office
        self.every = every

    async def run(self) -> None:
        """Works until it is cancelled; a database that is away is left for the next sweep."""
        while True:
            try:
                await self.sweep()
            except DatabaseUnavailable:
                log.warning("expired mail could not be deleted now")
            await asyncio.sleep(self.every)

    async def sweep(self) -> int:
        """Deletes everything that is over now; returns the number of events. Raises DatabaseUnavailable."""
        office = self._office
        now = office.now()
        gone = 0
        while count := await office.database.write(remove_expired_on, now):
            gone += count
        while count := await office.database.write(remove_held_over_on, now):
            gone += count
        forgotten = await office.database.write(forget_on, now)
        kinds = sorted(office.policy.prices.free_kinds)
        crowded = 0
        while count := await office.database.write(over_quota_on, kinds, FREE_ROWS, FREE_BYTES):
            crowded += count
        if gone + forgotten + crowded:
            await office.database.checkpoint()
            office.metrics.office_expired.inc(gone)
        return gone
