"""The page that pays from a connected wallet: whose purchase it pays for, and which relays it can reach."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.pages.till import order
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]


def connection(relay: str) -> str:
    """A connection string of a wallet that nobody runs."""
    return f"nostr+walletconnect://{'ab' * 32}?relay={relay}&secret={'11' * 32}"


async def test_a_strangers_purchase_is_paid_after_a_warning_alone(
    page: Page, contexts: Contexts, office: Server
) -> None:
    """Whoever opens a quote gets its stamps: no single click on a link to it pays."""
    await order(page, office, 10)
    link = office.url + (await page.get_attribute("#nwc", "href") or "")
    victim = await (await contexts()).new_page()
    await victim.goto(link)
    await victim.fill("#string", connection(office.websocket_url))
    await victim.click("#use")
    await expect(victim.locator("#ready")).to_be_visible()
    await victim.reload()
    await expect(victim.locator("#stranger")).to_be_visible()
    lines: list[str] = []
    victim.on("websocket", lambda line: lines.append(line.url))
    await victim.dblclick("#pay")
    assert await victim.evaluate("document.activeElement.id") == "sure"
    assert not lines
    await victim.check("#sure")
    async with victim.expect_websocket():
        await victim.click("#pay")
    # the buyer's own browser knows it
    await page.goto(link)
    await page.fill("#string", connection(office.websocket_url))
    await page.click("#use")
    await expect(page.locator("#stranger")).to_be_hidden()
    async with page.expect_websocket():
        await page.click("#pay")


async def test_a_relay_that_the_page_may_not_reach(page: Page, office: Server) -> None:
    """Its policy lets out to TLS alone, and to this server; it says so before anything is tried."""
    await order(page, office, 10)
    await page.goto(office.url + (await page.get_attribute("#nwc", "href") or ""))
    await page.fill("#string", connection("https://relay.example"))
    await page.click("#use")
    await expect(page.locator("#string-problem")).not_to_be_empty()
    none = await page.inner_text("#string-problem")
    await page.fill("#string", connection("ws://relay.example"))
    await page.click("#use")
    await expect(page.locator("#string-problem")).not_to_have_text(none)
    await expect(page.locator("#string-problem")).to_contain_text("wss://")
    await expect(page.locator("#ready")).to_be_hidden()
    await page.fill("#string", connection("ws://relay.example&relay=wss://relay.example"))
    await page.click("#use")
    await expect(page.locator("#relay")).to_have_text(re.compile(r"\brelay\.example$"))
    await page.reload()
    await expect(page.locator("#ready")).to_be_visible()
