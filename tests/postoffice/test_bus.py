"""Several processes of one office: every event reaches every subscriber once and in order, with a bus and without."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from pennypost.protocol.event import Event, event_json
from pennypost.protocol.headers import decode_headers
from pennypost_mint.api import Keyring
from pennypost_mint.runtime.database import open_database
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice import follow
from pennypost_postoffice.bus import messages
from pennypost_postoffice.bus.messages import EVENT, Message, Pieces
from pennypost_postoffice.bus.postgres import NAME
from tests.postoffice.house import Author, House, Purse, open_house, wrap
from tests.support.nats import Nats
from tests.support.relay import Relay, plain
from tests.support.server import Server

PUBLIC = "http://office.example"
BUSES = ("postgresql", "nats")


# --- messages


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=400), st.integers(70, 200))
def test_an_event_in_pieces_is_the_same(text: str, most: int) -> None:
    body = ('{"content":"' + text + '"}').encode()
    written = messages.write_event("0" * 16, body, most)
    assert all(len(each.encode()) <= most for each in written)
    pieces, found = Pieces(), []
    for each in written:
        message = messages.read(each)
        assert message is not None and message.kind == EVENT
        found.append(pieces.add(message))
    assert found[-1] == body and found[:-1] == [None] * (len(written) - 1)


@given(st.text(max_size=60))
def test_what_is_none_of_ours_is_passed_over(text: str) -> None:
    assert messages.read(text) is None


def test_pieces_out_of_order_are_thrown_away() -> None:
    origin, other = "0" * 16, "1" * 16
    one, two, three = messages.write_event(origin, b"x" * 60, 64 + 20)
    pieces = Pieces()

    def add(text: str) -> bytes | None:
        message = messages.read(text)
        assert message is not None
        return pieces.add(message)

    assert [add(two), add(one), add(three)] == [None] * 3
    assert [add(one), add(two)] == [None] * 2
    assert add(messages.write_event(other, b"y", 100)[0]) == b"y"
    assert add(three) == b"x" * 60
    for rest in ("", "1/1", "0/1 x", "2/1 x", "1/x x", "9999999/1 x"):
        assert pieces.add(Message(origin, EVENT, rest)) is None


# --- several offices in one process


@pytest.fixture
def nats() -> Iterator[Nats]:
    server = Nats()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=BUSES)
def bus(request: pytest.FixtureRequest) -> Nats | None:
    """NATS, or None for PostgreSQL's own."""
    return request.getfixturevalue("nats") if request.param == "nats" else None


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _houses(folder: Path, address: str, nats: Nats | None, count: int = 2) -> AsyncIterator[list[House]]:
    """Offices on one database that know of each other."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                open_house(folder, address, public_url=PUBLIC, bus_url=nats.url if nats else "")
            )
            for _ in range(count)
        ]
        await _until(lambda: all(each.office.bus is not None and each.office.bus.peers == count - 1 for each in opened))
        yield opened


def _relay(house: House) -> Relay:
    return Relay(f"ws://127.0.0.1:{house.settings.port}/")


def _http(house: House) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.settings.port}", trust_env=False, timeout=60)


async def _event(relay: Relay) -> tuple[str, str]:
    """The next event: its subscription and its id."""
    while True:
        frame = await asyncio.wait_for(relay.frames.get(), 60)
        if frame[0] == "EVENT":
            return frame[1], frame[2]["id"]


async def _heard(relay: Relay, count: int) -> list[str]:
    """Ids of the next events, in their order."""
    return [(await _event(relay))[1] for _ in range(count)]


async def _subscribe(relay: Relay, **wanted: Any) -> None:
    """Returns when all that comes from now on comes live, in the order of its numbers."""
    await relay.send(["REQ", "s", wanted])
    while (await asyncio.wait_for(relay.frames.get(), 60))[0] != "EOSE":
        pass


@pytest.fixture
def only_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the database unless he is told to."""
    monkeypatch.setattr(follow, "WITH_BUS", 3_600)


