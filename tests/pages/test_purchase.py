"""A purchase survives what happens to browsers, networks and mints: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, WebSocketRoute, async_playwright, expect

from pennypost.protocol.token import parse_token
from pennypost_mint.api import rotation
from pennypost_mint.runtime.database import open_database
from pennypost_mint.runtime.settings import load_settings
from tests.pages.browser import ARGUMENTS, lose_answer, program
from tests.pages.codes import decoded, drawn
from tests.pages.till import (
    credited,
    fragment_of,
    link_of,
    order,
    pay_play,
    purchases,
    shown_invoice,
    shown_token,
)
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]

QUOTES = re.compile(r"/v1/mint/quote/bolt11$")
STAMPS = re.compile(r"/v1/mint/bolt11$")
SOCKET = re.compile(r"/v1/ws$")
FRONT = "document.dispatchEvent(new Event('visibilitychange'))"
ASKING = """window.asking = 0;
const ask = window.fetch;
window.fetch = (...all) => { asking++; return ask(...all).finally(() => asking--); };
window.WebSocket = class extends WebSocket {
    constructor(...all) { super(...all); asking++; this.addEventListener('close', () => asking--); }
};"""
"""`asking`: how many questions are without an answer, and how many sockets open or about to be."""


def refused(socket: WebSocketRoute) -> Any:
    return socket.close()


async def test_a_reload_at_any_moment_loses_nothing(page: Page, office: Server) -> None:
    # before the mint has answered: nobody has seen that invoice
    waiting: list[Route] = []
    await page.route(QUOTES, lambda route: waiting.append(route))
    await page.goto(f"{office.url}/buy")
    await page.click("#buy")
    await expect(page.locator("#buy")).to_have_attribute("aria-busy", "true")
    while not waiting:
        await page.wait_for_timeout(20)
    [prepared] = await purchases(page)
    assert (prepared["state"], sum(output["amount"] for output in prepared["outputs"])) == ("new", 100)
    await page.reload()
    await expect(page.locator("#choose")).to_be_visible()
    await page.unroute(QUOTES)
    # the invoice is there
    await page.click("#buy")
    invoice = await shown_invoice(page)
    link = link_of(page)
    await page.reload()
    assert (await shown_invoice(page), link_of(page)) == (invoice, link)
    # paid, and the stamps' answer is lost until the page is loaded again
    await page.route(STAMPS, lose_answer(times=100))
    await pay_play(office, invoice)
    await expect(page.locator("#trouble")).to_be_visible()
    assert (await purchases(page))[0]["state"] != "done"
    await page.unroute(STAMPS)
    await page.reload()
    token = await shown_token(page)
    assert link_of(page) == link
    # done
    await page.reload()
    assert await shown_token(page) == token
    assert [each["state"] for each in await purchases(page) if "quote" in each] == ["done"]


async def test_lost_answers_are_asked_for_again(page: Page, office: Server) -> None:
    await page.route(QUOTES, lose_answer())
    await page.route(STAMPS, lose_answer())
    await page.goto(f"{office.url}/buy")
    await page.click("#buy")
    await expect(page.locator("#buy-problem")).to_be_visible()
    await page.click("#buy")
    await pay_play(office, await shown_invoice(page))
    assert sum(proof.amount for proof in parse_token(await shown_token(page)).proofs) == 100


async def test_the_link_is_the_purchase(page: Page, contexts: Contexts, office: Server) -> None:
    """On another device: the same invoice, the same stamps; a third one that comes late finds them, too."""
    invoice = await order(page, office, 10)
    link = link_of(page)
    other = await (await contexts()).new_page()
    await other.goto(link)
    assert await shown_invoice(other) == invoice
    await pay_play(office, invoice)
    tokens = {await shown_token(page), await shown_token(other)}
    late = await (await contexts()).new_page()
    await late.goto(link)
    tokens.add(await shown_token(late))
    assert len(tokens) == 1


async def test_each_purchase_has_a_secret_of_its_own(page: Page, office: Server) -> None:
    """Bought one after the other in one browser: the link of one has nothing of the other's."""
    parts: list[list[str]] = []
    for _ in range(2):
        await order(page, office, 10)
        parts.append(fragment_of(page).split("."))
    (_, first, amount, quote), (_, second, *others) = parts
    assert len(first) == len(second) == 43 and first != second
    assert amount == others[0] and quote != others[1]


async def test_two_tabs_of_one_browser(page: Page, office: Server) -> None:
    invoice = await order(page, office, 10)
    second = await page.context.new_page()
    await second.goto(link_of(page))
    assert await shown_invoice(second) == invoice
    await pay_play(office, invoice)
    assert await shown_token(page) == await shown_token(second)
    [kept] = await purchases(page)
    assert kept["state"] == "done"


