"""The server's clock goes a day forth, a day back, and right again: no mail is lost, none served out of its time."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost.protocol.event import Event, sign_event
from pennypost_postoffice.retention import JUMP, PATIENCE, PatientClock
from tests.crash.killable import Forker, Killable
from tests.support.books import read_books
from tests.support.relay import Relay, feed, letter, stored
from tests.support.stamps import MintClient, Stamp, output

HOUR, DAY = 3_600, 86_400


@pytest.fixture
def serve_with_clock(tmp_path: Path) -> Iterator[Callable[..., Killable]]:
    """Starts a server whose clock can be put."""
    forker = Forker()
    started: list[Killable] = []

    def start(**options: Any) -> Killable:
        server = Killable(tmp_path, forker, numbered=False, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.end()
    forker.end()


def _letter_of(time_ahead: int, keep: int) -> Event:
    """By a sender whose clock is as wrong as the server's."""
    now = int(time.time()) + time_ahead
    return sign_event(
        secrets.token_bytes(31).rjust(32, b"\1"),
        created_at=now,
        kind=1059,
        tags=[["p", secrets.token_hex(32)], ["vt", secrets.token_hex(4)], ["expiration", str(now + keep)]],
        content="x",
        aux=secrets.token_bytes(32),
    )


async def _sweeps(server: Killable, count: int) -> None:
    """Waits until so many sweeps were held back."""
    async with asyncio.timeout(60):
        while len(re.findall("clock was put forward", server.log.read_text())) < count:
            await asyncio.sleep(0.02)


async def test_a_day_forth_and_back(database_url: str, serve_with_clock: Callable[..., Killable]) -> None:
    server = serve_with_clock(database_url=database_url, settings={"SWEEP_EVERY": "0.1"})
    kept: list[Event] = []
    url = server.websocket_url
    async with (
        MintClient(server.url) as mint,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http,
        Relay(url) as relay,
    ):
        stamps: Iterator[Stamp] = iter(await mint.buy(20))

        async def post(event: Event) -> None:
            answer = await relay.post(event, next(stamps).token)
            assert answer.accepted, answer
            kept.append(event)

        async def refused(event: Event, code: str) -> Stamp:
            stamp = next(stamps)
            answer = await relay.post(event, stamp.token)
            assert (answer.accepted, answer.code) == (False, code)
            assert await mint.states([stamp]) == ["UNSPENT"]
            return stamp

        async def trades() -> None:
            """The mint sells and swaps whatever the time is."""
            (bought,) = await mint.buy(1)
            (swapped,) = await mint.swap([bought], [output()])
            assert await mint.states([bought, swapped]) == ["SPENT", "UNSPENT"]

        short, long = letter(keep=HOUR), letter(keep=3 * DAY)
        await post(short)
        await post(long)

        server.put_clock(DAY)
        assert await stored(url, [short.id, long.id]) == {long.id}
        assert [header.pubkey.hex() for header in await feed(http)] == [long.pubkey]
        await refused(letter(keep=HOUR), "expired")
        await post(letter(keep=3 * DAY))
        await post(_letter_of(DAY, HOUR))
        assert (await relay.post(long, next(stamps).token)).duplicate
        await trades()
        await _sweeps(server, 3)

        server.put_clock(-DAY)
        assert await stored(url, [event.id for event in kept]) == {event.id for event in kept}, "mail was lost"
        early = letter(keep=3 * DAY)
        stamp = await refused(early, "future")
        await post(_letter_of(-DAY, 3 * DAY))
        assert (await relay.post(long, next(stamps).token)).duplicate
        await trades()

        server.put_clock(0)
        assert await stored(url, [event.id for event in kept]) == {event.id for event in kept}
        assert (await relay.post(early, stamp.token)).accepted
        await post(letter(keep=HOUR))
        await trades()
        seqs = [header.seq for header in await feed(http)]
        assert seqs == sorted(set(seqs)) and len(seqs) == len(kept) + 1
    books = await read_books(server, database_url)
    books.balance()
    assert books.events == {event.id for event in kept} | {early.id}


def test_a_jump_is_believed_once_it_lasts() -> None:
    """By the steady clock; small steps and steps back at once."""
    steady = 1_000.0
    clock = PatientClock(lambda: steady)
    assert clock.believes(1_000_000)
    steady += 60
    assert clock.believes(1_000_060 + JUMP) and clock.believes(1_000_000)
    assert not clock.believes(1_000_000 + DAY)
    steady += PATIENCE - 1
    assert not clock.believes(1_000_000 + DAY + int(PATIENCE))
    steady += 1
    assert clock.believes(1_000_000 + DAY + int(PATIENCE))
    assert not clock.believes(1_000_000 + 3 * DAY)
    # put right in time: as if nothing had been
    assert clock.believes(1_000_000 + DAY + int(PATIENCE))
    assert not clock.believes(1_000_000 + 3 * DAY)
    steady += PATIENCE - 1
    assert not clock.believes(1_000_000 + 3 * DAY)
