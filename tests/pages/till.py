"""A buyer: what a person does on the buy page, step by step."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import Page, expect
from sqlalchemy import Connection, update

from pennypost_mint.api import pay_play_invoice
from pennypost_mint.quotes import State
from pennypost_mint.runtime.database import open_database
from pennypost_mint.tables import mint_quotes, play_invoices
from tests.support.server import Server

LINK = re.compile(r"#b1\.[A-Za-z0-9_-]{43}\.[0-9]+\.[0-9a-f]+$")


async def pay_play(server: Server, invoice: str) -> int:
    """Pays an invoice of a server on SQLite whose play money waits to be paid: its sat."""
    database = open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))
    try:
        return await pay_play_invoice(database, invoice)
    finally:
        await database.close()


async def credited(server: Server, quote: str) -> str:
    """Waits until the mint has heard of the payment: the quote's state."""
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
        while (state := (await http.get(f"/v1/mint/quote/bolt11/{quote}")).json()["state"]) == "UNPAID":
            await asyncio.sleep(0.05)
    return state


async def expire(server: Server, invoice: str, *, seconds: int = -1, lapse: bool = False) -> None:
    """Its quote expires in so many seconds, and so does the play-money node's invoice; `lapse`: the mint gave it up.

    A node elsewhere keeps its own time.
    """
    over = int(time.time()) + seconds

    def written(connection: Connection) -> None:
        values = {"expiry": over} | ({"state": State.LAPSED} if lapse else {})
        connection.execute(update(mint_quotes).where(mint_quotes.c.request == invoice).values(**values))
        connection.execute(update(play_invoices).where(play_invoices.c.request == invoice).values(expiry=over))

    await _write(server, written)


async def settle_late(server: Server, invoice: str) -> None:
    """A payment that was under way when the play-money invoice expired arrives."""

    def written(connection: Connection) -> None:
        now = int(time.time())
        late = update(play_invoices).where(play_invoices.c.request == invoice, play_invoices.c.expiry <= now)
        assert connection.execute(late.values(settle_at=now)).rowcount == 1

    await _write(server, written)


async def _write(server: Server, work: Callable[[Connection], None]) -> None:
    database = open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))
    try:
        await database.write(work)
    finally:
        await database.close()


async def choose(page: Page, amount: int) -> None:
    """Chooses a number of stamps."""
    if await page.locator(f'input[name="pack"][value="{amount}"]').count():
        await page.check(f'input[name="pack"][value="{amount}"]')
    else:
        await page.check('input[name="pack"][value="own"]')
        await page.fill("#number", str(amount))


async def order(page: Page, server: Server, amount: int) -> str:
    """From the buy page to the invoice: its text."""
    await page.goto(f"{server.url}/buy")
    await choose(page, amount)
    await page.click("#buy")
    return await shown_invoice(page)


async def shown_invoice(page: Page) -> str:
    """Waits for the invoice and reads it."""
    await expect(page.locator("#pay")).to_be_visible()
    link = await page.get_attribute("#open", "href")
    assert link and link.startswith("lightning:lnbc")
    return link.removeprefix("lightning:")


async def open_check(page: Page, server: Server) -> None:
    """The check page, its form to be filled in."""
    await page.goto(f"{server.url}/buy/check")
    await expect(page.locator("#check")).to_be_visible()


async def shown_token(page: Page, seconds: float = 45) -> str:
    """Waits for the stamps: the token."""
    await expect(page.locator("#done")).to_be_visible(timeout=seconds * 1_000)
    token = await page.input_value("#token")
    assert token.startswith("cashuB")
    return token


def link_of(page: Page) -> str:
    """The link that opens the purchase again."""
    assert LINK.search(page.url), page.url
    return page.url


def fragment_of(page: Page) -> str:
    """The part of the address that must never be sent."""
    return urlsplit(page.url).fragment


async def purchases(page: Page) -> list[dict[str, Any]]:
    """What the browser keeps."""
    return await _kept(page, "purchases")


async def settings_kept(page: Page) -> list[str]:
    """What the browser keeps beside purchases: the connection to a wallet."""
    return await _kept(page, "settings")


async def _kept(page: Page, store: str) -> list[Any]:
    return await page.evaluate(
        """store => new Promise((done, failed) => {
            const asked = indexedDB.open('pennypost');
            asked.onerror = () => failed(asked.error);
            asked.onsuccess = () => {
                const all = asked.result.transaction(store).objectStore(store).getAll();
                all.onsuccess = () => { asked.result.close(); done(all.result); };
            };
        })""",
        store,
    )
