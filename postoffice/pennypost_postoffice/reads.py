"""CPU of requests over HTTP: taken off the same budget as what connections ask (shares.py).

    read ─▶ begin: has its source taken more than its share while CPU is scarce? ─ yes ─▶ 429, Retry-After
                      └ no ─▶ the database, at most FEED_READS at once (else 503) ─▶ answered
    event, release ─▶ admit, release: it waits; when too many do, one of the source that has most ─▶ 503, Retry-After

A long poll costs less than what it replaces: its look is shared by all who wait at the same number. Costs are
microseconds, from the profile in docs/reference/performance.md: a header read of 44 KB takes 2 ms.
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

COST_PAGE = 300
COST_READ = 700
COST_WAIT = 250
COST_KIB = 30

COST_UNPAID = 400
"""An event over HTTP that no stamp paid, taken or refused."""

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

    def answered(self, source: Source, size: int) -> None:
        """It is answered with `size` bytes."""
        self._office.shares.charge(source, None, COST_KIB * (size / KIB))


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
