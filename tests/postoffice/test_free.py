"""Events without a stamp: rates of a connection, of all, and under pressure of the sources that sent most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from pennypost.protocol.errors import TooMany
from pennypost_postoffice.free import FreeRate
from tests.postoffice.house import Author, House
from tests.support.relay import plain


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sender:
    """A connection of a source."""

    source: bytes
    origin: str = ""
    authenticated: set[str] = field(default_factory=set[str])
    rate_key: object = field(default_factory=object)

    def took(self) -> None: ...

    def answered(self, post: Any, answer: Any) -> None: ...


def _taken(rate: FreeRate, *senders: Sender) -> int:
    count = 0
    for sender in senders:
        try:
            rate.take(sender)
        except TooMany:
            continue
        count += 1
    return count


def test_a_connection_has_its_own_rate() -> None:
    """Ten seconds of it at once; another connection of the same source is not held back by it."""
    clock = Clock()
    rate = FreeRate(2, 10, 1_000, clock)
    one, two = Sender(b"a"), Sender(b"a")
    assert _taken(rate, *[one] * 30) == 20
    clock.now += 3
    assert _taken(rate, *[one] * 30) == 6
    assert _taken(rate, *[two] * 30) == 20


def test_while_there_is_room_a_source_may_have_many_connections() -> None:
    """Hundreds of people behind one address, each with one event: nobody is refused."""
    rate = FreeRate(2, 10, 100, Clock())
    assert _taken(rate, *(Sender(b"tor") for _ in range(600))) == 600


def test_when_it_is_tight_a_source_that_sent_most_has_the_rate_of_one() -> None:
    """However many connections it opens; whoever else comes is served."""
    clock = Clock()
    rate = FreeRate(2, 10, 10, clock)
    flood = _taken(rate, *(Sender(b"flood") for _ in range(5_000)))
    assert 72 <= flood <= 10 * 5 / 0.69 + 20 + 2
    clock.now += 1
    assert _taken(rate, *(Sender(b"flood") for _ in range(5_000))) <= 2 + 10
    assert all(_taken(rate, Sender(bytes([number]))) for number in range(30))


def test_it_is_forgotten() -> None:
    clock = Clock()
    rate = FreeRate(2, 10, 10, clock)
    _taken(rate, *(Sender(b"flood") for _ in range(5_000)))
    clock.now += 60
    assert _taken(rate, *(Sender(b"flood") for _ in range(50))) == 50


def test_a_refusal_costs_nothing() -> None:
    """Who is refused by the rate of all keeps what his connection saved up."""
    clock = Clock()
    rate = FreeRate(1, 3, 5, clock)
    _taken(rate, *(Sender(b"flood") for _ in range(500)))
    quiet = Sender(b"flood")
    assert _taken(rate, *[quiet] * 5) == 0
    clock.now += 60
    assert _taken(rate, *[quiet] * 5) == 3


async def test_over_websocket_and_http(sqlite_house: House) -> None:
    """Connection after connection from one address: refused with the code of the table, and others are served."""
    house = sqlite_house
    # nothing is saved up or forgotten while the test runs
    house.office.policy._clock = Clock()
    house.service.load = lambda: house.settings.model_copy(
        update={"all_free_rate": 0.01, "free_rate": 0.04, "trusted_proxies": "127.0.0.0/8"}
    )
    house.service.reload()
    codes: list[str] = []
    for _ in range(8):
        async with house.relay() as relay:
            codes.append((await relay.post(Author().sign(10_002))).code)
    assert codes[0] == "" and codes[-1] == "rate-limited"
    async with house.relay() as relay:
        answer = await relay.post(Author().sign(10_050))
        assert answer.message.startswith("rate-limited:") and answer.code == "rate-limited"
        await house.pay(relay, [Author().sign(1)])
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:

        async def post(address: str) -> httpx.Response:
            event = plain(Author().sign(10_002))
            return await http.post("/v1/events", json=event, headers={"x-forwarded-for": address})

        other, same = await asyncio.gather(post("198.51.100.7"), post("127.0.0.1"))
        assert other.status_code == 200
        assert same.status_code == 429 and int(same.headers["retry-after"]) > 0
        assert "[rate-limited]" in same.json()["detail"]


@pytest.mark.parametrize("kind", [10_002, 20_001])
async def test_a_stamp_on_a_free_event_is_not_touched(sqlite_house: House, kind: int) -> None:
    """Neither when it is taken, nor when it is refused by its rate."""
    house = sqlite_house
    house.office.policy._clock = Clock()
    house.service.load = lambda: house.settings.model_copy(update={"free_rate": 0.04, "ephemeral_rate": 0.1})
    house.service.reload()
    proofs = [house.purse.proof() for _ in range(3)]
    async with house.relay() as relay:
        codes = [(await relay.post(Author().sign(kind), house.purse.token(proof))).code for proof in proofs]
    assert codes[-1] == "rate-limited"
    assert await house.spent(*proofs) == [False] * 3
