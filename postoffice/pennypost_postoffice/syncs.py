"""Negentropy (NIP-77): which events a reader lacks, or we do, without sending what both have.

    NEG-OPEN ─▶ the filter's times and ids, in steps ─▶ Records, for as long as the session lasts
    NEG-MSG ──▶ protocol.negentropy.answer, in a thread ─▶ NEG-MSG
    NEG-CLOSE, the end of the connection, SYNC_IDLE seconds of silence ─▶ forgotten          refused: NEG-ERR

Whoever may not be sent an event does not learn its id either: `store.Query` decides for REQ, COUNT and this. A session
shows what was stored when it was opened. Bounded are the records of a session, the sessions of a connection, and the
records of all; loading and answering are taken off the connection's share of CPU.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING

from pennypost.protocol.errors import InvalidSync, PennypostError, QueryTooLarge, SyncClosed, TooManySyncs
from pennypost.protocol.frames import NegCloseFrame, NegMessageFrame, NegOpenFrame, neg_error_message, neg_message
from pennypost.protocol.negentropy import Records, answer
from pennypost_mint.runtime.limits import (
    COUNT_STEP,
    SYNC_IDLE,
    SYNC_MESSAGE,
    SYNCS,
)
from pennypost_mint.runtime.sources import Source
from pennypost_postoffice.live import Watch
from pennypost_postoffice.queries import COST_COUNTED, charge_for, read_filters
from pennypost_postoffice.store import Query, next_rows

if TYPE_CHECKING:
    from pennypost_postoffice.connection import Connection

MICROSECONDS = 1_000_000


class Sync:
    """One session of one connection."""

    def __init__(self, name: str, watches: list[Watch]) -> None:
        self.name = name
        self.watches = watches
        self.records: Records | None = None
        self.size = 0
        """Records it counts for in `Syncs`."""
        self.closed = False
        self._timer: asyncio.TimerHandle | None = None

    def used(self, connection: Connection) -> None:
        """Counts its silence from now; reading and answering count, too, so that no session is kept for ever."""
        self.rest()
        connection.office.syncs.used(connection, self)
        self._timer = asyncio.get_running_loop().call_later(SYNC_IDLE, _time_out, connection, self)

    def rest(self) -> None:
        """Stops counting."""
        if self._timer is not None:
            self._timer.cancel()


class Syncs:
    """What all sessions of one process share: the records they hold together.

    Past `most` of them the source that holds most gives some up (as in places.py): its session that was silent longest.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.records = 0
        self._records_of: Counter[Source] = Counter()
        self._sessions_of: dict[Source, dict[Sync, Connection]] = {}

    def used(self, connection: Connection, sync: Sync) -> None:
        """It is now the last of its source to be given up."""
        sessions = self._sessions_of.setdefault(connection.source, {})
        sessions.pop(sync, None)
        sessions[sync] = connection

    def grow(self, connection: Connection, sync: Sync, records: int) -> None:
        """It holds so many more. Raises TooManySyncs where it alone makes its source the one that holds most."""
        sync.size += records
        self.records += records
        self._records_of[connection.source] += records
        while self.records > self.most:
            sessions = self._sessions_of[max(self._records_of, key=self._records_of.__getitem__)]
            silent = next((each for each in sessions if each.size and each is not sync), None)
            if silent is None:
                raise TooManySyncs("the office has too many")
            _end(sessions[silent], silent, TooManySyncs("the office has too many"))

    def ended(self, connection: Connection, sync: Sync) -> None:
        """It holds nothing any more."""
        source = connection.source
        self.records -= sync.size
        self._records_of[source] -= sync.size
        sessions = self._sessions_of[source]
        del sessions[sync]
        if not sessions:
            del self._sessions_of[source], self._records_of[source]


