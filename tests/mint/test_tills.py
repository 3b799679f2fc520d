"""The cases that every adapter must hold, run through each that can run here: every payment is credited, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint import till as tills
from pennypost_mint.lightning import Invoice, Lightning, Progress, child, rest, wallet_line
from pennypost_mint.lightning.backends import open_lightning
from pennypost_mint.quotes import quote_on
from pennypost_mint.runtime.settings import Settings
from tests.mint.desk import MINT, QUOTE, Desk, open_desk
from tests.mint.places import ClnPlace, Place, WalletPlace
from tests.support.cln import RUNE, ClnRest
from tests.support.http import HttpServer, certificates
from tests.support.lightning import LightningBed
from tests.support.stamps import output
from tests.support.wallets import AlbyWallet

pytestmark = pytest.mark.xdist_group("lightning")

PLACES = ("lnd", "lndrpc", "account", "wallet", "cln")


@pytest.fixture
async def cln(tmp_path: Path) -> AsyncIterator[Place]:
    files = certificates(tmp_path, "cln", "localhost")
    book = ClnRest()
    server = HttpServer(book.answer, files.context)
    await server.start()
    settings = {"lightning": "cln", "cln_url": server.url, "cln_rune": RUNE, "cln_cert_file": files.ca}
    yield ClnPlace(book, server, settings)
    await server.stop()
    assert book.strays == []


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def settings(place: Place, tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path} | place.settings)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tills, wallet_line, child):
        monkeypatch.setattr(module, "BACK_OFF", (0.2, 1.0))


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wallets' questions no longer make the mint ask the node: the stream and the rounds must do."""
    monkeypatch.setattr(tills, "ASKING", 0)


