"""Retention is real: what has expired is in no table and in no file, and is not served before that either."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from sqlalchemy import Connection, func, select

from pennypost_postoffice.retention import over_quota_on
from pennypost_postoffice.tables import address_tombstones, addresses, events, feed, tags, tombstones
from tests.postoffice.house import Author, House, wrap
from tests.postoffice.test_retention_traces import traces
from tests.support.relay import plain

TABLES = (events, tags, feed, addresses, tombstones, address_tombstones)


def _counts(connection: Connection) -> list[int]:
    return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES]


async def test_expired_mail_is_deleted_for_real(house: House, tmp_path: Path) -> None:
    """Rows, tags, feed records, addresses; and on SQLite not a byte of the content is left in the files."""
    marks = [secrets.token_hex(24) for _ in range(40)]
    author = Author()
    soon = [wrap(expires_in=600, content=mark) for mark in marks]
    soon.append(author.sign(30_001, ["d", "x"], ["t", "gone"], expires_in=600, content=marks[0] + "x"))
    kept = [wrap(content=secrets.token_hex(24)) for _ in range(5)]
    async with house.relay() as relay:
        await house.pay(relay, soon + kept)
        sqlite = house.office.database.dialect == "sqlite"
        if sqlite:
            assert traces(tmp_path, marks[0].encode()) != []
        house.pass_time(700)
        assert await relay.fetch({"ids": [event.id for event in soon]}) == []
        assert (await relay.post(soon[0], house.purse.token())).code == "expired"
        assert await house.office.retention.sweep() == len(soon)
        assert await house.office.database.read(_counts) == [5, 5, 5, 0, 0, 0]
        assert await relay.fetch({"authors": [event.pubkey for event in kept]}) == sorted(
            (plain(event) for event in kept), key=lambda event: (-event["created_at"], event["id"])
        )
    if sqlite:
        for mark in marks:
            assert traces(tmp_path, mark.encode()) == []
        for event in soon[:5]:
            assert traces(tmp_path, bytes.fromhex(event.id)) == []
            assert traces(tmp_path, bytes.fromhex(event.pubkey)) == []
        assert traces(tmp_path, kept[0].content.encode()) != []


async def test_tombstones_end_with_what_they_stand_for(house: House) -> None:
    author = Author()
    event = author.sign(30_001, ["d", "x"], expires_in=600)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        names = [["e", event.id], ["a", f"30001:{author.pubkey}:x"]]
        assert (await relay.post(author.sign(5, *names, expires_in=600))).accepted
        assert (await house.office.database.read(_counts))[4:] == [1, 1]
        house.pass_time(700)
        await house.office.retention.sweep()
        assert await house.office.database.read(_counts) == [0] * 6


async def test_sweeps_by_themselves(house: House) -> None:
    """The stage runs: with nobody asking, expired mail goes, at the first sweep and at those after it."""
    house.office.retention.every = 0.05
    first, second = wrap(expires_in=100), wrap(expires_in=250)
    async with house.relay() as relay:
        await house.pay(relay, [first, second])
    house.pass_time(150)
    task = asyncio.create_task(house.office.retention.run())
    try:
        await _until_left(house, 1)
        # Less than what would look like a clock that was put forward.
        house.pass_time(300)
        await _until_left(house, 0)
    finally:
        task.cancel()


async def _until_left(house: House, count: int) -> None:
    async with asyncio.timeout(20):
        while (await house.office.database.read(_counts))[0] != count:
            await asyncio.sleep(0.02)


async def test_free_events_stay_within_their_quota(house: House) -> None:
    """The oldest go first; stamped mail is not touched."""
    now = int(time.time())
    free = [Author().sign(10_002, at=now - age) for age in range(10)]
    async with house.relay() as relay:
        stamped = wrap()
        await house.pay(relay, [stamped])
        for event in free:
            assert (await relay.post(event)).accepted
        database = house.office.database
        assert await database.write(over_quota_on, 10, 1 << 30) == 0
        assert await database.write(over_quota_on, 4, 1 << 30) == 6
        left = await relay.fetch({"kinds": [10_002]})
        assert left == [plain(event) for event in free[:4]]
        size = sum(len(event["content"]) for event in left)
        assert await database.write(over_quota_on, 4, size) == 4
        assert await relay.fetch({"kinds": [10_002]}) == []
        assert await relay.fetch({"ids": [stamped.id]}) == [plain(stamped)]
