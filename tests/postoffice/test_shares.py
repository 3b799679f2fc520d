"""CPU that no stamp pays: nobody waits while there is some, and under pressure those who took most."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pennypost_mint.runtime.limits import LITTLE_CPU, MAX_SOURCES
from pennypost_postoffice.connection import Connection
from pennypost_postoffice.shares import HALF_LIFE, WAIT, Lately, Shares
from tests.postoffice.house import Author, House

RATE = 600_000
"""Microseconds a second for all."""

A, B, C = (bytes([number]) * 16 for number in range(3))


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> Shares:
    return Shares(RATE, LITTLE_CPU, (2, 3), clock)


def _took(clock: Clock, microseconds: float) -> Lately:
    own = Lately()
    own.add(microseconds, clock())
    return own


def _busy(clock: Clock) -> Lately:
    return _took(clock, 10 * LITTLE_CPU)


def _work(shares: Shares, clock: Clock, seconds: int, **rates: float) -> None:
    """Each source asks for this part of RATE, for so long."""
    for _ in range(seconds * 10):
        clock.now += 0.1
        for name, rate in rates.items():
            shares.charge({"a": A, "b": B, "c": C}[name], Lately(), rate * RATE / 10)


def test_nobody_waits_while_there_is_enough(shares: Shares, clock: Clock) -> None:
    """Also the only source of all, with as many connections as it likes."""
    _work(shares, clock, 60, a=0.9)
    assert not shares.tight and shares.pause(A, _busy(clock)) == 0


def test_who_took_most_waits(shares: Shares, clock: Clock) -> None:
    _work(shares, clock, 60, a=1.5, b=0.2, c=0.1)
    assert shares.tight
    assert (shares.pause(A, _busy(clock)), shares.pause(B, _busy(clock)), shares.pause(C, _busy(clock))) == (WAIT, 0, 0)


def test_a_quiet_reader_beside_a_busy_one_is_served(shares: Shares, clock: Clock) -> None:
    """Two behind one address: the one who asks little does not wait for the other."""
    _work(shares, clock, 60, a=2.0)
    assert (shares.pause(A, _busy(clock)), shares.pause(A, _took(clock, LITTLE_CPU))) == (WAIT, 0)


def test_a_request_of_who_took_most_is_refused_beyond_the_floor(shares: Shares, clock: Clock) -> None:
    """Three at once and two a second, here; everyone else's are served, and all when the pressure is gone."""
    _work(shares, clock, 60, a=1.5, b=0.2)
    assert [shares.admits(A) for _ in range(5)] == [True, True, True, False, False]
    assert all(shares.admits(B) and shares.admits(C) for _ in range(50))
    clock.now += 1
    shares.charge(A, None, RATE)
    assert [shares.admits(A) for _ in range(3)] == [True, True, False]
    clock.now += 2 * HALF_LIFE
    assert all(shares.admits(A) for _ in range(50))


def test_many_sources_together_wait_too(shares: Shares, clock: Clock) -> None:
    _work(shares, clock, 60, a=0.5, b=0.5, c=0.5)
    assert shares.tight and all(shares.pause(each, _busy(clock)) == WAIT for each in (A, B, C))


def test_it_is_forgotten(shares: Shares, clock: Clock) -> None:
    _work(shares, clock, 60, a=1.5)
    assert shares.pause(A, _busy(clock)) == WAIT
    clock.now += HALF_LIFE
    assert shares.pause(A, _busy(clock)) == 0 and not shares.tight
    clock.now += 20 * HALF_LIFE
    shares.charge(B, Lately(), LITTLE_CPU)
    assert list(shares._taken) == [B]


def test_sources_are_bounded(shares: Shares) -> None:
    for number in range(MAX_SOURCES + 10):
        shares.charge(number.to_bytes(16, "big"), Lately(), LITTLE_CPU)
    assert len(shares._taken) == MAX_SOURCES


async def test_a_busy_connection_waits_and_goes_on(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its source is over its share a connection that asks much is read later; then everything is answered."""
    office = sqlite_house.office
    asked: list[float] = []
    real = office.shares.pause

    def pause(source: Any, own: Lately) -> float:
        asked.append(real(source, own))
        return asked[-1]

    monkeypatch.setattr(office.shares, "pause", pause)
    monkeypatch.setattr(office.shares, "_most", 1_000.0)
    monkeypatch.setattr(office.shares, "_little", 100)
    async with sqlite_house.relay() as relay:
        letters = [Author().sign(1) for _ in range(20)]
        answers = await asyncio.gather(*(relay.post(letter) for letter in letters))
        assert {answer.code for answer in answers} == {"stamp-required"}
        await relay.send(["REQ", "s", {}])
        async with asyncio.timeout(20):
            while (await relay.frames.get())[0] != "EOSE":
                pass
    assert WAIT in asked


def test_what_a_connection_took_counts_for_its_source(sqlite_house: House) -> None:
    connection = Connection(sqlite_house.office, "", A, frozenset())
    connection.charge(5 * LITTLE_CPU)
    assert sqlite_house.office.shares._taken[A] == 5 * LITTLE_CPU
