"""kill -9 while twenty clients post and two swap: all or nothing, and every promise kept.

Each round kills the server at a moment drawn by chance, half of them between two steps of its work (`points.py`),
starts it again on the same data and asks it about everything that was under way. CRASH_ROUNDS is the number of rounds
on each database (20 in CI, 500 by `make crash`), CRASH_SEED repeats a run's moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from pennypost.protocol.event import Event
from tests.crash.killable import Killable
from tests.support.books import read_books
from tests.support.ports import free_port
from tests.support.relay import Answer, Relay, feed, letter, stored
from tests.support.server import Server
from tests.support.stamps import MintClient, Output, Stamp, output

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
CLIENTS = 20
SWAPPERS = 2
LETTERS = 16
"""Most letters of one client in a round."""

POINTS = 400
"""Steps of the server from which the deadly one is drawn: some tens of events."""

DYING = 10.0
"""Seconds until it is killed at any rate: it may run out of letters first."""

KEEP = 3 * 86_400
"""Seconds that letters are kept: longer than a run takes."""


@dataclass
class Posted:
    """One letter and its stamp; `answer` is None when the server was killed first."""

    event: Event
    stamp: Stamp
    answer: Answer | None = None


@dataclass
class Swapped:
    """One swap 1→1; `answer` is None when the server was killed first."""

    stamp: Stamp
    made: Output
    answer: Stamp | None = None


@dataclass
class Round:
    """What was tried before the kill; `enough` is set when it is time for it."""

    kill_after: int
    posted: list[Posted] = field(default_factory=list)
    swapped: list[Swapped] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    answers: int = 0

    def answered(self) -> None:
        """Counts an answer of any kind."""
        self.answers += 1
        if self.answers >= self.kill_after:
            self.enough.set()


async def _post(server: Server, this: Round, letters: list[tuple[Event, Stamp]]) -> None:
    try:
        async with Relay(server.websocket_url) as relay:
            for event, stamp in letters:
                posted = Posted(event, stamp)
                this.posted.append(posted)
                posted.answer = await relay.post(event, stamp.token)
                this.answered()
    except (OSError, EOFError):
        return


async def _swap(server: Server, this: Round, stamp: Stamp) -> None:
    async with MintClient(server.url) as mint:
        try:
            # it may be killed before it has told its keys
            await mint.keyset()
            while True:
                swapped = Swapped(stamp, output())
                this.swapped.append(swapped)
                (stamp,) = await mint.swap([stamp], [swapped.made])
                swapped.answer = stamp
                this.answered()
        except httpx.TransportError:
            return


async def _arm(server: Killable, number: int) -> None:
    """From now on it dies at the step with this number."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
        with contextlib.suppress(httpx.TransportError):
            await http.get("/healthz", headers={"x-die-at": str(number)})


