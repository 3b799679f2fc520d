"""The buy page, from the choice to stamps that other people's wallets take."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from pennypost.protocol.token import parse_token
from tests.pages.till import choose, fragment_of, link_of, order, pay_play, purchases, shown_invoice, shown_token
from tests.support.foreign import NutshellWallet
from tests.support.server import Server, clean_environment

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]


async def test_bought_and_taken_by_nutshell(page: Page, office: Server, tmp_path: Path) -> None:
    """Choose, pay, take; the page sees that a wallet has the stamps. Nothing of the link is ever sent."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data} {request.headers}"))
    invoice = await order(page, office, 100)
    await expect(page.locator("#qr")).to_have_attribute("href", f"lightning:{invoice}")
    [kept] = await purchases(page)
    assert (kept["state"], kept["amount"], kept["request"]) == ("open", 100, invoice)
    assert sum(output["amount"] for output in kept["outputs"]) == 100
    link_of(page)
    assert await pay_play(office, invoice) == 100
    token = parse_token(await shown_token(page))
    assert (token.mint, token.unit, sum(proof.amount for proof in token.proofs)) == (office.url, "sat", 100)
    assert all(proof.dleq is None for proof in token.proofs)
    secret = fragment_of(page).split(".")[1]
    assert not [each for each in sent if secret in each]
    assert all(proof.secret not in each for proof in token.proofs for each in sent)

    wallet = NutshellWallet(tmp_path / "nutshell", office.url)
    assert "100" in wallet.run("receive", await page.input_value("#token"))
    await expect(page.locator("#taken")).to_be_visible(timeout=45_000)


async def test_from_the_front_page_to_stamps_in_a_wallet(contexts: Contexts, office: Server, tmp_path: Path) -> None:
    """By what is shown, within a minute; link, file, clipboard and command carry the token, the command takes it."""
    context = await contexts()
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    started = time.monotonic()
    await page.goto(office.url)
    await page.locator('main a[href="/buy"]').first.click()
    await choose(page, 10)
    await page.click("#buy")
    await pay_play(office, await shown_invoice(page))
    token = await shown_token(page)
    assert await page.get_attribute("#cashu", "href") == f"cashu:{token}"
    async with page.expect_download() as downloading:
        await page.click("#download")
    assert (await (await downloading.value).path()).read_text() == f"{token}\n"
    await page.click("#copy-token")
    # the click is over before the browser has written
    async with asyncio.timeout(30):
        while await page.evaluate("navigator.clipboard.readText()") != token:
            await asyncio.sleep(0.02)

    program, *words = shlex.split(await page.text_content("#command") or "")
    assert (program, words[2]) == ("pennypost", token)
    taken = await asyncio.to_thread(
        subprocess.run,
        [Path(sys.executable).with_name(program), *words, "--json"],
        env=clean_environment(PENNYPOST_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert taken.returncode == 0, taken.stderr
    await expect(page.locator("#taken")).to_be_visible(timeout=45_000)
    assert time.monotonic() - started < 60


async def test_payments_url_leads_here(office: Server) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        document = (await http.get(office.url, headers={"accept": "application/nostr+json"})).json()
        assert document["payments_url"] == f"{office.url}/buy"
        assert (await http.get(document["payments_url"])).status_code == 200


async def test_a_second_click_buys_nothing_twice(page: Page, office: Server) -> None:
    quotes: list[str] = []
    page.on("request", lambda request: quotes.append(request.url) if "mint/quote" in request.url else None)
    await page.goto(f"{office.url}/buy")
    await page.dblclick("#buy")
    await page.evaluate("document.getElementById('buy').click()")
    await shown_invoice(page)
    assert len([url for url in quotes if url.endswith("/bolt11")]) == 1
    assert len(await purchases(page)) == 1


async def test_another_number(page: Page, office: Server) -> None:
    await page.goto(f"{office.url}/buy")
    await page.check('input[name="pack"][value="own"]')
    for wrong in ("", "0", "-3", "1.5", "100001"):
        await page.fill("#number", wrong)
        await page.click("#buy")
        await expect(page.locator("#number")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#number")).to_be_focused()
    await page.fill("#number", "37")
    await page.keyboard.press("Enter")
    assert await pay_play(office, await shown_invoice(page)) == 37
    assert sum(proof.amount for proof in parse_token(await shown_token(page)).proofs) == 37


async def test_an_office_apart_sells_the_stamps_of_its_mint(
    contexts: Contexts, office: Server, serve: Callable[..., Server]
) -> None:
    """Its page asks the mint elsewhere, which its policy allows, and nobody else."""
    apart = serve(settings={"MINT_URLS": office.url}, arguments=("--role", "postoffice"))
    page = await (await contexts(apart.url, office.url)).new_page()
    invoice = await order(page, apart, 12)
    await expect(page.get_by_text("Play money")).to_have_count(0)
    await pay_play(office, invoice)
    token = parse_token(await shown_token(page))
    assert (token.mint, sum(proof.amount for proof in token.proofs)) == (office.url, 12)
