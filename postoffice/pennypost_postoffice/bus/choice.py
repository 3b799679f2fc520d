"""Which bus an office has: NATS where one is named, else PostgreSQL's own; none on SQLite, which one process serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennypost_mint.runtime.database import database_url
from pennypost_postoffice.bus.bus import Bus, Line
from pennypost_postoffice.bus.postgres import PostgresLine

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office


def open_bus(office: Office) -> Bus | None:
    """The bus of this process, not connected yet."""
    line = _line(office)
    if line is None:
        return None
    return Bus(
        line,
        office.metrics,
        on_turn=office.follower.look_at_marks,
        on_feed=office.follower.heard,
        on_marks=office.follower.look_at_marks,
        on_event=office.passed_on,
    )


def _line(office: Office) -> Line | None:
    url = office.settings.bus_url.get_secret_value()
    if url:
        # imported where it is asked for: nobody else pays for it
        from pennypost_postoffice.bus.nats import NatsLine

        return NatsLine(url, f"pennypost.{office.keyring.identity[1:9].hex()}")
    if office.database.dialect == "postgresql":
        return PostgresLine(database_url(office.settings.database_url, office.settings.data_dir))
    return None
