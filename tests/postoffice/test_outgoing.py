"""What waits for readers is bounded over all connections: the slowest go first, and nobody else."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennypost.protocol.event import Event
from pennypost_postoffice import outgoing
from pennypost_postoffice.outgoing import Outgoing, weight
from tests.postoffice.house import Author, House
from tests.postoffice.test_connection import Socket, _until
from tests.support.relay import plain


class Slow:
    """A reader for whom `waiting` bytes wait since `since`."""

    def __init__(self, name: str, waiting: int, since: float, everyone: Outgoing) -> None:
        self.name, self.waiting, self.since = name, waiting, since
        self._everyone = everyone
        self.is_cut_off = False
        everyone.size += waiting

    def cut_off(self) -> None:
        self._everyone.size -= self.waiting
        self.waiting = 0
        self.is_cut_off = True


@pytest.mark.parametrize(
    ("most", "gone"), [(1_200, ""), (1_099, "d"), (1_000, "d"), (600, "dc"), (400, "dcb"), (50, "dcba")]
)
def test_the_slowest_go_first(monkeypatch: pytest.MonkeyPatch, most: int, gone: str) -> None:
    """Who let most bytes wait longest, and no more of them than a quarter of the bound needs."""
    monkeypatch.setattr(outgoing, "monotonic", lambda: 100.0)
    readers: list[Slow] = []
    everyone = Outgoing(lambda: readers, most)
    rows = (("a", 100, 99.0), ("b", 300, 99.0), ("nothing", 0, 0.0), ("c", 200, 90.0), ("d", 500, 95.0))
    readers += [Slow(*row, everyone) for row in rows]
    if everyone.size > most:
        everyone.relieve()
    assert {reader.name for reader in readers if reader.is_cut_off} == set(gone)
    assert everyone.size <= most


@given(st.text())
def test_a_text_weighs_what_it_takes_at_most(text: str) -> None:
    assert sys.getsizeof(text) - 100 <= weight(text) <= 4 * len(text.encode())


async def _listening(house: House, count: int) -> list[Socket]:
    sockets = [Socket(house) for _ in range(count)]
    for socket in sockets:
        await socket.next()
        socket.send("REQ", "x", {"kinds": [1]})
        assert await socket.next() == ["EOSE", "x"]
    return sockets


async def _publish(house: House, count: int, size: int) -> list[Event]:
    events = [Author().sign(1, content="x" * size) for _ in range(count)]
    async with house.relay() as relay:
        await house.pay(relay, events)
    return events


async def test_readers_that_never_read(sqlite_house: House) -> None:
    """Each below his own bound: all of them together have another. Who reads hears everything."""
    house, everyone = sqlite_house, sqlite_house.office.outgoing
    most = everyone.most = 1_000_000
    quick = (await _listening(house, 1))[0]
    slow = await _listening(house, 20)
    for socket in slow:
        socket.reading.clear()
    seen: list[int] = []
    relieve = everyone.relieve

    def watched() -> None:
        seen.append(everyone.size)
        relieve()
        assert everyone.size <= 0.75 * most

    everyone.relieve = watched  # type: ignore[method-assign]
    events = await _publish(house, 40, 10_000)
    for event in events:
        assert await quick.next() == ["EVENT", "x", plain(event)]
    # 20 readers leave 8 MB between them
    assert seen and max(seen) < most + 20_000
    closed = [socket for socket in slow if socket.task.done()]
    assert 10 <= len(closed) <= 20 and not quick.task.done()
    registry = house.service.metrics.registry
    assert registry.get_sample_value("pennypost_office_slow_readers_total") == len(closed)
    waiting = sum(connection.waiting for connection in house.office._connections)
    assert registry.get_sample_value("pennypost_office_outgoing_bytes") == everyone.size == waiting <= most
    # those who begin to read in time have missed nothing
    for socket in slow:
        socket.reading.set()
    for socket in [each for each in slow if each not in closed]:
        assert [(await socket.next())[2] for _ in events] == [plain(event) for event in events]
        await socket.leave()
    await quick.leave()
    assert everyone.size == 0


async def test_while_much_waits_stored_events_wait_for_their_reader(sqlite_house: House) -> None:
    """Nobody who asks for much is cut off for it: he is sent what he has taken."""
    house, everyone = sqlite_house, sqlite_house.office.outgoing
    events = await _publish(house, 30, 100_000)
    everyone.most = 64 * 1024 * 1024
    everyone.size += everyone.most // 2 + 1
    socket = Socket(house)
    await socket.next()
    (connection,) = house.office._connections
    socket.reading.clear()
    socket.send("REQ", "x", {"kinds": [1]})
    await _until(lambda: connection.waiting > 0)
    asked = connection.waiting
    await asyncio.sleep(0.1)
    # a step of 1 MiB and the event that ends it, and not OUTGOING // 4
    assert connection.waiting == asked < 1_400_000
    socket.reading.set()
    frames = [await socket.next() for _ in range(31)]
    assert {json.dumps(frame[2]) for frame in frames[:30]} == {json.dumps(plain(event)) for event in events}
    await socket.leave()
    everyone.size -= everyone.most // 2 + 1
    assert everyone.size == 0


async def test_the_bound_is_reloaded(sqlite_house: House) -> None:
    house, limits = sqlite_house, {"max_outgoing": 123 * 1024 * 1024}
    house.service.load = lambda: house.settings.model_copy(update=limits)
    house.service.reload()
    assert house.office.outgoing.most == 123 * 1024 * 1024
