"""The database: one way to write, one way to read, on SQLite and PostgreSQL.

    work(connection, …)        a plain function with SQLAlchemy Core statements, one transaction
        │
        ├─ SQLite       write ▶ queue ▶ the one writer thread: BEGIN IMMEDIATE, a savepoint for each work that
        │               waits, one COMMIT (full sync), then all answers      read ▶ reader threads, WAL snapshots
        │               read_short ▶ the event loop itself (glance.py), or else a reader thread
        └─ PostgreSQL   write ▶ pool ▶ READ COMMITTED, 40001 and 40P01 tried again      read ▶ pool, autocommit

Nothing is answered before its COMMIT has returned. After a lost connection a COMMIT may or may not have happened:
`DatabaseUnavailable` then means "repeat", and every work of this project is safe to repeat.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, ExceptionContext, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from pennypost.protocol.errors import ConfigurationError, DatabaseUnavailable
from pennypost_mint.runtime.glance import Glance, TooLong
from pennypost_mint.runtime.logs import logger

T = TypeVar("T")
Work = Callable[..., T]

RETRIES = 12
"""Tries of one PostgreSQL transaction that met a serialization failure or a deadlock."""

GROUP = 256
"""Most works that share one SQLite commit."""

QUEUE = 10_000
"""Most works that wait for the SQLite writer; past it the answer is DatabaseUnavailable."""

log = logger("database")

READERS = 2
BUSY_TIMEOUT_MS = 10_000
PAGE_CACHE_KIB = 65_536
"""SQLite's default of 2 MB makes random keys read from disk at 200,000 rows (docs/reference/performance.md)."""

CHECKPOINT_PAGES = 16_384
"""Pages of the write-ahead log after which it is copied into the file (64 MiB). At SQLite's default of 1,000 nearly
every commit under load copies: keys are random, so each writes hundreds of pages, the same ones again and again."""

RETRIABLE = frozenset({"40001", "40P01"})

READ_ONLY = "25006"
"""The server was demoted, or its sessions were opened read-only: all that wait in the pool are of no use."""

AWAY = (OSError, TimeoutError, NoConnectionFree)
"""What the way to PostgreSQL raises that is no error of PostgreSQL; the last when every connection is in use."""

POOL, OVERFLOW = 8, 8
CONNECT_SECONDS, POOL_SECONDS, STATEMENT_SECONDS = 5.0, 10.0, 30.0
"""Longest waits for a new connection, for one that is free, and for a statement."""


class Database(Protocol):
    """What mint and post office write to and read from."""

    dialect: str

    async def write(self, work: Work[T], *args: Any) -> T:
        """Runs `work(connection, *args)` in one transaction; returns after the commit.

        Raises DatabaseUnavailable, or what `work` raised, after a rollback.
        """
        ...

    async def read(self, work: Work[T], *args: Any) -> T:
        """Runs `work(connection, *args)`, which must not write. Raises DatabaseUnavailable."""
        ...

    async def read_short(self, work: Work[T], *args: Any) -> T:
        """`read` of few rows by their keys, in as few statements, which need not see the same moment.

        Raises DatabaseUnavailable. `work` may be run a second time from its beginning.
        """
        ...

    async def checkpoint(self) -> None:
        """SQLite: empties the write-ahead log into the database file and truncates it. PostgreSQL: nothing.

        One that another program's reading holds up for BUSY_TIMEOUT_MS is given up, with a line in the log of the
        program: the next one does it. Raises DatabaseUnavailable.
        """
        ...

    async def close(self) -> None:
        """Finishes what waits, then closes every connection."""
        ...

    @property
    def waiting(self) -> int:
        """Works that wait for the writer (SQLite), or transactions under way (PostgreSQL)."""
        ...


def database_url(url: str, data_dir: Path) -> str:
    """The SQLAlchemy address: `url`, or a SQLite file in `data_dir` when it is empty."""
    if not url:
        return f"sqlite:///{data_dir / 'pennypost.sqlite'}"
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite").render_as_string(hide_password=False)
    raise ConfigurationError("PENNYPOST_DATABASE_URL is neither a SQLite file nor PostgreSQL")


def open_database(url: str, data_dir: Path) -> Database:
    """Opens (not migrates) the database; call inside a running event loop."""
    address = database_url(url, data_dir)
    if address.startswith("sqlite"):
        return SQLiteDatabase(address)
    return PostgreSQLDatabase(address)


DRIVER_ERRORS = (DBAPIError, sqlite3.Error)
OURS = (IntegrityError, ProgrammingError, DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError)
"""Of those, the ones the statement is to blame for, not the database."""


