"""Failures at the worst moment: no invoice that is kept nowhere, no stamps that are hidden."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest
from playwright.async_api import Error, Page, Route, expect

from pennypost.protocol.token import parse_token
from tests.pages.till import choose, link_of, order, pay_play, purchases, shown_invoice, shown_token
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

CHUNK = re.compile(r"/assets/chunk-")
KEYSETS = re.compile(r"/v1/keysets$")
QUOTE = re.compile(r"/v1/mint/quote/bolt11(/[0-9a-f]+)?$")
QUOTES = re.compile(r"/v1/mint/quote/bolt11$")
STAMPS = re.compile(r"/v1/mint/bolt11$")
FRONT = "document.dispatchEvent(new Event('visibilitychange'))"


async def chunk_of_codes(route: Route) -> None:
    """A route handler: the script that draws codes does not arrive."""
    # the page may have been left meanwhile
    with suppress(Error):
        answer = await route.fetch()
        if "crispEdges" in await answer.text():
            await route.abort()
        else:
            await route.fulfill(response=answer)


async def test_no_invoice_without_the_code_that_shows_it(page: Page, office: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if QUOTES.search(request.url) else None)
    await page.goto(f"{office.url}/buy")
    await page.route(CHUNK, chunk_of_codes)
    await page.click("#buy")
    await expect(page.locator("#buy-problem")).not_to_be_empty()
    assert asked == []
    assert await purchases(page) == []
    await page.unroute_all(behavior="wait")
    await page.reload()
    await page.click("#buy")
    await shown_invoice(page)


async def test_whatever_fails_after_the_quote_the_purchase_is_kept(page: Page, office: Server) -> None:
    await page.goto(f"{office.url}/buy")
    await choose(page, 10)
    await page.evaluate("() => { document.createElementNS = () => { throw new Error('no drawing'); }; }")
    await page.click("#buy")
    await expect(page.locator("#trouble")).to_be_visible()
    link = link_of(page)
    [kept] = await purchases(page)
    assert kept["state"] == "open"
    # the same by its link, where the script does not arrive
    await page.route(CHUNK, chunk_of_codes)
    await page.reload()
    await expect(page.locator("#trouble")).to_be_visible()
    await page.unroute_all(behavior="wait")
    await page.reload()
    assert (await shown_invoice(page), link_of(page)) == (kept["request"], link)
    await pay_play(office, kept["request"])
    assert sum(proof.amount for proof in parse_token(await shown_token(page)).proofs) == 10


async def test_an_invoice_over_another_sum_is_not_shown(page: Page, office: Server) -> None:
    """From the start, at a later look, and not to a connected wallet either."""
    lies: list[dict[str, object]] = [{"amount": 11}, {"request": "lnbcrt1pvjluez", "amount": None}, {"request": "x"}]
    said = lies[0]

    async def lie(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json=await answer.json() | said)

    await order(page, office, 10)
    link = link_of(page)
    wallet = await page.get_attribute("#nwc", "href") or ""
    await page.route(QUOTE, lie)
    for each in lies:
        said = each
        await page.reload()
        await expect(page.locator("#trouble")).to_be_visible()
        await expect(page.locator("#pay")).to_be_hidden()
    await page.goto(office.url + wallet)
    await expect(page.get_by_role("status")).not_to_be_empty()
    await expect(page.locator("#connect")).to_be_hidden()
    await page.goto(f"{office.url}/buy")
    await page.click("#buy")
    await expect(page.locator("#buy-problem")).not_to_be_empty()
    assert len(await purchases(page)) == 1
    await page.unroute(QUOTE)
    await page.goto(link)
    await shown_invoice(page)


async def test_a_refusal_that_comes_before_the_code_that_draws_stands(page: Page, office: Server) -> None:
    """Nobody is asked to pay an invoice that the page no longer watches."""
    await order(page, office, 10)
    drawing = asyncio.Event()

    async def slow(route: Route) -> None:
        answer = await route.fetch()
        if "crispEdges" in await answer.text():
            await drawing.wait()
        await route.fulfill(response=answer)

    async def refuse(route: Route) -> None:
        await route.fulfill(status=400, json={"detail": "no [quote-unknown]", "code": 20_010})

    await page.route(CHUNK, slow)
    await page.route(QUOTE, refuse)
    await page.reload(wait_until="commit")
    await expect(page.locator("#trouble")).to_be_visible()
    async with page.expect_response(CHUNK) as answered:
        drawing.set()
    # the page waited for it before us, so it has gone on when we do
    await page.evaluate("url => import(url).then(() => null)", (await answered.value).url)
    await expect(page.locator("#trouble")).to_be_visible()
    await expect(page.locator("#pay")).to_be_hidden()


async def test_a_disk_that_is_full_when_the_quote_comes(page: Page, office: Server) -> None:
    """What is kept is older than the link: the link is the purchase."""
    await page.goto(f"{office.url}/buy")
    await page.evaluate(
        """() => {
            const put = IDBObjectStore.prototype.put;
            IDBObjectStore.prototype.put = function (value) {
                if (value.quote) throw new DOMException('full', 'QuotaExceededError');
                return put.apply(this, arguments);
            };
        }"""
    )
    await page.click("#buy")
    invoice = await shown_invoice(page)
    await expect(page.locator("#memory")).to_be_visible()
    assert [each["state"] for each in await purchases(page)] == ["new"]
    await page.reload()
    assert await shown_invoice(page) == invoice
    assert [each["request"] for each in await purchases(page)] == [invoice]


async def test_stamps_that_are_there_stay_in_sight(page: Page, office: Server) -> None:
    """The mint answers nothing more once it has signed; it is asked again whether they are taken."""
    asked: list[str] = []

    async def once(route: Route) -> None:
        asked.append(route.request.url)
        await (route.abort() if len(asked) == 1 else route.continue_())

    invoice = await order(page, office, 10)
    await page.route(KEYSETS, once)
    async with page.expect_request_finished(lambda request: bool(KEYSETS.search(request.url))):
        await pay_play(office, invoice)
        token = await shown_token(page)
    assert len(asked) == 2
    await expect(page.locator("#done")).to_be_visible()
    assert await page.input_value("#token") == token
    # opened again, with nobody to ask and nothing to draw with
    await page.route(KEYSETS, lambda route: route.abort())
    await page.route(CHUNK, chunk_of_codes)
    await page.reload()
    assert await shown_token(page) == token
    await expect(page.locator("#token-caption")).not_to_be_empty()


async def test_trouble_says_whether_it_is_tried_again(page: Page, office: Server) -> None:
    invoice = await order(page, office, 10)
    await page.route(STAMPS, lambda route: route.abort())
    await pay_play(office, invoice)
    await expect(page.locator("#trouble-tries")).to_be_visible()
    tries: list[str] = []

    async def refuse(route: Route) -> None:
        tries.append(route.request.url)
        await route.fulfill(status=400, json={"code": 20999, "detail": "no"})

    await page.route(STAMPS, refuse)
    await page.evaluate(FRONT)
    await expect(page.locator("#trouble-tries")).to_be_hidden()
    await expect(page.locator("#keep-link")).to_be_visible()
    assert len(tries) == 1
    await page.unroute_all(behavior="wait")
    await page.click("#retry")
    await shown_token(page)
