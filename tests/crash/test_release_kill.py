"""kill -9 of a post office during a RELEASE: held and releasable, or released and served once; never in between.

Each round kills it at a numbered step (`points.py`) of a release of two letters, starts it again and asks in every way.
In the second test their time is over at the same moment, and the sweeper works beside the release. CRASH_ROUNDS and
CRASH_SEED as in test_kill.py; a fifth of the rounds is for each test on each database.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, func, select

from pennypost.protocol.event import Event, event_json
from pennypost.protocol.headers import HELD, RELEASED
from pennypost.protocol.hold import hold_tag
from pennypost_mint.runtime.database import Database, open_database
from pennypost_postoffice.tables import events, feed, held, held_receivers, holds, tags
from tests.crash.killable import Killable
from tests.crash.points import NEVER
from tests.postoffice.house import Author
from tests.support.relay import Relay, stored
from tests.support.relay import feed as read_feed
from tests.support.stamps import MintClient, Stamp

ROUNDS = max(4, int(os.environ.get("CRASH_ROUNDS", "20")) // 5)
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
ARM = "x-die-at"
LETTERS = 2

FORWARD = 200
"""Seconds that the clock is put forward by: less than makes it doubted (retention.JUMP)."""


class Sale:
    """Letters held under one tag, and what opens it."""

    def __init__(self, expires_in: int) -> None:
        self.x, self.id = secrets.token_bytes(32), secrets.token_bytes(32)
        self.hold = hold_tag(sha256(self.x).digest(), self.id)
        self.letters = [self._letter(expires_in) for _ in range(LETTERS)]

    def _letter(self, expires_in: int) -> Event:
        marks = [["p", secrets.token_hex(32)], ["vt", secrets.token_hex(4)], ["hold", self.hold.hex()]]
        return Author().sign(1059, *marks, expires_in=expires_in)

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.letters]


class Counter:
    """The office that dies, and who asks it."""

    def __init__(self, office: Killable, http: httpx.AsyncClient, books: Database, stamps: list[Stamp]) -> None:
        self.office, self.http, self.books, self.stamps = office, http, books, stamps
        self.died_at: set[str] = set()

    async def hold(self, sale: Sale) -> None:
        """Posts its letters."""
        for event in sale.letters:
            headers = {"x-cashu": self.stamps.pop().token}
            answer = await self.http.post("/v1/events", content=event_json(event), headers=headers)
            assert answer.status_code == 200 and "held" in answer.json()["message"], answer.text

    async def release(self, sale: Sale, number: int = 0) -> httpx.Response:
        """The twin of RELEASE; it dies at that point."""
        asked = {"x": sale.x.hex(), "id": sale.id.hex()}
        return await self.http.post(f"/v1/holds/{sale.hold.hex()}", json=asked, headers={ARM: str(number)})

    async def die(self, sale: Sale, number: int) -> bool:
        """Whether it died of this release; it runs again afterwards."""
        try:
            assert (await self.release(sale, number)).status_code in (200, 404)
            await self.http.get("/healthz", headers={ARM: "0"})
            return False
        except httpx.TransportError:
            self.died_at.add(self.office.passed[-1])
            await asyncio.to_thread(self.office.bury)
            await asyncio.to_thread(self.office.start)
            return True

    async def flags(self, sale: Sale) -> dict[str, list[int]]:
        """The records of its letters in the header feed."""
        found: dict[str, list[int]] = {event.pubkey: [] for event in sale.letters}
        for header in await read_feed(self.http):
            if header.pubkey.hex() in found:
                found[header.pubkey.hex()].append(header.flags)
        return found

    async def rows(self, sale: Sale) -> dict[str, int]:
        """How many rows of each table are about them; those of all tags, which name nothing else here."""
        return await self.books.read(_rows_on, sale)

    async def check_released(self, sale: Sale) -> None:
        """Each is served once, stored and in the feed, and lies nowhere else."""
        assert await stored(self.office.websocket_url, sale.ids) == set(sale.ids)
        async with Relay(self.office.websocket_url) as relay:
            for event in sale.letters:
                for wanted in ({"authors": [event.pubkey]}, {"#p": [event.tags[0][1]]}):
                    assert [each["id"] for each in await relay.fetch(wanted)] == [event.id]
        assert await self.flags(sale) == {event.pubkey: [HELD, RELEASED] for event in sale.letters}
        rows = await self.rows(sale)
        assert (rows["events"], rows["held"], rows["receivers"]) == (LETTERS, 0, 0), rows


def _rows_on(connection: Connection, sale: Sale) -> dict[str, int]:
    ids = [bytes.fromhex(each) for each in sale.ids]

    def count(column: object, values: list[bytes]) -> int:
        return connection.execute(select(func.count()).where(column.in_(values))).scalar_one()  # type: ignore[attr-defined]

    return {
        "events": count(events.c.id, ids),
        "held": count(held.c.id, ids),
        "receivers": count(held_receivers.c.event_id, ids),
        "tags": count(tags.c.event_id, ids),
        "holds": count(holds.c.hold, [sale.hold]),
        "feed": count(feed.c.event_id, ids),
    }


@asynccontextmanager
async def opened(serve_killable: Callable[..., Killable], url: str, folder: Path) -> AsyncIterator[Counter]:
    settings = {"RATE_LIMIT": "0", "SWEEP_EVERY": "0.05"}
    office = serve_killable(database_url=url, settings=settings)
    books = open_database(url, folder / "data")
    try:
        async with (
            MintClient(office.url) as mint,
            httpx.AsyncClient(base_url=office.url, trust_env=False, timeout=30) as http,
        ):
            yield Counter(office, http, books, await mint.buy((ROUNDS + 1) * LETTERS))
    finally:
        await books.close()


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_killed_during_a_release(
    database_url: str,
    serve_killable: Callable[..., Killable],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    chance = random.Random(SEED)
    opens = 0
    async with opened(serve_killable, database_url, tmp_path) as counter:
        sale = Sale(3_600)
        await counter.hold(sale)
        assert not await counter.die(sale, NEVER)
        await counter.check_released(sale)
        points = len(counter.office.passed)
        assert points > 10
        for number in sorted(chance.choices(range(1, points + 1), k=ROUNDS)):
            where = f"CRASH_SEED={SEED}, point {number}"
            sale = Sale(3_600)
            await counter.hold(sale)
            async with Relay(counter.office.websocket_url) as listener:
                await listener.send(["REQ", "live", {"ids": sale.ids}])
                died = await counter.die(sale, number)
                heard = [frame[2]["id"] for frame in _got(listener) if frame[0] == "EVENT"]
            there = await stored(counter.office.websocket_url, sale.ids)
            assert there in (set(), set(sale.ids)), f"half of them: {where}"
            assert len(heard) == len(set(heard)) and set(heard) <= there, f"served before it was durable: {where}"
            if not there:
                assert died and await counter.flags(sale) == {event.pubkey: [HELD] for event in sale.letters}, where
            answer = await counter.release(sale)
            assert answer.status_code == 200, where
            assert answer.json()["message"].startswith("duplicate" if there else f"accepted: released {LETTERS}"), where
            await counter.check_released(sale)
            opens += bool(there)
        report = f"{ROUNDS} kills at {len(counter.died_at)} points, {opens} of them after the release"
    record_property("kills", report)
    print(f"\n{report}; CRASH_SEED={SEED}")


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_killed_while_release_and_expiry_race(
    database_url: str, serve_killable: Callable[..., Killable], tmp_path: Path
) -> None:
    """Whoever won: what is over is in no table after the next sweep, is served by nothing and cannot be released."""
    chance = random.Random(SEED)
    ahead = 0
    async with opened(serve_killable, database_url, tmp_path) as counter:
        for _ in range(ROUNDS):
            sale = Sale(ahead + FORWARD // 2)
            await counter.hold(sale)
            ahead += FORWARD
            number = chance.randrange(1, 60)
            turns = [asyncio.to_thread(counter.office.put_clock, ahead), counter.die(sale, number)]
            chance.shuffle(turns)
            await asyncio.gather(*turns)
            where = f"CRASH_SEED={SEED}, point {number}"
            assert await stored(counter.office.websocket_url, sale.ids) == set(), where
            deadline = time.monotonic() + 60
            while any((await counter.rows(sale)).values()):
                assert time.monotonic() < deadline, f"{await counter.rows(sale)}: {where}"
                await asyncio.sleep(0.05)
            assert await counter.flags(sale) == {event.pubkey: [] for event in sale.letters}, where
            assert (await counter.release(sale)).status_code == 404, where
            with suppress(httpx.TransportError):
                await counter.http.get("/healthz", headers={ARM: "0"})


def _got(relay: Relay) -> list[list[object]]:
    found: list[list[object]] = []
    while not relay.frames.empty():
        found.append(relay.frames.get_nowait())
    return found
