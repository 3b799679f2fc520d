"""What the database says, read beside the server: the last word on what is stored and what is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from pennypost_mint.tables import mint_quotes, outputs, play_invoices, spent
from pennypost_postoffice.tables import events, feed
from tests.support.server import Server


class Account(NamedTuple):
    """What a quote has received and issued, sat."""

    payment_hash: bytes
    paid: int
    issued: int


@dataclass(frozen=True)
class Books:
    """Totals: sat issued and spent, ids of stored events, numbers of the feed, Ys of spent stamps.

    `quotes` by id; `settled` is the play node's book: sat by payment hash.
    """

    issued: int
    spent: int
    events: frozenset[str]
    feed: tuple[int, ...]
    ys: frozenset[bytes]
    quotes: dict[str, Account]
    settled: dict[bytes, int]

    def balance(self) -> None:
        """No quote issued more than it received, and none received more than its invoice."""
        for account in self.quotes.values():
            assert 0 <= account.issued <= account.paid <= self.settled.get(account.payment_hash, 0)

    @property
    def outstanding(self) -> int:
        """Sat that were sold and are not used yet."""
        return self.issued - self.spent


def _read(connection: Connection) -> Books:
    quotes = connection.execute(
        select(mint_quotes.c.id, mint_quotes.c.payment_hash, mint_quotes.c.amount_paid, mint_quotes.c.amount_issued)
    )
    settled = select(play_invoices.c.payment_hash, play_invoices.c.amount).where(
        play_invoices.c.settled_at.is_not(None) | play_invoices.c.settle_at.is_not(None)
    )
    return Books(
        quotes={row.id: Account(bytes(row.payment_hash), row.amount_paid, row.amount_issued) for row in quotes},
        settled={bytes(row.payment_hash): row.amount for row in connection.execute(settled)},
        issued=int(connection.scalar(select(func.coalesce(func.sum(outputs.c.amount), 0))) or 0),
        spent=int(connection.scalar(select(func.coalesce(func.sum(spent.c.amount), 0))) or 0),
        events=frozenset(bytes(row).hex() for row in connection.scalars(select(events.c.id))),
        feed=tuple(connection.scalars(select(feed.c.seq).order_by(feed.c.seq))),
        ys=frozenset(bytes(row) for row in connection.scalars(select(spent.c.y))),
    )


async def read_books(server: Server, database_url: str) -> Books:
    """One consistent snapshot of a server's database."""
    if not database_url:
        engine = create_engine(f"sqlite:///{server.folder / 'data' / 'pennypost.sqlite'}", poolclass=NullPool)
        with engine.connect() as connection:
            return _read(connection)
    asynchronous = create_async_engine(database_url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    async with asynchronous.connect() as connection:
        return await connection.run_sync(_read)
