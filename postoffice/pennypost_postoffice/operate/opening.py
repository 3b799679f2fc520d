"""The settings' database as a command finds it: made by this version of the program, never by the command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, inspect, make_url

from pennypost.protocol.errors import OfficeNotStarted, SchemaMismatch
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.tables import metadata


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Raises OfficeNotStarted where there is none, SchemaMismatch, DatabaseUnavailable."""
    address = make_url(database_url(settings.database_url, settings.data_dir))
    _check_file(address)
    database = open_database(settings.database_url, settings.data_dir)
    try:
        await database.read(_check)
        yield database
    finally:
        await database.close()


def _check_file(address: URL) -> None:
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        raise OfficeNotStarted


def _check(connection: Connection) -> None:
    found = inspect(connection)
    present = set(found.get_table_names())
    if "events" not in present:
        raise OfficeNotStarted
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)} if table.name in present else set()
        if {column.name for column in table.columns} - columns:
            raise SchemaMismatch
