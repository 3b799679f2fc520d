"""How many invoices wait to be paid: a bound, so that strangers cannot fill the Lightning node."""

from __future__ import annotations

import asyncio
import time

from pennypost.protocol.errors import TooManyInvoices
from pennypost_mint.quotes import count_open_on
from pennypost_mint.runtime.database import Database

COUNT_AGAIN = 1.0
"""Seconds a count holds; what this process makes meanwhile is added to it."""


class OpenInvoices:
    """At most `most` at once, over all processes on this database (each may exceed it by what it makes in a second)."""

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self.most = most
        self._count = 0
        self._counted_at = -COUNT_AGAIN
        self._counting = asyncio.Lock()

    async def take(self) -> None:
        """Makes room for one more. Raises TooManyInvoices, DatabaseUnavailable."""
        async with self._counting:
            if time.monotonic() - self._counted_at >= COUNT_AGAIN:
                self._count = await self._database.read(count_open_on, int(time.time()), self.most)
                self._counted_at = time.monotonic()
            if self._count >= self.most:
                raise TooManyInvoices
            self._count += 1
