"""Looks at the feed are shared by who asked before they began: what is deleted or over is gone at once, everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pennypost.protocol.event import Event
from pennypost.protocol.headers import decode_headers
from pennypost_mint.runtime.database import open_database
from pennypost_postoffice.bans import Ban
from pennypost_postoffice.feed import headers_on
from pennypost_postoffice.operate.banning import forbid_on
from pennypost_postoffice.operate.removal import Selection, delete_on
from tests.postoffice.house import Author, House, open_house, wrap
from tests.support.relay import Relay

PUBLIC = "http://office.example"


@pytest_asyncio.fixture
async def houses(address: str, tmp_path: Path) -> AsyncIterator[list[House]]:
    """Where the mail is deleted and where it is read: two processes on PostgreSQL, the one that there is on SQLite."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_house(tmp_path, address, public_url=PUBLIC))
            for _ in range(2 if address else 1)
        ]
        # nothing ends by itself while the test runs
        now = int(time.time())
        for house in opened:
            house.office.now = lambda: now  # type: ignore[method-assign]
        yield opened


def _relay(house: House) -> Relay:
    return Relay(f"ws://127.0.0.1:{house.settings.port}/")


async def _shown(house: House) -> tuple[list[str], list[str]]:
    """Whose wraps the feed and its first page show."""
    url = f"http://127.0.0.1:{house.settings.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        _, headers = decode_headers((await http.get("/v1/headers")).content)
        page = (await http.get("/v1/pages/0")).json()
    return [header.pubkey.hex() for header in headers], [event["pubkey"] for event in page]


async def _by_its_receiver(house: House, receiver: Author, event: Event) -> None:
    async with _relay(house) as relay:
        assert (await relay.post(receiver.sign(5, ["e", event.id]))).accepted


async def _by_vanishing(house: House, receiver: Author, _event: Event) -> None:
    async with _relay(house) as relay:
        assert (await relay.post(receiver.sign(62, ["relay", "ALL_RELAYS"]))).accepted


async def _by_a_command(house: House, _receiver: Author, event: Event) -> None:
    """As `office delete` does, beside the server."""
    database = open_database(house.settings.database_url, house.settings.data_dir)
    assert await database.write(delete_on, Selection(ids=(event.id,))) == 1
    await database.close()


async def _by_a_ban(house: House, _receiver: Author, event: Event) -> None:
    """As NIP-86 does."""
    assert await house.office.database.write(forbid_on, Ban("event", event.id, "", house.office.now())) == 1


WAYS = (_by_its_receiver, _by_vanishing, _by_a_command, _by_a_ban)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__[1:] for way in WAYS])
async def test_deleted_mail_is_gone_at_once(
    houses: list[House], way: Callable[[House, Author, Event], Awaitable[None]]
) -> None:
    receiver = Author()
    doomed, kept = wrap(receiver.pubkey), wrap()
    both = [doomed.pubkey, kept.pubkey]
    async with _relay(houses[0]) as relay:
        await houses[0].pay(relay, [doomed, kept])
    for house in houses:
        assert await _shown(house) == (both, both)
    await way(houses[0], receiver, doomed)
    for house in houses:
        assert await _shown(house) == ([kept.pubkey], [kept.pubkey])


async def test_mail_is_gone_with_its_last_second(houses: list[House]) -> None:
    soon, kept = wrap(expires_in=600), wrap()
    async with _relay(houses[0]) as relay:
        await houses[0].pay(relay, [soon, kept])
    until = int(next(tag[1] for tag in soon.tags if tag[0] == "expiration"))
    for house in houses:
        house.office.now = lambda: until - 1  # type: ignore[method-assign]
        assert await _shown(house) == ([soon.pubkey, kept.pubkey],) * 2
        house.office.now = lambda: until  # type: ignore[method-assign]
        assert await _shown(house) == ([kept.pubkey],) * 2


class Looks:
    """Counts the looks of one feed, and holds them back as long as `go` is not set; `began` when one has looked."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.go, self.began = asyncio.Event(), asyncio.Event()
        read = house.office.database.read

        async def slow(function: Callable[..., Any], *arguments: Any) -> Any:
            found = await read(function, *arguments)
            if function is headers_on:
                self.count += 1
                self.began.set()
                await self.go.wait()
            return found

        monkeypatch.setattr(house.office.database, "read", slow)


async def test_who_asks_during_a_look_has_the_next_one(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask: those before a look share it, those during it share the next."""
    house, receiver = sqlite_house, Author()
    doomed = wrap(receiver.pubkey)
    async with house.relay() as relay:
        await house.pay(relay, [doomed])
        looks, feed = Looks(house, monkeypatch), house.office.feed
        early = [asyncio.create_task(feed.headers(0, 10, 0)) for _ in range(50)]
        await looks.began.wait()
        assert (await relay.post(receiver.sign(5, ["e", doomed.id]))).accepted
        late = [asyncio.create_task(feed.headers(0, 10, 0)) for _ in range(50)]
        looks.go.set()
        before, after = set(await asyncio.gather(*early)), set(await asyncio.gather(*late))
    assert bytes.fromhex(doomed.pubkey) in before.pop() and not before
    assert bytes.fromhex(doomed.pubkey) not in after.pop() and not after
    assert looks.count == 2 and not feed._looks and not feed._next_looks


async def test_who_leaves_takes_the_look_from_nobody(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, feed = Looks(sqlite_house, monkeypatch), sqlite_house.office.feed
    first, second = (asyncio.create_task(feed.headers(0, 10, 0)) for _ in range(2))
    await looks.began.wait()
    third, fourth = (asyncio.create_task(feed.headers(0, 10, 0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    third.cancel()
    looks.go.set()
    assert await second == await fourth == bytes(8)
    assert looks.count == 2 and not feed._looks and not feed._next_looks
