"""Stored events: SQL against the slow obvious filter, in NIP-01's order, in steps; concealed and expired ones."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pennypost.protocol.event import KIND_GIFT_WRAP, Event, event_json
from pennypost.protocol.filter import Filter, matches, parse_filter
from pennypost.protocol.price import Postage
from pennypost_migrations import upgrade
from pennypost_mint.runtime import glance
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.limits import MAX_LIMIT, QUERY_ROWS
from pennypost_postoffice import store
from pennypost_postoffice.commit import commit_on
from pennypost_postoffice.live import Watch
from pennypost_postoffice.post import Post
from pennypost_postoffice.rows import address_of, feed_record, is_concealed, tag_keys
from pennypost_postoffice.store import NAMED, Query, first_step, names_few, read_step
from tests.postoffice.house import Author, wrap

KEYS = [f"{number:064x}" for number in range(1, 6)]
WORDS = ["a", "b", "", "x" * 100, "é"]
NOW = int(time.time())


@pytest_asyncio.fixture
async def database(address: str, tmp_path: Path) -> AsyncIterator[Database]:
    url = database_url(address, tmp_path)
    await upgrade(url)
    opened = open_database(url, tmp_path)
    yield opened
    await opened.close()


def posted(event: Event, keep: int = 1_000) -> Post:
    """A verified event that needs no stamp."""
    post = Post(None, 0.0)  # type: ignore[arg-type]
    post.event, post.body = event, event_json(event)
    post.id, post.pubkey = bytes.fromhex(event.id), bytes.fromhex(event.pubkey)
    post.postage = Postage(0, NOW + keep, free=True)
    post.address, post.tag_keys, post.record = address_of(event), tag_keys(event), feed_record(event)
    return post


async def read_all(database: Database, filters: list[Filter], *, private: bool = False) -> list[str]:
    """Bodies of a REQ, in the order they are sent."""
    new = partial(Query, [Watch(each) for each in filters], private, set(), MAX_LIMIT)
    query, found = await database.read_short(first_step, new, NOW)
    while not query.finished:
        found += await database.read(read_step, query, NOW)
    return found


def _random_event(chance: random.Random, number: int) -> Event:
    tags = []
    for _ in range(chance.randrange(4)):
        letter = chance.choice("epta")
        tags.append([letter, chance.choice(KEYS if letter in "ep" else WORDS)])
    kind = chance.choice([1, 1, 4, 7, 1_059, 9_000])
    return Event(
        f"{chance.getrandbits(256):064x}", chance.choice(KEYS), NOW - chance.randrange(12), kind, tags, "", "0" * 128
    )


def _random_filter(chance: random.Random) -> Filter:
    made: dict[str, Any] = {}
    if chance.random() < 0.4:
        made["authors"] = chance.sample(KEYS, chance.randrange(4))
    if chance.random() < 0.4:
        made["kinds"] = chance.sample([1, 4, 7, 1_059, 9_000], chance.randrange(4))
    if chance.random() < 0.3:
        made["since"] = NOW - chance.randrange(12)
    if chance.random() < 0.3:
        made["until"] = NOW - chance.randrange(12)
    if chance.random() < 0.5:
        made["limit"] = chance.randrange(30)
    for letter in "epta":
        if chance.random() < 0.25:
            made[f"#{letter}"] = chance.sample(KEYS if letter in "ep" else WORDS, chance.randrange(4))
    return parse_filter(made)


def _expected(events: list[Event], wanted: Filter) -> list[Event]:
    watch = Watch(wanted)
    seen = [
        event
        for event in sorted(events, key=lambda event: (-event.created_at, event.id))
        if matches(wanted, event)
        and (event.kind != KIND_GIFT_WRAP or wanted.ids is not None or wanted.authors is not None or wanted.tags)
        and (watch.names_receiver or not is_concealed(event.kind, event_json(event)))
    ]
    return seen if wanted.limit is None else seen[: wanted.limit]


@pytest.mark.parametrize("few", [store.FEW, 1])
async def test_sql_agrees_with_the_slow_filter(database: Database, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Lists of few values and longer ones go two ways on SQLite."""
    monkeypatch.setattr(store, "FEW", few)
    chance = random.Random(few)
    events = [_random_event(chance, number) for number in range(400)]
    for start in range(0, len(events), 100):
        done = await database.write(commit_on, [posted(event) for event in events[start : start + 100]], NOW)
        assert len(done.stored) == 100
    for _ in range(300):
        wanted = _random_filter(chance)
        found = await read_all(database, [wanted])
        assert found == [event_json(event).decode() for event in _expected(events, wanted)], wanted
    for event in events[:20]:
        named = parse_filter({"ids": [event.id, "0" * 64], "kinds": [event.kind]})
        assert await read_all(database, [named]) == [event_json(event).decode()]


