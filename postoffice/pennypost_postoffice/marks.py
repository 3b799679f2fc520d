"""What the processes of one office share beside mail: rows of `office_state`, read by all of them (follow.py).

    bans, reload, prices         a mark that changes when something is to be read again
    name, description, icon      what the operator set while the office ran; goes before the settings

Other modules keep rows of their own here under names of their own.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from pennypost_postoffice.tables import office_state

BANS, RELOAD, PRICES = "bans", "reload", "prices"
NAME, DESCRIPTION, ICON = "name", "description", "icon"


def marks_on(connection: Connection) -> dict[str, str]:
    """Every row by its name."""
    return {row[0]: row[1] for row in connection.execute(select(office_state.c.name, office_state.c.value))}


def set_on(connection: Connection, name: str, value: str) -> None:
    """Sets one row; an empty value takes it away."""
    if not value:
        connection.execute(delete(office_state).where(office_state.c.name == name))
        return
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(office_state)
    statement = insert.on_conflict_do_update(index_elements=["name"], set_={"value": insert.excluded.value})
    connection.execute(statement, {"name": name, "value": value})


def touch_on(connection: Connection, name: str) -> None:
    """Changes a mark, so that every process reads again what it stands for."""
    set_on(connection, name, secrets.token_hex(8))