async def _kill_under_load(server: Killable, chance: random.Random, stamps: list[Stamp]) -> Round:
    """Twenty clients post and two swap until the server dies under them."""
    swapping, posting = stamps[:SWAPPERS], stamps[SWAPPERS:]
    letters = [(letter(keep=KEEP), stamp) for stamp in posting]
    this = Round(kill_after=chance.randrange(1, len(letters) * 9 // 10))
    tasks = [asyncio.create_task(_post(server, this, letters[start::CLIENTS])) for start in range(CLIENTS)]
    tasks += [asyncio.create_task(_swap(server, this, stamp)) for stamp in swapping]
    await asyncio.wait_for(this.enough.wait(), 120)
    if chance.random() < 0.5:
        await _arm(server, chance.randrange(1, POINTS))
        await asyncio.wait(tasks, timeout=DYING, return_when=asyncio.ALL_COMPLETED)
    else:
        await asyncio.sleep(chance.random() * 0.01)
    await asyncio.to_thread(server.kill)
    await asyncio.gather(*tasks)
    return this


async def _over(database_url: str) -> None:
    """Waits until PostgreSQL works on nothing any more: it ends a commit that a writer told it to begin, and died."""
    busy = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    engine = create_async_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with asyncio.timeout(60), engine.connect() as connection:
        while await connection.scalar(busy):
            await asyncio.sleep(0.01)


async def _check_letters(server: Server, mint: MintClient, posted: list[Posted]) -> None:
    there = await stored(server.websocket_url, [one.event.id for one in posted])
    states = await mint.states([one.stamp for one in posted])
    for one, state in zip(posted, states, strict=True):
        if one.answer is not None:
            assert one.answer.accepted, one.answer
            assert one.event.id in there, "an event with OK:true is gone"
        assert (one.event.id in there) == (state == "SPENT"), f"stored: {one.event.id in there}, stamp {state}"

    async def again(mine: list[Posted]) -> None:
        async with Relay(server.websocket_url) as relay:
            for one in mine:
                answer = await relay.post(one.event, one.stamp.token)
                assert answer.accepted, answer
                assert answer.duplicate == (one.event.id in there), answer

    await asyncio.gather(*(again(posted[start::CLIENTS]) for start in range(CLIENTS)))


async def _check_swaps(mint: MintClient, swapped: list[Swapped]) -> list[Stamp]:
    """The same request again gets the same answer, whether or not it was answered before the kill."""
    left: list[Stamp] = []
    states = await mint.states([one.stamp for one in swapped])
    for one, state in zip(swapped, states, strict=True):
        signed = await mint.restore([one.made])
        assert (state == "SPENT") == bool(signed), "a swap was done by half"
        if one.answer is not None:
            assert signed == [one.answer]
        else:
            repeated = await mint.swap([one.stamp], [one.made])
            assert not signed or repeated == signed
            left += repeated
    return left


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_a_killed_server_kept_every_promise(
    database_url: str, serve_killable: Callable[..., Killable], record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SEED)
    server = serve_killable(database_url=database_url, settings={"RATE_LIMIT": "0"})
    seen: list[str] = []
    last = swaps = bought = unanswered = 0
    async with MintClient(server.url) as mint:
        for number in range(ROUNDS):
            stamps = await mint.buy(CLIENTS * LETTERS + SWAPPERS)
            this = await _kill_under_load(server, chance, stamps)
            await asyncio.to_thread(server.start)
            where = f"round {number}, CRASH_SEED={SEED}"
            assert this.posted, where
            await _check_letters(server, mint, this.posted)
            await _check_swaps(mint, this.swapped)

            seen += [one.event.id for one in this.posted]
            swaps += len(this.swapped)
            bought += len(stamps)
            books = await read_books(server, database_url)
            assert books.events == set(seen), where
            assert {one.stamp.y for one in this.posted} <= books.ys, where
            assert (books.issued, books.spent) == (bought + swaps, len(seen) + swaps), where
            async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
                new = await feed(http, last)
            assert [header.seq for header in new] == sorted({header.seq for header in new}), where
            assert sorted(header.pubkey.hex() for header in new) == sorted(one.event.pubkey for one in this.posted)
            last = new[-1].seq
            assert books.feed == tuple(range(books.feed[0], books.feed[0] + len(seen))), where
            unanswered += sum(one.answer is None for one in this.posted)
    report = f"{ROUNDS} kills, {len(seen)} letters, {unanswered} without an answer, {swaps} swaps"
    record_property("kills", report)
    print(f"\n{report}; CRASH_SEED={SEED}")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_writer_leaves_its_mail_to_the_other(
    postgres_url: str, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """Two writers on one PostgreSQL: one is killed, and its clients send the same frames to the other."""
    settings = {"PUBLIC_URL": f"http://127.0.0.1:{free_port()}", "MINT_SEED_FILE": str(tmp_path / "mint.seed")}
    doomed, other = (serve(database_url=postgres_url, settings=settings) for _ in range(2))
    chance = random.Random(SEED)
    async with MintClient(other.url) as mint:
        bought = await mint.buy(300)
        stamps = [Stamp(settings["PUBLIC_URL"], stamp.proof) for stamp in bought]
        letters = [(letter(), stamp) for stamp in stamps]
        first, second = Round(kill_after=chance.randrange(1, 150)), Round(kill_after=len(letters))
        tasks = [asyncio.create_task(_post(doomed, first, letters[start:200:10])) for start in range(10)]
        tasks += [asyncio.create_task(_post(other, second, letters[start::5])) for start in range(200, 205)]
        await first.enough.wait()
        await asyncio.to_thread(doomed.kill)
        await asyncio.gather(*tasks)
        assert all(one.answer and one.answer.accepted for one in second.posted) and len(second.posted) == 100
        await _over(postgres_url)
        await _check_letters(other, mint, first.posted)
        rest = [pair for pair in letters[:200] if pair[0] not in [one.event for one in first.posted]]
        await _post(other, second, rest)
        assert set(await mint.states(stamps)) == {"SPENT"}
    books = await read_books(other, postgres_url)
    assert books.events == {event.id for event, _ in letters}
    assert (books.issued, books.spent) == (len(letters), len(letters))
    assert books.feed == tuple(range(books.feed[0], books.feed[0] + len(letters)))
