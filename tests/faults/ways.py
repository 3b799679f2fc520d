"""What can befall a database, each with its end. Real files, real servers; nothing of ours is replaced.

                SQLite                                         PostgreSQL
    gone        its file is moved away                         killed as by a power cut
    read-only   by its own switch; files made immutable        sessions opened read-only, as after a failover
    full        no page more by its own bound; a full disk     a full disk below the tables
    slow        somebody else holds the lock                   all its processes frozen

Full disks and immutable files need a machine that allows them; elsewhere the other ways stand for them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.faults.disk import SmallDisk, can_lock, can_mount
from tests.support.postgres import Postgres
from tests.support.require import require


class Fault:
    """`address` is the database's, "" for a SQLite file in `folder`."""

    reads: ClassVar[bool] = False
    """Whether reads are answered all the while."""
    small_writes: ClassVar[bool] = False
    """Whether what fits into pages there are may still be written."""

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        self.folder, self.address, self._postgres = folder, "", postgres
        self._prepare()

    @property
    def file(self) -> Path:
        return self.folder / "pennypost.sqlite"

    @property
    def postgres(self) -> Postgres:
        assert self._postgres is not None
        return self._postgres

    def _prepare(self) -> None:
        if self._postgres is not None:
            self.address = self._postgres.database()

    async def begin(self) -> None:
        """From now on."""
        await asyncio.to_thread(self._begin)

    async def end(self) -> None:
        """It is over."""
        await asyncio.to_thread(self._end)

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing of it stays."""
        if self._postgres is not None:
            self._postgres.drop(self.address)


class FileMoved(Fault):
    def _begin(self) -> None:
        self.file.rename(self.folder / "elsewhere")

    def _end(self) -> None:
        (self.folder / "elsewhere").rename(self.file)


class _Pragma(Fault):
    """A switch of SQLite's own, thrown at the beginning of each transaction."""

    ON: ClassVar[str]
    OFF: ClassVar[str]

    def _prepare(self) -> None:
        self._now = self.OFF
        event.listen(Engine, "begin", self._throw)

    def _throw(self, connection: Any) -> None:
        if connection.dialect.name == "sqlite":
            connection.connection.cursor().execute(f"PRAGMA {self._now}").fetchall()

    def _begin(self) -> None:
        self._now = self.ON

    def _end(self) -> None:
        self._now = self.OFF

    def close(self) -> None:
        event.remove(Engine, "begin", self._throw)


class QueryOnly(_Pragma):
    ON, OFF = "query_only = ON", "query_only = OFF"
    reads = True


class NoPageMore(_Pragma):
    ON, OFF = "max_page_count = 1", "max_page_count = 1000000"
    reads = small_writes = True


class Immutable(Fault):
    reads = True

    def _all(self, sign: str) -> None:
        # not the -shm beside them: it is memory that processes share, and writing to it would kill
        subprocess.run(["chattr", sign, self.file, f"{self.file}-wal"], check=True)

    def _begin(self) -> None:
        self._all("+i")

    def _end(self) -> None:
        self._all("-i")


class DiskFull(Fault):
    reads = True

    def _prepare(self) -> None:
        self._disk = SmallDisk(8)
        self._disk.__enter__()
        self.folder = self._disk.folder

    def _begin(self) -> None:
        self._disk.fill()

    def _end(self) -> None:
        self._disk.free()

    def close(self) -> None:
        self._disk.__exit__()


class Locked(Fault):
    """For `SECONDS`, or until `end`."""

    SECONDS = 1.5

    def _begin(self) -> None:
        self._held, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()
        self._held.wait()

    def _hold(self) -> None:
        other = sqlite3.connect(self.file, timeout=60, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        self._held.set()
        self._over.wait(self.SECONDS)
        other.execute("ROLLBACK")
        other.close()

    def _end(self) -> None:
        self._over.set()
        self._thread.join()


class Crashed(Fault):
    def _begin(self) -> None:
        self.postgres.crash()

    def _end(self) -> None:
        self.postgres.start()


class ReadOnlySessions(Fault):
    reads = True

    def _begin(self) -> None:
        name = self.address.rpartition("/")[2]
        self.postgres.execute(
            f"ALTER DATABASE {name} SET default_transaction_read_only = on",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )

    def _end(self) -> None:
        name = self.address.rpartition("/")[2]
        self.postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


class TablesFull(Fault):
    reads = small_writes = True

    def _prepare(self) -> None:
        self._disk = SmallDisk(24)
        self._disk.__enter__()
        self._tables = self._disk.folder / "tables"
        self._tables.mkdir()
        self.address = self.postgres.database_in(self._tables)

    def _begin(self) -> None:
        self._disk.fill()

    def _end(self) -> None:
        self._disk.free()

    def close(self) -> None:
        super().close()
        self.postgres.execute(f"DROP TABLESPACE {self.address.rpartition('/')[2]}")
        self._disk.__exit__()


class Frozen(Fault):
    """For `SECONDS`, or until `end`."""

    SECONDS = 1.5

    def _begin(self) -> None:
        self.postgres.freeze()
        self._timer = threading.Timer(self.SECONDS, self.postgres.thaw)
        self._timer.start()

    def _end(self) -> None:
        self._timer.cancel()
        self._timer.join()
        self.postgres.thaw()


ON_SQLITE: list[type[Fault]] = [FileMoved, QueryOnly, NoPageMore, Immutable, DiskFull]
ON_POSTGRESQL: list[type[Fault]] = [Crashed, ReadOnlySessions, TablesFull]
SLOW: list[type[Fault]] = [Locked, Frozen]


@contextmanager
def prepared(kind: type[Fault], folder: Path, cluster: Postgres | None) -> Iterator[Fault]:
    """A database, and what may befall it. Skips where this machine does not let it happen."""
    require(kind is not Immutable or can_lock(), "files cannot be made immutable here (chattr, as root)")
    require(kind not in (DiskFull, TablesFull) or can_mount(), "a tmpfs cannot be mounted here (as root)")
    fault = kind(folder, cluster)
    try:
        yield fault
    finally:
        fault.close()
