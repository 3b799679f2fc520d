"""CPU of reads over HTTP: taken off the same budget as what connections ask (shares.py).

    request ─▶ begin: has its source taken more than its share while CPU is scarce? ─ yes ─▶ 429, Retry-After
                         └ no ─▶ the database, at most FEED_READS at once (else 503) ─▶ answered

A long poll costs less than what it replaces: its look is shared by all who wait at the same number. Costs are
microseconds, from the profile in docs/reference/performance.md: a header read of 44 KB takes 2 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pennypost.protocol.errors import TooMany
from pennypost_mint.runtime.limits import KIB
from pennypost_mint.runtime.sources import Source
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


class Reads:
    """Counts what HTTP readers of one office take."""

    def __init__(self, office: Office) -> None:
        self._office = office

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

    async def slow(self, source: Source) -> None:
        """What may be paid for, an event or a release, is not refused for what others of its source took: it waits."""
        if not self._office.shares.admits(source):
            self._office.metrics.office_slowed.inc()
            await asyncio.sleep(WAIT)

    def released(self, source: Source) -> None:
        """A release was asked for: a look-up."""
        self._office.shares.charge(source, None, COST_READ)

    def unpaid(self, source: Source) -> None:
        """An event was not accepted, or needed no stamp: nothing paid for the work."""
        self._office.shares.charge(source, None, COST_UNPAID)

    def answered(self, source: Source, size: int) -> None:
        """It is answered with `size` bytes."""
        self._office.shares.charge(source, None, COST_KIB * (size / KIB))
