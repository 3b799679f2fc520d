"""A database as a command finds it: made by this version of the program, and read as one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, inspect, make_url, text

from pennypost.protocol.errors import MintNotStarted, SchemaMismatch
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.tables import metadata

T = TypeVar("T")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The settings' database with the mint's tables as this version knows them.

    Raises MintNotStarted where there is no file of it (none is made), SchemaMismatch.
    """
    _check_file(settings)
    database = open_database(settings.database_url, settings.data_dir)
    try:
        await database.read(_check_schema)
        yield database
    finally:
        await database.close()


async def snapshot(database: Database, work: Callable[..., T], *args: Any) -> T:
    """`work(connection, *args)`, reading, in one transaction that sees the database as it was at its beginning."""
    if database.dialect == "postgresql":
        # A read of ours sees each statement's own moment there.
        return await database.write(_repeatable, work, args)
    return await database.read(work, *args)


def _repeatable(connection: Connection, work: Callable[..., T], args: tuple[Any, ...]) -> T:
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    return work(connection, *args)


def _check_file(settings: Settings) -> None:
    address = make_url(database_url(settings.database_url, settings.data_dir))
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        raise MintNotStarted


def _check_schema(connection: Connection) -> None:
    found = inspect(connection)
    present = set(found.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in present:
            raise SchemaMismatch
        if {column.name for column in table.columns} - {column["name"] for column in found.get_columns(table.name)}:
            raise SchemaMismatch
