"""Schema changes of both servers, run by `pennypost up` and `pennypost db upgrade`.

upgrade(address) ▶ one connection, one lock ▶ versions/NNNN_*.py in order ▶ the schema of tables.py
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint.runtime.database import postgresql_engine, sqlite_engine

T = TypeVar("T")

_one = threading.Lock()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "pennypost_migrations:")
    config.attributes["connection"] = connection
    return config


def _upgrade_on(connection: Connection) -> str:
    config = _config(connection)
    command.upgrade(config, "head")
    return str(ScriptDirectory.from_config(config).get_current_head())


def _current_on(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def upgrade(address: str) -> str:
    """Brings the database at SQLAlchemy `address` to the newest schema; returns its revision.

    Safe to run from several processes at once, and again. Raises DatabaseUnavailable.
    """
    return await asyncio.to_thread(_run, address, _upgrade_on)


async def current(address: str) -> str | None:
    """The revision the database is at; None for an empty one. Raises DatabaseUnavailable."""
    return await asyncio.to_thread(_run, address, _current_on)


def _run(address: str, work: Callable[[Connection], T]) -> T:
    # Alembic keeps its context in module globals: one at a time in a process
    with _one:
        try:
            if address.startswith("sqlite"):
                return _run_sqlite(address, work)
            return asyncio.run(_run_postgresql(address, work))
        except (OSError, TimeoutError, DBAPIError) as error:
            raise DatabaseUnavailable from error


def _run_sqlite(address: str, work: Callable[[Connection], T]) -> T:
    Path(make_url(address).database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with sqlite_engine(address).begin() as connection:
        return work(connection)


async def _run_postgresql(address: str, work: Callable[[Connection], T]) -> T:
    engine = postgresql_engine(address)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