@pytest.mark.parametrize("ticks", [glance.TICKS, 0], ids=["short", "broken off"])
async def test_steps_and_several_filters(database: Database, monkeypatch: pytest.MonkeyPatch, ticks: int) -> None:
    """More than one step, the same second throughout: nothing twice, nothing missed, also across filters.

    A first step that is broken off, as it brings too much for the event loop, begins again in a thread.
    """
    monkeypatch.setattr(glance, "TICKS", ticks)
    author = Author()
    count = 2 * QUERY_ROWS + 50
    events = [author.sign(1, ["t", "x"], ["t", "y"], at=NOW) for _ in range(count)]
    await database.write(commit_on, [posted(event) for event in events], NOW)
    expected = [event_json(event).decode() for event in sorted(events, key=lambda event: event.id)]
    everything = parse_filter({"authors": [author.pubkey]})
    assert await read_all(database, [everything]) == expected
    assert await read_all(database, [parse_filter({"#t": ["x", "y"]})]) == expected
    assert await read_all(database, [parse_filter({"limit": 7}), everything]) == expected
    assert await read_all(database, [parse_filter({"#t": ["x", "y"], "limit": 150})]) == expected[:150]
    assert await read_all(database, [parse_filter({"limit": 0})]) == []


async def test_what_has_expired_is_not_served(database: Database) -> None:
    author = Author()
    kept, gone = author.sign(1), author.sign(1)
    await database.write(commit_on, [posted(kept, 1), posted(gone, 1)], NOW)
    query = Query([Watch(parse_filter({"authors": [author.pubkey]}))], False, set(), MAX_LIMIT)
    assert await database.read(read_step, query, NOW + 1) == []
    assert len(await read_all(database, [parse_filter({"authors": [author.pubkey]})])) == 2


async def test_concealed_wraps(database: Database) -> None:
    """Without a view tag: only for filters with `#p` or `ids`; limits count what is served."""
    stealth = [wrap(KEYS[0]) for _ in range(3)]
    concealed = [wrap(KEYS[0], vt=False) for _ in range(QUERY_ROWS + 20)]
    await database.write(commit_on, [posted(event) for event in stealth + concealed], NOW)
    everyone = [event.pubkey for event in stealth + concealed]
    found = await read_all(database, [parse_filter({"authors": everyone, "limit": 3})])
    assert sorted(found) == sorted(event_json(event).decode() for event in stealth)
    assert await read_all(database, [parse_filter({"kinds": [1_059]}), parse_filter({})]) == []
    named = parse_filter({"#p": [KEYS[0]], "limit": 500})
    assert len(await read_all(database, [named])) == len(stealth) + len(concealed)
    assert len(await read_all(database, [parse_filter({"ids": [concealed[0].id]})])) == 1
    assert len(await read_all(database, [named], private=True)) == len(stealth)
    private = Query([Watch(named)], True, {KEYS[0]}, MAX_LIMIT)
    assert len(await database.read(read_step, private, NOW)) == QUERY_ROWS


# filters of a REQ ─▶ whether it is likely to bring few events
FEW = [
    ("ids", [{"ids": KEYS}], True),
    ("as many authors as may be", [{"authors": [f"{n:064x}" for n in range(NAMED)]}], True),
    ("one more", [{"authors": [f"{n:064x}" for n in range(NAMED + 1)]}], False),
    ("a tag with many, another with few", [{"#t": WORDS, "#p": [f"{n:064x}" for n in range(99)]}], True),
    ("few in each of many", [{"ids": [key]} for key in [f"{n:064x}" for n in range(NAMED)]], True),
    ("many in all", [{"ids": [key]} for key in [f"{n:064x}" for n in range(NAMED + 1)]], False),
    ("kinds alone", [{"kinds": [1]}], False),
    ("everything", [{}], False),
    ("one of two", [{"ids": KEYS}, {"since": 1}], False),
    ("nothing", [{"ids": []}], False),
]


@pytest.mark.parametrize(("filters", "few"), [row[1:] for row in FEW], ids=[row[0] for row in FEW])
def test_what_is_read_at_a_glance(filters: list[dict[str, Any]], few: bool) -> None:
    assert names_few([Watch(parse_filter(each)) for each in filters]) is few
