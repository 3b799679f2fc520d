"""Whole servers whose till is a foreign wallet or LNbits: set up by settings alone, killed, searched for secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mint.places import cashu_python
from tests.support.lightning import LightningBed
from tests.support.lnbits import Lnbits
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.stamps import MintClient, output
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]


async def quote(http: httpx.AsyncClient, amount: int, seconds: float = 60) -> dict[str, Any]:
    """A quote, as soon as the till is there."""
    deadline = time.monotonic() + seconds
    while True:
        response = await http.post("/v1/mint/quote/bolt11", json={"amount": amount, "unit": "sat"})
        if response.status_code == 200:
            return response.json()
        assert response.status_code == 503 and time.monotonic() < deadline, response.text
        await asyncio.sleep(0.1)


async def buy(server: Server, wanted: dict[str, Any]) -> None:
    """Waits until the quote is paid, and mints it."""
    async with MintClient(server.url) as mint, httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        async with asyncio.timeout(60):
            while (await http.get(f"/v1/mint/quote/bolt11/{wanted['quote']}")).json()["state"] != "PAID":
                await asyncio.sleep(0.05)
        keyset = await mint.keyset()
        outputs = [output().message(keyset) for _ in range(wanted["amount"])]
        await mint.post("/v1/mint/bolt11", {"quote": wanted["quote"], "outputs": outputs})


def http_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30)


async def test_a_wallet_reached_over_our_own_post_office(
    serve: Callable[..., Server], lightning_bed: LightningBed, tmp_path: Path
) -> None:
    """The post office is the relay between its own mint and the wallet."""
    port = free_port()
    wallet = AlbyWallet(f"ws://127.0.0.1:{port}/", lightning_bed.nodes["office"], log=tmp_path / "wallet.log")
    (tmp_path / "nwc").write_text(wallet.uri + "\n")
    server = await asyncio.to_thread(
        serve, port=port, settings={"LIGHTNING": "nwc", "NWC_URI_FILE": str(tmp_path / "nwc")}
    )
    try:
        async with http_of(server) as http:
            refused = await http.post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"})
            assert (refused.status_code, refused.json()["code"]) == (503, 20000), "nobody listens yet"
            await asyncio.to_thread(wallet.start)
            first, second = await quote(http, 5), await quote(http, 3)
            assert await asyncio.to_thread(lightning_bed.pay, first["request"])
            await buy(server, first)
            await asyncio.to_thread(server.kill)
            assert await asyncio.to_thread(lightning_bed.pay, second["request"])
            await asyncio.to_thread(server.start)
            await buy(server, second)
    finally:
        wallet.kill()
    log = server.log.read_text()
    secret = wallet.uri.partition("secret=")[2][:64]
    assert len(secret) == 64
    for hidden in (secret, first["request"], first["quote"], wallet.uri):
        assert hidden not in log


async def test_lnbits_by_a_child_process_that_ends_with_the_mint(
    serve: Callable[..., Server], lightning_bed: LightningBed, lnbits: Lnbits
) -> None:
    key = await asyncio.to_thread(lnbits.account)
    settings = {
        "LIGHTNING": "lnbits",
        "LNBITS_URL": lnbits.url,
        "LNBITS_KEY": key,
        "CASHU_PYTHON": str(cashu_python()),
    }
    server = await asyncio.to_thread(serve, settings=settings)
    async with http_of(server) as http:
        first, second = await quote(http, 5), await quote(http, 3)
        assert await asyncio.to_thread(lightning_bed.pay, first["request"])
        await buy(server, first)
        # raises when a child outlives the mint
        await asyncio.to_thread(server.kill)
        assert await asyncio.to_thread(lightning_bed.pay, second["request"])
        await asyncio.to_thread(server.start)
        await buy(server, second)
    await asyncio.to_thread(server.stop)
    log = server.log.read_text()
    for hidden in (key, first["request"], first["quote"]):
        assert hidden not in log
