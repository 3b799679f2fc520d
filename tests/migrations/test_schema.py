"""The migrations make exactly the tables that the code names, on both databases, once and again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_migrations import current, upgrade
from pennypost_mint.runtime.database import open_database
from pennypost_mint.tables import metadata as mint
from pennypost_postoffice.tables import feed_head
from pennypost_postoffice.tables import metadata as office


@pytest.fixture
def address(database_url: str, tmp_path: Path) -> str:
    return database_url or f"sqlite:///{tmp_path / 'schema.sqlite'}"


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, [mint, office]))


async def test_the_schema_is_what_the_tables_say(address: str, tmp_path: Path) -> None:
    assert await current(address) is None
    revision = await upgrade(address)
    assert await current(address) == revision
    database = open_database(address, tmp_path)
    assert await database.read(differences) == []
    assert await database.read(lambda c: c.execute(select(feed_head.c.last)).scalars().all()) == [0]
    await database.close()


async def test_upgrading_again_and_at_once_changes_nothing(address: str) -> None:
    if address.startswith("postgresql"):
        revisions = await asyncio.gather(*(upgrade(address) for _ in range(3)))
        assert len(set(revisions)) == 1
    assert await upgrade(address) == await upgrade(address)


async def test_a_database_that_is_away_is_said_so() -> None:
    with pytest.raises(DatabaseUnavailable):
        await upgrade("postgresql+asyncpg://nobody@127.0.0.1:9/none")


def test_the_first_migration_can_be_undone(tmp_path: Path) -> None:
    """Downgrade leaves no table of ours behind."""
    script = f"""
import asyncio
from alembic import command
from sqlalchemy import inspect
from pennypost_migrations import _config, upgrade
from pennypost_mint.runtime.database import sqlite_engine
address = "sqlite:///{tmp_path / "down.sqlite"}"
asyncio.run(upgrade(address))
with sqlite_engine(address).begin() as connection:
    command.downgrade(_config(connection), "base")
    print(sorted(inspect(connection).get_table_names()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['alembic_version']"