async def test_seen_without_the_socket(page: Page, office: Server) -> None:
    await page.route_web_socket(SOCKET, refused)
    await pay_play(office, await order(page, office, 10))
    await shown_token(page)


async def test_seen_where_the_browser_forbids_sockets(page: Page, office: Server) -> None:
    await page.add_init_script("window.WebSocket = class { constructor() { throw new DOMException('no'); } }")
    await pay_play(office, await order(page, office, 10))
    await shown_token(page)


async def test_seen_by_the_socket(page: Page, office: Server) -> None:
    """With a clock that stands still no timer asks: only the subscription can tell."""
    await page.clock.install()
    invoice = await order(page, office, 10)
    await page.clock.pause_at("2100-01-01")
    await pay_play(office, invoice)
    await shown_token(page)


async def test_seen_when_the_page_comes_to_the_front(page: Page, office: Server) -> None:
    """No timer runs, no socket lives: coming to the front is enough (a tab that is really at the back: test_late)."""
    await page.route_web_socket(SOCKET, refused)
    await page.add_init_script(ASKING)
    await page.clock.install()
    invoice = await order(page, office, 10)
    await page.clock.pause_at("2100-01-01")
    while await page.evaluate("asking"):
        await page.wait_for_timeout(20)
    await pay_play(office, invoice)
    await credited(office, fragment_of(page).split(".")[-1])
    assert not await page.evaluate("asking")
    await expect(page.locator("#done")).to_be_hidden()
    await page.evaluate(FRONT)
    await shown_token(page)


async def test_the_socket_is_cut_while_it_is_paid(page: Page, office: Server) -> None:
    lines: list[WebSocketRoute] = []

    def through(line: WebSocketRoute) -> None:
        lines.append(line)
        line.connect_to_server()

    await page.route_web_socket(SOCKET, through)
    invoice = await order(page, office, 10)
    while not lines:
        await page.wait_for_timeout(20)
    await lines[0].close(code=1011)
    await pay_play(office, invoice)
    await shown_token(page)


async def test_the_mint_is_killed_and_rotates_while_it_is_paid(
    contexts: Contexts, serve: Callable[..., Server]
) -> None:
    """Paid while it is down, minted by the keyset that came after."""
    mint = serve(settings={"PLAY_SETTLE_AFTER": "never"})
    page = await (await contexts(mint.url)).new_page()
    invoice = await order(page, mint, 10)
    before = (await purchases(page))[0]["outputs"][0]["id"]
    mint.kill()
    await expect(page.locator("#state-text")).to_contain_text("No connection")
    database = open_database("", Path(mint.environment["PENNYPOST_DATA_DIR"]))
    await rotation.rotate(database, load_settings(mint.environment), None)
    await database.close()
    await pay_play(mint, invoice)
    mint.start()
    token = parse_token(await shown_token(page, seconds=60))
    assert sum(proof.amount for proof in token.proofs) == 10
    assert all(not before.startswith(proof.id) for proof in token.proofs)


async def test_a_mint_that_is_down_at_the_start(page: Page, office: Server) -> None:
    await page.goto(f"{office.url}/buy")
    await page.route(re.compile("/v1/"), lambda route: route.abort())
    await page.click("#buy")
    await expect(page.locator("#buy-problem")).to_be_visible()
    assert await purchases(page) == []
    await page.unroute_all()
    await page.click("#buy")
    await shown_invoice(page)


@pytest.mark.parametrize(
    "refusal",
    [
        "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError'); }})",
        "IDBFactory.prototype.open = () => { throw new DOMException('no', 'InvalidStateError'); }",
        "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }",
    ],
)
async def test_storage_refused(page: Page, office: Server, refusal: str) -> None:
    """The page says so, and the link is enough."""
    await page.add_init_script(refusal)
    invoice = await order(page, office, 10)
    await expect(page.locator("#memory")).to_be_visible()
    await page.reload()
    assert await shown_invoice(page) == invoice
    await pay_play(office, invoice)
    token = await shown_token(page)
    await page.reload()
    assert await shown_token(page) == token


@pytest.mark.parametrize(
    ("fragment", "shown"),
    [
        ("#", "choose"),
        ("#b1", "choose"),
        ("#b1.short.10.00", "choose"),
        ("#b1." + "A" * 43 + ".0.00", "choose"),
        ("#b1." + "A" * 43 + ".10", "choose"),
        ("#b1." + "A" * 43 + ".10.%3Cimg%3E", "choose"),
        ("#b1." + "A" * 43 + ".10." + "0" * 32, "trouble"),
        ("#b1." + "A" * 43 + ".10.x", "trouble"),
    ],
)
async def test_links_that_are_none(page: Page, office: Server, fragment: str, shown: str) -> None:
    await page.goto(f"{office.url}/buy{fragment}")
    await expect(page.locator(f"#{shown}")).to_be_visible()


