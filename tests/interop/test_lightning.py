"""Real Lightning: two LND nodes on regtest, one the mint's, one that pays."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.lightning import LightningBed
from tests.support.server import Server, clean_environment
from tests.support.stamps import MintClient, output

PENNYPOST = Path(sys.executable).with_name("pennypost")

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]


@pytest.fixture
def server(serve: Callable[..., Server], lightning_bed: LightningBed) -> Server:
    """A mint that is paid at the bed's office node."""
    return serve(settings=lightning_bed.settings)


class Purchase:
    """`pennypost wallet buy N` under way: its lines as they come, its invoice."""

    def __init__(self, server: Server, home: Path, amount: int) -> None:
        self.process = subprocess.Popen(
            [PENNYPOST, "wallet", "buy", str(amount), "--home", home, "--office", server.url],
            env=clean_environment(PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.put(line)

    def end(self) -> None:
        """kill -9, if it has not ended by itself."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def invoice(self) -> str:
        """Waits for the BOLT11 that it shows."""
        deadline = time.monotonic() + 60
        while not (found := re.search(r"\blnbcrt[0-9a-z]{100,}", self.text)):
            assert time.monotonic() < deadline and (self.process.poll() is None or not self.lines.empty()), self.text
            try:
                self.text += self.lines.get(timeout=1)
            except queue.Empty:
                continue
        return found.group()


@contextmanager
def buying(server: Server, home: Path, amount: int) -> Iterator[Purchase]:
    purchase = Purchase(server, home, amount)
    try:
        yield purchase
    finally:
        purchase.end()


def command(server: Server, *words: str | Path) -> list[Any]:
    done = subprocess.run(
        [PENNYPOST, *words, "--json", "--office", server.url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def balance(server: Server, home: Path) -> int:
    (wallet,) = command(server, "wallet", "balance", "--home", home)
    return wallet["balance"]


def test_wallet_buy_shows_an_invoice_and_brings_the_stamps(
    server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    with buying(server, tmp_path / "alice", 21) as purchase:
        assert lightning_bed.pay(purchase.invoice())
        assert purchase.process.wait(60) == 0, purchase.text
    assert balance(server, tmp_path / "alice") == 21
    (bob,) = command(server, "keys", "new", "--home", tmp_path / "bob")
    command(server, "send", bob["npub"], "paid for over Lightning", "--home", tmp_path / "alice")
    (letter,) = command(server, "inbox", "--home", tmp_path / "bob")
    assert letter["text"] == "paid for over Lightning"
    assert balance(server, tmp_path / "alice") == 20


def test_paid_while_the_mint_is_down_and_bought_by_the_same_command(
    server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    """The buyer's program is killed too: the purchase is kept, and the next one claims it."""
    home = tmp_path / "alice"
    with buying(server, home, 13) as purchase:
        invoice = purchase.invoice()
    server.kill()
    assert lightning_bed.pay(invoice)
    server.start()
    with buying(server, home, 13) as again:
        assert again.process.wait(60) == 0, again.text
    assert balance(server, home) == 13


def operator(server: Server, *words: str) -> list[Any]:
    """`pennypost mint …` with the server's settings, whether it runs or not."""
    done = subprocess.run(
        [PENNYPOST, "mint", *words, "--json"],
        env=server.environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_the_operator_credits_what_was_paid(server: Server, lightning_bed: LightningBed) -> None:
    """Paid while the mint is down, and the mint stays down: the command asks LND, once is enough, the books balance."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        paid, left = await _quote(http, 11), await _quote(http, 5)
    server.kill()
    assert lightning_bed.pay(paid["request"])
    credited, summary = operator(server, "reconcile", paid["request"])
    assert (credited["id"], credited["became"], credited["credited"]) == (paid["quote"], "credited", 11)
    assert operator(server, "reconcile", paid["quote"])[0]["became"] == "nothing new"
    [everything] = operator(server, "reconcile")
    assert (everything["looked_up"], everything["waiting"], everything["credited"]) == (1, 1, 0)
    assert operator(server, "quotes", "--state", "unpaid")[0]["quotes"][0]["id"] == left["quote"]
    server.start()
    async with MintClient(server.url) as mint:
        keyset = await mint.keyset()
        made = [output() for _ in range(11)]
        body = {"quote": paid["quote"], "outputs": [each.message(keyset) for each in made]}
        assert len((await mint.post("/v1/mint/bolt11", body))["signatures"]) == 11  # type: ignore[arg-type]
    [books] = operator(server, "report")
    assert (books["settled"], books["sold"], books["difference"], books["balanced"]) == (11, 11, 0, True)
    assert summary["looked_up"] == 1


async def _quote(http: httpx.AsyncClient, amount: int) -> dict[str, Any]:
    response = await http.post("/v1/mint/quote/bolt11", json={"amount": amount, "unit": "sat"})
    assert response.status_code == 200, response.text
    return response.json()


async def _state(http: httpx.AsyncClient, quote: str, wanted: str, seconds: float = 30) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        response = await http.get(f"/v1/mint/quote/bolt11/{quote}")
        if response.status_code == 200 and response.json()["state"] == wanted:
            return response.json()
        assert time.monotonic() < deadline, response.text
        await asyncio.sleep(0.05)


async def _mint(server: Server, quote: str, amount: int) -> int:
    """Mints `amount` stamps of 1 sat: the status of the answer."""
    async with MintClient(server.url) as mint:
        keyset = await mint.keyset()
        body = {"quote": quote, "outputs": [output().message(keyset) for _ in range(amount)]}
        try:
            await mint.post("/v1/mint/bolt11", body)
        except httpx.HTTPStatusError as error:
            return error.response.json()["code"]
    return 200


async def test_unpaid_then_paid_once(server: Server, lightning_bed: LightningBed) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        quote = await _quote(http, 5)
        assert await _mint(server, quote["quote"], 5) == 20001
        assert await asyncio.to_thread(lightning_bed.pay, quote["request"])
        paid = await _state(http, quote["quote"], "PAID")
        assert (paid["amount_paid"], paid["amount_issued"]) == (5, 0)
        assert not await asyncio.to_thread(lightning_bed.pay, quote["request"]), "paid twice"
        assert await _mint(server, quote["quote"], 6) == 11005
        assert await _mint(server, quote["quote"], 5) == 200
        assert await _mint(server, quote["quote"], 5) == 20002
        assert (await _state(http, quote["quote"], "ISSUED"))["amount_issued"] == 5


async def test_every_payment_while_the_mint_was_down_is_credited(server: Server, lightning_bed: LightningBed) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        quotes = [await _quote(http, amount) for amount in range(1, 9)]
        await asyncio.to_thread(server.kill)
        for quote in quotes[:-1]:
            assert await asyncio.to_thread(lightning_bed.pay, quote["request"])
        await asyncio.to_thread(server.start)
        for quote in quotes[:-1]:
            await _state(http, quote["quote"], "PAID")
            assert await _mint(server, quote["quote"], quote["amount"]) == 200
        await _state(http, quotes[-1]["quote"], "UNPAID")


async def test_the_nodes_restart_loses_no_payment(server: Server, lightning_bed: LightningBed) -> None:
    """The stream of settled invoices breaks and is taken up again; meanwhile buying says so and posting goes on."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        before = await _quote(http, 3)
        await asyncio.to_thread(lightning_bed.command, "stop-mint-node", "kill")
        refused = await http.post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"})
        assert (refused.status_code, refused.json()["code"]) == (503, 20000)
        assert (await http.get("/v1/keys")).status_code == 200
        await asyncio.to_thread(lightning_bed.command, "restart-mint-node")
        assert await asyncio.to_thread(lightning_bed.pay, before["request"])
        await _state(http, before["quote"], "PAID")
        after = await _quote(http, 2)
        assert await asyncio.to_thread(lightning_bed.pay, after["request"])
        await _state(http, after["quote"], "PAID")


async def test_the_invoice_is_for_exactly_the_stamps(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        quote = await _quote(http, 34)
    assert quote["request"].startswith("lnbcrt340n1"), "34 sat are 340 nano-bitcoin (BOLT 11, Human-Readable Part)"
