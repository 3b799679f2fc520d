"""Two transactions of PostgreSQL that meet: the slower one tells the truth. SQLite has one writer: none meet there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, delete, text

from pennypost.protocol.event import Event
from pennypost_mint.runtime.database import Database
from pennypost_postoffice.commit import Done, RaceLost, commit_on
from pennypost_postoffice.post import Post
from pennypost_postoffice.tables import vanished
from pennypost_postoffice.vanish import begin_on, step_on
from tests.postoffice.house import Author, wrap
from tests.postoffice.test_commit import _refused, _stored, commit, database, ids, spent, stamped, y
from tests.support.postgres import Postgres

NOW = int(time.time())
LATER = NOW + 86_400
"""After all that is signed while the tests run."""

__all__ = ["database"]


@pytest.fixture
def address(postgres_cluster: Postgres) -> Iterator[str]:
    made = postgres_cluster.database()
    yield made
    postgres_cluster.drop(made)


class Faster:
    """A transaction of PostgreSQL that another one meets half-way: it writes, waits to be released, commits."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.written = asyncio.Event()
        self.go_on = asyncio.Event()

    async def run(self, work: Any, *args: Any, undo: bool = False) -> None:
        async with self._database._engine.connect() as connection:
            transaction = await connection.begin()
            await connection.run_sync(work, *args)
            self.written.set()
            await self.go_on.wait()
            await (transaction.rollback() if undo else transaction.commit())


def _somebody_waits_on(connection: Connection) -> bool:
    """Whether a transaction of this database waits for another's lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(connection.execute(waiting).scalar_one())


async def _beside(database: Database, first: tuple[Any, ...], second: Any, *, undo: bool = False) -> Any:
    """The work `first` is done and ends while `second`, another transaction, waits for it; what `second` returns."""
    faster = Faster(database)
    running = asyncio.create_task(faster.run(*first, undo=undo))
    await faster.written.wait()
    waiting = asyncio.create_task(second)
    async with asyncio.timeout(30):
        while not await database.read(_somebody_waits_on):
            assert not waiting.done(), "it did not wait for the other transaction"
            await asyncio.sleep(0.01)
    faster.go_on.set()
    await running
    return await waiting


async def _race(database: Database, post: Post, other: Post, *, undo: bool = False) -> Done:
    """`other` is written first and ends while the transaction of `post` waits for it."""
    return await _beside(database, (commit_on, [other], NOW), commit(database, post), undo=undo)


@pytest.mark.parametrize("undo", [False, True])
async def test_two_transactions_meet_at_a_stamp(database: Database, undo: bool) -> None:
    """The second is told "already spent" only when the first really kept it."""
    shared, own = y(), y()
    first, second = stamped(wrap(), shared), stamped(wrap(), shared, own)
    done = await _race(database, second, first, undo=undo)
    if undo:
        assert _stored(done) == [second] and await spent(database, shared, own) == [True, True]
    else:
        assert _refused(done) == {"stamp-spent": [second]} and await spent(database, shared, own) == [True, False]
        assert await ids(database) == {first.id}


@pytest.mark.parametrize("undo", [False, True])
async def test_two_transactions_meet_at_an_event(database: Database, undo: bool) -> None:
    """Nobody is told "duplicate" for what is rolled back; the second stamp stays good when it is kept."""
    event, one, two = wrap(), y(), y()
    first, second = stamped(event, one), stamped(event, two)
    done = await _race(database, second, first, undo=undo)
    if undo:
        assert _stored(done) == [second]
    else:
        assert done.waiting == [second]
        done = await commit(database, second)
        assert [post for post, _ in done.duplicates] == [second]
    assert await spent(database, one, two) == [not undo, undo]


@pytest.mark.parametrize("known", [False, True])
async def test_two_transactions_meet_at_an_address(database: Database, known: bool) -> None:
    """The slower one waits for its next batch, which sees who won; one event is left."""
    author = Author()
    if known:
        await commit(database, stamped(author.sign(10_001, at=NOW - 9), y()))
    newer, older = stamped(author.sign(10_001, at=NOW), y()), stamped(author.sign(10_001, at=NOW - 5), y())
    done = await _race(database, older, newer)
    assert done.waiting == [older] and done.stored == []
    done = await commit(database, older)
    assert _refused(done) == {"newer": [older]}
    assert await spent(database, *older.ys) == [False]
    assert await ids(database) == {newer.id}


def _names(author: Author, event: Event) -> list[str]:
    return ["a", f"10001:{author.pubkey}:"] if event.kind == 10_001 else ["e", event.id]


@pytest.mark.parametrize("kind", [1, 10_001])
@pytest.mark.parametrize("undo", [False, True])
async def test_an_event_beside_the_deletion_that_names_it(database: Database, kind: int, undo: bool) -> None:
    """The deletion is first: the event, which did not see it, goes again, is refused, and its stamp is good."""
    author = Author()
    event = author.sign(kind, at=NOW - 5)
    post, request = stamped(event, y()), stamped(author.sign(5, _names(author, event), at=NOW), y())
    if undo:
        assert _stored(await _race(database, post, request, undo=True)) == [post]
        return
    with pytest.raises(RaceLost):
        await _race(database, post, request)
    assert _refused(await commit(database, post)) == {"deleted": [post]}
    assert await spent(database, *post.ys) == [False] and await ids(database) == {request.id}


@pytest.mark.parametrize("kind", [1, 10_001])
@pytest.mark.parametrize("undo", [False, True])
async def test_a_deletion_beside_the_event_that_it_names(database: Database, kind: int, undo: bool) -> None:
    """The event is first: the deletion, which did not find it, goes again, and deletes it without a stamp."""
    author = Author()
    event = author.sign(kind, at=NOW - 5)
    post, request = stamped(event, y()), stamped(author.sign(5, _names(author, event), at=NOW), y())
    if undo:
        assert _stored(await _race(database, request, post, undo=True)) == [request]
        return
    with pytest.raises(RaceLost):
        await _race(database, request, post)
    assert _stored(await commit(database, request)) == [request]
    assert await ids(database) == {request.id} and await spent(database, *request.ys) == [False]


async def test_other_letters_do_not_go_again_for_a_deletion(database: Database) -> None:
    author = Author()
    letter = stamped(wrap(), y())
    assert _stored(await _race(database, letter, stamped(author.sign(5, ["e", "a" * 64]), y()))) == [letter]


async def test_an_event_beside_a_request_to_vanish(database: Database) -> None:
    """By the key or a gift wrap to it: refused; other letters are stored."""
    author = Author()
    pubkey = bytes.fromhex(author.pubkey)
    for number, event in enumerate((author.sign(1), wrap(author.pubkey, vt=False))):
        post = stamped(event, y())
        with pytest.raises(RaceLost):
            await _beside(database, (begin_on, pubkey, LATER + number), commit(database, post))
        assert _refused(await commit(database, post)) == {"deleted": [post]}
        await database.write(lambda connection: connection.execute(delete(vanished)))
    other = stamped(wrap(), y())
    assert _stored(await _beside(database, (begin_on, pubkey, LATER), commit(database, other))) == [other]


async def test_a_request_to_vanish_beside_an_event(database: Database) -> None:
    """What got in before is found by the steps that follow."""
    post = stamped(Author().sign(1), y())
    await _beside(database, (commit_on, [post], NOW), database.write(begin_on, post.pubkey, LATER))
    assert (await database.write(step_on, post.pubkey, LATER, None)).removed == 1
    assert await ids(database) == set()
