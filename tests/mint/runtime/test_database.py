"""The database: transactions, group commit, set-based statements, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.util import await_only

from pennypost.protocol.errors import ConfigurationError, DatabaseUnavailable
from pennypost_migrations import upgrade
from pennypost_mint.runtime import database as databases
from pennypost_mint.runtime.database import Database, open_database
from pennypost_mint.runtime.sets import delete_in, insert_ignore, insert_rows, select_in
from pennypost_mint.tables import answers
from pennypost_postoffice.tables import feed_head

COLUMNS = ("request", "keep_until")


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(connection: Connection, numbers: list[int]) -> set[bytes]:
    return insert_ignore(connection, answers, COLUMNS, [(key(n), n) for n in numbers], "request")


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(answers)).scalar_one()


def stored(connection: Connection, numbers: list[int]) -> set[int]:
    return {row[1] for row in select_in(connection, answers, COLUMNS, "request", [key(n) for n in numbers])}


@pytest.fixture
def database_address(database_url: str, tmp_path: Path) -> str:
    return database_url or f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture
async def database(database_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    # a hundred commits one after the other, on a disk that is busy with something else
    monkeypatch.setattr(databases, "POOL_SECONDS", 60.0)
    await upgrade(database_address)
    opened = open_database(database_address, tmp_path)
    yield opened
    await opened.close()


async def test_insert_returns_only_new_keys(database: Database) -> None:
    assert await database.write(put, [1, 2, 3]) == {key(1), key(2), key(3)}
    assert await database.write(put, [2, 3, 4]) == {key(4)}
    assert await database.write(put, []) == set()
    assert await database.read(count) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 1000])
async def test_select_and_delete_take_any_number_of_keys(database: Database, size: int) -> None:
    numbers = list(range(size))
    await database.write(put, numbers)
    assert await database.read(stored, [*numbers, size + 7]) == set(numbers)
    await database.write(lambda c: delete_in(c, answers, "request", [key(n) for n in numbers[1:]]))
    assert await database.read(stored, numbers) == {0}


async def test_a_failed_work_leaves_its_neighbours_committed(database: Database) -> None:
    """Works that share one SQLite commit do not share their failures."""
    hold = threading.Event()

    def wait(connection: Connection) -> None:
        if database.dialect == "sqlite":
            hold.wait(10)

    def refuse(connection: Connection) -> None:
        put(connection, [100, 101])
        raise KeyError("refused")

    first = asyncio.ensure_future(database.write(wait))
    others = [asyncio.ensure_future(database.write(put, [n])) for n in range(10)]
    bad = asyncio.ensure_future(database.write(refuse))
    others += [asyncio.ensure_future(database.write(put, [n])) for n in range(10, 20)]
    await asyncio.sleep(0)
    hold.set()
    await first
    assert await asyncio.gather(*others) == [{key(n)} for n in range(20)]
    with pytest.raises(KeyError):
        await bad
    assert await database.read(stored, [*range(20), 100, 101]) == set(range(20))


async def test_a_broken_key_is_the_callers_to_handle(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.write(lambda c: insert_rows(c, answers, COLUMNS, [(key(1), 1), (key(1), 2)]))
    assert await database.read(count) == 0


async def test_a_wrong_statement_is_not_called_unavailability(database: Database) -> None:
    with pytest.raises((ProgrammingError, sqlite3.OperationalError, DatabaseUnavailable)) as caught:
        await database.write(lambda c: c.execute(text("SELECT nothing FROM nowhere")))
    if database.dialect == "postgresql":
        assert isinstance(caught.value, ProgrammingError)


async def test_concurrent_increments_are_all_counted(database: Database) -> None:
    """Lost updates, deadlocks and serialization failures never reach the caller."""

    def add(connection: Connection) -> int:
        statement = update(feed_head).values(last=feed_head.c.last + 1).returning(feed_head.c.last)
        return connection.execute(statement).scalar_one()

    answers = await asyncio.gather(*(database.write(add) for _ in range(100)))
    assert sorted(answers) == list(range(1, 101))


async def test_crossing_locks_are_tried_again(database: Database) -> None:
    """Two works that lock the same two rows in opposite order both succeed."""
    await database.write(put, [1, 2])

    def touch(connection: Connection, first: int, second: int) -> None:
        if database.dialect == "postgresql":
            # by default each is found after a second, and a statement may wait for thirty: many come in a row
            connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
        for number in (first, second):
            connection.execute(
                update(answers).where(answers.c.request == key(number)).values(keep_until=answers.c.keep_until + 1)
            )
            if database.dialect == "postgresql":
                connection.execute(text("SELECT pg_sleep(0.02)"))

    await asyncio.gather(*(database.write(touch, *pair) for pair in [(1, 2), (2, 1)] * 3))
    assert await database.read(stored, [1, 2]) == {7, 8}


def interrupted(connection: Connection, tries: list[int], state: str, times: int) -> int:
    """Writes, then fails with this SQLSTATE in the server, as often as told; the tries it took."""
    tries.append(len(tries) + 1)
    put(connection, [len(tries)])
    if len(tries) <= times:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{state}'; END $$"))
    return len(tries)


@pytest.fixture
async def postgresql(postgres_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    await upgrade(postgres_url)
    opened = open_database(postgres_url, tmp_path)
    yield opened
    await opened.close()


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_serialization_failure_is_tried_again(postgresql: Database, state: str) -> None:
    """From the beginning: nothing of the tries that failed is kept."""
    tries: list[int] = []
    assert await postgresql.write(interrupted, tries, state, 2) == 3
    assert tries == [1, 2, 3]
    assert await postgresql.read(stored, [1, 2, 3]) == {3}


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_it_is_not_tried_for_ever(postgresql: Database, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is what RETRIES says; then the caller hears "repeat", and nothing was written."""
    monkeypatch.setattr(databases, "RETRIES", 4)
    tries: list[int] = []
    with pytest.raises(DatabaseUnavailable):
        await postgresql.write(interrupted, tries, state, 1_000)
    assert tries == [1, 2, 3, 4]
    assert await postgresql.read(count) == 0
    assert postgresql.waiting == 0