@pytest.mark.usefixtures("only_the_bus")
async def test_the_bus_wakes_subscribers_and_readers_of_the_feed(
    tmp_path: Path, postgres_url: str, bus: Nats | None
) -> None:
    async with (
        _houses(tmp_path, postgres_url, bus) as (one, two),
        _relay(one) as writer,
        _relay(two) as reader,
        _http(two) as http,
    ):
        letter = wrap()
        await _subscribe(reader, authors=[letter.pubkey])
        waiting = asyncio.create_task(http.get("/v1/headers", params={"wait": 60}))
        await _until(lambda: two.office.feed.waiters == 1)
        await one.pay(writer, [letter])
        assert await _heard(reader, 1) == [letter.id]
        _, headers = decode_headers((await waiting).content)
        assert [header.pubkey.hex() for header in headers] == [letter.pubkey]
        assert two.office.metrics.office_followed._value.get() == 1


@pytest.mark.usefixtures("only_the_bus")
async def test_ephemeral_events_travel_whole(tmp_path: Path, postgres_url: str, bus: Nats | None) -> None:
    async with _houses(tmp_path, postgres_url, bus) as (one, two), _relay(one) as writer, _relay(two) as reader:
        author = Author()
        sent = [author.sign(20_001, content=each) for each in ("short", "é" * 30_000, 'quote " \\ \u2028 end')]
        await _subscribe(reader, kinds=[20_001])
        for event in sent:
            assert (await writer.post(event)).accepted
        assert await _heard(reader, 3) == [event.id for event in sent]


async def test_alone_nobody_listens(tmp_path: Path, postgres_url: str) -> None:
    async with _houses(tmp_path, postgres_url, None, 1) as (one,), _relay(one) as writer:
        assert (await writer.post(Author().sign(20_001))).code == "mute"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[1]", event_json(Author().sign(1)), event_json(Author().sign(20_001))[:-1]],
    ids=["empty", "object", "list", "stored kind", "cut off"],
)
async def test_what_a_stranger_on_the_bus_sends_is_not_served(sqlite_house: House, body: bytes) -> None:
    async with sqlite_house.relay() as reader:
        await _subscribe(reader)
        sqlite_house.office.passed_on(body)
        good = Author().sign(20_001)
        sqlite_house.office.passed_on(event_json(good))
        assert await _heard(reader, 1) == [good.id]


async def test_a_number_from_the_bus_is_not_believed(sqlite_house: House) -> None:
    """A made-up number costs a look; nothing is skipped for it."""
    async with sqlite_house.relay() as writer, sqlite_house.relay() as reader:
        await _subscribe(reader, kinds=[1])
        sqlite_house.office.follower.heard(2**60)
        letter = Author().sign(1)
        await sqlite_house.pay(writer, [letter])
        assert await _heard(reader, 1) == [letter.id]
        assert sqlite_house.office.follower.cursor == 1


async def test_numbers_without_events_hold_nobody_up(sqlite_house: House) -> None:
    """Deleted rows leave holes; what is behind them is published."""
    office = sqlite_house.office
    author = Author()
    live = [author.sign(1) for _ in range(2)]
    async with sqlite_house.relay() as writer, sqlite_house.relay() as reader:
        await _subscribe(reader, authors=[author.pubkey])
        office.follower._cursor -= 3  # three numbers of others whose events are gone
        await sqlite_house.pay(writer, live)
        assert await _heard(reader, 2) == [event.id for event in live]


async def test_who_subscribes_while_others_write(tmp_path: Path, postgres_url: str, bus: Nats | None) -> None:
    """Each letter comes once, as stored or live, whichever process it was posted at."""
    author = Author()
    letters = [author.sign(1) for _ in range(60)]
    async with (
        _houses(tmp_path, postgres_url, bus) as (one, two),
        _relay(one) as first,
        _relay(two) as second,
        _relay(two) as reader,
    ):
        posting = [
            asyncio.create_task(one.pay(first, letters[::2])),
            asyncio.create_task(two.pay(second, letters[1::2])),
        ]
        for number in range(6):
            await reader.send(["REQ", str(number), {"authors": [author.pubkey]}])
            await asyncio.sleep(0.02)
        await asyncio.gather(*posting)
        heard: dict[str, list[str]] = {str(number): [] for number in range(6)}
        while any(len(ids) < len(letters) for ids in heard.values()):
            name, identifier = await _event(reader)
            heard[name].append(identifier)
        await one.pay(first, [last := author.sign(1)])
        for _ in range(len(heard)):
            # the end of what was stored may stand before it
            name, identifier = await _event(reader)
            heard[name].append(identifier)
        expected = sorted([*(event.id for event in letters), last.id])
        assert all(sorted(ids) == expected for ids in heard.values())


