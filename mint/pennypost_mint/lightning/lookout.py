"""Looks newly made invoices up in turn, for nodes that do not tell of payments themselves.

    created ─▶ remembered for a while ─▶ looked up, the newest first, a few at a time ─▶ settled: told, forgotten

It is only quicker than the rounds of the till, which ask about every open quote: what is forgotten here, by a restart
or because there are too many, is found there.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.lightning import Progress, Receipt

EVERY = 3.0
"""Seconds between two looks."""

NEWEST, LONGEST = 4, 4
"""Most look-ups of one look: of the newest invoices, and of those that waited longest for one."""

WHILE = 900.0
"""Seconds an invoice is looked up for; most are paid within a minute."""

REMEMBERED = 1_000


class Lookout:
    """Newly made invoices of one node; `look_up` is the node's."""

    def __init__(self, look_up: Callable[[bytes], Awaitable[Receipt]]) -> None:
        self._look_up = look_up
        self._made: OrderedDict[bytes, float] = OrderedDict()
        self._looked: dict[bytes, float] = {}

    def add(self, payment_hash: bytes) -> None:
        """Remembers an invoice that was made now."""
        self._made[payment_hash] = self._looked[payment_hash] = time.monotonic()
        if len(self._made) > REMEMBERED:
            self._forget(next(iter(self._made)))

    async def settled(self) -> AsyncIterator[Receipt]:
        """Invoices as they are seen to be paid. Raises LightningUnavailable when no look-up of a look is answered."""
        while True:
            failed, hashes = 0, self._next()
            for payment_hash in hashes:
                try:
                    receipt = await self._look_up(payment_hash)
                except LightningUnavailable:
                    failed += 1
                    continue
                if receipt.progress is not Progress.OPEN:
                    self._forget(payment_hash)
                if receipt.progress is Progress.SETTLED:
                    yield receipt
            if hashes and failed == len(hashes):
                raise LightningUnavailable
            await asyncio.sleep(EVERY)

    def _next(self) -> list[bytes]:
        now = time.monotonic()
        for payment_hash, made in list(self._made.items()):
            if now - made > WHILE:
                self._forget(payment_hash)
        newest = list(self._made)[: -NEWEST - 1 : -1]
        others = sorted(self._made.keys() - set(newest), key=self._looked.__getitem__)
        chosen = newest + others[:LONGEST]
        self._looked.update(dict.fromkeys(chosen, now))
        return chosen

    def _forget(self, payment_hash: bytes) -> None:
        self._made.pop(payment_hash, None)
        self._looked.pop(payment_hash, None)
