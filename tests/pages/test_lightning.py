"""Bought over real Lightning: by an LND node that scans the invoice, and by a connected wallet (NIP-47)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from pennypost.protocol.token import parse_token
from tests.pages.till import order, shown_token
from tests.support.lightning import LightningBed
from tests.support.server import Server
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]


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


async def test_paid_from_a_connected_wallet(
    buyer: Page, server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    """@getalby/sdk's wallet service before the payer's node; the string stays in this browser until it is forgotten."""
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
        await paying.dblclick("#pay")
        await expect(paying.locator("#what")).to_contain_text("Paid.", timeout=60_000)
        assert sum(proof.amount for proof in parse_token(await shown_token(buyer)).proofs) == 8
        await paying.reload()
        await expect(paying.locator("#what")).to_contain_text("Paid.")

        # the next purchase: it is known, and can be forgotten
        await order(buyer, server, 9)
        await paying.goto(server.url + (await buyer.get_attribute("#nwc", "href") or ""))
        await paying.reload()
        await expect(paying.locator("#pay")).to_be_visible()
        await paying.click("#forget")
        await expect(paying.locator("#string")).to_be_focused()
        await paying.reload()
        await expect(paying.locator("#connect")).to_be_visible()
    finally:
        await asyncio.to_thread(wallet.kill)


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
