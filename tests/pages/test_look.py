"""What the pages are for everyone: small, accessible, by keyboard, on a phone, without JavaScript, and strict."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from pennypost.protocol.event import canonical
from pennypost.protocol.giftwrap import make_rumor
from pennypost.protocol.price import PriceList, Rule
from pennypost.protocol.secp import xonly
from pennypost.protocol.stealth import Address, wrap_letter
from pennypost_postoffice.pages.shop import LETTERS, letter_prices
from tests.pages.browser import expiring, overflows, serious_faults
from tests.pages.till import order, pay_play, shown_invoice, shown_token
from tests.support.require import require
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(120)]

Contexts = Callable[..., Awaitable[BrowserContext]]

AXE = Path(__file__).parents[2] / "postoffice" / "pages" / "node_modules" / "axe-core" / "axe.min.js"
PATHS = ("/buy", "/buy/check", "/buy/wallet")
BUDGET = 100_000
"""Compressed bytes of the first load."""


@pytest.mark.parametrize("path", PATHS)
async def test_headers(office: Server, path: str) -> None:
    async with httpx.AsyncClient(base_url=office.url, trust_env=False) as http:
        found = await http.get(path)
        policy = dict(part.split(" ", 1) for part in found.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        wanted = f"'self' ws://127.0.0.1:{office.port}" + (" wss:" if path == "/buy/wallet" else "")
        assert policy["connect-src"] == wanted
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in found.headers
        assert (await http.head(path)).headers["etag"] == found.headers["etag"]
        again = await http.get(path, headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for markup in ("<style", " style=", "onclick", "javascript:"):
            assert markup not in found.text
        assert re.findall(r"<script(?! type=\"module\" src=\"/assets/)", found.text) == []


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
    await page.goto(f"{office.url}/buy", wait_until="networkidle")
    first = sum(loaded)
    assert 5_000 < first < BUDGET
    assert not [url for url in sizes if "chunk" in url and sizes[url] > 10_000]
    await page.click("#buy")
    await shown_invoice(page)
    assert [url for url in sizes if "chunk" in url and sizes[url] > 30_000], "the wallet code came when it was needed"
    assert sum(loaded) < 2 * BUDGET


async def test_a_slow_network(page: Page, office: Server) -> None:
    """A quarter of a second to every answer, 60 kB a second."""
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    slow = {"offline": False, "latency": 250, "downloadThroughput": 60_000, "uploadThroughput": 60_000}
    await session.send("Network.emulateNetworkConditions", slow)
    invoice = await order(page, office, 10)
    await pay_play(office, invoice)
    await shown_token(page)


async def test_by_keyboard_alone(page: Page, office: Server) -> None:
    await page.goto(f"{office.url}/buy")
    await expect(page.locator("#choose")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator('input[value="100"]')).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator('input[value="10"]')).to_be_checked()
    await page.keyboard.press("Tab")
    await expect(page.locator("#buy")).to_be_focused()
    await page.keyboard.press("Enter")
    invoice = await shown_invoice(page)
    await expect(page.locator("#pay-title")).to_be_focused()
    await expect(page.locator("#live")).to_have_text("Pay 10 sat for 10 stamps")
    for wanted in ("qr", "open", "copy-invoice"):
        await page.keyboard.press("Tab")
        await expect(page.locator(f"#{wanted}")).to_be_focused()
    await pay_play(office, invoice)
    await shown_token(page)
    await expect(page.locator("#done-title")).to_be_focused()
    await expect(page.locator("#live")).to_have_text("10 stamps are yours")


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


async def test_accessible_and_narrow_at_every_step(contexts: Contexts, office: Server) -> None:
    """axe-core finds nothing serious in either scheme, and nothing needs scrolling sideways on a phone."""
    require(AXE.exists(), "axe-core is not installed (make node)")
    # axe writes style elements, which the pages' policy refuses; colours that still change are no contrast yet
    context = await contexts(viewport={"width": 320, "height": 720}, bypass_csp=True, reduced_motion="reduce")
    await context.add_init_script(path=AXE)
    page = await context.new_page()

    async def clean(step: str) -> None:
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert not await serious_faults(page), step
        assert not await overflows(page), step

    await page.goto(f"{office.url}/buy")
    await expect(page.locator("#choose")).to_be_visible()
    await clean("choose")
    await page.check('input[value="own"]')
    await page.fill("#number", "0")
    await clean("another number")
    invoice = await order(page, office, 1_000)
    await clean("pay")
    await page.route(re.compile("/v1/mint/quote/"), expiring)
    await page.reload()
    await expect(page.locator("#over")).to_be_visible()
    await clean("over")
    await pay_play(office, invoice)
    await shown_token(page)
    await clean("done")
    await page.goto(f"{office.url}/buy#b1.{'A' * 43}.10.{'0' * 32}")
    await expect(page.locator("#trouble")).to_be_visible()
    await clean("trouble")
    for path, alive in (("/buy/check", "#check"), ("/buy/wallet#x", "#what")):
        await page.goto(office.url + path)
        await expect(page.locator(alive)).to_be_visible()
        await expect(page.locator("#without-script")).to_be_hidden()
        await clean(path)


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
