"""kill -9 of a post office between any two steps of taking a stamp of a mint elsewhere, a real one of either kind.

After each death and start: what the journal holds is decided without anybody's help, an event is stored exactly when
its stamp is spent, and the same frame again ends in `accepted` with one stamp spent. CRASH_ROUNDS and CRASH_SEED as in
test_mint_kill.py; the rounds are shared by the mints and the databases.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, select

from pennypost.protocol.event import Event, event_json
from pennypost_mint.runtime.database import Database, open_database
from pennypost_postoffice.foreign.journal import entries_on
from pennypost_postoffice.tables import treasury
from tests.bench.servers import nutshell, nutshell_python
from tests.crash.killable import Killable
from tests.crash.points import NEVER
from tests.support.relay import letter, stored
from tests.support.require import require
from tests.support.server import Server
from tests.support.stamps import MintClient, Stamp

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
ARM = "x-die-at"
MINTS = ("pennypost", "nutshell")


@pytest.fixture(params=MINTS)
def mint_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A real mint elsewhere."""
    if request.param == "pennypost":
        with Server(tmp_path / "mint", settings={"ROLE": "mint", "RATE_LIMIT": "0"}) as mint:
            yield mint.url
        return
    python = nutshell_python()
    require(python, "Nutshell is not installed (make cashu)")
    assert python is not None
    with nutshell(python, tmp_path / "nutshell") as running:
        yield f"http://127.0.0.1:{running.port}"


class Town:
    """An office that dies, the mint elsewhere, and somebody who writes letters."""

    def __init__(self, office: Killable, mint: MintClient, http: httpx.AsyncClient, books: Database) -> None:
        self.office, self.mint, self.http, self.books = office, mint, http, books
        self.letters = 0
        self.died_at: set[str] = set()

    async def spent(self, stamp: Stamp) -> bool:
        """Whether the mint calls it spent."""
        answer = await self.mint.post("/v1/checkstate", {"Ys": [stamp.y.hex()]})
        states = answer["states"]
        assert isinstance(states, list)
        return states[0]["state"] == "SPENT"

    async def post(self, body: bytes, stamp: Stamp, number: int = 0) -> httpx.Response:
        """The twin of EVENT; it dies at that point."""
        headers = {"x-cashu": stamp.token, ARM: str(number)}
        return await self.http.post("/v1/events", content=body, headers=headers)

    async def settled(self) -> None:
        """Waits until the journal is empty."""
        async with asyncio.timeout(60):
            while await self.books.read(entries_on):
                await asyncio.sleep(0.02)

    async def earned(self) -> int:
        return await self.books.read(_earned_on)

    async def die_at(self, number: int) -> list[str] | None:
        """One letter; the points passed when nobody died, else None after everything was checked."""
        (stamp,) = await self.mint.buy(1)
        event = letter()
        body = event_json(event)
        self.letters += 1
        passed: list[str] | None = None
        try:
            assert (await self.post(body, stamp, number)).status_code == 200
            assert (await self.http.get("/healthz", headers={ARM: "0"})).status_code == 200
            passed = self.office.passed
        except httpx.TransportError:
            self.died_at.add(self.office.passed[-1])
            await asyncio.to_thread(self.office.bury)
            await asyncio.to_thread(self.office.start)
        await self.settled()
        known = bool(await stored(self.office.websocket_url, [event.id]))
        assert known == await self.spent(stamp), f"CRASH_SEED={SEED}, point {number}"
        again = await self.post(body, stamp)
        assert again.status_code == 200 and again.json()["accepted"], again.text
        assert await stored(self.office.websocket_url, [event.id]) == {event.id}
        assert await self.spent(stamp) and await self.earned() == self.letters
        return passed


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_killed_between_any_two_steps_of_a_swap_elsewhere(
    mint_url: str,
    database_url: str,
    serve_killable: Callable[..., Killable],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Every point once, as far as the rounds reach; else a sample."""
    office = serve_killable(database_url=database_url, settings={"ROLE": "postoffice", "MINT_URLS": mint_url})
    books = open_database(database_url, tmp_path / "data")
    chance = random.Random(SEED)
    try:
        async with (
            MintClient(mint_url) as mint,
            httpx.AsyncClient(base_url=office.url, trust_env=False, timeout=90) as http,
        ):
            town = Town(office, mint, http, books)
            passed = await town.die_at(NEVER)
            assert passed and "after POST /v1/swap elsewhere" in passed
            wanted = chance.sample(range(1, len(passed) + 1), min(max(2, ROUNDS // 4), len(passed)))
            # the answer of the mint that is lost is the one that matters
            lost = 1 + passed.index("after POST /v1/swap elsewhere")
            for number in sorted({*wanted, lost}):
                await town.die_at(number)
            assert len(town.died_at) >= len(set(wanted)) // 2
    finally:
        await books.close()
    report = f"{town.letters - 1} letters, deaths at {len(town.died_at)} of {len(set(passed))} points"
    record_property("kills", report)
    print(f"\n{report}; CRASH_SEED={SEED}")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_mint_elsewhere_dies_under_load(tmp_path: Path) -> None:
    """kill -9 of the mint while letters are on their way: after its start each is stored, and paid once."""
    mint = Server(tmp_path / "mint", settings={"ROLE": "mint", "RATE_LIMIT": "0"})
    with mint, Server(tmp_path / "office", settings={"ROLE": "postoffice", "MINT_URLS": mint.url}) as office:
        async with (
            MintClient(mint.url) as wallet,
            httpx.AsyncClient(base_url=office.url, trust_env=False, timeout=90) as http,
        ):
            stamps = await wallet.buy(40)
            events = [letter() for _ in stamps]

            async def post(event: Event, stamp: Stamp) -> httpx.Response:
                return await http.post("/v1/events", content=event_json(event), headers={"x-cashu": stamp.token})

            posts = [asyncio.create_task(post(*each)) for each in zip(events, stamps, strict=True)]
            await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(mint.kill)
            await asyncio.to_thread(mint.start)
            answers = [each.json() for each in await asyncio.gather(*posts)]
        assert all(each["accepted"] for each in answers), answers
        ids = [event.id for event in events]
        assert await stored(office.websocket_url, ids) == set(ids)
        books = open_database("", office.folder / "data")
        try:
            assert await books.read(_earned_on) == len(ids) and await books.read(entries_on) == []
        finally:
            await books.close()


def _earned_on(connection: Connection) -> int:
    return sum(connection.execute(select(treasury.c.amount)).scalars())
