"""LISTEN and NOTIFY of PostgreSQL, on one connection of its own: nothing but the database is needed.

Messages go out in a statement of their own after the commit: a NOTIFY inside of it would make commits wait for each
other. A pooler that gives each transaction another connection does not carry LISTEN; the bus then counts as lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pennypost_mint.runtime.database import postgresql_engine

CHANNEL = "pennypost"

NAME = "pennypost bus"
"""What an operator sees in pg_stat_activity."""

LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError, TimeoutError)


class PostgresLine:
    """The channel of one database; `address` is SQLAlchemy's (`database_url`)."""

    most = 7_900
    """PostgreSQL takes less than 8,000 bytes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None
        self._driver: Any = None

    async def open(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        self._engine = postgresql_engine(self._address)
        try:
            self._connection = await self._engine.connect()
            self._driver = (await self._connection.get_raw_connection()).driver_connection
            await self._driver.execute(f"SET application_name = '{NAME}'")
            self._driver.add_termination_listener(lambda _connection: lost())
            await self._driver.add_listener(CHANNEL, lambda _connection, _pid, _channel, payload: heard(str(payload)))
        except LOST as error:
            raise ConnectionError from error

    async def send(self, texts: list[str]) -> None:
        try:
            await self._driver.execute("SELECT pg_notify($1, each) FROM unnest($2::text[]) AS each", CHANNEL, texts)
        except LOST as error:
            raise ConnectionError from error

    async def close(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        engine, self._engine = self._engine, None
        try:
            if connection is not None:
                # it listens: nobody else may get it
                await connection.invalidate()
                await connection.close()
            if engine is not None:
                await engine.dispose()
        except LOST as error:
            raise ConnectionError from error
