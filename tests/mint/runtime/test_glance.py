"""Short reads on the event loop: the same answers as a reader thread's, and what is not short goes there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text

from pennypost.protocol.errors import DatabaseUnavailable, NotFound
from pennypost_migrations import upgrade
from pennypost_mint.runtime import glance
from pennypost_mint.runtime.database import Database, SQLiteDatabase, open_database
from pennypost_mint.runtime.sets import insert_ignore, select_in
from pennypost_mint.tables import answers

COLUMNS = ("request", "keep_until")
HERE = threading.current_thread


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(connection: Connection, numbers: list[int]) -> None:
    insert_ignore(connection, answers, COLUMNS, [(key(n), n) for n in numbers], "request")


def found(connection: Connection, numbers: list[int]) -> tuple[set[int], str]:
    """What is stored of these, and in which thread that was read."""
    rows = select_in(connection, answers, COLUMNS, "request", [key(n) for n in numbers])
    return {row[1] for row in rows}, HERE().name


@pytest.fixture(autouse=True)
def nothing_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test says otherwise: a disk that is busy with something else makes no read slow."""
    monkeypatch.setattr(glance, "_from_disk", lambda: 0)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    await upgrade(database_url or f"sqlite:///{tmp_path / 'test.sqlite'}")
    opened = open_database(database_url or f"sqlite:///{tmp_path / 'test.sqlite'}", tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    address = f"sqlite:///{tmp_path / 'test.sqlite'}"
    await upgrade(address)
    opened = SQLiteDatabase(address)
    yield opened
    await opened.close()


async def test_what_was_committed_is_seen(database: Database) -> None:
    for number in range(5):
        await database.write(put, [number])
        assert await database.read_short(found, [number, 99]) == ({number}, HERE().name)


async def test_many_steps_are_left_to_a_thread(file: SQLiteDatabase) -> None:
    await file.write(put, list(range(5_000)))
    few, many = list(range(glance.SHORT)), list(range(5_000))
    assert await file.read_short(found, few) == (set(few), HERE().name)
    stored, thread = await file.read_short(found, many)
    assert stored == set(many)
    assert thread != HERE().name
    # For a moment all is left to threads; the connection stays.
    connection = file._glance._connection
    file._glance._not_before += 60
    assert (await file.read_short(found, few))[1] != HERE().name
    file._glance._not_before = 0.0
    assert await file.read_short(found, few) == (set(few), HERE().name)
    assert file._glance._connection is connection is not None


@pytest.mark.parametrize(("statements", "here"), [(3, True), (30, False)])
async def test_steps_are_counted_over_all_statements(file: SQLiteDatabase, statements: int, here: bool) -> None:
    """Each of them takes some 600 steps, fewer than a read may take."""

    def several(connection: Connection) -> str:
        raw: Any = connection.connection
        for number in range(statements):
            counting = f"WITH RECURSIVE c(n) AS (SELECT {number} UNION ALL SELECT n + 1 FROM c LIMIT 60)"
            raw.execute(f"{counting} SELECT count(*) FROM c").fetchall()
        return HERE().name

    assert (await file.read_short(several) == HERE().name) is here


async def test_work_that_finds_more_than_is_short_goes_to_a_thread(file: SQLiteDatabase) -> None:
    def large(connection: Connection) -> str:
        if glance.is_glance(connection):
            raise glance.TooLong
        return HERE().name

    await file.write(put, [1])
    assert await file.read_short(large) != HERE().name
    connection = file._glance._connection
    # for a moment all is left to threads, as after any that was broken off
    assert file._glance._not_before > 0.0
    file._glance._not_before = 0.0
    assert await file.read_short(found, [1]) == ({1}, HERE().name)
    assert file._glance._connection is connection is not None


async def test_a_transaction_that_a_read_began_does_not_outlive_it(file: SQLiteDatabase) -> None:
    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(answers)).scalar_one()

    def refuse(connection: Connection) -> int:
        raise NotFound(str(count(connection)))

    for number in range(3):
        assert await file.read_short(count) == number
        with pytest.raises(NotFound, match=str(number)):
            await file.read_short(refuse)
        await file.write(put, [number])


async def test_a_slow_disk_is_left_to_the_threads_for_a_while(
    file: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file.write(put, [1])
    assert await file.read_short(found, [1]) == ({1}, HERE().name)
    monkeypatch.setattr(glance, "SLOW", 0.0)
    monkeypatch.setattr(glance, "PAUSE", 3_600)
    blocks = iter(range(9))
    monkeypatch.setattr(glance, "_from_disk", lambda: next(blocks))
    assert await file.read_short(found, [1]) == ({1}, HERE().name)
    assert (await file.read_short(found, [1]))[1] != HERE().name
    monkeypatch.setattr(glance, "_from_disk", lambda: 9)
    file._glance._not_before = 0.0
    for _ in range(3):
        # late, and not because of the disk
        assert await file.read_short(found, [1]) == ({1}, HERE().name)


async def test_another_file_at_the_path_is_noticed(
    file: SQLiteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LOOK_AGAIN", 0.0)
    await file.write(put, [1])
    assert await file.read_short(found, [1]) == ({1}, HERE().name)
    await upgrade(f"sqlite:///{tmp_path / 'other.sqlite'}")
    await file.checkpoint()
    for name in ("test.sqlite", "test.sqlite-wal", "test.sqlite-shm"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    with pytest.raises(DatabaseUnavailable):
        await file.read_short(found, [1])
    (tmp_path / "other.sqlite").rename(tmp_path / "test.sqlite")
    assert (await file.read_short(found, [1]))[0] == set()


async def test_what_the_driver_refuses_is_told_as_a_thread_tells_it(file: SQLiteDatabase) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(text("SELECT nothing FROM nowhere"))

    for read in (file.read, file.read_short):
        with pytest.raises((DatabaseUnavailable, sqlite3.OperationalError)) as caught:
            await read(wrong)
        assert caught.type is DatabaseUnavailable
    assert (await file.read_short(found, [1]))[0] == set()


async def test_a_file_that_is_locked_is_not_waited_for_here(file: SQLiteDatabase) -> None:
    def busy(connection: Connection) -> str:
        if HERE().name == "MainThread":
            raise sqlite3.OperationalError("database is locked")
        return HERE().name

    assert (await file.read_short(busy)).startswith("pennypost-reader")
    assert file._glance._connection is None
    file._glance._not_before = 0.0
    assert await file.read_short(lambda c: c.exec_driver_sql("PRAGMA busy_timeout").scalar_one()) == 0


async def test_closed(file: SQLiteDatabase) -> None:
    assert await file.read_short(found, [1]) == (set(), HERE().name)
    await file.close()
    with pytest.raises(DatabaseUnavailable):
        await file.read_short(found, [1])
