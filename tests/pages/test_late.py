"""Paid when nobody looks: after the quote has expired, and while the tab is at the back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from pennypost.protocol.errors import QuoteExpired
from pennypost.protocol.token import parse_token
from tests.pages.tab import two_tabs
from tests.pages.till import (
    choose,
    credited,
    expire,
    link_of,
    order,
    pay_play,
    settle_late,
    shown_invoice,
    shown_token,
)
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]

QUOTES = re.compile(r"/v1/mint/quote/bolt11$")
TOKEN = "document.getElementById('done').hidden ? '' : document.getElementById('token').value"


@pytest.mark.parametrize("lapsed", [False, True], ids=["expired", "lapsed"])
async def test_paid_after_the_quote_has_expired(page: Page, contexts: Contexts, office: Server, lapsed: bool) -> None:
    """It expires before the page's eyes, at the mint and at its node; the payment arrives when both gave it up."""

    async def short(route: Route) -> None:
        answer = await route.fetch()
        await expire(office, (await answer.json())["request"], seconds=1)
        await route.fulfill(response=answer)

    await page.route(QUOTES, short)
    await page.goto(f"{office.url}/buy")
    await choose(page, 10)
    await page.click("#buy")
    await expect(page.locator("#over-title")).to_be_focused()
    invoice = await page.text_content("#invoice") or ""
    link = link_of(page)
    with pytest.raises(QuoteExpired):
        await pay_play(office, invoice)
    await page.reload()
    await expect(page.locator("#over")).to_be_visible()
    if lapsed:
        await expire(office, invoice, lapse=True)
    other = await (await contexts()).new_page()
    await other.goto(link)
    await expect(other.locator("#over")).to_be_visible()
    await settle_late(office, invoice)
    tokens = {await shown_token(page), await shown_token(other)}
    assert len(tokens) == 1
    assert sum(proof.amount for proof in parse_token(tokens.pop()).proofs) == 10


async def test_an_expired_invoice_is_replaced_and_not_forgotten(page: Page, office: Server) -> None:
    """Both are paid: the new one, and the old one late, by its link."""
    first = await order(page, office, 10)
    link = link_of(page)
    await expire(office, first)
    await page.reload()
    await expect(page.locator("#over")).to_be_visible()
    await page.click("#renew")
    second = await shown_invoice(page)
    assert second != first
    assert link_of(page) != link
    await pay_play(office, second)
    token = await shown_token(page)
    await settle_late(office, first)
    # the same page: only what stands behind # is another
    await page.goto(link)
    await expect(page.locator("#token")).not_to_have_value(token)
    await shown_token(page)
    await page.click("#again")
    await expect(page.locator("#kept-list a")).to_have_count(2)


@pytest.mark.parametrize("frozen", [False, True], ids=["hidden", "frozen"])
async def test_paid_while_the_tab_is_at_the_back(chromium: Browser, office: Server, frozen: bool) -> None:
    """Another tab is in front of it, for real; a frozen one works on nothing until it is shown again."""
    async with two_tabs(chromium, f"{office.url}/buy") as (tab, other):
        await tab.until("location.pathname === '/buy' && document.documentElement?.dataset.step === 'choose'")
        await tab.evaluate(
            "window.lived = [];"
            "for (const name of ['freeze', 'resume']) document.addEventListener(name, () => lived.push(name));"
            "document.addEventListener('visibilitychange', () => lived.push(document.visibilityState));"
            "document.querySelector('input[value=\"10\"]').click(); document.getElementById('buy').click()"
        )
        await tab.until("!document.getElementById('pay').hidden")
        invoice = await tab.evaluate("document.getElementById('invoice').textContent")
        quote = (await tab.evaluate("location.hash")).split(".")[-1]
        await other.to_front()
        await tab.until("document.visibilityState === 'hidden'")
        if frozen:
            await tab.freeze()
            await tab.until("lived.includes('freeze')")
        await pay_play(office, invoice)
        state = await credited(office, quote)
        if frozen:
            # long past the mint's word, and twice its own timer
            await asyncio.sleep(0.5)
            assert state == "PAID" and not await tab.evaluate(TOKEN)
            await tab.thaw()
        await tab.to_front()
        token = await tab.until(TOKEN)
        assert sum(proof.amount for proof in parse_token(token).proofs) == 10
        # one that was only hidden had its token before it was told that it is shown
        await tab.until("lived.at(-1) === 'visible'")
        lived = await tab.evaluate("lived")
        assert lived == (["hidden", "freeze", "resume", "visible"] if frozen else ["hidden", "visible"])
        await tab.evaluate("new Promise(done => indexedDB.deleteDatabase('pennypost').onsuccess = () => done(1))")
