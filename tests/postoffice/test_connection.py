"""Bounds of one connection: what it may have under way, what waits for it, what it may cost; nothing is dropped."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_postoffice import connection as connections
from pennypost_postoffice import office as offices
from pennypost_postoffice.connection import Connection
from tests.postoffice.house import Author, House, wrap
from tests.support.relay import plain


class Socket:
    """The client's end of an ASGI WebSocket, without a network."""

    def __init__(self, house: House, address: str = "") -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.got: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.taken = 0
        self.closed: int | None = None
        self.sent.put_nowait({"type": "websocket.connect"})
        headers = [(b"host", house.url.split("//")[1].encode())]
        scope = {"type": "websocket", "path": "/", "headers": headers, "client": (address, 1)}
        self.task = asyncio.create_task(house.office.websocket(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        message = await self.sent.get()
        self.taken += 1
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        if message["type"] == "websocket.send":
            self.got.put_nowait(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed = message["code"]

    def send(self, *frame: Any) -> None:
        self.sent.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def next(self) -> list[Any]:
        return await asyncio.wait_for(self.got.get(), 60)

    async def leave(self) -> None:
        self.sent.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(self.task, 60)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_challenge_comes_first(sqlite_house: House) -> None:
    socket = Socket(sqlite_house)
    name, challenge = await socket.next()
    assert name == "AUTH" and len(challenge) == 32
    await socket.leave()


async def test_a_reader_that_never_reads_is_cut_off(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """OUTGOING bytes wait for it, more for a while; its subscriptions are gone, others hear everything."""
    house = sqlite_house
    monkeypatch.setattr("pennypost_postoffice.connection.OUTGOING", 20_000)
    monkeypatch.setattr("pennypost_postoffice.connection.OUTGOING_SECONDS", 0.05)
    slow, quick = Socket(house), Socket(house)
    for socket in (slow, quick):
        await socket.next()
        socket.send("REQ", "x", {"kinds": [1]})
        assert await socket.next() == ["EOSE", "x"]
    slow.reading.clear()
    events = [Author().sign(1, content="x" * 1_000) for _ in range(30)]
    async with house.relay() as relay:
        await house.pay(relay, events)
    for event in events:
        assert await quick.next() == ["EVENT", "x", plain(event)]
    await asyncio.wait_for(slow.task, 60)
    assert len(house.office.live._index) == 1
    assert b"pennypost_office_slow_readers_total 1.0" in house.office.metrics.text()
    await quick.leave()


async def test_stored_events_wait_for_a_slow_reader(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A REQ for more than OUTGOING bytes does not cut off who reads slowly: the database waits for him."""
    house = sqlite_house
    monkeypatch.setattr("pennypost_postoffice.connection.OUTGOING", 300_000)
    monkeypatch.setattr("pennypost_postoffice.store.QUERY_ROWS", 10)
    events = [Author().sign(1, content="x" * 10_000) for _ in range(60)]
    async with house.relay() as relay:
        await house.pay(relay, events)
    socket = Socket(house)
    await socket.next()
    socket.reading.clear()
    socket.send("REQ", "x", {"kinds": [1]})
    await asyncio.sleep(0.2)
    assert not socket.task.done()
    socket.reading.set()
    frames = [await socket.next() for _ in range(61)]
    assert {frame[2]["id"] for frame in frames[:60]} == {event.id for event in events}
    assert frames[60] == ["EOSE", "x"]
    await socket.leave()


async def test_reading_stops_while_too_much_is_under_way(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """At IN_FLIGHT events without an answer the socket is left alone; all are answered in the end."""
    house = sqlite_house
    monkeypatch.setattr("pennypost_postoffice.connection.IN_FLIGHT", 8)
    gate = asyncio.Event()
    write = house.office.database.write

    async def held(*args: Any) -> Any:
        await gate.wait()
        return await write(*args)

    monkeypatch.setattr(house.office.database, "write", held)
    socket = Socket(house)
    await socket.next()
    events = [wrap() for _ in range(30)]
    for event in events:
        socket.send("EVENT", plain(event), house.purse.token())
    await _until(lambda: len(house.office.in_flight) == 8)
    await asyncio.sleep(0.05)
    assert socket.taken == 1 + 8
    gate.set()
    answers = [await socket.next() for _ in range(30)]
    assert sorted(answer[1] for answer in answers) == sorted(event.id for event in events)
    assert all(answer[2] is True for answer in answers)
    await socket.leave()


@pytest.mark.parametrize(("bound", "most"), [("VERIFY_QUEUE", 2), ("IN_FLIGHT_BYTES", 700)])
async def test_a_full_office_reads_nobody(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """The bounds of the whole office, events and their bytes: sockets wait, then go on."""
    house = sqlite_house
    monkeypatch.setattr(offices, bound, most)
    gate = asyncio.Event()
    write = house.office.database.write

    async def held(*args: Any) -> Any:
        await gate.wait()
        return await write(*args)

    monkeypatch.setattr(house.office.database, "write", held)
    one, two = Socket(house), Socket(house)
    for socket in (one, two):
        await socket.next()
        for _ in range(3):
            socket.send("EVENT", plain(wrap()), house.purse.token())
    await _until(lambda: house.office.is_full)
    await asyncio.sleep(0.05)
    assert len(house.office.in_flight) <= 3
    gate.set()
    for socket in (one, two):
        assert [(await socket.next())[2] for _ in range(3)] == [True] * 3
        await socket.leave()
    assert house.office._in_flight_bytes == 0


async def test_work_that_nobody_paid_for_is_slowed_down(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of forged stamps uses up its connection's share of CPU; it is answered, later. Others are not slowed."""
    house = sqlite_house
    now, step = [monotonic()], [0.0]

    def clock() -> float:
        now[0] += step[0]
        return now[0]

    monkeypatch.setattr("pennypost_postoffice.connection.monotonic", clock)
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_BURST", 1_000)
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_RATE", 2_500)
    monkeypatch.setattr("pennypost_postoffice.connection.IN_FLIGHT", 4)
    flood = Socket(house)
    await flood.next()
    forged = house.purse.token(house.purse.proof(2, key_of=1))
    for _ in range(40):
        flood.send("EVENT", plain(wrap()), forged)
    async with house.relay() as relay:
        await house.pay(relay, [wrap() for _ in range(20)])
    await _until(lambda: house.office.metrics.office_slowed._value.get() > 0)
    assert flood.taken < 40
    step[0] = 1.0
    answers = [await flood.next() for _ in range(40)]
    assert all(answer[2] is False and answer[3].endswith("[stamp-forged]") for answer in answers)
    await flood.leave()


async def test_paid_work_is_not_slowed_down(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = sqlite_house
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_BURST", 100)
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_RATE", 1)
    socket = Socket(house)
    await socket.next()
    for _ in range(20):
        socket.send("EVENT", plain(wrap()), house.purse.token())
    assert [(await socket.next())[2] for _ in range(20)] == [True] * 20
    await socket.leave()


async def test_a_database_that_is_away_for_a_while(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our fault is held back while it passes: one OK, true, and nothing before it."""
    house = sqlite_house
    write, read = house.office.database.write, house.office.database.read
    away = [6]

    async def failing(genuine: Any, *args: Any) -> Any:
        if away[0]:
            away[0] -= 1
            raise DatabaseUnavailable
        return await genuine(*args)

    monkeypatch.setattr(house.office.database, "write", lambda *args: failing(write, *args))
    monkeypatch.setattr(house.office.database, "read", lambda *args: failing(read, *args))
    async with house.relay() as relay:
        stored, refused = await asyncio.gather(relay.post(wrap(), house.purse.token()), relay.post(wrap()))
    assert stored.accepted and refused.code == "stamp-required" and away == [0]


async def test_a_database_that_stays_away(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After HELD_BACK seconds: false, `error:`, and the same stamp is good afterwards."""
    house = sqlite_house
    monkeypatch.setattr(offices, "HELD_BACK", 0.2)
    monkeypatch.setattr(offices, "OVERDUE_EVERY", 0.05)
    overdue = asyncio.create_task(house.office._overdue())
    write = house.office.database.write

    async def away(*_args: Any) -> Any:
        raise DatabaseUnavailable

    monkeypatch.setattr(house.office.database, "write", away)
    event, proof = wrap(), house.purse.proof()
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, "overloaded") and answer.message.startswith("error:")
        assert "same stamp" in answer.message
        monkeypatch.setattr(house.office.database, "write", write)
        monkeypatch.setattr(offices, "HELD_BACK", 60.0)
        assert (await relay.post(event, house.purse.token(proof))).accepted
    overdue.cancel()


async def test_one_event_that_breaks_the_database(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone is answered with an error; the rest of its batch is stored."""
    house = sqlite_house
    write = house.office.database.write
    events = [wrap() for _ in range(9)]

    async def breaking(work: Any, *args: Any) -> Any:
        if args and isinstance(args[0], list) and any(post.event.id == events[4].id for post in args[0]):
            raise OperationalError("INSERT", None, Exception("secret"))
        return await write(work, *args)

    monkeypatch.setattr(house.office.database, "write", breaking)
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event, house.purse.token()) for event in events))
    assert [answer.accepted for answer in answers] == [number != 4 for number in range(9)]
    assert answers[4].code == "server" and "secret" not in answers[4].message


async def test_leaving_while_events_are_under_way(sqlite_house: House) -> None:
    """Who goes before the answer finds his letter stored, his stamp spent, when he comes back."""
    house = sqlite_house
    socket = Socket(house)
    await socket.next()
    event, proof = wrap(), house.purse.proof()
    socket.send("EVENT", plain(event), house.purse.token(proof))
    await socket.leave()
    await _until(lambda: not house.office.in_flight)
    async with house.relay() as relay:
        assert (await relay.post(event, house.purse.token(proof))).duplicate
    assert await house.spent(proof) == [True]


async def test_stopping_answers_what_is_under_way(sqlite_house: House) -> None:
    house = sqlite_house
    socket = Socket(house)
    await socket.next()
    events = [wrap() for _ in range(5)]
    for event in events:
        socket.send("EVENT", plain(event), house.purse.token())
    await _until(lambda: socket.taken == 6)
    await house.office.drain()
    assert [(await socket.next())[2] for _ in events] == [True] * 5
    await socket.leave()


async def test_too_many_connections(sqlite_house: House) -> None:
    """Of the address that has most the one goes that was idle longest (1013); who has few is never kept out."""
    house = sqlite_house
    house.office.settings = house.settings.model_copy(update={"max_connections": 3})
    sockets = [Socket(house, address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
    for socket in sockets:
        assert (await socket.next())[0] == "AUTH"
    first, second, other = sockets
    first.send("REQ", "x", {"kinds": [1]})
    assert await first.next() == ["EOSE", "x"]
    newcomer = Socket(house, "192.0.2.3")
    assert (await newcomer.next())[0] == "AUTH"
    await asyncio.wait_for(second.task, 60)
    assert second.closed == 1013 and len(house.office._connections) == 3
    again = Socket(house, "192.0.2.1")
    assert (await again.next())[0] == "AUTH"
    await asyncio.wait_for(first.task, 60)
    assert first.closed == 1013 and not house.office.live._index
    for socket in (other, newcomer, again):
        assert not socket.task.done()
        await socket.leave()
        assert socket.closed is None
    assert not house.office._connections


async def test_a_place_is_given_up_over_a_socket(sqlite_house: House) -> None:
    """All from one address, as behind an onion service: the client that gives way is told to come later."""
    house = sqlite_house
    house.office.settings = house.settings.model_copy(update={"max_connections": 1})
    async with house.relay() as first:
        assert (await first.frames.get())[0] == "AUTH"
        async with house.relay() as second:
            assert (await second.frames.get())[0] == "AUTH"
            await house.pay(second, [wrap()])
            assert first._reader is not None and first._socket is not None
            await asyncio.wait_for(first._reader, 60)
            assert first._socket.close_code == 1013
            assert len(house.office._connections) == 1


async def test_many_idle_connections_cost_little(sqlite_house: House) -> None:
    """A thousand that do nothing: the next one is served as if alone."""
    house = sqlite_house
    idle = [Socket(house) for _ in range(1_000)]
    for socket in idle:
        await socket.next()
    async with house.relay() as relay:
        await house.pay(relay, [wrap()])
    for socket in idle:
        await socket.leave()
    assert not house.office._connections


def test_the_share_of_cpu_refills(sqlite_house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pennypost_postoffice.connection.monotonic", lambda: now[0])
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_BURST", 100)
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_RATE", 10)
    connection = Connection(sqlite_house.office, "", b"", frozenset())
    connection.charge(150)
    assert connection._overdrawn() == 5.0
    now[0] = 3.0
    assert connection._overdrawn() == 2.0
    now[0] = 5.0
    assert connection._overdrawn() == 0.0


async def test_queries_that_never_wait_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A REQ for few letters is read without leaving the event loop; one connection may have 64 of them."""
    # passed also where the clock shows the same twice
    monkeypatch.setattr(connections, "TURN", -1.0)
    office: Any = SimpleNamespace()
    asker = Connection(office, "http://office.example", b"", frozenset())
    order: list[str] = []
    done = asyncio.Event()

    async def query() -> None:
        order.append("query")
        if order.count("query") == 5:
            done.set()

    async def somebody() -> None:
        while not done.is_set():
            order.append("somebody")
            await asyncio.sleep(0)

    for _ in range(5):
        asker.ask(query, lambda _error: None)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(somebody())
        group.create_task(done.wait())
    assert [name for name, following in pairwise(order) if name == following == "query"] == []