def _failure(error: Exception) -> Exception:
    """What the caller sees: a broken key and the work's own refusals are his to handle, the rest is unavailability."""
    if isinstance(error, DRIVER_ERRORS) and not isinstance(error, OURS):
        failure = DatabaseUnavailable()
        failure.__cause__ = error
        return failure
    return error


class SQLiteDatabase:
    """SQLite in WAL mode with full sync: one writer thread with group commit, a few reader threads."""

    dialect = "sqlite"

    def __init__(self, address: str) -> None:
        self._path = Path(make_url(address).database or "")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._engine = sqlite_engine(address)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, name="pennypost-writer", daemon=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pennypost-reader")
        self._local = threading.local()
        self._reading: list[Connection] = []
        self._glance = Glance(self._engine, self._file)
        self._checkpointing = asyncio.Lock()
        """One at a time: each holds a reader thread while it waits."""
        self._ended: Future[None] = Future()
        self._writer.start()

    @property
    def waiting(self) -> int:
        return self._waiting

    async def write(self, work: Work[T], *args: Any) -> T:
        if self._closed or self._waiting >= QUEUE:
            raise DatabaseUnavailable
        job = _Job(work, args)
        self._waiting += 1
        self._jobs.put(job)
        try:
            return await asyncio.shield(asyncio.wrap_future(job.done))
        finally:
            self._waiting -= 1

    async def read(self, work: Work[T], *args: Any) -> T:
        return await self._aside(self._read, work, args)

    async def read_short(self, work: Work[T], *args: Any) -> T:
        if self._closed:
            raise DatabaseUnavailable
        try:
            return self._glance.read(work, args)
        except TooLong:
            return await self.read(work, *args)

    async def checkpoint(self) -> None:
        async with self._checkpointing:
            done = await self._aside(self._checkpoint)
        if not done:
            log.warning("what was deleted stays in the database's log for now: another program reads it")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        # not through the loop's default executor: at interpreter exit it takes nothing any more
        await asyncio.shield(asyncio.wrap_future(self._ended))
        self._readers.shutdown()
        self._glance.close()
        for connection in self._reading:
            connection.close()
        self._engine.dispose()

    async def _aside(self, work: Work[T], *args: Any) -> T:
        """`work(*args)` in a reader thread. Raises DatabaseUnavailable once this is closed."""
        if self._closed:
            raise DatabaseUnavailable
        try:
            done = asyncio.get_running_loop().run_in_executor(self._readers, work, *args)
        except RuntimeError:
            # the interpreter ends and executors take nothing any more, while a sandbox is still to be closed
            return work(*args)
        return await done

    def _read(self, work: Work[T], args: tuple[Any, ...]) -> T:
        try:
            connection = self._reader()
            with connection.begin():
                return work(connection, *args)
        except DRIVER_ERRORS as error:
            failure = _failure(error)
            if isinstance(failure, DatabaseUnavailable):
                self._drop_reader()
            raise failure from error

    def _reader(self) -> Connection:
        """This thread's connection, a new one when another file stands at our path."""
        file = self._file()
        if getattr(self._local, "file", file) != file:
            self._drop_reader()
        if getattr(self._local, "connection", None) is None:
            self._local.connection, self._local.file = self._engine.connect(), file
            self._reading.append(self._local.connection)
        return self._local.connection

    def _drop_reader(self) -> None:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            self._reading.remove(connection)
            connection.close()

    def _file(self) -> tuple[int, int]:
        """Which file stands at our path. Raises OperationalError when there is none.

        SQLite goes on writing to a file that was moved or deleted.
        """
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise OperationalError("no file", None, error) from error
        return found.st_dev, found.st_ino

    def _checkpoint(self) -> bool:
        deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        try:
            with self._engine.connect() as connection:
                cursor: Any = connection.connection.cursor()
                while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() >= deadline:
                        return False
                    # for readers SQLite waits, but not for the writer's own checkpoint or another process's
                    time.sleep(0.01)
                return True
        except DRIVER_ERRORS as error:
            raise _failure(error) from error

    def _write_forever(self) -> None:
        connection: Connection | None = None
        written = (0, 0)
        last = False
        while not last:
            job = self._jobs.get()
            if job is None:
                break
            group, last = self._whoever_waits(job)
            try:
                file = self._file()
                if connection is not None and file != written:
                    connection.close()
                    connection = None
                if connection is None:
                    connection, written = self._engine.connect(), file
                self._commit(connection, group)
            except (SQLAlchemyError, sqlite3.Error) as error:
                for waiting in group:
                    waiting.fail(_failure(error))
            # after a failure a fresh connection: a repaired disk or a replaced file is noticed
            if connection is not None and any(isinstance(job.error, DatabaseUnavailable) for job in group):
                connection.invalidate()
                connection.close()
                connection = None
        if connection is not None:
            connection.close()
        self._ended.set_result(None)

    def _whoever_waits(self, first: _Job) -> tuple[list[_Job], bool]:
        group = [first]
        while len(group) < GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
            if job is None:
                return group, True
            group.append(job)
        return group, False

    def _commit(self, connection: Connection, group: list[_Job]) -> None:
        if len(group) == 1:
            self._commit_one(connection, group[0])
            return
        with connection.begin():
            raw: Any = connection.connection
            cursor = raw.cursor()
            for job in group:
                cursor.execute("SAVEPOINT work")
                try:
                    job.result = job.work(connection, *job.args)
                except Exception as error:  # handed to the caller who waits for this work
                    if not raw.in_transaction:
                        # a full disk or an I/O error ends SQLite's whole transaction: nobody's work was kept
                        raise OperationalError("transaction ended", None, error) from error
                    job.error = _failure(error)
                    cursor.execute("ROLLBACK TO work")
                cursor.execute("RELEASE work")
        for job in group:
            job.finish()

    def _commit_one(self, connection: Connection, job: _Job) -> None:
        try:
            with connection.begin():
                job.result = job.work(connection, *job.args)
        except Exception as error:  # noqa: BLE001 - handed to the caller who waits for this work
            job.error = _failure(error)
        job.finish()


