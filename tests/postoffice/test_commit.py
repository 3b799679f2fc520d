"""The transaction: what a batch does with itself, and with what it loses."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from pennypost.protocol.event import Event
from pennypost.protocol.price import Postage
from pennypost_migrations import upgrade
from pennypost_mint.api import BlindSignature, Keyring, record_signatures_on, spent_on
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice import commit as committing
from pennypost_postoffice.commit import Done, RaceLost, commit_on
from pennypost_postoffice.deletion import read_deletion
from pennypost_postoffice.post import Blank, Output, Post, Stamp
from pennypost_postoffice.tables import addresses, events, feed, tags
from tests.postoffice.house import Author, wrap
from tests.postoffice.test_store import posted

NOW = int(time.time())


@pytest_asyncio.fixture
async def database(address: str, tmp_path: Path) -> AsyncIterator[Database]:
    url = database_url(address, tmp_path)
    await upgrade(url)
    opened = open_database(url, tmp_path)
    await Keyring.open(opened, load_settings({}, data_dir=str(tmp_path)))
    yield opened
    await opened.close()


def stamped(event: Event, *ys: bytes) -> Post:
    """A verified event with a stamp of one proof for each Y."""
    post = posted(event)
    post.postage = Postage(1, NOW + 1_000, free=False)
    post.stamp = Stamp([("keyset", 1, y.hex(), "") for y in ys], [0] * len(ys), len(ys))
    post.ys = list(ys)
    post.deletion = read_deletion(event)
    return post


def y() -> bytes:
    return b"\2" + secrets.token_bytes(32)


async def commit(database: Database, *posts: Post) -> Done:
    return await database.write(commit_on, list(posts), NOW)


def _stored(done: Done) -> list[Post]:
    return [plan.post for plan in done.stored]


def _refused(done: Done) -> dict[str, list[Post]]:
    found: dict[str, list[Post]] = {}
    for post, error in done.refused:
        found.setdefault(error.code, []).append(post)
    return found


async def ids(database: Database) -> set[bytes]:
    return await database.read(lambda connection: set(connection.scalars(select(events.c.id))))


async def spent(database: Database, *ys: bytes) -> list[bool]:
    found = await database.read(spent_on, list(ys))
    return [each in found for each in ys]


async def test_overlaps_within_a_batch(database: Database) -> None:
    """In arrival order: the first is stored; whatever shares an id, a Y or an address waits and is then told."""
    author = Author()
    a, b, c, d = y(), y(), y(), y()
    event, other, third = wrap(), wrap(), wrap()
    old, new = author.sign(10_001, at=NOW - 5), author.sign(10_001, at=NOW)
    first, same, shares, crossed = stamped(event, a, b), stamped(event, c), stamped(other, b, c), stamped(third, b, a)
    older, newer = stamped(old, d), stamped(new, y())
    done = await commit(database, first, same, shares, crossed, older, newer)
    assert _stored(done) == [first, older]
    assert done.waiting == [same, shares, crossed, newer]
    assert done.refused == [] and done.duplicates == []
    assert await spent(database, a, b, c) == [True, True, False]

    done = await commit(database, *done.waiting)
    assert [post for post, _ in done.duplicates] == [same]
    assert _refused(done) == {"stamp-spent": [shares, crossed]}
    assert _stored(done) == [newer]
    assert await spent(database, a, b, c) == [True, True, False]
    assert await ids(database) == {first.id, newer.id}


async def test_numbers_have_the_order_of_arrival(database: Database) -> None:
    """One number for every stored event; only wraps with a view tag have a record."""
    posts = [stamped(event, y()) for event in (wrap(), Author().sign(1), wrap(vt=False), wrap())]
    await commit(database, *posts)
    await commit(database, stamped(wrap(), y()))
    rows = await database.read(
        lambda connection: connection.execute(select(feed.c.seq, feed.c.event_id, feed.c.record).order_by("seq")).all()
    )
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]
    assert [row[1] for row in rows[:4]] == [post.id for post in posts]
    assert [row[2] is not None for row in rows] == [True, False, False, True, True]


async def test_a_replaced_event_leaves_nothing(database: Database) -> None:
    author = Author()
    old, new = author.sign(30_001, ["d", "x"], ["t", "old"], at=NOW - 5), author.sign(30_001, ["d", "x"], at=NOW)
    await commit(database, stamped(old, y()))
    await commit(database, stamped(new, y()))

    def rows(connection: Connection) -> list[Any]:
        return [
            *connection.scalars(select(events.c.id)),
            *connection.scalars(select(tags.c.event_id)),
            *connection.scalars(select(feed.c.event_id)),
            *connection.scalars(select(addresses.c.event_id)),
        ]

    assert set(await database.read(rows)) == {bytes.fromhex(new.id)}


async def test_a_loser_of_a_stamp_is_undone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other stamps, its event and its address are as before; the others of the batch are stored."""
    author = Author()
    current = author.sign(10_001, at=NOW - 5)
    await commit(database, stamped(current, y()))
    lost, kept, fine = y(), y(), y()
    loser, winner = stamped(author.sign(10_001, at=NOW), lost, kept), stamped(wrap(), fine)
    genuine = committing.spend_on
    monkeypatch.setattr(
        committing, "spend_on", lambda connection, rows, **_: genuine(connection, rows) - _gone(connection)
    )

    def _gone(connection: Connection) -> set[bytes]:
        committing.unspend_on(connection, [lost])
        return {lost}

    done = await commit(database, loser, winner)
    assert _stored(done) == [winner] and _refused(done) == {"stamp-spent": [loser]}
    assert await spent(database, kept, fine) == [False, True]
    assert await ids(database) == {bytes.fromhex(current.id), winner.id}
    held = await database.read(lambda connection: connection.execute(select(addresses.c.event_id)).scalars().all())
    assert held == [bytes.fromhex(current.id)]


