"""CPU of requests over HTTP: taken off the same budget as what connections ask (shares.py).

    read ─▶ begin: has its source taken more than its share while CPU is scarce? ─ yes ─▶ 429, Retry-After
                      └ no ─▶ the database, at most FEED_READS at once (else 503) ─▶ answered
    event, release ─▶ admit, release: it waits; when too many do, one of the source that has most ─▶ 503, Retry-After

A long poll costs less than what it replaces: its look is shared by all who wait at the same number. Costs are CPU
microseconds as `python -m tests.bench.costs` measured them (in brackets, twice and beside other work;
docs/reference/performance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pennypost.protocol.errors import Overloaded, TooMany
from pennypost_mint.runtime.limits import EVENTS_WAITING, KIB, RELEASES_AT_ONCE, RELEASES_WAITING
from pennypost_mint.runtime.sources import Source
from pennypost_postoffice.places import Places
from pennypost_postoffice.shares import WAIT

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

COST_PAGE = 400
"""The relay information (330 to 500)."""
COST_READ = 750
"""A look at the feed that finds nothing (690 to 800), or at a page."""
COST_WAIT = 450
"""A long poll (475)."""
COST_HEADERS = 60
"""A KiB of the feed, 23 rows (57 to 75)."""
COST_KIB = 10
"""A KiB of a page (10)."""
COST_UNPAID = 900
"""An event that no stamp paid, taken or refused (770 to 910)."""

AGAIN = 1
"""Seconds after which a reader who was refused may come again."""


class Turn:
    """One request that waits, and is refused where its place is given to another's (places.py)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.used = False
        self.gave_way = False
        self._task = asyncio.current_task()

    def give_way(self) -> None:
        """It is refused now."""
        self.gave_way = True
        if self._task is not None:
            self._task.cancel()

    def went(self) -> bool:
        """Whether its task was cancelled for this and nothing else."""
        return self.gave_way and self._task is not None and self._task.uncancel() == 0


class Reads:
    """Counts what HTTP readers of one office take, and bounds what waits."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._events: Places[Turn] = Places()
        self._releases: Places[Turn] = Places()
        self._at_once = asyncio.Semaphore(RELEASES_AT_ONCE)
        waiting = office.metrics.office_requests_waiting
        waiting.set_function(lambda: len(self._events) + len(self._releases))

    def begin(self, scope: Mapping[str, Any], cost: float) -> Source:
        """A request begins that costs `cost` microseconds and more; returns its source. Raises TooMany."""
        office = self._office
        source = office.sources.of(scope)
        if not office.shares.admits(source):
            office.metrics.office_slowed.inc()
            error = TooMany()
            error.retry_after = AGAIN
            raise error
        office.shares.charge(source, None, cost)
        return source

    async def admit(self, source: Source) -> None:
        """Waits until an event may be taken. Raises Overloaded for one of EVENTS_WAITING that wait."""
        async with _place(self._events, source, EVENTS_WAITING):
            await self._slow(source)
            while self._office.is_full:
                await self._office.room.wait()

    @asynccontextmanager
    async def release(self, source: Source) -> AsyncGenerator[None, None]:
        """Around a release: it waits for its turn. Raises Overloaded for one of RELEASES_WAITING that wait."""
        async with _place(self._releases, source, RELEASES_WAITING):
            await self._slow(source)
            await self._at_once.acquire()
        try:
            self._office.shares.charge(source, None, COST_READ)
            yield
        finally:
            self._at_once.release()

    async def _slow(self, source: Source) -> None:
        """What may be paid for, an event or a release, is not refused for what others of its source took: it waits."""
        if not self._office.shares.admits(source):
            self._office.metrics.office_slowed.inc()
            await asyncio.sleep(WAIT)

    def unpaid(self, source: Source) -> None:
        """An event was not accepted, or needed no stamp: nothing paid for the work."""
        self._office.shares.charge(source, None, COST_UNPAID)

    def answered(self, source: Source, size: int, cost: float = COST_KIB) -> None:
        """It is answered with `size` bytes, each KiB of which costs so many microseconds."""
        self._office.shares.charge(source, None, cost * (size / KIB))


@asynccontextmanager
async def _place(places: Places[Turn], source: Source, most: int) -> AsyncGenerator[None, None]:
    """One of so many places to wait in. Raises Overloaded when another's source took it."""
    turn = Turn(source)
    places.take(turn, most)
    try:
        yield
    except asyncio.CancelledError:
        if not turn.went():
            raise
        raise Overloaded("too many requests wait") from None
    finally:
        places.leave(turn)
