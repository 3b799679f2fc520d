"""The books: they balance whatever customers do, and say so when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, update

from pennypost_mint.api import pay_play_invoice
from pennypost_mint.operate import rotation
from pennypost_mint.operate.books import Books, books_on
from pennypost_mint.operate.opening import snapshot
from pennypost_mint.operate.promotions import issue
from pennypost_mint.tables import mint_quotes, outputs, spent
from tests.mint.desk import MINT, SWAP, Desk
from tests.support.stamps import output


async def books(desk: Desk) -> Books:
    return await snapshot(desk.database, books_on)


async def test_an_empty_mint_balances(desk: Desk) -> None:
    found = await books(desk)
    assert (found.settled, found.outstanding, found.used, found.difference, found.faults) == (0, 0, 0, 0, [])
    assert [book.keyset.id for book in found.keysets] == [desk.keyset]


async def test_everything_that_customers_do(desk: Desk) -> None:
    proofs = await desk.buy(8, 4)
    await desk.quote(1_000)
    waiting = await desk.paid_quote(7)
    part = await desk.paid_quote(8)
    await desk.done(MINT, {"quote": part["quote"], "outputs": [output(2).message(desk.keyset)]})
    made = [output(4), output(4)]
    answer = await desk.done(SWAP, {"inputs": proofs[:1], "outputs": desk.messages(made)})
    await issue(desk.database, desk.settings, 100, "meetup")
    new = (await rotation.rotate(desk.database, desk.settings, None)).id
    await desk.keyring.refresh()
    mine = desk.proofs(made, answer["signatures"])
    await desk.done(SWAP, {"inputs": mine[:1], "outputs": [output(4).message(new)]})

    found = await books(desk)
    assert found.settled == 12 + 7 + 8 and found.sold == 12 + 2 and found.unclaimed == 7 + 6
    assert (found.difference, found.faults) == (0, [])
    assert found.promotional == 100
    assert (found.signed, found.spent) == (12 + 8 + 2 + 100 + 4, 8 + 4)
    assert (found.outstanding, found.used) == (12 + 2 + 100, 0)
    old_book, new_book = found.keysets
    assert (old_book.signed, old_book.spent, old_book.promotional) == (122, 12, 100)
    assert (new_book.keyset.id, new_book.signed, new_book.outstanding) == (new, 4, 4)
    # one day, or two around midnight
    assert [sum(column) for column in list(zip(*found.days, strict=True))[1:-1]] == [27, 14, 100, 126, 12]
    assert found.days[-1].outstanding == 114
    assert waiting["state"] == "PAID"


async def test_what_an_office_took_is_used(desk: Desk) -> None:
    """A stamp taken without a swap; change is signed in the same transaction."""
    await desk.buy(8)

    def take_on(connection: Connection) -> None:
        row = {"y": b"\2" + bytes(32), "keyset": 0, "amount": 8, "day": 1, "witness": None}
        connection.execute(insert(spent).values(row))
        change = {"b": b"\2" + bytes(32), "keyset": 0, "amount": 2, "c": bytes(33), "e": bytes(32), "s": bytes(32)}
        connection.execute(insert(outputs).values(change | {"day": 2}))

    await desk.database.write(take_on)
    found = await books(desk)
    assert (found.used, found.outstanding, found.faults) == (6, 2, [])
    assert [(day.day, day.outstanding) for day in found.days][:2] == [(1, -8), (2, -6)]
    assert found.days[-1].outstanding == 2


def set_quote(**values: Any) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(update(mint_quotes).values(values))

    return work


def forge(connection: Connection) -> None:
    connection.execute(delete(outputs))


def sign_for_nothing(connection: Connection) -> None:
    row = {"b": bytes(33), "keyset": 0, "amount": 16, "c": bytes(33), "e": bytes(32), "s": bytes(32), "day": 1}
    connection.execute(insert(outputs).values(row))


Harm = Callable[[Connection], None]

WRONG: list[tuple[str, Harm]] = [
    ("issued more than was paid", set_quote(amount_issued=9, state="ISSUED")),
    ("paid, and said to be unpaid", set_quote(amount_issued=0, state="UNPAID")),
    ("issued, and said to be paid", set_quote(state="PAID")),
    ("half issued, and said to be issued", set_quote(amount_issued=4)),
    ("spent what was never signed", forge),
    ("signed what nobody paid for", sign_for_nothing),
]


class Undone(Exception):
    """Rolls back."""


async def test_books_that_do_not_balance_say_so(desk: Desk) -> None:
    proofs = await desk.buy(8)
    await desk.done(SWAP, {"inputs": proofs, "outputs": [output(8).message(desk.keyset)]})
    assert (await books(desk)).faults == []
    for name, harm in WRONG:
        found: list[Books] = []

        def harmed(connection: Connection, harm: Harm = harm, found: list[Books] = found) -> None:
            harm(connection)
            found.append(books_on(connection))
            raise Undone

        with pytest.raises(Undone):
            await desk.database.write(harmed)
        assert found[-1].faults, name
    assert (await books(desk)).faults == []


async def test_the_books_are_of_one_moment(desk: Desk) -> None:
    """What is committed while they are read is in all of them or in none."""
    await desk.buy(8)
    seen: list[Books] = []

    async def read() -> None:
        seen.append(await books(desk))

    for _ in range(8):
        quote = await desk.quote(4)
        await pay_play_invoice(desk.database, quote["request"])
        await desk.mint.till.reconcile()
        body = {"quote": quote["quote"], "outputs": [output(4).message(desk.keyset)]}
        await asyncio.gather(read(), desk.done(MINT, body), read())
    assert all(each.faults == [] and each.sold == each.outstanding for each in seen)
