"""Newly made invoices are looked up in turn; what fails does not hide the others."""

from __future__ import annotations

import asyncio

import pytest

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.lightning import Progress, Receipt, lookout
from pennypost_mint.lightning.lookout import Lookout


class Book:
    """A node whose look-ups are counted."""

    def __init__(self) -> None:
        self.paid: set[bytes] = set()
        self.dumb: set[bytes] = set()
        self.lost: set[bytes] = set()
        self.looked: list[bytes] = []

    async def look_up(self, payment_hash: bytes) -> Receipt:
        self.looked.append(payment_hash)
        await asyncio.sleep(0)
        if payment_hash in self.dumb:
            raise LightningUnavailable
        if payment_hash in self.lost:
            return Receipt(payment_hash, Progress.LOST, 0)
        return Receipt(payment_hash, Progress.SETTLED if payment_hash in self.paid else Progress.OPEN, 1_000)


HASHES = [bytes([number]) * 32 for number in range(40)]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    monkeypatch.setattr(lookout, "EVERY", 0.001)
    return Book()


async def test_the_newest_are_asked_first_and_all_in_turn(book: Book) -> None:
    watch = Lookout(book.look_up)
    for each in HASHES:
        watch.add(each)
    book.paid.add(HASHES[0])
    async with asyncio.timeout(20):
        found = await anext(watch.settled())
    assert found.payment_hash == HASHES[0]
    assert book.looked[:4] == HASHES[:-5:-1]
    assert set(book.looked) == set(HASHES) or HASHES[0] in book.looked[:8]


async def test_a_paid_one_is_told_once_and_a_lost_one_forgotten(book: Book) -> None:
    watch = Lookout(book.look_up)
    watch.add(HASHES[0])
    watch.add(HASHES[1])
    book.paid.add(HASHES[0])
    book.lost.add(HASHES[1])
    stream = watch.settled()
    assert (await anext(stream)).payment_hash == HASHES[0]
    watch.add(HASHES[2])
    book.paid.add(HASHES[2])
    async with asyncio.timeout(20):
        assert (await anext(stream)).payment_hash == HASHES[2]
    assert [book.looked.count(each) for each in HASHES[:3]] == [1, 1, 1]


async def test_one_that_fails_does_not_hide_the_others(book: Book) -> None:
    watch = Lookout(book.look_up)
    watch.add(HASHES[0])
    watch.add(HASHES[1])
    book.dumb.add(HASHES[1])
    book.paid.add(HASHES[0])
    async with asyncio.timeout(20):
        assert (await anext(watch.settled())).payment_hash == HASHES[0]


async def test_a_node_that_answers_nothing_ends_the_stream(book: Book) -> None:
    watch = Lookout(book.look_up)
    watch.add(HASHES[0])
    book.dumb.add(HASHES[0])
    with pytest.raises(LightningUnavailable):
        await anext(watch.settled())
    book.dumb.clear()
    book.paid.add(HASHES[0])
    assert (await anext(watch.settled())).payment_hash == HASHES[0]


async def test_what_is_old_or_too_much_is_forgotten(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "REMEMBERED", 2)
    watch = Lookout(book.look_up)
    for each in HASHES[:3]:
        watch.add(each)
    assert set(watch._next()) == set(HASHES[1:3])
    monkeypatch.setattr(lookout, "WHILE", -1)
    assert watch._next() == []
