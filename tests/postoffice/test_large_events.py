"""Many large events at once: a reader who takes them gets them all, one who takes nothing is cut off at a bound.

With the limits as they are in production: 70 events of 125 KB are more than OUTGOING.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from pennypost.protocol.event import Event, event_json
from pennypost.protocol.filter import parse_filter
from pennypost.protocol.hold import hold_tag
from pennypost_mint.runtime.limits import OUTGOING, OUTGOING_MOST, STEP_BYTES
from pennypost_postoffice import connection as connections
from pennypost_postoffice import queries
from pennypost_postoffice.live import Watch
from pennypost_postoffice.store import PLAIN, Query, first_step, read_step
from tests.postoffice.house import Author, House, wrap
from tests.postoffice.test_connection import Socket
from tests.support.relay import Relay, plain

MANY, SIZE = 70, 125_000
assert MANY * SIZE > OUTGOING

VICTIM = "ab" * 32


def letters(*more: list[str]) -> list[Event]:
    """Wraps to the victim that are together more than may wait for a reader."""
    marks = [["p", VICTIM], ["vt", "00112233"], *more]
    return [Author().sign(1059, *marks, content="x" * SIZE, expires_in=3_600) for _ in range(MANY)]


async def store(house: House, events: list[Event]) -> None:
    async with house.relay() as relay:
        await house.pay(relay, events)


async def heard(relay: Relay, count: int) -> set[str]:
    """Ids of the next so many events of the subscription `x`."""
    found: set[str] = set()
    while len(found) < count:
        frame = await asyncio.wait_for(relay.frames.get(), 60)
        if frame[0] == "EVENT":
            assert frame[1] == "x" and frame[2]["id"] not in found
            found.add(frame[2]["id"])
    return found


async def listen(relay: Relay) -> None:
    await relay.send(["REQ", "x", {"#p": [VICTIM]}])
    while (await asyncio.wait_for(relay.frames.get(), 60))[0] != "EOSE":
        pass


def assert_nobody_was_slow(house: House) -> None:
    assert b"pennypost_office_slow_readers_total 0.0" in house.office.metrics.text()


async def test_stored_events(sqlite_house: House) -> None:
    events = letters()
    await store(sqlite_house, events)
    async with sqlite_house.relay() as reader:
        found = await reader.fetch({"#p": [VICTIM]})
    assert sorted(event["id"] for event in found) == sorted(event.id for event in events)
    assert_nobody_was_slow(sqlite_house)


async def test_events_that_came_while_stored_ones_were_sent(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, gate = sqlite_house, asyncio.Event()
    read_short = house.office.database.read_short

    async def gated(*args: Any) -> Any:
        await gate.wait()
        return await read_short(*args)

    monkeypatch.setattr(house.office.database, "read_short", gated)
    events = letters()
    async with house.relay() as reader:
        await reader.send(["REQ", "x", {"#p": [VICTIM]}])
        async with asyncio.timeout(20):
            while not house.office.live.listens:
                await asyncio.sleep(0.005)
        for event in events:
            house.office.live.publish(event, event_json(event))
        gate.set()
        assert await heard(reader, MANY) == {event.id for event in events}
    assert_nobody_was_slow(house)


async def test_a_commit(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house, gate = sqlite_house, asyncio.Event()
    events, write = letters(), house.office.database.write

    async def gated(*args: Any) -> Any:
        await gate.wait()
        return await write(*args)

    async with house.relay() as reader, house.relay() as sender:
        await listen(reader)
        monkeypatch.setattr(house.office.database, "write", gated)
        first = asyncio.create_task(sender.post(wrap(), house.purse.token()))
        answers = [asyncio.create_task(sender.post(event, house.purse.token())) for event in events]
        async with asyncio.timeout(60):
            while len(house.office.in_flight) < MANY + 1:
                await asyncio.sleep(0.005)
        gate.set()
        assert all(answer.accepted for answer in await asyncio.gather(first, *answers))
        assert await heard(reader, MANY) == {event.id for event in events}
    assert_nobody_was_slow(house)


async def test_a_release(sqlite_house: House) -> None:
    house, x, identifier = sqlite_house, secrets.token_bytes(32), secrets.token_bytes(32)
    hold = hold_tag(sha256(x).digest(), identifier)
    events = letters(["hold", hold.hex()])
    await store(house, events)
    async with house.relay() as reader, house.relay() as payer:
        await listen(reader)
        assert (await payer.release(hold, x, identifier)).accepted
        assert await heard(reader, MANY) == {event.id for event in events}
    assert_nobody_was_slow(house)


@pytest.mark.parametrize(("size", "seconds"), [(OUTGOING + 1, 0.05), (OUTGOING_MOST + 1, 600.0)])
async def test_who_never_reads_is_cut_off(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch, size: int, seconds: float
) -> None:
    """After OUTGOING_SECONDS above OUTGOING, and above OUTGOING_MOST at once."""
    house = sqlite_house
    monkeypatch.setattr(connections, "OUTGOING_SECONDS", seconds)
    socket = Socket(house)
    await socket.next()
    (connection,) = house.office._connections
    socket.reading.clear()
    for _ in range(size // 100_000 + 2):
        connection.send('"' + "x" * 100_000 + '"')
    await asyncio.wait_for(socket.task, 10)
    assert b"pennypost_office_slow_readers_total 1.0" in house.office.metrics.text()


async def test_who_takes_it_in_time_stays(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = sqlite_house
    monkeypatch.setattr(connections, "OUTGOING_SECONDS", 600.0)
    socket = Socket(house)
    await socket.next()
    (connection,) = house.office._connections
    for _ in range(2):
        connection.send('"' + "x" * (OUTGOING // 2) + '"')
    assert connection._behind is not None
    for _ in range(2):
        await socket.next()
    assert connection._behind is None
    await socket.leave()
    assert_nobody_was_slow(house)


async def test_a_step_ends_by_bytes(house: House) -> None:
    """On both databases; nothing twice, nothing missed, and little is read a second time."""
    events = [Author().sign(1, ["t", "x"], content="x" * size) for size in [SIZE] * 20 + [10] * 30]
    async with house.relay() as relay:
        await house.pay(relay, events)
    query = Query([Watch(parse_filter({"#t": ["x"]}))], False, set(), 5_000)
    found: list[str] = []
    steps = 0
    while not query.finished:
        step = await house.office.database.read(read_step, query, int(time.time()))
        assert sum(map(len, step)) < STEP_BYTES + 2 * SIZE
        found += step
        steps += 1
    assert sorted(found) == sorted(event_json(event).decode() for event in events)
    assert steps < 12


@pytest.mark.parametrize(("size", "where"), [(100, "read"), (PLAIN, "thread")])
async def test_large_events_are_not_read_on_the_event_loop(sqlite_house: House, size: int, where: str) -> None:
    """SQLite counts no step for the pages on which a long value goes on."""
    event = Author().sign(1, content="x" * size)
    await store(sqlite_house, [event])
    new = partial(Query, [Watch(parse_filter({"ids": [event.id]}))], False, set(), 10)
    threads: list[bool] = []

    def step(*args: Any) -> Any:
        here = asyncio._get_running_loop() is not None
        threads.append(here)
        return first_step(*args)

    database: Any = sqlite_house.office.database
    database._glance._not_before = 0.0
    _, found = await database.read_short(step, new, int(time.time()))
    assert found == [event_json(event).decode()]
    assert threads == ([True] if where == "read" else [True, False])


async def test_large_and_small_events_stay_in_their_order(sqlite_house: House) -> None:
    """A connection's answers come in the order of its REQs, whichever of them a thread reads."""
    events = [Author().sign(1, content="x" * (2 * PLAIN if number % 2 else 10)) for number in range(20)]
    await store(sqlite_house, events)
    async with sqlite_house.relay() as relay:
        for number, event in enumerate(events):
            await relay.send(["REQ", str(number), {"ids": [event.id]}])
        frames = []
        while len(frames) < 2 * len(events):
            frame = await asyncio.wait_for(relay.frames.get(), 20)
            if frame[0] != "AUTH":
                frames.append((frame[0], frame[1], frame[2]["id"] if frame[0] == "EVENT" else ""))
    told = [[("EVENT", str(number), event.id), ("EOSE", str(number), "")] for number, event in enumerate(events)]
    assert frames == [frame for pair in told for frame in pair]


