"""REQ and COUNT against the slow obvious relay of shelf.py, over random histories of events, versions and deletions."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from pennypost.protocol.event import Event, event_json
from pennypost.protocol.filter import Filter, parse_filter
from pennypost_migrations import upgrade
from pennypost_mint.runtime.database import Database, database_url, open_database, sqlite_engine
from pennypost_mint.runtime.limits import MAX_LIMIT
from pennypost_mint.tables import metadata as mint
from pennypost_postoffice.commit import commit_on
from pennypost_postoffice.deletion import read_deletion
from pennypost_postoffice.live import Watch
from pennypost_postoffice.store import Query, next_rows, read_step
from pennypost_postoffice.tables import feed_head
from pennypost_postoffice.tables import metadata as office
from pennypost_postoffice.vanish import begin_on, end_on, step_on
from tests.postoffice.shelf import Shelf
from tests.postoffice.test_store import NOW, posted

KEYS = [f"{number:064x}" for number in range(1, 5)]
IDS = [f"{number:064x}" for number in range(100, 112)]
WORDS = ["a", "", "x" * 100, "é"]
KINDS = [0, 1, 5, 1_059, 10_002, 30_000]
PLACES = [f"{kind}:{key}:{d}" for kind, d in ((10_002, ""), (30_000, "a"), (30_000, "")) for key in KEYS[:2]]


def event_of(chance: random.Random) -> Event:
    """An unsigned event over so few values that histories collide and filters meet them."""
    kind = chance.choice(KINDS)
    tags: list[list[str]] = []
    for _ in range(chance.randrange(4)):
        letter = chance.choice("epatd")
        tags.append([letter, chance.choice({"e": IDS, "p": KEYS, "a": PLACES}.get(letter, WORDS))])
    if kind == 1_059 and chance.random() < 0.5:
        tags.append(["vt", "0123abcd"])
    when = NOW - chance.randrange(6)
    return Event(chance.choice(IDS), chance.choice(KEYS), when, kind, tags, "", "0" * 128)


def filter_of(chance: random.Random) -> Filter:
    """A filter over the same values, with empty lists and limits."""
    made: dict[str, Any] = {}
    for name, among in (("ids", IDS), ("authors", KEYS), ("kinds", KINDS)):
        if chance.random() < 0.3:
            made[name] = chance.sample(among, chance.randrange(4))
    for name in ("since", "until"):
        if chance.random() < 0.2:
            made[name] = NOW - chance.randrange(6)
    for letter, among in (("e", IDS), ("p", KEYS), ("a", PLACES), ("t", WORDS), ("d", WORDS)):
        if chance.random() < 0.2:
            made[f"#{letter}"] = chance.sample(among, chance.randrange(4))
    if chance.random() < 0.3:
        made["limit"] = chance.randrange(4)
    return parse_filter(made)


def put_on(connection: Connection, event: Event) -> bool:
    """Whether the office stored it as new."""
    post = posted(event)
    post.deletion = read_deletion(event)
    return len(commit_on(connection, [post], NOW).stored) == 1


def fetch_on(connection: Connection, wanted: Filter, private: bool, keys: set[str]) -> list[str]:
    query = Query([Watch(wanted)], private, keys, MAX_LIMIT, step=3)
    found: list[str] = []
    while not query.finished:
        found += read_step(connection, query, NOW)
    return found


def count_on(connection: Connection, filters: list[Filter], private: bool, keys: set[str]) -> int:
    watches = [Watch(msgspec.structs.replace(wanted, limit=None)) for wanted in filters]
    query = Query(watches, private, keys, MAX_LIMIT, whole=False, step=3)
    found = 0
    while not query.finished:
        found += len(next_rows(connection, query, NOW))
    return found


def vanish_on(connection: Connection, pubkey: bytes, until: int) -> None:
    begin_on(connection, pubkey, until)
    after, done = None, False
    while not done:
        _, after, done = step_on(connection, pubkey, until, after)
    end_on(connection, pubkey, until, True)


def compare_on(connection: Connection, seed: int, events: int, filters: int) -> None:
    """One history, every step of it and what it leaves; then filters, one alone and three together."""
    chance, shelf = random.Random(seed), Shelf()
    for _ in range(events):
        if chance.random() < 0.01:
            pubkey, until = chance.choice(KEYS), NOW - chance.randrange(6)
            vanish_on(connection, bytes.fromhex(pubkey), until)
            shelf.vanish(pubkey, until)
        event = event_of(chance)
        if event.id in shelf.events and shelf.events[event.id] != event:
            continue
        assert put_on(connection, event) == shelf.put(event), event
    for _ in range(filters):
        wanted = filter_of(chance)
        private, keys = chance.random() < 0.4, frozenset(chance.sample(KEYS, chance.randrange(2)))
        expected = [event_json(event).decode() for event in shelf.find(wanted, private=private, keys=keys)]
        assert fetch_on(connection, wanted, private, set(keys)) == expected, wanted
        several = [wanted, filter_of(chance), filter_of(chance)]
        for each in ([wanted], several):
            assert count_on(connection, each, private, set(keys)) == shelf.count(*each, private=private, keys=keys), (
                each
            )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_every_history(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = sqlite_engine(f"sqlite:///{folder}/oracle.sqlite")
        with engine.begin() as connection:
            mint.create_all(connection)
            office.create_all(connection)
            connection.execute(insert(feed_head).values(id=1, last=0))
            compare_on(connection, seed, 60, 25)
        engine.dispose()


@pytest_asyncio.fixture
async def database(address: str, tmp_path: Path) -> AsyncIterator[Database]:
    url = database_url(address, tmp_path)
    await upgrade(url)
    opened = open_database(url, tmp_path)
    yield opened
    await opened.close()


@pytest.mark.parametrize("seed", [1])
async def test_a_history_on_each_database(database: Database, seed: int) -> None:
    await database.write(compare_on, seed, 150, 100)
