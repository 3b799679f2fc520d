"""The play-money node: pays by itself or when told, keeps its book over a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, select, update

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import NotFound, QuoteExpired
from pennypost_mint import minting
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.lightning import Progress, play
from pennypost_mint.lightning.play import PlayNode
from pennypost_mint.runtime.sets import insert_rows
from pennypost_mint.tables import play_invoices
from tests.mint.desk import MINT, QUOTE, Desk, open_desk, settings_for
from tests.support.stamps import output


def settled_on(connection: Connection) -> dict[str, int]:
    """Amounts of settled invoices, by invoice."""
    columns = play_invoices.c
    found = connection.execute(select(columns.request, columns.amount).where(columns.settled_at.is_not(None)))
    return {row.request: row.amount for row in found}


async def until_state(desk: Desk, quote: dict[str, str], state: str) -> None:
    async with asyncio.timeout(20):
        while (await desk.state_of(quote))["state"] != state:
            await asyncio.sleep(0.01)


async def test_it_settles_at_once(tmp_path: Path, database_url: str) -> None:
    """Paid as the quote is handed out, in one transaction: nobody listens here, and nobody has to."""
    async with open_desk(settings_for(tmp_path, database_url, play_settle_after="0")) as desk:
        before = desk.mint.metrics.text()
        quotes = await asyncio.gather(*(desk.quote(amount) for amount in (1, 2, 3)))
        assert [(quote["state"], quote["amount_paid"]) for quote in quotes] == [("PAID", 1), ("PAID", 2), ("PAID", 3)]
        assert b"pennypost_mint_settled_sat_total 0.0" in before
        assert b"pennypost_mint_settled_sat_total 6.0" in desk.mint.metrics.text()
        for quote in quotes:
            assert await desk.state_of(quote) == quote
        assert parse_invoice(quotes[0]["request"]).description == "play money: 1 stamps"
        assert await desk.database.read(settled_on) == {quote["request"]: quote["amount"] for quote in quotes}
        # Whoever listens later hears of none of them: they were credited.
        assert not await desk.database.read(play._any_due, int(time.time()) + 9)
        assert await desk.mint.till.reconcile() == 0
        outputs = [output(2)]
        await desk.done(MINT, {"quote": quotes[1]["quote"], "outputs": desk.messages(outputs)})


async def test_it_settles_after_a_while(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(play, "time", SimpleNamespace(time=lambda: now))
    async with open_desk(settings_for(tmp_path, database_url, play_settle_after="2"), listening=True) as desk:
        quote = await desk.quote(1)
        payment_hash = parse_invoice(quote["request"]).payment_hash
        now += 1
        assert (await desk.mint.lightning.look_up(payment_hash)).progress is Progress.OPEN
        assert (await desk.state_of(quote))["state"] == "UNPAID"
        now += 1
        await until_state(desk, quote, "PAID")


async def test_never_means_until_it_is_paid(tmp_path: Path, database_url: str) -> None:
    async with open_desk(settings_for(tmp_path, database_url), listening=True) as desk:
        quote, other = await desk.quote(7), await desk.quote(7)
        assert (await desk.state_of(quote))["state"] == "UNPAID"
        assert await pay_play_invoice(desk.database, quote["request"]) == 7
        assert await pay_play_invoice(desk.database, quote["request"].upper()) == 7
        await until_state(desk, quote, "PAID")
        assert (await desk.state_of(quote))["amount_paid"] == 7
        assert (await desk.state_of(other))["state"] == "UNPAID"


async def test_what_is_promised_is_kept_over_a_restart(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url, play_settle_after="1")
    async with open_desk(settings) as desk:
        quote = await desk.quote(1)
        assert quote["state"] == "UNPAID"
    async with open_desk(settings_for(tmp_path, database_url), listening=True) as desk:
        await until_state(desk, quote, "PAID")


async def test_a_quote_and_its_invoice_are_stored_both_or_neither(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings_for(tmp_path, database_url, play_settle_after="0")) as desk:
        first = await desk.quote(1)
        monkeypatch.setattr(minting, "secrets", SimpleNamespace(token_hex=lambda _size: first["quote"]))
        assert (await desk.ask(QUOTE, {"amount": 5, "unit": "sat"}))[0] == 500
        assert await desk.database.read(settled_on) == {first["request"]: 1}
        assert await desk.state_of(first) == first


async def test_what_is_not_in_the_book_cannot_be_paid(desk: Desk) -> None:
    for request in ("", "lnbcrt1", "lnbc10n1pqqqq"):
        with pytest.raises(NotFound):
            await pay_play_invoice(desk.database, request)


async def test_an_invoice_that_is_too_old_cannot_be_paid(desk: Desk) -> None:
    node = PlayNode(desk.database, None)
    invoice = await node.create_invoice(1, "", 60)
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.LOST
    assert invoice.entry is not None
    await desk.database.write(insert_rows, *invoice.entry[:2], [invoice.entry.row])

    def age(connection):  # type: ignore[no-untyped-def]
        connection.execute(update(play_invoices).values(expiry=int(time.time()) - 1))

    assert (await node.look_up(invoice.payment_hash)).progress is Progress.OPEN
    await desk.database.write(age)
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.LOST
    with pytest.raises(QuoteExpired):
        await pay_play_invoice(desk.database, invoice.request)


async def test_an_unknown_invoice_is_lost(desk: Desk) -> None:
    assert (await PlayNode(desk.database, None).look_up(bytes(32))).progress is Progress.LOST