async def test_a_large_event_keeps_nobody_else_waiting(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread reads one, small ones are read for others; the larger one comes all the same."""
    small, large = Author().sign(1), Author().sign(1, content="x" * 2 * PLAIN)
    await store(sqlite_house, [small, large])
    database: Any = sqlite_house.office.database
    go, began, read = asyncio.Event(), asyncio.Event(), database.read

    async def slow(work: Any, *arguments: Any) -> Any:
        # not the office's own reads, which come when they like: one of them would say too early that it began
        if work is first_step:
            began.set()
            await go.wait()
        return await read(work, *arguments)

    async with sqlite_house.relay() as patient, sqlite_house.relay() as other:
        monkeypatch.setattr(database, "read", slow)
        waiting = asyncio.create_task(patient.fetch({"ids": [large.id]}))
        await asyncio.wait_for(began.wait(), 20)
        for _ in range(20):
            database._glance._not_before = 0.0
            assert await asyncio.wait_for(other.fetch({"ids": [small.id]}), 20) == [plain(small)]
        assert not waiting.done()
        go.set()
        assert await asyncio.wait_for(waiting, 20) == [plain(large)]


async def test_bytes_are_charged(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a connection's share of CPU, as over HTTP."""
    house = sqlite_house
    event = Author().sign(1, content="x" * SIZE)
    await store(house, [event])
    socket = Socket(house)
    await socket.next()
    (connection,) = [each for each in house.office._connections if each.source is not None][-1:]
    socket.send("REQ", "x", {"ids": [event.id]})
    assert (await socket.next())[2]["id"] == event.id
    assert await socket.next() == ["EOSE", "x"]
    assert connection._spent >= queries.COST_KIB * SIZE / 1024
    await socket.leave()
