"""Pictures of the front page and the operator's pages, in both schemes and on a phone; see pictures.py."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from pennypost_mint.operate.promotions import issue
from pennypost_mint.runtime.database import open_database
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.pages.operator.sign_in import make_link_on
from tests.pages.browser import ARGUMENTS, program
from tests.pages.made_up import fill_on
from tests.pages.pictures import picture
from tests.postoffice.house import DAY, Author
from tests.support.relay import Relay
from tests.support.server import Server
from tests.support.stamps import MintClient

VIEWS: tuple[tuple[str, Literal["light", "dark"], int], ...] = (
    ("light", "light", 1_000),
    ("dark", "dark", 1_000),
    ("phone", "light", 390),
)
"""How a picture's name ends, the scheme, and the width in pixels."""

OTHER_LIST = """free_kinds = [10002, 10050]

[[rule]]
kinds = [1059]
base = 1
per_kib = 1

[[rule]]
base = 2
"""
SETTINGS = {
    "PLAY_SETTLE_AFTER": "never",
    "NAME": "Penny Post Office",
    "CONTACT": "post@office.example",
    "OPERATORS": Author(b"\1" * 32).pubkey,
}


async def fill(server: Server, stamps: int = 1) -> None:
    """Weeks that nobody had, and a real letter that is kept for a month and a real purchase that waits."""
    database = open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))
    token, _ = await issue(database, load_settings(server.environment), stamps, secrets.token_hex(8))
    async with Relay(server.websocket_url) as relay:
        assert (await relay.post(Author().sign(1059, expires_in=30 * DAY - 60), token)).accepted
    await database.write(fill_on, int(time.time()))
    await database.close()
    async with MintClient(server.url) as wallet:
        await wallet.post("/v1/mint/quote/bolt11", {"amount": 100, "unit": "sat"})


async def linked(server: Server) -> str:
    """A fresh link."""
    database = open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))
    link = await database.write(make_link_on, int(time.time()))
    await database.close()
    return f"{server.url}/operator/login?link={link}"


async def shots(page: Page, server: Server, name: str) -> None:
    """Every page as it is seen first, and every preview and answer of one."""

    async def at(path: str) -> None:
        await page.goto(f"{server.url}{path}")

    await at("/")
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    await picture(page, f"front-{name}")
    await at("/operator/login")
    await picture(page, f"operator-login-{name}")
    await page.goto(await linked(server))
    await picture(page, f"operator-link-{name}")
    await page.get_by_role("button", name="Sign in").click()
    for each in ("money", "health", "quotes", "prices", "bans", "keysets"):
        await at(f"/operator/{each}")
        await picture(page, f"operator-{each}-{name}")
    await at("/operator/quotes?state=open")
    await page.locator("td.action button").first.click()
    await picture(page, f"operator-quote-{name}")
    await at("/operator/prices")
    await page.fill("#toml", OTHER_LIST)
    await page.get_by_role("button", name="Preview").click()
    await picture(page, f"operator-prices-preview-{name}")
    await at("/operator/keysets")
    await page.get_by_role("button", name="Preview").click()
    await picture(page, f"operator-rotation-{name}")
    await page.get_by_role("button", name="Stop selling").click()
    await picture(page, f"operator-sales-{name}")


async def views(browser: Browser, server: Server) -> None:
    """In both schemes, and narrow."""
    for name, scheme, width in VIEWS:
        context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 700})
        await shots(await context.new_page(), server, name)
        await context.close()


async def operators_pages() -> None:
    """All of them, at an office of their own."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), settings=SETTINGS) as server:
        await fill(server)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
            await views(browser, server)
            await browser.close()
