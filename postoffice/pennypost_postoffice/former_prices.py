"""Prices of before, honoured for PENNYPOST_PRICE_GRACE seconds: kept in the database, so that a restart forgets none.

    prices at a start or a reload ─▶ ask_on: these are asked, all others have ended ─▶ policy.former, the newest first

Each process notes what it asks; of several with the same price file all note the same. What was asked while the
database was away is noted when it is back. A server that stood still when its price file changed counts the grace from
its next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import ConfigurationError, DatabaseUnavailable
from pennypost.protocol.price import PriceList, price_document, read_prices
from pennypost_mint.runtime.limits import FORMER_PRICES
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.settings import MAX_PRICE_GRACE
from pennypost_postoffice.tables import price_lists

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

AGAIN = 1.0
"""Seconds until the database is asked again."""

log = logger("prices")


class Former(NamedTuple):
    """Prices that were asked until `ended_at`, Unix seconds."""

    prices: PriceList
    ended_at: int


class FormerPrices:
    """Notes what this process asks, and tells its policy what was asked before."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Raises DatabaseUnavailable."""
        await self._note()

    def changed(self) -> None:
        """The policy asks other prices, or the grace is another."""
        self._changed.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._note()
            except DatabaseUnavailable:
                self._changed.set()
                await asyncio.sleep(AGAIN)

    async def _note(self) -> None:
        office, policy = self._office, self._office.policy
        found = await office.database.write(ask_on, policy.prices, tuple(policy.former), office.now())
        if not self._changed.is_set():
            policy.former = found


def ask_on(connection: Connection, prices: PriceList, former: Iterable[Former], now: int) -> list[Former]:
    """These prices are asked now (Unix seconds), `former` ones and all others are not; returns those, the newest first.

    What ended longer ago than any grace may be, and more than FORMER_PRICES, is forgotten.
    """
    for before in former:
        _put(connection, before.prices, before.ended_at)
    asked = _put(connection, prices, None)
    ended = price_lists.c.ended_at
    connection.execute(update(price_lists).where(ended.is_(None), price_lists.c.digest != asked).values(ended_at=now))
    connection.execute(delete(price_lists).where(ended <= now - MAX_PRICE_GRACE))
    order = (ended.desc(), price_lists.c.digest)
    rows: Any = connection.execute(
        select(price_lists.c.rules, ended, price_lists.c.digest).where(ended.is_not(None)).order_by(*order)
    ).all()
    if len(rows) > FORMER_PRICES:
        late = [row.digest for row in rows[FORMER_PRICES:]]
        connection.execute(delete(price_lists).where(price_lists.c.digest.in_(late)))
    return [Former(read, row.ended_at) for row in rows[:FORMER_PRICES] if (read := _read(row.rules)) is not None]


def _put(connection: Connection, prices: PriceList, ended_at: int | None) -> bytes:
    rules = msgspec.json.encode(price_document(prices), order="sorted")
    row = {"digest": sha256(rules).digest(), "rules": rules.decode(), "ended_at": ended_at}
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(price_lists)
    statement = insert.on_conflict_do_update(index_elements=["digest"], set_={"ended_at": insert.excluded.ended_at})
    connection.execute(statement, row)
    return row["digest"]


def _read(rules: str) -> PriceList | None:
    try:
        return read_prices(msgspec.json.decode(rules))
    except ConfigurationError:
        # of a later version than ours, whose price file knew more
        log.warning("prices of before cannot be read and are not honoured")
        return None
