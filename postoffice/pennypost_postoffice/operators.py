"""Who may run the office over HTTP: the keys of PENNYPOST_OPERATORS, by a request that one of them signed (NIP-98).

    request ─▶ signature, address, method, body, time ─▶ an operator's key? ─▶ used before? ─▶ carried out

What was used stands in the database, so no process takes a request that another one took, nor after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection, delete, func, select

from pennypost.protocol.errors import HttpAuthInvalid, NotFound
from pennypost.protocol.event import Event
from pennypost.protocol.nip98 import WINDOW, check_http_auth
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_mint.runtime.settings import Settings, keys_in
from pennypost_postoffice.tables import signed_requests

REMEMBERED = 10_000
"""Signed requests of the last minutes that are known; past it none is taken until the oldest are over."""


class Operators:
    """Takes each signed request once; `settings` gives the present ones, `now` Unix seconds."""

    def __init__(self, database: Database, settings: Callable[[], Settings], now: Callable[[], int]) -> None:
        self._database, self._settings, self._now = database, settings, now

    def public_keys(self) -> list[str]:
        """Their public keys in hex."""
        return keys_in(self._settings().operators)

    async def authorize(self, header: str | None, *, urls: Collection[str], method: str, body: bytes) -> Event:
        """The signed event. Raises HttpAuthInvalid, DatabaseUnavailable, and NotFound where nobody may manage."""
        operators = self.public_keys()
        if not operators:
            raise NotFound
        now = self._now()
        event = check_http_auth(header, urls=urls, method=method, body=body, now=now)
        if event.pubkey not in operators:
            raise HttpAuthInvalid("not a key of the operator")
        if not await self._database.write(use_on, bytes.fromhex(event.id), event.created_at + 2 * WINDOW, now):
            raise HttpAuthInvalid("it was used before")
        return event


def use_on(connection: Connection, event_id: bytes, until: int, now: int) -> bool:
    """Notes a signed request until then; False for one that is known, or where REMEMBERED are. Unix seconds.

    Twice as long as a request is good, for the clocks of two machines differ.
    """
    table = signed_requests.c
    connection.execute(delete(signed_requests).where(table.until < now))
    if connection.execute(select(func.count()).select_from(signed_requests)).scalar_one() >= REMEMBERED:
        return False
    return bool(insert_ignore(connection, signed_requests, ("event_id", "until"), [(event_id, until)], "event_id"))
