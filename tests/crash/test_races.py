"""Many connections after the same stamps: one wins, the others hear the truth, nobody meets a deadlock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pennypost.protocol.event import Event
from tests.support.books import read_books
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.relay import Answer, Relay, feed, letter, stored
from tests.support.server import Server
from tests.support.stamps import MintClient, Output, Stamp, output, token_of

WRITERS = 4
CONNECTIONS = 20
LETTERS = 30
SWAPPERS = 8
SWAPS = 15


async def _connect(stack: AsyncExitStack, urls: list[str], count: int) -> list[Relay]:
    return [await stack.enter_async_context(Relay(urls[number % len(urls)])) for number in range(count)]


async def test_one_stamp_on_a_hundred_connections(database_url: str, serve: Callable[..., Server]) -> None:
    server = serve(database_url=database_url)
    letters = [letter() for _ in range(100)]
    async with MintClient(server.url) as mint, AsyncExitStack() as stack:
        (stamp,) = await mint.buy(1)
        relays = await _connect(stack, [server.websocket_url], len(letters))
        answers = await asyncio.gather(
            *(relay.post(event, stamp.token) for relay, event in zip(relays, letters, strict=True))
        )
    assert Counter(answer.accepted for answer in answers) == {True: 1, False: 99}
    assert {answer.code for answer in answers if not answer.accepted} == {"stamp-spent"}
    (winner,) = [event.id for event, answer in zip(letters, answers, strict=True) if answer.accepted]
    assert await stored(server.websocket_url, [event.id for event in letters]) == {winner}
    books = await read_books(server, database_url)
    assert (books.events, books.spent) == ({winner}, 1)


async def test_one_event_with_a_hundred_stamps(database_url: str, serve: Callable[..., Server]) -> None:
    """Every frame is answered OK:true, one stamp is spent, ninety-nine stay good."""
    server = serve(database_url=database_url)
    event = letter()
    async with MintClient(server.url) as mint, AsyncExitStack() as stack:
        stamps = await mint.buy(100)
        relays = await _connect(stack, [server.websocket_url], len(stamps))
        answers = await asyncio.gather(
            *(relay.post(event, stamp.token) for relay, stamp in zip(relays, stamps, strict=True))
        )
        states = await mint.states(stamps)
    assert all(answer.accepted for answer in answers)
    assert Counter(answer.duplicate for answer in answers) == {False: 1, True: 99}
    assert Counter(states) == {"SPENT": 1, "UNSPENT": 99}


async def test_crossed_pairs_of_stamps(database_url: str, serve: Callable[..., Server]) -> None:
    """A+B beside B+A, many times: one of each two is stored and nobody waits for ever."""
    server = serve(database_url=database_url)
    pairs = 40
    async with MintClient(server.url) as mint, AsyncExitStack() as stack:
        stamps = await mint.buy(2 * pairs)
        relays = await _connect(stack, [server.websocket_url], CONNECTIONS)
        posts: list[tuple[Event, str]] = []
        for first, second in zip(stamps[::2], stamps[1::2], strict=True):
            posts += [(letter(), token_of(first, second)), (letter(), token_of(second, first))]
        answers = await asyncio.gather(
            *(relays[number % CONNECTIONS].post(event, token) for number, (event, token) in enumerate(posts))
        )
    for left, right in zip(answers[::2], answers[1::2], strict=True):
        assert sorted((left.accepted, right.accepted)) == [False, True]
        assert (left if right.accepted else right).code == "stamp-spent"
    assert (await read_books(server, database_url)).spent == 2 * pairs


@dataclass
class Try:
    """A letter with two stamps and what it was answered."""

    event: Event
    stamps: tuple[Stamp, Stamp]
    answer: Answer | None = None


@dataclass
class Swap:
    """A swap of one stamp; `made` is None when it was refused."""

    stamp: Stamp
    output: Output
    made: Stamp | None = None
    code: int = 0


async def _swap(mint: MintClient, swaps: list[Swap]) -> None:
    for swap in swaps:
        try:
            (swap.made,) = await mint.swap([swap.stamp], [swap.output])
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 400, error.response.text
            swap.code = error.response.json()["code"]


async def _follow(urls: list[str], done: asyncio.Event) -> list[str]:
    """Reads the header feed all the while, from one writer after the other: the authors in the order shown."""
    authors: list[str] = []
    last, number = 0, 0
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=30))
            for url in urls
        ]
        while True:
            ending = done.is_set()
            new = await feed(clients[number % len(clients)], last, wait=0 if ending else 1)
            assert all(header.seq > last for header in new[:1])
            authors += [header.pubkey.hex() for header in new]
            last = new[-1].seq if new else last
            number += 1
            if ending:
                return authors


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_four_writers_on_one_postgresql(postgres_url: str, tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Overlapping pairs of stamps, swaps of the same stamps beside them, and a reader of the feed."""
    public, chance = f"http://127.0.0.1:{free_port()}", random.Random(3)
    settings = {"PUBLIC_URL": public, "MINT_SEED_FILE": str(tmp_path / "mint.seed")}
    servers = [serve(database_url=postgres_url, settings=settings) for _ in range(WRITERS)]
    async with AsyncExitStack() as stack:
        mints = [await stack.enter_async_context(MintClient(server.url)) for server in servers]
        for mint in mints:
            await mint.keyset()
        pool = [Stamp(public, stamp.proof) for stamp in await mints[0].buy(500)]
        relays = await _connect(stack, [server.websocket_url for server in servers], CONNECTIONS)
        tries = [Try(letter(), tuple(chance.sample(pool, 2))) for _ in range(CONNECTIONS * LETTERS)]  # type: ignore[arg-type]
        swaps = [Swap(chance.choice(pool), output()) for _ in range(SWAPPERS * SWAPS)]
        done = asyncio.Event()
        reader = asyncio.create_task(_follow([server.url for server in servers], done))

        async def post(relay: Relay, mine: list[Try]) -> None:
            for one in mine:
                one.answer = await relay.post(one.event, token_of(*one.stamps))

        try:
            await asyncio.gather(
                *(post(relay, tries[number::CONNECTIONS]) for number, relay in enumerate(relays)),
                *(_swap(mints[number % WRITERS], swaps[number::SWAPPERS]) for number in range(SWAPPERS)),
            )
        finally:
            done.set()
        authors = await reader
        accepted = [one for one in tries if one.answer and one.answer.accepted]
        refused = [one for one in tries if one.answer and not one.answer.accepted]
        assert len(accepted) + len(refused) == len(tries)
        assert {one.answer.code for one in refused if one.answer} <= {"stamp-spent"}
        assert {swap.code for swap in swaps if not swap.made} <= {11001}

        used = Counter(stamp.y for one in accepted for stamp in one.stamps)
        used.update(swap.stamp.y for swap in swaps if swap.made)
        assert not [y for y, times in used.items() if times > 1], "a stamp was taken twice"
        for one in refused:
            assert any(stamp.y in used for stamp in one.stamps), "a false `already spent`"
        for swap in swaps:
            assert swap.made or swap.stamp.y in used, "a false `already spent`"

        ids = [one.event.id for one in tries]
        assert await stored(servers[-1].websocket_url, ids) == {one.event.id for one in accepted}
        assert sorted(authors) == sorted(one.event.pubkey for one in accepted), "the reader of the feed missed mail"
        states = await mints[0].states(pool)
        assert [state == "SPENT" for state in states] == [stamp.y in used for stamp in pool]

        again = [relays[(number + 1) % CONNECTIONS] for number in range(len(accepted))]
        answers = await asyncio.gather(
            *(relay.post(one.event, token_of(*one.stamps)) for relay, one in zip(again, accepted, strict=True))
        )
        assert all(answer.duplicate for answer in answers)

    books = await read_books(servers[0], postgres_url)
    fresh = [swap for swap in swaps if swap.made]
    assert books.issued == len(pool) + len(fresh)
    assert books.ys == set(used)
    assert books.outstanding == sum(state == "UNSPENT" for state in states) + len(fresh)
    assert len(books.feed) == len(accepted) == books.feed[-1] - books.feed[0] + 1


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_postgresql_crashes_and_comes_back(
    postgres_cluster: Postgres, postgres_url: str, serve: Callable[..., Server]
) -> None:
    """Mail is held back while the database is away; no connection is lost, no answer is a refusal."""
    server = serve(database_url=postgres_url)
    async with MintClient(server.url) as mint, AsyncExitStack() as stack:
        stamps = await mint.buy(400)
        letters = [letter() for _ in stamps]
        relays = await _connect(stack, [server.websocket_url], 10)
        some = asyncio.Event()

        async def post(relay: Relay, mine: list[tuple[Event, Stamp]]) -> list[Answer]:
            answers: list[Answer] = []
            for event, stamp in mine:
                answers.append(await relay.post(event, stamp.token))
                some.set()
            return answers

        posts = list(zip(letters, stamps, strict=True))
        tasks = [asyncio.create_task(post(relay, posts[number::10])) for number, relay in enumerate(relays)]
        await some.wait()
        await asyncio.to_thread(postgres_cluster.crash)
        await asyncio.sleep(1)
        await asyncio.to_thread(postgres_cluster.start)
        answers = [answer for mine in await asyncio.gather(*tasks) for answer in mine]
        assert [answer for answer in answers if not answer.accepted] == []
        assert set(await mint.states(stamps)) == {"SPENT"}
    assert (await read_books(server, postgres_url)).events == {event.id for event in letters}