class _Job:
    """One work that waits for the writer."""

    __slots__ = ("args", "done", "error", "result", "work")

    def __init__(self, work: Work[Any], args: tuple[Any, ...]) -> None:
        self.work = work
        self.args = args
        self.result: Any = None
        self.error: BaseException | None = None
        self.done: Future[Any] = Future()

    def finish(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)

    def fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.finish()


class PostgreSQLDatabase:
    """PostgreSQL through asyncpg; each write is a transaction of its own, several at once."""

    dialect = "postgresql"

    def __init__(self, address: str) -> None:
        self._engine: AsyncEngine = postgresql_engine(address)
        self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._waiting = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    async def write(self, work: Work[T], *args: Any) -> T:
        self._waiting += 1
        try:
            for attempt in range(RETRIES):
                try:
                    return await self._once(work, args)
                except DBAPIError as error:
                    if _sqlstate(error) not in RETRIABLE or attempt == RETRIES - 1:
                        raise _failure(error) from error
                await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))
            raise DatabaseUnavailable
        except AWAY as error:
            raise DatabaseUnavailable from error
        finally:
            self._waiting -= 1

    async def _once(self, work: Work[T], args: tuple[Any, ...]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work, *args)

    async def read(self, work: Work[T], *args: Any) -> T:
        try:
            async with self._reads.connect() as connection:
                return await connection.run_sync(work, *args)
        except DBAPIError as error:
            raise _failure(error) from error
        except AWAY as error:
            raise DatabaseUnavailable from error

    async def read_short(self, work: Work[T], *args: Any) -> T:
        return await self.read(work, *args)

    async def checkpoint(self) -> None:
        return None

    async def close(self) -> None:
        await self._engine.dispose()


def _sqlstate(error: DBAPIError) -> str:
    return _state_of(error.orig)


def _state_of(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def sqlite_engine(address: str) -> Engine:
    """A SQLite engine whose every transaction is opened by us: IMMEDIATE in the writer thread, deferred elsewhere.

    The file is made here where it is missing, and by no connection: beside an empty file in the place of one that was
    moved, SQLite deletes the write-ahead log, and with it what was committed since the last checkpoint.
    """
    path = make_url(address).database or ""
    Path(path).touch()
    there = f"file:{quote(path)}?mode=rw"
    engine = create_engine(
        address,
        poolclass=NullPool,
        hide_parameters=True,
        creator=lambda: sqlite3.connect(there, uri=True, check_same_thread=False, isolation_level=None),
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            "foreign_keys = ON",
            "secure_delete = ON",
            f"cache_size = -{PAGE_CACHE_KIB}",
            "temp_store = MEMORY",
        ):
            raw.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        writing = threading.current_thread().name == "pennypost-writer"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def postgresql_engine(address: str) -> AsyncEngine:
    """An asyncpg engine with time limits on connecting and on every statement."""
    engine = create_async_engine(
        address,
        hide_parameters=True,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=False,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "server_settings": {"application_name": "pennypost", "jit": "off"},
        },
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:  # pyright: ignore[reportUnusedFunction]
        if _state_of(context.original_exception) == READ_ONLY:
            # as if they had been lost: the next try has new ones
            context.is_disconnect = True

    return engine


__all__ = [
    "Database",
    "PostgreSQLDatabase",
    "SQLiteDatabase",
    "database_url",
    "open_database",
    "postgresql_engine",
    "sqlite_engine",
]