async def until_paid(desk: Desk, quote: Any, sat: int, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while (await desk.state_of(quote))["amount_paid"] != sat:
            await asyncio.sleep(0.05)


async def mint(desk: Desk, quote: Any, *amounts: int) -> int:
    """Mints these amounts: 200, or the code of the refusal."""
    status, answer = await desk.ask(
        MINT, {"quote": quote["quote"], "outputs": desk.messages([output(amount) for amount in amounts])}
    )
    return 200 if status == 200 else answer["code"]


async def test_paid_once_and_minted_once(settings: Settings, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_desk(settings, listening=True) as desk:
        assert not desk.mint.lightning.play_money
        quote = await desk.quote(10, description="stamps\nfor Bob")
        assert quote["request"].startswith("lnbcrt100n1")
        assert await mint(desk, quote, 8, 2) == 20001
        # from here on nobody asks the node: the stream brings it
        deaf(monkeypatch)
        assert await place.pay(quote["request"])
        await until_paid(desk, quote, 10)
        assert not await place.pay(quote["request"])
        assert await mint(desk, quote, 8, 2) == 200
        assert await mint(desk, quote, 1) == 20002
        assert (await desk.state_of(quote))["amount_paid"] == 10


async def test_too_little_waits_and_too_much_is_credited(settings: Settings, place: Place) -> None:
    async with open_desk(settings) as desk:
        quote = await desk.quote(10)
        assert not await place.pay_amount(quote["request"], 9)
        assert await desk.mint.till.reconcile() == 0
        assert (await desk.state_of(quote))["amount_paid"] == 0
        assert await place.pay_amount(quote["request"], 13)
        assert await desk.mint.till.reconcile() == 1
        expected = 13 if place.tells_amount else 10
        assert (await desk.state_of(quote))["amount_paid"] == expected
        assert await mint(desk, quote, *([8, 4, 1] if place.tells_amount else [8, 2])) == 200


async def test_paid_while_the_mint_is_down(settings: Settings, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_desk(settings) as desk:
        quotes = [await desk.quote(amount) for amount in (1, 2, 4, 8)]
    for quote in quotes[:-1]:
        assert await place.pay(quote["request"])
    deaf(monkeypatch)
    async with open_desk(settings, listening=True) as desk:
        for quote in quotes[:-1]:
            await until_paid(desk, quote, quote["amount"])
            assert await mint(desk, quote, quote["amount"]) == 200
        assert (await desk.state_of(quotes[-1]))["state"] == "UNPAID"


class PaidAtOnce:
    """The same node, but each invoice is paid before the mint has even heard of it."""

    play_money = False

    def __init__(self, node: Lightning, place: Place) -> None:
        self._node, self._place = node, place
        self.till, self.look_up, self.settled = node.till, node.look_up, node.settled
        self.check, self.close = node.check, node.close

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        invoice = await self._node.create_invoice(amount, memo, expiry_seconds)
        assert await self._place.pay(invoice.request)
        async with asyncio.timeout(60):
            while (await self._node.look_up(invoice.payment_hash)).progress is not Progress.SETTLED:
                await asyncio.sleep(0.05)
        return invoice


async def test_paid_before_the_quote_is_written_down(
    settings: Settings, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(monkeypatch)
    async with open_desk(settings) as desk:
        node = PaidAtOnce(open_lightning(settings, desk.database), place)
        async with open_desk(settings, lightning=node) as early:
            early.mint.till.start()
            # the first round is over, the stream is listened to
            async with asyncio.timeout(60):
                while early.mint.metrics.mint_lightning_up._value.get() != 1:
                    await asyncio.sleep(0.01)
            quote = await early.quote(10)
            early.mint.till._round_due.set()
            await until_paid(early, quote, 10)
            assert await mint(early, quote, 8, 2) == 200


async def test_what_the_mint_talks_to_dies_and_comes_back(
    settings: Settings, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings, listening=True) as desk:
        lightning: Any = desk.mint.lightning
        quote = await desk.quote(10)
        await place.kill(lightning)
        if lightning.till.startswith("lndrpc"):
            # its child is started again by the next request, so there is nothing to see from outside
            assert await place.pay(quote["request"])
        else:
            with monkeypatch.context() as hurried:
                hurried.setattr(wallet_line, "ANSWER_SECONDS", 2.0)
                status, answer = await desk.ask(QUOTE, {"amount": 1, "unit": "sat"})
            assert (status, answer["code"]) == (503, 20000)
            if place.payable_while_away:
                assert await place.pay(quote["request"])
            await place.start()
            if not place.payable_while_away:
                assert await place.pay(quote["request"])
        await until_paid(desk, quote, 10)
        assert await mint(desk, quote, 8, 2) == 200
        again = await desk.quote(1)
        assert await place.pay(again["request"])
        await until_paid(desk, again, 1)


async def test_what_is_frozen_keeps_nobody_waiting(
    settings: Settings, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings) as desk:
        quote = await desk.quote(10)
        await place.freeze(desk.mint.lightning)
        try:
            with monkeypatch.context() as bounds:
                bounds.setattr(tills, "ASK_SECONDS", 0.3)
                limits = ((wallet_line, "ANSWER_SECONDS"), (child, "ANSWER_SECONDS"), (rest, "SECONDS"))
                # past the wallet's patience, so that it alone can end the wait
                for module, name in limits:
                    bounds.setattr(module, name, 600.0)
                async with asyncio.timeout(30):
                    assert (await desk.state_of(quote))["state"] == "UNPAID"
                for module, name in limits:
                    bounds.setattr(module, name, 2.0)
                async with asyncio.timeout(30):
                    with pytest.raises(LightningUnavailable):
                        await desk.mint.lightning.check()
        finally:
            await place.thaw()
        async with asyncio.timeout(60):
            # whoever pays a node that was frozen may have to find it again first
            while not await place.pay(quote["request"]):
                await asyncio.sleep(0.5)
        async with asyncio.timeout(60):
            while not await reconciled(desk):
                await asyncio.sleep(0.1)
        assert (await desk.state_of(quote))["amount_paid"] == 10


async def reconciled(desk: Desk) -> bool:
    try:
        return await desk.mint.till.reconcile() == 1
    except LightningUnavailable:
        return False


# The backend for LNbits cannot set an expiry: LNbits' own setting holds there.
@pytest.mark.parametrize("place", [name for name in PLACES if name != "account"], indirect=True)
async def test_an_expired_invoice_lapses(settings: Settings, place: Place) -> None:
    async with open_desk(settings) as desk:
        lightning: Any = desk.mint.lightning
        create = lightning.create_invoice
        lightning.create_invoice = lambda amount, memo, _expiry: create(amount, memo, 1)
        quote = await desk.quote(10)
        assert quote["expiry"] - time.time() < 2
        payment_hash = (await stored(desk, quote)).payment_hash
        async with asyncio.timeout(60):
            while (await lightning.look_up(payment_hash)).progress is not Progress.LOST:
                await asyncio.sleep(0.1)
        assert not await place.pay(quote["request"])
        assert await desk.mint.till.reconcile() == 0
        assert (await stored(desk, quote)).state == "LAPSED"


async def stored(desk: Desk, quote: Any) -> Any:
    return await desk.database.read(quote_on, quote["quote"])


async def test_the_relay_between_mint_and_wallet_dies_and_comes_back(
    wallet: WalletPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path} | wallet.settings)
    async with open_desk(settings, listening=True) as desk:
        quote = await desk.quote(10)
        await asyncio.to_thread(wallet.relay.kill)
        try:
            assert await wallet.pay(quote["request"])
            assert (await desk.ask(QUOTE, {"amount": 1, "unit": "sat"}))[0] == 503
        finally:
            await asyncio.to_thread(wallet.relay.start)
        await until_paid(desk, quote, 10)
        assert await mint(desk, quote, 8, 2) == 200


async def test_a_wallet_that_does_not_tell_is_asked(
    wallet: WalletPlace, lightning_bed: LightningBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(monkeypatch)
    office = lightning_bed.nodes["office"]
    silent = AlbyWallet(wallet.relay.websocket_url, office, notify=False, log=tmp_path / "wallet.log")
    try:
        silent.start()
        settings = Settings.model_validate({"data_dir": tmp_path, "lightning": "nwc", "nwc_uri": silent.uri})
        async with open_desk(settings, listening=True) as desk:
            quote = await desk.quote(10)
            assert await wallet.pay(quote["request"])
            await until_paid(desk, quote, 10, seconds=30)
    finally:
        silent.kill()
