"""What the operator does not take: public keys, events and kinds. Kept in the database, known to every process.

    `pennypost office ban`, NIP-86 ─▶ ban_on, unban_on ─▶ mark ─▶ each process reads all of them ─▶ policy

A ban refuses from now on; what is stored already is another matter (`pennypost office delete`), except that a banned
event is deleted at once. IP addresses are not banned here: none is kept, and a proxy or firewall does it better.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import Banned, KindRefused, TooManyBans
from pennypost.protocol.event import Event
from pennypost_mint.runtime.limits import MAX_BANS
from pennypost_postoffice.marks import BANS, touch_on
from pennypost_postoffice.tables import bans

Subject = Literal["pubkey", "event", "kind"]


class Ban(NamedTuple):
    """One ban: `value` is 64 hex digits, or a kind in decimal; `since` in Unix seconds."""

    subject: Subject
    value: str
    reason: str
    since: int


class Bans:
    """All of them, for one look an event."""

    def __init__(self, listed: list[Ban] | None = None) -> None:
        self._none = not listed
        self._pubkeys = frozenset(ban.value for ban in listed or () if ban.subject == "pubkey")
        self._events = frozenset(ban.value for ban in listed or () if ban.subject == "event")
        self._kinds = frozenset(int(ban.value) for ban in listed or () if ban.subject == "kind")

    def check(self, event: Event) -> None:
        """Raises Banned, or KindRefused for a kind."""
        if self._none:
            return
        if event.pubkey in self._pubkeys or event.id in self._events:
            raise Banned
        if event.kind in self._kinds:
            raise KindRefused


def _raw(subject: Subject, value: str) -> bytes:
    return int(value).to_bytes(2, "big") if subject == "kind" else bytes.fromhex(value)


def _text(subject: str, value: bytes) -> str:
    return str(int.from_bytes(value, "big")) if subject == "kind" else value.hex()


def bans_on(connection: Connection) -> list[Ban]:
    """All bans, the oldest first."""
    rows = connection.execute(select(bans).order_by(bans.c.since, bans.c.value))
    return [Ban(row.subject, _text(row.subject, row.value), row.reason, row.since) for row in rows]


def ban_on(connection: Connection, ban: Ban) -> None:
    """Adds a ban; of one that is there the reason changes. Raises TooManyBans."""
    if connection.execute(select(func.count()).select_from(bans)).scalar_one() >= MAX_BANS:
        raise TooManyBans
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(bans)
    statement = insert.on_conflict_do_update(
        index_elements=["subject", "value"], set_={"reason": insert.excluded.reason}
    )
    row = {
        "subject": ban.subject,
        "value": _raw(ban.subject, ban.value),
        "reason": ban.reason[:256],
        "since": ban.since,
    }
    connection.execute(statement, row)
    touch_on(connection, BANS)


def unban_on(connection: Connection, subject: Subject, value: str) -> bool:
    """Takes a ban away; whether there was one."""
    gone = connection.execute(delete(bans).where(bans.c.subject == subject, bans.c.value == _raw(subject, value)))
    touch_on(connection, BANS)
    return gone.rowcount > 0