async def test_other_failures_are_not_tried_again(postgresql: Database) -> None:
    tries: list[int] = []
    with pytest.raises(IntegrityError):
        await postgresql.write(interrupted, tries, "23505", 1_000)
    assert tries == [1]


async def test_serializable_works_that_cross_both_succeed(postgresql: Database) -> None:
    """Each reads what the other writes: PostgreSQL itself gives one of them up with 40001."""
    await postgresql.write(put, [1, 2])
    both = asyncio.Barrier(2)
    tries: list[int] = []

    def copy(connection: Connection, source: int, target: int) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        tries.append(source)
        is_first = tries.count(source) == 1
        read = select(answers.c.keep_until).where(answers.c.request == key(source))
        value = connection.execute(read).scalar_one()
        statement = update(answers).where(answers.c.request == key(target)).values(keep_until=value + 10)
        connection.execute(statement)
        if is_first:
            await_only(both.wait())

    await asyncio.gather(postgresql.write(copy, 1, 2), postgresql.write(copy, 2, 1))
    # again, and once more where the other's commit was still under way
    assert set(tries) == {1, 2} and len(tries) > 2
    # one after the other; both from what was there before would be 11 and 12
    assert await postgresql.read(stored, [1, 2]) in ({11, 21}, {12, 22})


async def test_closed_means_unavailable(tmp_path: Path) -> None:
    database = open_database("", tmp_path)
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.write(count)
    with pytest.raises(DatabaseUnavailable):
        await database.read(count)


