"""What the pages are for everyone: small, accessible, by keyboard, on a phone, without JavaScript, and strict."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, ViewportSize, expect

from pennypost.protocol.event import canonical
from pennypost.protocol.giftwrap import make_rumor
from pennypost.protocol.price import PriceList, Rule
from pennypost.protocol.secp import xonly
from pennypost.protocol.stealth import Address, wrap_letter
from pennypost_postoffice.pages.shop import LETTERS, letter_prices
from tests.pages.browser import nameless, overflows, serious_faults
from tests.pages.codes import drawn
from tests.pages.till import credited, expire, open_check, order, pay_play, settle_late, shown_invoice, shown_token
from tests.support.require import require
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]
Examined = tuple[Page, Callable[[str], Awaitable[None]]]

PHONE = ViewportSize(width=320, height=720)
ZOOMED = ViewportSize(width=640, height=360)
"""A screen of 1,280 × 720 at 200 %."""
MOVING = """async () => {
    const ends = each => each.effect.getComputedTiming().endTime !== Infinity;
    await Promise.allSettled(document.getAnimations().filter(ends).map(each => each.finished));
    return document.getAnimations().filter(each => each.playState === 'running').map(each => each.animationName);
}"""
"""What moves on and on. A turn of an arrow begins with the next frame that is drawn, whenever that is, and ends."""

AXE = Path(__file__).parents[2] / "postoffice" / "pages" / "node_modules" / "axe-core" / "axe.min.js"
PATHS = ("/buy", "/buy/check", "/buy/wallet")
FIRST_LOAD = 25_000
"""Compressed bytes of the first load, headers included; docs/reference/performance.md says this figure."""
WITH_WALLET_CODE = 110_000


@pytest.mark.parametrize("path", PATHS)
async def test_headers(office: Server, path: str) -> None:
    async with httpx.AsyncClient(base_url=office.url, trust_env=False, timeout=60) as http:
        found = await http.get(path)
        policy = dict(part.split(" ", 1) for part in found.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        wanted = f"'self' ws://127.0.0.1:{office.port}" + (" wss:" if path == "/buy/wallet" else "")
        assert policy["connect-src"] == wanted
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert (await http.head(path)).headers["etag"] == found.headers["etag"]
        again = await http.get(path, headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", *PATHS, "/operator/login", "/operator/money"])
async def test_strict_and_of_this_origin(office: Server, path: str) -> None:
    """Whatever the page is: no cookie, nothing inline, nothing of elsewhere named as a part of it."""
    async with httpx.AsyncClient(base_url=office.url, trust_env=False, timeout=60) as http:
        found = await http.get(path, headers={"accept": "text/html"})
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in found.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'" and policy["trusted-types"] == "'none'"
    assert "set-cookie" not in found.headers
    for markup in ("<style", " style=", "onclick", "javascript:"):
        assert markup not in found.text
    assert re.findall(r"<script(?! type=\"module\" src=\"/assets/)", found.text) == []
    parts = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"([^\"]*)\"", found.text)
    assert parts and all(each.startswith("/assets/") for each in parts)


async def test_budget_and_wallet_code_on_demand(page: Page, office: Server) -> None:
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    loaded: list[int] = []
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    session.on("Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]}))

    def finished(event: dict[str, object]) -> None:
        size = int(str(event["encodedDataLength"]))
        loaded.append(size)
        sizes[names[str(event["requestId"])]] = size

    session.on("Network.loadingFinished", finished)
    for path in ("/buy/check", "/buy/wallet", "/buy"):
        # what they share counts for each of them
        await session.send("Network.clearBrowserCache")
        loaded.clear()
        sizes.clear()
        await page.goto(office.url + path, wait_until="networkidle")
        assert 5_000 < sum(loaded) < FIRST_LOAD, path
        assert not [url for url in sizes if "chunk" in url and sizes[url] > 10_000], path
    await page.click("#buy")
    await shown_invoice(page)
    assert [url for url in sizes if "chunk" in url and sizes[url] > 30_000], "the wallet code came when it was needed"
    assert sum(loaded) < WITH_WALLET_CODE


async def test_a_slow_network(page: Page, office: Server) -> None:
    """A quarter of a second to every answer, 60 kB a second."""
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    slow = {"offline": False, "latency": 250, "downloadThroughput": 60_000, "uploadThroughput": 60_000}
    await session.send("Network.emulateNetworkConditions", slow)
    invoice = await order(page, office, 10)
    await pay_play(office, invoice)
    await shown_token(page)


SAID = """addEventListener('DOMContentLoaded', () => {
    window.said = [];
    const live = document.querySelector('[role=status]');
    new MutationObserver(() => said.push(live.textContent)).observe(live, {childList: true});
})"""
RINGED = """() => {
    const {outlineStyle, outlineWidth, opacity} = getComputedStyle(document.activeElement);
    return document.activeElement.matches(':focus-visible') && outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2
        && opacity === '1';
}"""


async def test_by_keyboard_alone(page: Page, office: Server) -> None:
    """To the stamps and out with them, each stop of the focus to be seen, each step said to a screen reader."""
    await page.add_init_script(SAID)
    await page.goto(f"{office.url}/buy")

    async def tab_to(*wanted: str) -> None:
        for each in wanted:
            await page.keyboard.press("Tab")
            await expect(page.locator(each)).to_be_focused()
            assert await page.evaluate(RINGED), each

    await expect(page.locator("#choose")).to_be_visible()
    await tab_to(".skip")
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await tab_to('input[value="100"]')
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator('input[value="10"]')).to_be_checked()
    assert await page.evaluate(RINGED)
    await tab_to("#buy")
    await page.keyboard.press("Enter")
    invoice = await shown_invoice(page)
    await expect(page.locator("#pay-title")).to_be_focused()
    await expect(page.get_by_role("status")).to_have_text(await page.inner_text("#pay-title"))
    await tab_to("#qr", "#open", "#copy-invoice", "#nwc", "#pay summary")
    await page.keyboard.press("Enter")
    await expect(page.locator("#invoice")).to_be_visible()
    await tab_to("#pay .copies-link", "#other")
    await page.evaluate("said.length = 0")
    await pay_play(office, invoice)
    await shown_token(page)
    await expect(page.locator("#done-title")).to_be_focused()
    # that it is paid, then that the stamps are there, and nothing between: no countdown, no repetition
    await expect(page.get_by_role("status")).to_have_text(await page.inner_text("#done-title"))
    assert await page.evaluate("said") == [await page.text_content(f"#{step}-title") for step in ("busy", "done")]
    await tab_to("#token", "#copy-token", "#cashu", "#download")
    async with page.expect_download():
        await page.keyboard.press("Enter")


@pytest.mark.parametrize("path", PATHS)
async def test_without_javascript(contexts: Contexts, office: Server, path: str) -> None:
    page = await (await contexts(java_script_enabled=False, viewport={"width": 320, "height": 640})).new_page()
    await page.goto(office.url + path)
    await expect(page.get_by_text("JavaScript").first).to_be_visible()
    assert await page.locator("button:visible").count() == 0
    if path == "/buy":
        await expect(page.get_by_text("Play money")).to_be_visible()
        await expect(page.get_by_text(f"pennypost wallet buy 100 --office {office.url}")).to_be_visible()
        await expect(page.get_by_role("table")).to_be_visible()


@pytest_asyncio.fixture(loop_scope="session")
async def examined(contexts: Contexts) -> tuple[Page, Callable[[str], Awaitable[None]]]:
    """A page on a small phone, and what looks at each of its states.

    axe-core finds nothing serious in either scheme, a screen reader has a name for every control, and nothing needs
    scrolling sideways, nor with text twice as large on a screen that zoom has made half as wide; nothing moves.
    """
    require(AXE.exists(), "axe-core is not installed (make node)")
    # axe writes style elements, which the pages' policy refuses; colours that still change are no contrast yet
    context = await contexts(viewport=PHONE, bypass_csp=True, reduced_motion="reduce")
    await context.add_init_script(path=AXE)
    page = await context.new_page()

    async def clean(step: str) -> None:
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert not await serious_faults(page), step
        assert not await nameless(page), step
        assert not await overflows(page), step
        await page.set_viewport_size(ZOOMED)
        await page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert not await overflows(page), step
        await page.evaluate("document.documentElement.style.fontSize = ''")
        await page.set_viewport_size(PHONE)
        assert await page.evaluate(MOVING) == [], step

    return page, clean


async def test_every_step_of_buying_is_for_everyone(examined: Examined, office: Server) -> None:
    page, clean = examined
    await page.goto(f"{office.url}/buy")
    await expect(page.locator("#choose")).to_be_visible()
    await clean("choose")
    await page.check('input[value="own"]')
    await page.fill("#number", "0")
    await clean("another number")
    invoice = await order(page, office, 1_000)
    await clean("pay")
    await expire(office, invoice)
    await page.reload()
    await expect(page.locator("#over")).to_be_visible()
    await clean("over")
    await settle_late(office, invoice)
    token = await shown_token(page)
    await clean("done")
    still = await drawn(page, "#token-qr")
    await page.wait_for_timeout(300)
    assert await drawn(page, "#token-qr") == still
    await page.click("#pause")
    while await drawn(page, "#token-qr") == still:
        await page.wait_for_timeout(20)
    await page.goto(f"{office.url}/buy#b1.{'A' * 43}.10.{'0' * 32}")
    await expect(page.locator("#trouble")).to_be_visible()
    await clean("trouble")
    await page.click("#anew")
    await expect(page.locator("#kept")).to_be_visible()
    await clean("kept")

    await open_check(page, office)
    await expect(page.locator("#check")).to_be_visible()
    await expect(page.locator("#without-script")).to_be_hidden()
    await page.click("#go")
    await expect(page.locator("#tokens-problem")).to_be_visible()
    await clean("nothing to check")
    await page.fill("#tokens", f"{token} {token[:-20]}")
    await page.click("#go")
    await expect(page.locator("#found")).to_be_visible()
    await clean("checked")
    await page.route(re.compile("/v1/swap$"), lambda route: route.abort())
    await page.click("#merge")
    await expect(page.locator("#trouble")).to_be_visible()
    await clean("cut off")
    await page.unroute_all()
    await page.click("#retry")
    await shown_token(page)
    await clean("merged")


async def test_every_step_of_a_connected_wallet_is_for_everyone(examined: Examined, office: Server) -> None:
    page, clean = examined
    await page.goto(f"{office.url}/buy/wallet#x")
    await expect(page.locator("#without-script")).to_be_hidden()
    await expect(page.get_by_role("status")).not_to_be_empty()
    await clean("no purchase")
    invoice = await order(page, office, 10)
    path = await page.get_attribute("#nwc", "href") or ""
    await page.goto(office.url + path)
    await page.click("#use")
    await expect(page.locator("#string-problem")).to_be_visible()
    await clean("no string")
    await page.fill("#string", f"nostr+walletconnect://{'ab' * 32}?relay={office.websocket_url}&secret={'11' * 32}")
    await page.click("#use")
    await expect(page.locator("#ready")).to_be_visible()
    await clean("ready")
    # as somebody else's purchase
    await page.evaluate("document.getElementById('stranger').hidden = false")
    await page.click("#pay")
    await expect(page.locator("#sure-problem")).to_be_visible()
    await clean("of a stranger")
    await pay_play(office, invoice)
    # the page asks once
    await credited(office, path.split("#")[1])
    await page.reload()
    await expect(page.locator("#what")).to_contain_text("Paid.")
    await expect(page.locator("#ready")).to_be_hidden()
    await clean("paid")


async def test_what_letters_cost() -> None:
    """The sizes that the page reckons with are those of the SDK's letters."""
    secret = b"\1" * 32
    public = xonly(secret)
    for text, (_, size) in zip((700, 3_000, 15_000), LETTERS, strict=True):
        rumor = make_rumor(public, created_at=1_700_000_000, content="x" * text)
        letter = wrap_letter(
            rumor,
            secret,
            Address(public, public),
            b"\2" * 32,
            created_at=1_700_000_000,
            expiration=1_702_592_000,
            randomness=b"\3" * 128,
        )
        assert len(canonical(letter)) == size
    assert letter_prices(PriceList()) == [(name, [1, 1]) for name, _ in LETTERS]
    dear = PriceList((Rule((range(1059, 1060),), base=2, per_kib=1, per_day=3),))
    assert [costs for _, costs in letter_prices(dear)] == [[7, 94], [13, 100], [37, 124]]
    assert letter_prices(PriceList((Rule((range(1, 2),)),))) == []
    assert letter_prices(PriceList(free_kinds=frozenset({1059})))[0][1] == [0, 0]
