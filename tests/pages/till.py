"""A buyer: what a person does on the buy page, step by step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page, expect

from pennypost_mint.api import pay_play_invoice
from pennypost_mint.runtime.database import open_database
from tests.support.server import Server

LINK = re.compile(r"#b1\.[A-Za-z0-9_-]{43}\.[0-9]+\.[0-9a-f]+$")


async def pay_play(server: Server, invoice: str) -> int:
    """Pays an invoice of a server on SQLite whose play money waits to be paid: its sat."""
    database = open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))
    try:
        return await pay_play_invoice(database, invoice)
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


async def shown_token(page: Page, seconds: float = 20) -> str:
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
    return await page.evaluate(
        """() => new Promise((done, failed) => {
            const asked = indexedDB.open('pennypost');
            asked.onerror = () => failed(asked.error);
            asked.onsuccess = () => {
                const all = asked.result.transaction('purchases').objectStore('purchases').getAll();
                all.onsuccess = () => { asked.result.close(); done(all.result); };
            };
        })"""
    )