async def test_a_lost_bus_is_made_anew(tmp_path: Path, postgres_url: str, bus: Nats | None) -> None:
    """While it is away the database is asked; afterwards it wakes again."""
    async with _houses(tmp_path, postgres_url, bus) as (one, two), _relay(one) as writer, _relay(two) as reader:
        author = Author()
        await _subscribe(reader, authors=[author.pubkey])
        turns = [_turns(house) for house in (one, two)]
        for _ in range(2):
            for each in turns:
                each.clear()
            if bus is None:
                await _end_listeners(postgres_url)
            else:
                bus.kill()
            # PostgreSQL's own is soon there again
            await _until(lambda: all(False in each for each in turns))
            letter = author.sign(1)
            await one.pay(writer, [letter])
            assert await _heard(reader, 1) == [letter.id]
            if bus is not None:
                bus.start()
            await _until(lambda: one.office.bus_is_up and two.office.bus_is_up)
            for house in (one, two):
                await _until(lambda house=house: house.office.bus is not None and house.office.bus.peers == 1)
        event = author.sign(20_001)
        assert (await writer.post(event)).accepted
        assert await _heard(reader, 1) == [event.id]


def _turns(house: House) -> list[bool]:
    """Whether its bus is there, at each turn from now on."""
    bus = house.office.bus
    assert bus is not None
    told, found = bus._on_turn, list[bool]()

    def turned() -> None:
        found.append(bus.is_up)
        told()

    bus._on_turn = turned
    return found


async def _end_listeners(address: str) -> int:
    """Ends the bus connections of a database, as an administrator or a failing network would."""
    url = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    connection: Any = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = $1 AND datname = current_database()",
            NAME,
        )
    finally:
        await connection.close()


# --- three real server processes


async def _purse(folder: Path, address: str) -> Purse:
    """Stamps of the office whose data are in this folder."""
    settings = load_settings({}, data_dir=str(folder), database_url=address, public_url=PUBLIC)
    database = open_database(address, folder)
    try:
        return Purse(await Keyring.open(database, settings), PUBLIC)
    finally:
        await database.close()


@pytest.mark.slow
async def test_three_processes_random_writers_and_a_bus_that_dies(
    tmp_path: Path, postgres_url: str, bus: Nats | None, serve: Callable[..., Server]
) -> None:
    """Every subscriber of every process hears all letters, each once, all in the same order."""
    chance = random.Random(secrets.randbits(32))
    settings = {"PUBLIC_URL": PUBLIC, "PLAY_PUBLIC": "true", "WORKERS": "1"} | ({"BUS_URL": bus.url} if bus else {})
    servers = [serve(database_url=postgres_url, settings=settings)]
    others = [Server(tmp_path, database_url=postgres_url, settings=settings) for _ in range(2)]
    purse = await _purse(tmp_path / "data", postgres_url)
    author, rounds, each = Author(), 4, 15
    posted: list[Event] = []

    async def write(relay: Relay) -> None:
        for _ in range(each):
            letter = author.sign(1)
            answer = await relay.post(letter, purse.token())
            assert answer.accepted, answer
            posted.append(letter)
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() / 50)

    async with AsyncExitStack() as stack:
        for server in others:
            stack.callback(server.end)
            server.launch()
        for server in others:
            await asyncio.to_thread(server.wait_ready)
        servers += others
        relays = [await stack.enter_async_context(Relay(server.websocket_url)) for server in servers]
        readers = [await stack.enter_async_context(Relay(server.websocket_url)) for server in servers * 2]
        for reader in readers:
            await _subscribe(reader, authors=[author.pubkey])
        for number in range(rounds):
            writing = [asyncio.create_task(write(relay)) for relay in relays]
            if number in (1, 2) and bus is None:
                assert await _end_listeners(postgres_url) > 0 or number == 2
            elif number == 1 and bus is not None:
                bus.kill()
            elif number == 3 and bus is not None:
                bus.start()
            await asyncio.gather(*writing)
        heard = [await _heard(reader, rounds * each * 3) for reader in readers]
        assert sorted(heard[0]) == sorted(letter.id for letter in posted)
        assert all(ids == heard[0] for ids in heard)
        stored = await relays[0].fetch({"authors": [author.pubkey], "limit": 5_000})
        assert sorted(event["id"] for event in stored) == sorted(heard[0])
        assert plain(posted[0]) in stored
        # nothing more is under way
        await relays[1].post(last := author.sign(1), purse.token())
        assert [await _heard(reader, 1) for reader in readers] == [[last.id]] * len(readers)
