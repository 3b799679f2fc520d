"""What waits for readers is bounded over all connections: the slowest go first, and nobody else."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from socket import SO_RCVBUF, SOL_SOCKET
from socket import socket as End
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennypost.protocol.event import Event
from pennypost_mint.runtime.limits import WRITE
from pennypost_postoffice import outgoing
from pennypost_postoffice.outgoing import Outgoing, weight
from tests.postoffice.house import Author, House, wrap
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
    # a copy: CPython keeps the UTF-8 of a text that C code asked for beside it
    copy = "".join([*text])
    assert sys.getsizeof(copy) - 100 <= weight(text) <= 4 * len(text.encode())


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


# --- over HTTP


async def _narrow(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose system takes next to nothing for it."""
    end = End()
    end.setsockopt(SOL_SOCKET, SO_RCVBUF, 4_096)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=end, limit=1)


async def test_answers_that_nobody_reads(sqlite_house: House) -> None:
    """Pages of large letters on many connections that never read: those that wait longest are given up, who reads has
    all of it."""
    house, everyone = sqlite_house, sqlite_house.office.outgoing
    letters = [wrap(content="x" * 100_000) for _ in range(60)]
    async with house.relay() as relay:
        await house.pay(relay, letters)
    everyone.most = 20_000_000
    registry = house.service.metrics.registry
    sockets = []
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        whole = (await http.get("/v1/pages/0")).content
        assert len(whole) > 6_000_000 and everyone.size == 0
        for _ in range(6):
            reader, writer = await _narrow(house.settings.port)
            writer.write(b"GET /v1/pages/0 HTTP/1.1\r\nHost: x\r\n\r\n")
            sockets.append((reader, writer))
            await _until(lambda: bool(everyone._answers))
            assert everyone.size <= everyone.most
        await _until(lambda: (registry.get_sample_value("pennypost_office_slow_readers_total") or 0) >= 2)
        assert everyone.size == sum(answer.waiting for answer in everyone._answers) <= everyone.most
        assert (await http.get("/v1/pages/0")).content == whole
    for _, writer in sockets:
        writer.transport.abort()
    await _until(lambda: not everyone._answers)
    assert everyone.size == 0


@pytest.mark.parametrize("size", [0, 1, WRITE, WRITE + 1, 3 * WRITE, 3 * WRITE + 5])
async def test_an_answer_is_sent_whole(size: int) -> None:
    everyone = Outgoing(list, 10**9)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    answer = everyone.answering(send)
    body = random.randbytes(size)
    await answer({"type": "http.response.start", "status": 200, "headers": []})
    await answer({"type": "http.response.body", "body": body})
    assert b"".join(message["body"] for message in sent[1:]) == body
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert max(len(message["body"]) for message in sent[1:]) <= WRITE and everyone.size == 0


async def test_who_is_stopped_for_another_reason_is() -> None:
    """A server that ends cancels its requests: that is no slow reader."""
    everyone = Outgoing(list, 10**9)
    stuck = asyncio.Event()

    async def send(_message: dict[str, Any]) -> None:
        stuck.set()
        await asyncio.Event().wait()

    answer = asyncio.ensure_future(everyone.answering(send)({"type": "http.response.body", "body": bytes(3 * WRITE)}))
    await stuck.wait()
    assert everyone.size == 3 * WRITE
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert everyone.size == 0


async def test_an_answer_that_is_given_up_before_it_is_sent() -> None:
    """Nothing of it goes out, nothing is raised, and its task goes on."""
    given_up: list[None] = []
    everyone = Outgoing(list, 2 * WRITE, lambda: given_up.append(None))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    answer = everyone.answering(send)
    await answer({"type": "http.response.body", "body": bytes(3 * WRITE)})
    await answer({"type": "http.response.body", "body": b"more"})
    await asyncio.sleep(0)
    assert (sent, len(given_up), everyone.size) == ([], 1, 0)
