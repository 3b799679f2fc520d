"""The newest schema as a SQLite file, made once for each test process and copied, so that not every test migrates."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from pennypost_migrations import upgrade
from pennypost_mint.runtime.settings import Settings

NAME = "pennypost.sqlite"


async def lay_out(settings: Settings) -> None:
    """Gives a service that was never started on SQLite its tables; a PostgreSQL of the tests has them."""
    path = settings.data_dir / NAME
    if settings.database_url or path.exists():
        return
    template = await asyncio.to_thread(_template)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(template)


@cache
def _template() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="pennypost-schema-"))
    try:
        asyncio.run(upgrade(f"sqlite:///{folder / NAME}"))
        with closing(sqlite3.connect(folder / NAME)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (folder / NAME).read_bytes()
    finally:
        shutil.rmtree(folder)
