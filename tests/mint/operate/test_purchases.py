"""Quotes listed in pages and looked up at the node: what was paid is credited, once, and it is said what was done."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import LightningUnavailable, QuoteUnknown
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.lightning import Progress, Receipt
from pennypost_mint.operate import purchases
from pennypost_mint.operate.purchases import EVERY, OPEN, UNPAID, Looked, find, look, reconcile
from pennypost_mint.tables import mint_quotes
from pennypost_mint.till import GIVE_UP
from tests.mint.desk import MINT, Desk
from tests.support.stamps import output


async def reconciled(desk: Desk, states: tuple[str, ...] = OPEN) -> list[Looked]:
    return [each async for each in reconcile(desk.database, desk.mint.till, states, lambda done: None)]


async def test_pages_are_complete_and_without_overlap(desk: Desk) -> None:
    made = [(await desk.quote(amount))["quote"] for amount in range(1, 8)]
    paid = (await desk.paid_quote(9))["quote"]
    seen: list[str] = []
    before = None
    while page := await desk.database.read(purchases.page_on, EVERY, before, 3):
        seen += [quote.id for quote in page]
        before = page[-1]
    assert sorted(seen) == sorted([*made, paid])
    times = [(quote.created_at, quote.id) for quote in await desk.database.read(purchases.page_on, EVERY, None, 99)]
    assert times == sorted(times, reverse=True)
    assert [quote.id for quote in await desk.database.read(purchases.page_on, ("PAID",), None, 99)] == [paid]


async def test_one_quote_by_each_of_its_names(desk: Desk) -> None:
    quote = await desk.quote(5)
    payment_hash = parse_invoice(quote["request"]).payment_hash.hex()
    for name in (
        quote["quote"],
        payment_hash,
        quote["request"],
        quote["request"].upper(),
        f"lightning:{quote['request']}",
    ):
        assert (await find(desk.database, f" {name}\n")).id == quote["quote"]


async def test_what_names_no_quote(desk: Desk) -> None:
    for name in ("", "0" * 32, "0" * 64, "lnbc1", "x" * 10_000, "٠" * 32, "\ud800", "' OR 1=1 --"):
        with pytest.raises(QuoteUnknown):
            await find(desk.database, name)


async def test_paid_but_not_credited(desk: Desk) -> None:
    """The payment came while nothing listened: the command credits it, and the buyer's wallet has its stamps."""
    waiting, paid = await desk.quote(4), await desk.quote(8)
    await pay_play_invoice(desk.database, paid["request"])
    found = {each.quote.id: each for each in await reconciled(desk)}
    assert (found[paid["quote"]].became, found[paid["quote"]].credited) == ("credited", 8)
    assert found[waiting["quote"]].became == "waiting"
    assert [each.became for each in await reconciled(desk)] == ["waiting"]
    again = await look(desk.mint.till, await find(desk.database, paid["quote"]))
    assert (again.became, again.credited) == ("nothing new", 0)
    await desk.done(MINT, {"quote": paid["quote"], "outputs": [output(8).message(desk.keyset)]})
    again = await look(desk.mint.till, await find(desk.database, paid["quote"]))
    assert (again.became, again.credited) == ("nothing new", 0)


def lapse(connection: Connection) -> None:
    connection.execute(update(mint_quotes).values(state="LAPSED", expiry=1))


async def test_a_lapsed_quote_that_was_paid_nevertheless(desk: Desk) -> None:
    quote = await desk.quote(4)
    await desk.database.write(lapse)
    await pay_play_invoice(desk.database, quote["request"])
    assert await reconciled(desk) == []
    [found] = await reconciled(desk, UNPAID)
    assert (found.became, found.credited) == ("credited", 4)


async def test_an_invoice_that_can_no_longer_be_paid_lapses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    quote = await desk.quote(4)
    await desk.database.write(lambda connection: connection.execute(update(mint_quotes).values(expiry=1)))

    async def lost(payment_hash: bytes) -> Receipt:
        return Receipt(payment_hash, Progress.LOST, 0)

    monkeypatch.setattr(desk.mint.lightning, "look_up", lost)
    assert [each.became for each in await reconciled(desk)] == ["lapsed"]
    assert (await find(desk.database, quote["quote"])).state == "LAPSED"


async def test_too_little_is_said_and_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.quote(4)

    async def little(payment_hash: bytes) -> Receipt:
        return Receipt(payment_hash, Progress.SETTLED, 3_999)

    monkeypatch.setattr(desk.mint.lightning, "look_up", little)
    [found] = await reconciled(desk)
    assert (found.became, found.credited) == ("too little", 0)


async def test_a_node_that_is_silent_ends_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(9 * GIVE_UP):
        await desk.quote(1)

    async def away(_: bytes) -> Receipt:
        raise LightningUnavailable

    monkeypatch.setattr(desk.mint.lightning, "look_up", away)
    found = await reconciled(desk)
    assert {each.became for each in found} == {"no answer"}
    assert len(found) == 8 * GIVE_UP < 9 * GIVE_UP


async def test_beside_a_running_till_nothing_is_credited_twice(desk: Desk) -> None:
    import asyncio

    quotes = [await desk.quote(3) for _ in range(10)]
    for quote in quotes:
        await pay_play_invoice(desk.database, quote["request"])
    await asyncio.gather(reconciled(desk), desk.mint.till.reconcile(), reconciled(desk))
    states = [await desk.state_of(quote) for quote in quotes]
    assert {(each["amount_paid"], each["state"]) for each in states} == {(3, "PAID")}
