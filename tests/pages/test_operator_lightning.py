"""At a real LND node: a payment that the mint did not hear of is found and credited; the node's balance is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pennypost_mint.api import Mint
from tests.pages.test_operator import Browser
from tests.postoffice.house import open_house
from tests.support.lightning import LightningBed
from tests.support.stamps import MintClient, output

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("macaroon", ["", "admin"])
async def test_paid_and_not_credited(tmp_path: Path, lightning_bed: LightningBed, macaroon: str) -> None:
    """The mint listens to nobody meanwhile: only the button asks the node. A credential that makes invoices alone tells
    no balance, and the page says so; one that may read it does."""
    settings = {name.lower(): value for name, value in lightning_bed.settings.items()}
    if macaroon:
        settings["lnd_macaroon_file"] = str(lightning_bed.admin_macaroon())
    async with open_house(tmp_path, **settings) as house, MintClient(house.url) as wallet:
        mint = house.service._mint
        assert isinstance(mint, Mint)
        await mint.till.stop()
        browser = await Browser(house).enter()
        keyset = await wallet.keyset()
        quote = await wallet.post("/v1/mint/quote/bolt11", {"amount": 9, "unit": "sat"})
        invoice = str(quote["request"])

        async def row(**query: str) -> dict[str, object]:
            (found,) = (await browser.get("/operator/quotes.json", **query)).json()["quotes"]
            return found

        payment_hash = str((await row())["payment_hash"])
        assert (await browser.send("/operator/quotes", find=payment_hash)).status_code == 200
        assert (await row(find=payment_hash))["state"] == "unpaid", "nobody has paid"
        assert await asyncio.to_thread(lightning_bed.pay, invoice)
        assert (await row(find=invoice))["state"] == "unpaid", "nobody told the mint"
        answered = await browser.send("/operator/quotes", find=invoice.upper())
        assert answered.status_code == 200 and 'class="notice good"' in answered.text
        found = await row(find=payment_hash)
        assert (found["state"], found["amount_paid"], found["amount_issued"]) == ("paid", 9, 0)
        again = await browser.send("/operator/quotes", find=payment_hash)
        assert again.status_code == 200 and (await row(find=payment_hash))["amount_paid"] == 9, "once"
        # the buyer's wallet has the stamps from the same quote
        outputs = [output(amount).message(keyset) for amount in (8, 1)]
        signed = await wallet.post("/v1/mint/bolt11", {"quote": quote["quote"], "outputs": outputs})
        assert len(signed["signatures"]) == 2  # type: ignore[arg-type]
        told = (await browser.get("/operator/money.json")).json()
        books = told["books"]
        assert (books["settled"], books["sold"], books["unclaimed"], books["outstanding"]) == (9, 9, 0, 9)
        assert books["balanced"] and told["play_money"] is False
        if macaroon:
            assert told["lightning"]["sat"] >= 9
        else:
            assert told["lightning"]["sat"] is None
        await browser.http.aclose()
