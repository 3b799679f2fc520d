"""Bought over real Lightning: by an LND node that scans the invoice, and by a connected wallet (NIP-47)."""

from __future__ import annotations

import asyncio
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from pennypost.protocol.nip19 import encode_nsec
from pennypost.protocol.nip47 import parse_link
from pennypost.protocol.token import parse_token
from tests.pages.browser import Wiretap
from tests.pages.till import expire, order, settings_kept, shown_token
from tests.support.lightning import LightningBed
from tests.support.server import Server
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]


PLACES = """async () => ({
    markup: document.documentElement.outerHTML,
    values: [...document.querySelectorAll('input, textarea')].map(each => each.value).join(' '),
    address: location.href,
    history: JSON.stringify(history.state),
    window: name,
    cookies: document.cookie,
    storage: JSON.stringify([{...localStorage}, {...sessionStorage}]),
    caches: JSON.stringify(await Promise.all((await caches.keys()).map(async each =>
        (await (await caches.open(each)).keys()).map(request => request.url)))),
})"""
SPOKEN = """string => {
    fetch('/buy?' + encodeURIComponent(string));
    fetch('/buy', {headers: {'x-said': string}});
    fetch('/buy', {method: 'POST', body: string});
    const line = new WebSocket(location.origin.replace('http', 'ws'));
    line.onopen = () => line.send(string);
}"""
"""Every way out, used."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lightning_bed: LightningBed) -> Iterator[Server]:
    """A mint that is paid at the bed's office node."""
    with Server(tmp_path_factory.mktemp("lightning-office"), settings=lightning_bed.settings) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def buyer(contexts: Contexts, server: Server) -> Page:
    """A page in a browser that may talk to that mint alone."""
    return await (await contexts(server.url)).new_page()


async def test_paid_by_an_lnd_node(buyer: Page, server: Server, lightning_bed: LightningBed) -> None:
    invoice = await order(buyer, server, 21)
    await expect(buyer.get_by_text("Play money")).to_have_count(0)
    assert await asyncio.to_thread(lightning_bed.pay, invoice)
    assert sum(proof.amount for proof in parse_token(await shown_token(buyer)).proofs) == 21


async def test_paid_after_the_quote_has_expired(buyer: Page, server: Server, lightning_bed: LightningBed) -> None:
    """At the mint: LND has its invoice for an hour, and takes the payment."""
    invoice = await order(buyer, server, 5)
    await expire(server, invoice, lapse=True)
    await buyer.reload()
    await expect(buyer.locator("#over")).to_be_visible()
    assert await asyncio.to_thread(lightning_bed.pay, invoice)
    assert sum(proof.amount for proof in parse_token(await shown_token(buyer)).proofs) == 5


async def test_paid_from_a_connected_wallet(
    buyer: Page, server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    """@getalby/sdk's wallet service before the payer's node; the string stays in this browser until it is forgotten,
    and leaves it in no request, no frame and no form that a reader of them could undo."""
    tap = Wiretap(buyer.context)
    wallet = AlbyWallet(
        server.websocket_url,
        lightning_bed.nodes["payer"],
        log=tmp_path / "wallet.log",
        macaroon=lightning_bed.admin_macaroon("payer"),
    )
    await asyncio.to_thread(wallet.start)
    try:
        await order(buyer, server, 8)
        async with buyer.context.expect_page() as opening:
            await buyer.click("#nwc")
        paying = await opening.value
        for wrong in ("", "nostr+walletconnect://x", wallet.uri.replace("secret=", "s="), "https://wallet.example"):
            await paying.fill("#string", wrong)
            await paying.click("#use")
            await expect(paying.locator("#string-problem")).not_to_be_empty()
        await paying.fill("#string", wallet.uri)
        await paying.click("#use")
        await expect(paying.locator("#sum")).to_have_text("8 sat for 8 stamps")
        await expect(paying.locator("#string")).to_have_value("")
        assert not await shows(paying, wallet)
        await paying.dblclick("#pay")
        await expect(paying.locator("#what")).to_contain_text("Paid.", timeout=60_000)
        assert sum(proof.amount for proof in parse_token(await shown_token(buyer)).proofs) == 8
        await paying.reload()
        await expect(paying.locator("#what")).to_contain_text("Paid.")
        assert not await shows(paying, wallet)

        # the next purchase: it is known, and can be forgotten
        await order(buyer, server, 9)
        await paying.goto(server.url + (await buyer.get_attribute("#nwc", "href") or ""))
        await paying.reload()
        await expect(paying.locator("#pay")).to_be_visible()
        assert not await shows(paying, wallet)
        assert await settings_kept(paying) == [wallet.uri]
        await paying.click("#forget")
        await expect(paying.locator("#string")).to_be_focused()
        assert await settings_kept(paying) == []
        await paying.reload()
        await expect(paying.locator("#connect")).to_be_visible()
        assert not await shows(paying, wallet)

        heard = await tap.heard()
        assert any('"kind":23194' in each for each in heard)
        assert not [each for each in heard if any(form in each for form in forms(wallet))]
        # and it would have heard
        await paying.evaluate(SPOKEN, wallet.uri)
        async with asyncio.timeout(60):
            while sum(forms(wallet)[0] in each for each in await tap.heard()) != 4:
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(wallet.kill)


def forms(wallet: AlbyWallet) -> list[str]:
    """The string's secret as it could be written, and the string."""
    secret = parse_link(wallet.uri).secret
    words = [secret.hex(), secret.hex().upper(), secret.decode("latin-1"), encode_nsec(secret)]
    words += [b64encode(secret).decode(), urlsafe_b64encode(secret).decode(), b64encode(wallet.uri.encode()).decode()]
    return [*words, wallet.uri, quote(wallet.uri, safe="")]


async def shows(page: Page, wallet: AlbyWallet) -> list[str]:
    """Where the page has it beside IndexedDB: elements, their values, the address, and what other pages could read."""
    places: dict[str, str] = await page.evaluate(PLACES)
    assert len(places) == 8
    return [name for name, text in places.items() if any(form in text for form in forms(wallet))]


async def test_a_connected_wallet_that_may_not_pay(
    buyer: Page, server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    # before the office's node, whose macaroon makes invoices and pays none
    wallet = AlbyWallet(server.websocket_url, lightning_bed.nodes["office"], log=tmp_path / "wallet.log")
    await asyncio.to_thread(wallet.start)
    try:
        await order(buyer, server, 8)
        await buyer.goto(server.url + (await buyer.get_attribute("#nwc", "href") or ""))
        await buyer.fill("#string", wallet.uri)
        await buyer.click("#use")
        await buyer.click("#pay")
        await expect(buyer.locator("#what")).to_contain_text("The wallet did not pay", timeout=60_000)
        await buyer.click("#back")
        await expect(buyer.locator("#pay")).to_be_visible()
    finally:
        await asyncio.to_thread(wallet.kill)