async def test_what_is_written_survives_and_is_checkpointed(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.sqlite"
    address = f"sqlite:///{path}"
    await upgrade(address)
    database = open_database(address, tmp_path)
    await database.write(put, [1])
    assert await database.read(count) == 1
    await database.checkpoint()
    assert path.with_name("b.sqlite-wal").stat().st_size == 0
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await database.close()


async def test_what_was_committed_is_checkpointed_beside_another_checkpoint(tmp_path: Path) -> None:
    """Such as that of the last sweep, which began before the commit."""
    address = f"sqlite:///{tmp_path / 'test.sqlite'}"
    await upgrade(address)
    opened, other = open_database(address, tmp_path), open_database(address, tmp_path)
    others = [asyncio.create_task(_checkpoints(each)) for each in (opened, other)]
    try:
        for number in range(200):
            await opened.write(put, [number])
            await opened.checkpoint()
            assert key(number) in (tmp_path / "test.sqlite").read_bytes()
    finally:
        for each in others:
            each.cancel()
        await asyncio.wait(others)
        await opened.close()
        await other.close()


async def test_a_checkpoint_that_cannot_be_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else reads for long. The next one does it, and nothing is written about that."""
    monkeypatch.setattr(databases, "BUSY_TIMEOUT_MS", 100)
    path = tmp_path / "test.sqlite"
    await upgrade(f"sqlite:///{path}")
    opened = open_database(f"sqlite:///{path}", tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM answers").fetchall()
        await opened.write(put, [1])
        capsys.readouterr()
        await opened.checkpoint()
        assert "part=database" in "".join(capsys.readouterr()) and key(1) not in path.read_bytes()
    await opened.checkpoint()
    assert "".join(capsys.readouterr()) == "" and key(1) in path.read_bytes()
    await opened.close()


async def _checkpoints(database: Database) -> None:
    while True:
        await database.checkpoint()


async def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    database = open_database("postgresql://nobody@127.0.0.1:9/none", tmp_path)
    with pytest.raises(DatabaseUnavailable):
        await database.write(count)
    with pytest.raises(DatabaseUnavailable):
        await database.read(count)
    await database.close()


async def test_nothing_is_made_in_the_place_of_a_file_that_was_moved(tmp_path: Path) -> None:
    """An empty file there would cost all that only the write-ahead log has."""
    address, path = f"sqlite:///{tmp_path / 'test.sqlite'}", tmp_path / "test.sqlite"
    await upgrade(address)
    database = open_database(address, tmp_path)
    await database.write(put, [1, 2, 3])
    path.rename(tmp_path / "elsewhere")
    for work in (database.checkpoint(), database.read(count), database.read_short(count), database.write(put, [4])):
        with pytest.raises(DatabaseUnavailable):
            await work
        assert not path.exists()
    (tmp_path / "elsewhere").rename(path)
    assert await database.write(put, [3, 5]) == {key(5)}
    assert await database.read(count) == await database.read_short(count) == 4
    await database.close()


async def test_after_a_failure_the_writer_opens_a_new_connection(tmp_path: Path) -> None:
    """A repaired disk is noticed; works that share the failed commit are all told."""
    address = f"sqlite:///{tmp_path / 'c.sqlite'}"
    await upgrade(address)
    database = open_database(address, tmp_path)

    def forbid(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        put(connection, [2])

    with pytest.raises(DatabaseUnavailable):
        await database.write(forbid)
    assert await database.write(put, [2]) == {key(2)}
    await database.close()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+asyncpg://u:p@h:1/n", "postgresql+asyncpg://u:p@h:1/n"),
        ("sqlite:////x/y.sqlite", "sqlite:////x/y.sqlite"),
        ("", "sqlite:////data/pennypost.sqlite"),
    ],
)
def test_addresses(given: str, expected: str) -> None:
    assert databases.database_url(given, Path("/data")) == expected


@pytest.mark.parametrize("given", ["mysql://h/n", "sqlite://", "sqlite:///:memory:", "redis://h"])
def test_other_databases_refuse_to_start(given: str) -> None:
    with pytest.raises(ConfigurationError):
        databases.database_url(given, Path("/data"))
