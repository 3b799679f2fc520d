"""The rows that say which keysets there are and whether the mint still sells; keys are never among them.

    rotate     the new keyset signs, all others of its unit stop: one transaction
    sunset     quotes are refused from now on; everything else goes on

Whoever serves looks here twice a second (`keyring.Keyring.follow`), and at once when it meets an id it does not know.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update

from pennypost_mint.runtime.sets import insert_ignore
from pennypost_mint.tables import keysets, sunset

_COLUMNS = ("position", "id", "unit", "active", "input_fee_ppk", "final_expiry", "created_at")


class KeysetRow(NamedTuple):
    """A row of `keysets`; `final_expiry` and `created_at` in Unix seconds."""

    position: int
    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    created_at: int


class Standing(NamedTuple):
    """All keysets in the order they were made, and since when nothing is sold any more (Unix seconds)."""

    keysets: list[KeysetRow]
    sunset: int | None


def standing_on(connection: Connection) -> Standing:
    """How the mint stands now."""
    columns = (keysets.c[name] for name in _COLUMNS)
    found = connection.execute(select(*columns).order_by(keysets.c.position))
    rows = [KeysetRow(*row) for row in found]
    return Standing(rows, connection.execute(select(sunset.c.since)).scalar())


def add_on(connection: Connection, row: KeysetRow) -> bool:
    """Stores a keyset; False when another process was first at this position."""
    return bool(insert_ignore(connection, keysets, _COLUMNS, [row], "position"))


def rotate_on(connection: Connection, row: KeysetRow) -> bool:
    """`row` signs from now on and no other keyset of its unit; False when another rotation was first: look again."""
    if not add_on(connection, row):
        return False
    columns = keysets.c
    others = (columns.unit == row.unit, columns.position != row.position, columns.active.is_(True))
    connection.execute(update(keysets).where(*others).values(active=False))
    return True


def end_sales_on(connection: Connection, now: int) -> None:
    """No quote is made any more; safe to repeat."""
    insert_ignore(connection, sunset, ("id", "since"), [(1, now)], "id")


def resume_sales_on(connection: Connection) -> None:
    """Quotes are made again; safe to repeat."""
    connection.execute(delete(sunset))
