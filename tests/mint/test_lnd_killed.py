"""LND is killed between the payment and the moment the mint hears of it: credited once, whole, and nothing else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from pennypost_mint import till as tills
from pennypost_mint.lightning import Progress
from pennypost_mint.quotes import quote_on
from pennypost_mint.runtime.settings import Settings
from tests.mint.desk import MINT, Desk, open_desk
from tests.mint.places import LndPlace
from tests.support.lightning import LightningBed
from tests.support.stamps import output

pytestmark = pytest.mark.xdist_group("lightning")


@pytest.fixture
def place(lightning_bed: LightningBed) -> LndPlace:
    return LndPlace(lightning_bed)


@pytest.fixture
def settings(place: LndPlace, tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path} | place.settings)


@pytest.fixture(autouse=True)
def told_by_the_node_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wallets' questions do not make the mint ask the node: the stream and the rounds must do."""
    monkeypatch.setattr(tills, "ASKING", 0)
    monkeypatch.setattr(tills, "BACK_OFF", (0.2, 1.0))


async def killed(place: LndPlace, desk: Desk) -> None:
    await place.kill(desk.mint.lightning)
    await place.start()


async def until_paid(desk: Desk, quote: Any, sat: int) -> None:
    async with asyncio.timeout(30):
        while (await desk.state_of(quote))["amount_paid"] != sat:
            await asyncio.sleep(0.05)


async def minted_whole(desk: Desk, quote: Any, *amounts: int) -> None:
    """These can be had for the quote, and not one stamp more."""
    assert (await desk.state_of(quote))["amount_paid"] == sum(amounts)
    await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(each) for each in amounts])})
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(1)])}) == 20002


def settled_sat(desk: Desk) -> float:
    return desk.mint.metrics.mint_settled_sat._value.get()


async def stored(desk: Desk, quote: Any) -> Any:
    return await desk.database.read(quote_on, quote["quote"])


def expiring(desk: Desk, seconds: int) -> None:
    lightning: Any = desk.mint.lightning
    create = type(lightning).create_invoice
    lightning.create_invoice = lambda amount, memo, _expiry: create(lightning, amount, memo, seconds)


@pytest.mark.parametrize("heard", ["stream", "round"])
async def test_paid_while_the_mint_is_down_and_the_node_killed_after(
    settings: Settings, place: LndPlace, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch, heard: str
) -> None:
    async with open_desk(settings, listening=True) as desk:
        # LND's stream tells what was missed only after a position, so one payment comes before
        known = await desk.quote(1)
        assert await place.pay(known["request"])
        await until_paid(desk, known, 1)
        exact, more, parts, unpaid = [await desk.quote(10) for _ in range(4)]
    assert await place.pay(exact["request"])
    assert await place.pay_amount(more["request"], 25)
    assert await asyncio.to_thread(lightning_bed.pay_in_parts, parts["request"], 3) == 3
    assert not await place.pay_amount(unpaid["request"], 9)
    await killed(place, desk)

    reconcile = tills.Till.reconcile
    if heard == "stream":

        async def nothing(_till: object) -> int:
            return 0

        monkeypatch.setattr(tills.Till, "reconcile", nothing)
    async with open_desk(settings, listening=heard == "stream") as desk:
        if heard == "round":
            assert await reconcile(desk.mint.till) == 3
        for quote, sat in ((exact, 10), (more, 25), (parts, 10)):
            await until_paid(desk, quote, sat)
        assert await reconcile(desk.mint.till) == 0
        assert settled_sat(desk) == 45
        await minted_whole(desk, exact, 8, 2)
        await minted_whole(desk, more, 16, 8, 1)
        await minted_whole(desk, parts, 8, 2)
        assert (await desk.state_of(unpaid))["amount_paid"] == 0


async def test_the_node_is_killed_between_two_parts(
    settings: Settings, place: LndPlace, lightning_bed: LightningBed
) -> None:
    async with open_desk(settings) as desk:
        quote = await desk.quote(10)
        first = asyncio.create_task(asyncio.to_thread(lightning_bed.send_part, quote["request"], 4_000))
        await until_held(lightning_bed, quote)
        assert await desk.mint.till.reconcile() == 0
        await killed(place, desk)
        await until_held(lightning_bed, quote)
        assert await desk.mint.till.reconcile() == 0
        assert (await desk.state_of(quote))["amount_paid"] == 0
        assert await asyncio.to_thread(lightning_bed.send_part, quote["request"], 6_000)
        assert await first
        assert await desk.mint.till.reconcile() == 1
        assert settled_sat(desk) == 10
        await minted_whole(desk, quote, 8, 2)


async def until_held(bed: LightningBed, quote: Any) -> None:
    async with asyncio.timeout(30):
        while await asyncio.to_thread(bed.parts_held, quote["request"]) != 1:
            await asyncio.sleep(0.05)


async def test_expired_while_the_mint_and_the_node_are_down(settings: Settings, place: LndPlace) -> None:
    async with open_desk(settings) as desk:
        expiring(desk, 4)
        paid, unpaid = await desk.quote(10), await desk.quote(10)
    assert await place.pay(paid["request"])
    await place.kill(desk.mint.lightning)
    await asyncio.sleep(max(0.0, unpaid["expiry"] + 0.1 - time.time()))
    async with open_desk(settings, listening=True) as desk:
        await place.start()
        await until_paid(desk, paid, 10)
        async with asyncio.timeout(30):
            hash_ = (await stored(desk, unpaid)).payment_hash
            while (await desk.mint.lightning.look_up(hash_)).progress is not Progress.LOST:
                await asyncio.sleep(0.05)
        # by its hash, since a payer that reads the invoice would not even try
        assert not await place.pay_amount(unpaid["request"], 10)
        assert await desk.mint.till.reconcile() == 0
        assert (await stored(desk, unpaid)).state == "LAPSED"
        assert settled_sat(desk) == 10
        await minted_whole(desk, paid, 8, 2)
