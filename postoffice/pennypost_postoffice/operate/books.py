"""What there is, in numbers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from pennypost_postoffice.feed import head_on
from pennypost_postoffice.operate.talk import day_text
from pennypost_postoffice.tables import bans, events, held, tombstones
from pennypost_postoffice.tallies import STORED, tallies_on


def stock_on(connection: Connection, now: int) -> dict[str, Any]:
    """Counts and bytes of what is stored; reads every event's row once."""
    count, size, oldest, newest = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(func.length(events.c.body)), 0),
            func.min(events.c.created_at),
            func.max(events.c.created_at),
        )
    ).one()
    kinds = connection.execute(select(events.c.kind, func.count()).group_by(events.c.kind).order_by(events.c.kind))
    return {
        "events": count,
        "bytes": int(size),
        "oldest": oldest,
        "newest": newest,
        "kinds": {str(kind): number for kind, number in kinds},
        "held": _count(connection, held),
        "expired": connection.execute(
            select(func.count()).select_from(events).where(events.c.keep_until <= now)
        ).scalar_one(),
        "tombstones": _count(connection, tombstones),
        "bans": _count(connection, bans),
        "feed": head_on(connection),
    }


def report_on(connection: Connection, since: int, until: int) -> list[dict[str, Any]]:
    """What was stored, by kind, and refused, by code, on each day from Unix day `since` to `until` that has any."""
    rows: dict[int, dict[str, Any]] = {}
    for each in tallies_on(connection, since, until):
        row = rows.setdefault(each.day, {"day": day_text(each.day), "events": 0, "sat": 0, "kinds": {}, "refused": {}})
        if each.subject == STORED:
            row["events"] += each.events
            row["sat"] += each.sat
            row["kinds"][each.label] = {"events": each.events, "sat": each.sat}
        else:
            row["refused"][each.label] = each.events
    return list(rows.values())


def _count(connection: Connection, table: Any) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
