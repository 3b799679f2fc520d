"""`pennypost office reload` for a process without a post office: it looks at the same mark as the others (marks.py).

mark changed ─┬─ post office in this process ─▶ follow.Follower, woken by the bus or each second ─▶ Service.reload
              └─ the mint alone ──────────────▶ follow_reloads, each second ─────────────────────▶ Service.reload
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import Connection, select

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint.runtime.database import Database
from pennypost_postoffice.marks import RELOAD
from pennypost_postoffice.tables import office_state

EVERY = 1.0
"""Seconds between two looks: one row by its key."""


def mark_on(connection: Connection) -> str | None:
    """The mark as it is now; None before the first reload."""
    return connection.execute(select(office_state.c.value).where(office_state.c.name == RELOAD)).scalar()


async def follow_reloads(database: Database, known: str | None, reload: Callable[[], None]) -> None:
    """Calls `reload` whenever the mark is another one than `known`, which was read at the start; until cancelled."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            found = await database.read(mark_on)
        except DatabaseUnavailable:
            continue
        if found != known:
            known = found
            reload()