async def test_codes_that_scanners_read(page: Page, office: Server) -> None:
    """The invoice in upper case, a small token at once, a large one in parts."""
    invoice = await order(page, office, 1_023)
    texts, _ = decoded([await drawn(page, "#qr")])
    assert texts == [f"LIGHTNING:{invoice.upper()}"]
    await pay_play(office, invoice)
    token = await shown_token(page)
    assert len(token) > 1_000
    frames: dict[str, dict[str, Any]] = {}
    count = 0
    while not count or len(frames) < count:
        frame = await drawn(page, "#token-qr")
        if frame["path"] not in frames:
            frames[frame["path"]] = frame
        if not count:
            (text,), _ = decoded([frame])
            count = int(text.split("/")[1].split("-")[1])
        await page.wait_for_timeout(60)
    assert 5 < count < 30
    _, whole = decoded(list(frames.values()))
    assert whole == token
    await page.click("#pause")
    still = await drawn(page, "#token-qr")
    await page.wait_for_timeout(400)
    assert await drawn(page, "#token-qr") == still

    await pay_play(office, await order(page, office, 10))
    token = await shown_token(page)
    texts, _ = decoded([await drawn(page, "#token-qr")])
    assert texts == [token]


async def test_webln_is_asked_on_a_click_and_once(page: Page, office: Server) -> None:
    asked: list[str] = []

    async def send(invoice: str) -> None:
        asked.append(invoice)
        await pay_play(office, invoice)

    await page.expose_function("sendToWallet", send)
    wallet = "{enabled: 0, enable() { this.enabled++; return Promise.resolve(); }, sendPayment: sendToWallet}"
    await page.add_init_script(f"window.webln = {wallet}")
    invoice = await order(page, office, 10)
    assert await page.evaluate("window.webln.enabled") == 0
    assert asked == []
    await page.dblclick("#by-browser")
    await shown_token(page)
    assert asked == [invoice]


async def test_webln_that_refuses(page: Page, office: Server) -> None:
    await page.add_init_script(
        "window.webln = {enable: async () => {}, sendPayment: async () => { throw Error('no') }}"
    )
    await order(page, office, 10)
    await page.click("#by-browser")
    await expect(page.locator("#pay-problem")).to_contain_text("no")
    await expect(page.locator("#pay")).to_be_visible()


async def test_no_browser_wallet_no_button(page: Page, office: Server) -> None:
    await order(page, office, 10)
    await expect(page.locator("#by-browser")).to_be_hidden()


@pytest_asyncio.fixture(loop_scope="session")
async def killable(chromium: Browser, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[BrowserContext]]]:
    """Starts a browser with a profile of its own, as often as it is asked for."""
    assert chromium.is_connected()
    opened: list[BrowserContext] = []
    async with async_playwright() as playwright:

        async def start() -> BrowserContext:
            opened.append(
                await playwright.chromium.launch_persistent_context(
                    tmp_path / "profile", executable_path=program(), args=ARGUMENTS
                )
            )
            return opened[-1]

        yield start
        await opened[-1].close()


def ended(process: psutil.Process) -> bool:
    """Whoever adopted it may take long to take note."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_the_browser_is_killed(
    killable: Callable[[], Awaitable[BrowserContext]], contexts: Contexts, office: Server, tmp_path: Path
) -> None:
    """kill -9 of every process of it while the invoice is shown; it is paid. The link opens it where nothing is kept,
    and the browser's own list leads back, too."""
    page = await (await killable()).new_page()
    invoice = await order(page, office, 10)
    link = link_of(page)
    profile = str(tmp_path / "profile")
    mains = [each for each in psutil.process_iter(["cmdline"]) if profile in " ".join(each.info["cmdline"] or ())]
    family = {*mains, *(child for each in mains for child in each.children(recursive=True))}
    # the browser, what drew the page, and more
    assert len(family) > 2
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    async with asyncio.timeout(20):
        while not all(map(ended, family)):
            await asyncio.sleep(0.02)
    await pay_play(office, invoice)
    elsewhere = await (await contexts()).new_page()
    await elsewhere.goto(link)
    token = await shown_token(elsewhere)
    assert sum(proof.amount for proof in parse_token(token).proofs) == 10
    page = await (await killable()).new_page()
    await page.goto(f"{office.url}/buy")
    await page.locator("#kept-list a").click()
    assert await shown_token(page) == token
    await page.click("#forget")
    await expect(page.locator("#choose")).to_be_visible()
    await expect(page.locator("#kept")).to_be_hidden()


async def test_a_clock_that_is_wrong(page: Page, office: Server) -> None:
    """A device a day ahead: the invoice lives as long as the mint says."""
    await page.clock.install(time=time.time() + 86_400)
    await order(page, office, 10)
    await expect(page.locator("#state-text")).to_contain_text(re.compile(r"(59:|60:)"))
