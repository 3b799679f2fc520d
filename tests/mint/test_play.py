"""The play-money node: pays by itself or when told, keeps its book over a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from pennypost.protocol.errors import NotFound, QuoteExpired
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.lightning import Progress
from pennypost_mint.lightning.play import PlayNode
from pennypost_mint.tables import play_invoices
from tests.mint.desk import Desk, open_desk, settings_for


async def until_state(desk: Desk, quote: dict[str, str], state: str) -> float:
    start = time.monotonic()
    async with asyncio.timeout(20):
        for _ in iter(int, 1):
            if (await desk.state_of(quote))["state"] == state:
                return time.monotonic() - start
            await asyncio.sleep(0.01)
    raise AssertionError


async def test_it_settles_at_once(tmp_path: Path, database_url: str) -> None:
    async with open_desk(settings_for(tmp_path, database_url, play_settle_after="0"), listening=True) as desk:
        quotes = [await desk.quote(amount) for amount in (1, 2, 3)]
        for quote in quotes:
            await until_state(desk, quote, "PAID")


async def test_it_settles_after_a_while(tmp_path: Path, database_url: str) -> None:
    async with open_desk(settings_for(tmp_path, database_url, play_settle_after="2"), listening=True) as desk:
        quote = await desk.quote(1)
        assert (await desk.state_of(quote))["state"] == "UNPAID"
        assert await until_state(desk, quote, "PAID") < 5


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
    settings = settings_for(tmp_path, database_url, play_settle_after="0")
    async with open_desk(settings) as desk:
        quote = await desk.quote(1)
    async with open_desk(settings_for(tmp_path, database_url), listening=True) as desk:
        await until_state(desk, quote, "PAID")


async def test_what_is_not_in_the_book_cannot_be_paid(desk: Desk) -> None:
    for request in ("", "lnbcrt1", "lnbc10n1pqqqq"):
        with pytest.raises(NotFound):
            await pay_play_invoice(desk.database, request)


async def test_an_invoice_that_is_too_old_cannot_be_paid(desk: Desk) -> None:
    node = PlayNode(desk.database, None)
    invoice = await node.create_invoice(1, "", 60)

    def age(connection):  # type: ignore[no-untyped-def]
        connection.execute(update(play_invoices).values(expiry=int(time.time()) - 1))

    assert (await node.look_up(invoice.payment_hash)).progress is Progress.OPEN
    await desk.database.write(age)
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.LOST
    with pytest.raises(QuoteExpired):
        await pay_play_invoice(desk.database, invoice.request)


async def test_an_unknown_invoice_is_lost(desk: Desk) -> None:
    assert (await PlayNode(desk.database, None).look_up(bytes(32))).progress is Progress.LOST