async def test_change_signed_by_another_rolls_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody signed the same blinded message between step 1 and step 6: nothing is kept, the batch runs again."""
    b = y()
    post = stamped(wrap(), y(), y())
    blank = Blank("keyset", 0, b)
    post.blanks, post.outputs = [blank], [Output(blank, 1)]
    post.signatures = [BlindSignature(b"\2" + b"c" * 32, b"e" * 32, b"s" * 32)]
    monkeypatch.setattr(committing, "record_signatures_on", lambda connection, rows: set())
    with pytest.raises(RaceLost):
        await commit(database, post)
    assert await ids(database) == set() and await spent(database, *post.ys) == [False, False]
    monkeypatch.undo()
    assert _stored(await commit(database, post)) == [post]
    other = stamped(wrap(), y(), y())
    other.blanks, other.outputs, other.signatures = post.blanks, post.outputs, post.signatures
    assert _refused(await commit(database, other)) == {"output-signed": [other]}


async def test_a_deletion_waits_for_what_it_names(database: Database) -> None:
    """An event and its deletion in one batch, in either order."""
    author = Author()
    event = author.sign(1)
    deletion = posted(author.sign(5, ["e", event.id]))
    deletion.postage = Postage(1, NOW + 1_000, free=False)
    deletion.deletion = read_deletion(deletion.event)
    mail = stamped(event, y())
    done = await commit(database, mail, deletion)
    assert _stored(done) == [mail] and done.waiting == [deletion]
    done = await commit(database, deletion, mail)
    assert _stored(done) == [deletion] and done.waiting == [mail]
    done = await commit(database, mail)
    assert _refused(done) == {"deleted": [mail]}
    assert await ids(database) == {deletion.id}


async def test_signatures_of_change_are_recorded_once(database: Database) -> None:
    b = y()
    row = (b, 0, 1, b"\2" + b"c" * 32, b"e" * 32, b"s" * 32, 0)
    assert await database.write(record_signatures_on, [row]) == {b}
    assert await database.write(record_signatures_on, [row]) == set()