def neg_open(connection: Connection, frame: NegOpenFrame) -> None:
    """Opens a session; one of the same name is closed first.

    NIP-77 has one filter; NDK sends a list of them, which other relays take, too: what any of them finds.
    """
    close_sync(connection, frame.sync)
    try:
        if len(connection.syncs) >= SYNCS:
            raise TooManySyncs
        given = tuple(frame.filter) if isinstance(frame.filter, list) else (frame.filter,)
        filters = read_filters(connection, given, connection.office.settings.max_sync)
        message = _bytes(frame.message)
    except PennypostError as error:
        connection.refuse_query(neg_error_message(frame.sync, error.nip01()))
        return
    sync = connection.syncs[frame.sync] = Sync(frame.sync, list(map(Watch, filters)))
    sync.used(connection)
    charge_for(connection, sync.watches)
    connection.ask(partial(_load, connection, sync, message), partial(_end, connection, sync))


def neg_message_of(connection: Connection, frame: NegMessageFrame) -> None:
    """The next message of a session."""
    sync = connection.syncs.get(frame.sync)
    try:
        if sync is None:
            raise SyncClosed
        message = _bytes(frame.message)
    except PennypostError as error:
        close_sync(connection, frame.sync)
        connection.refuse_query(neg_error_message(frame.sync, error.nip01()))
        return
    sync.used(connection)
    connection.ask(partial(_answer, connection, sync, message), partial(_end, connection, sync))


def neg_close(connection: Connection, frame: NegCloseFrame) -> None:
    """Ends a session, if there is one of that name."""
    close_sync(connection, frame.sync)


def close_sync(connection: Connection, name: str) -> None:
    """Forgets a session."""
    sync = connection.syncs.pop(name, None)
    if sync is None:
        return
    sync.closed = True
    sync.rest()
    sync.records = None
    connection.office.syncs.ended(connection, sync)


def _bytes(message: object) -> bytes:
    try:
        found = bytes.fromhex(message) if isinstance(message, str) else b""
    except ValueError:
        found = b""
    if not found or found.hex() != message:
        raise InvalidSync
    return found


async def _load(connection: Connection, sync: Sync, message: bytes) -> None:
    """Raises QueryTooLarge, TooManySyncs or InvalidSync."""
    office = connection.office
    most = office.settings.max_sync
    query = Query(
        sync.watches,
        connection.private,
        connection.authenticated,
        whole=False,
        most=most + 1,
        step=COUNT_STEP,
    )
    found: list[tuple[int, bytes]] = []
    while not query.finished and not sync.closed:
        before = query.rows
        rows = await office.database.read(next_rows, query, office.now())
        connection.charge(COST_COUNTED * (query.rows - before))
        if sync.closed:
            return
        found += [(row.created_at, row.id) for row in rows]
        office.syncs.grow(connection, sync, len(rows))
        if query.rows > most:
            raise QueryTooLarge(f"more than {most}")
        await connection.drain()
    records = await asyncio.to_thread(Records, found)
    if not sync.closed:
        sync.records = records
        await _answer(connection, sync, message)


async def _answer(connection: Connection, sync: Sync, message: bytes) -> None:
    """Raises InvalidSync."""
    if sync.closed or sync.records is None:
        return
    reply, cost = await asyncio.to_thread(_timed, sync.records, message)
    connection.charge(cost)
    if not sync.closed:
        connection.send(neg_message(sync.name, reply))
        sync.used(connection)
    await connection.drain()


def _timed(records: Records, message: bytes) -> tuple[bytes, float]:
    """The answer, and what it cost in microseconds."""
    began = thread_time()
    return answer(records, message, SYNC_MESSAGE), MICROSECONDS * (thread_time() - began)


def _time_out(connection: Connection, sync: Sync) -> None:
    _end(connection, sync, SyncClosed())


def _end(connection: Connection, sync: Sync, error: PennypostError) -> None:
    if not sync.closed:
        close_sync(connection, sync.name)
        connection.send(neg_error_message(sync.name, error.nip01()))
