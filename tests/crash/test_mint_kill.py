"""kill -9 of a mint between any two steps of quote, mint, batch and swap, and at any moment under load.

After each: the books balance, each request was done whole or not at all, and its answer can be had again by the same
request (NUT-19) and by restore (NUT-09). CRASH_ROUNDS is the number of kills on each database (20 in CI, 500 by
`make crash`, half of them at the steps in turn); CRASH_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.crash.killable import Killable
from tests.crash.points import NEVER
from tests.crash.purse import Purse, expected
from tests.support.books import read_books
from tests.support.stamps import MintClient

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
WALLETS = 8
ARM = "x-die-at"
OFF = {ARM: "0"}


class Town:
    """A mint that dies and its wallets."""

    def __init__(self, server: Killable, database_url: str, mint: MintClient, http: httpx.AsyncClient) -> None:
        self.server, self.database_url, self.mint, self.http = server, database_url, mint, http
        self.chance = random.Random(SEED)
        self.purses = [Purse(mint, self.chance, http) for _ in range(WALLETS)]
        self.kills = 0
        self.died_at: Counter[str] = Counter()

    async def rise(self, since: list[int]) -> None:
        """Starts the mint again and checks all that was asked after `since`, then the books."""
        self.kills += 1
        await asyncio.to_thread(self.server.bury)
        await asyncio.to_thread(self.server.start)
        where = f"CRASH_SEED={SEED}, kill {self.kills}, {dict(self.died_at.most_common(1))}"
        try:
            await asyncio.gather(
                *(purse.recover(purse.asked[start:]) for purse, start in zip(self.purses, since, strict=True))
            )
            await self.balance()
        except AssertionError as error:
            error.add_note(where)
            raise

    async def balance(self) -> None:
        """What the database says is what the wallets hold."""
        books = await read_books(self.server, self.database_url)
        books.balance()
        issued, spent, by_quote = expected(self.purses)
        assert (books.issued, books.spent) == (issued, spent)
        assert {quote: account.issued for quote, account in books.quotes.items() if account.issued} == by_quote
        assert books.outstanding == sum(by_quote.values())
        held = sum(stamp.proof.amount for purse in self.purses for stamp in purse.stamps)
        assert books.outstanding == held
        assert sum(books.settled.values()) >= sum(account.paid for account in books.quotes.values()) >= held

    def marks(self) -> list[int]:
        """How much each wallet has asked so far."""
        return [len(purse.asked) for purse in self.purses]


@asynccontextmanager
async def _town(serve: Callable[..., Killable], database_url: str) -> AsyncIterator[Town]:
    server = serve(database_url=database_url, settings={"RATE_LIMIT": "0"})
    async with (
        MintClient(server.url) as mint,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http,
    ):
        await mint.keyset()
        yield Town(server, database_url, mint, http)


Step = Callable[[Purse], Awaitable[None]]


async def _prepare(purse: Purse) -> None:
    """Two quotes paid in part left, and stamps to swap."""
    while sum(1 for left in purse.left.values() if left >= 4) < 2:
        await purse.quote(20)
    if len(purse.stamps) < 3:
        await purse.issue(_rich(purse)[0], 4)


def _rich(purse: Purse) -> list[str]:
    return [quote for quote, left in purse.left.items() if left >= 4]


async def _buy(purse: Purse) -> None:
    await purse.quote(7)


async def _issue(purse: Purse) -> None:
    await purse.issue(_rich(purse)[0], 3)


async def _batch(purse: Purse) -> None:
    first, second = _rich(purse)[:2]
    await purse.issue_batch({first: 2, second: purse.left[second]})


async def _swap(purse: Purse) -> None:
    await purse.swap(purse.stamps[:2])


STEPS: dict[str, Step] = {"quote": _buy, "mint": _issue, "batch": _batch, "swap": _swap}


async def _run_to(town: Town, step: Step, number: int) -> list[str] | None:
    """The points passed, when the mint lives; None when it died at this one."""
    purse = town.purses[0]
    await _prepare(purse)
    since = town.marks()
    purse.headers = {ARM: str(number)}
    try:
        await step(purse)
        response = await town.http.get("/healthz", headers=OFF)
        assert response.status_code == 200
        return town.server.passed
    except httpx.TransportError:
        town.died_at[town.server.passed[-1]] += 1
    await town.rise(since)
    return None


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_killed_between_any_two_steps(
    database_url: str, serve_killable: Callable[..., Killable], record_property: Callable[[str, object], None]
) -> None:
    """Every point of every request in turn, in an order of chance, and again until half of the rounds have killed."""
    async with _town(serve_killable, database_url) as town:
        points: list[tuple[str, int]] = []
        for name, step in STEPS.items():
            passed = await _run_to(town, step, NEVER)
            assert passed and any("COMMIT" in point for point in passed)
            # the last points belong to the looks that follow
            points += [(name, number) for number in range(1, len(passed) + 1)]
        town.chance.shuffle(points)
        tries = 0
        tried: set[tuple[str, int]] = set()
        while town.kills < ROUNDS // 2:
            name, number = points[tries % len(points)]
            lived = await _run_to(town, STEPS[name], number)
            # the office looks at its database now and then: such a look may have stood among the points when they were
            # counted, and then a request does not come to the last of them
            assert lived is None or len(lived) < number
            tries += 1
            tried.add((name, number))
        await _all_again(town)
        assert len(points) > ROUNDS // 2 or tried == set(points)
        report = f"{town.kills} kills at {len(town.died_at)} named places, {len(tried)} steps of {len(points)}"
    record_property("kills", report)
    print(f"\n{report}; CRASH_SEED={SEED}")


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_killed_at_any_moment_under_load(
    database_url: str, serve_killable: Callable[..., Killable], record_property: Callable[[str, object], None]
) -> None:
    """Eight wallets buy and swap all the while; half of the deaths come between two steps of one of them."""
    async with _town(serve_killable, database_url) as town:
        while town.kills < ROUNDS - ROUNDS // 2:
            since = town.marks()
            await _kill_under_load(town)
            await town.rise(since)
        await _all_again(town)
        asked = sum(town.marks())
    record_property("kills", town.kills)
    print(f"\n{town.kills} kills under load, {asked} requests signed; CRASH_SEED={SEED}")


async def _kill_under_load(town: Town) -> None:
    chance = town.chance
    limit = chance.randrange(1, 60)
    armed = chance.random() < 0.5
    enough = asyncio.Event()
    answers = 0

    async def work(purse: Purse) -> None:
        nonlocal answers
        try:
            while True:
                await purse.anything()
                answers += 1
                if answers == limit and armed:
                    purse.headers = {ARM: str(chance.randrange(1, 60))}
                elif answers >= limit:
                    enough.set()
        except httpx.TransportError:
            return

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for purse in town.purses:
            group.create_task(work(purse))
        if not armed:
            await enough.wait()
            await asyncio.sleep(chance.random() * 0.01)
            town.server.strike()


async def _all_again(town: Town) -> None:
    """At the end every request there ever was, once more."""
    await asyncio.gather(*(purse.recover(purse.asked) for purse in town.purses))
    await town.balance()
