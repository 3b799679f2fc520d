"""What the database says, read beside the server: the last word on what is stored and what is spent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from pennypost_mint.tables import outputs, spent
from pennypost_postoffice.tables import events, feed
from tests.support.server import Server


@dataclass(frozen=True)
class Books:
    """Totals: sat issued and spent, ids of stored events, numbers of the feed, Ys of spent stamps."""

    issued: int
    spent: int
    events: frozenset[str]
    feed: tuple[int, ...]
    ys: frozenset[bytes]

    @property
    def outstanding(self) -> int:
        """Sat that were sold and are not used yet."""
        return self.issued - self.spent


def _read(connection: Connection) -> Books:
    return Books(
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
