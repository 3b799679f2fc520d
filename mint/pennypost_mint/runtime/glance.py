"""Short reads of a SQLite file on the event loop itself: handing one to a thread and back costs more than it does.

    work ─▶ statements of known keys, at most TICKS × OPERATIONS steps ─▶ result
                └─ longer, busy, a slow disk ─▶ TooLong: it goes to a reader thread, as every other read

Nothing else is served meanwhile, so each is bounded by SQLite's own count of steps, over all its statements, and
nobody's lock is waited for. A value that is longer than a page goes on at others, which are no steps: work whose rows
may have such asks `is_glance`, reads none of them and raises TooLong (`store.PLAIN`).
After one that waited SLOW seconds for the disk reads are left to the threads for PAUSE seconds, and for a moment after
one that was broken off, so that filters which name few and find much cannot hold up the loop.
"""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

OPERATIONS, TICKS = 100, 60
"""Steps of SQLite's machine between two looks at the count, and how many looks a read may take (0.3 ms of work).

SQLite counts for each statement by itself, so one adds fewer than OPERATIONS that nobody sees.
"""

SLOW, PAUSE = 0.02, 1.0

REST = 10
"""After a read that was broken off all go to threads for so many times as long: at most a tenth of the loop is lost."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at which file stands at the path."""

GLANCE = "glance"

WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

SHORT = 256
"""Most keys of one such read, which is one statement."""


class TooLong(Exception):
    """It is no short read, or not now; nothing was read."""


def is_glance(connection: Connection) -> bool:
    """Whether work on this connection holds up the event loop: it must read no value that is longer than a page."""
    return GLANCE in connection.info


class Glance:
    """One connection for the thread of the event loop; `file` tells which file stands at its path."""

    def __init__(self, engine: Engine, file: Callable[[], tuple[int, int]]) -> None:
        self._engine = engine
        self._file = file
        self._connection: Connection | None = None
        self._opened = (0, 0)
        self._looked = 0.0
        self._left = 0
        self._not_before = 0.0

    def read(self, work: Callable[..., T], args: tuple[Any, ...]) -> T:
        """What `work(connection, *args)` returns; each of its statements reads the latest commit.

        Raises TooLong, and what `work` raises of its own.
        """
        began = monotonic()
        if began < self._not_before:
            raise TooLong
        self._left = TICKS
        try:
            connection = self._open(began)
            from_disk = _from_disk()
            try:
                result = work(connection, *args)
            except TooLong:
                self._rest(began)
                raise
            finally:
                if connection.in_transaction():
                    # SQLAlchemy began one of its own: the next read must not see the past
                    connection.rollback()
        except (DBAPIError, sqlite3.Error) as error:
            # Whatever it is, the thread meets it too, and tells it as it is to be told.
            if self._left >= 0:
                self.close()
            self._rest(began)
            raise TooLong from error
        # A process that was not given the processor is late, too; that is not the disk's fault.
        if monotonic() - began > SLOW and _from_disk() > from_disk:
            self._not_before = monotonic() + PAUSE
        return result

    def close(self) -> None:
        """Gives back the connection; the next read opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _rest(self, began: float) -> None:
        now = monotonic()
        self._not_before = now + REST * (now - began)

    def _open(self, now: float) -> Connection:
        if self._connection is not None and now - self._looked < LOOK_AGAIN:
            return self._connection
        file, self._looked = self._file(), now
        if self._connection is None or file != self._opened:
            self.close()
            connection = self._connection = self._engine.connect()
            connection.info[GLANCE] = True
            self._opened = file
            raw: Any = connection.connection
            raw.execute("PRAGMA busy_timeout = 0").close()
            raw.set_progress_handler(self._tick, OPERATIONS)
        return self._connection

    def _tick(self) -> int:
        """Ends the statement when it has had its steps."""
        self._left -= 1
        return self._left < 0


def _from_disk() -> int:
    """Reads of this thread so far that found nothing in memory."""
    return resource.getrusage(WHO).ru_inblock
