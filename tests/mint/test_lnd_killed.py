"""LND is killed between the payment and the moment the mint hears of it: credited once, whole, and nothing else.

At every till that stands before the bed's node, on both databases: LND's own two interfaces, LNbits, and the wallet
service of @getalby/sdk. A few of these in CI, all of them by `make crash` (CRASH_ROUNDS above 20).
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint import till as tills
from pennypost_mint.lightning import Progress
from pennypost_mint.quotes import quote_on
from pennypost_mint.runtime.settings import Settings
from tests.mint.desk import MINT, Desk, open_desk
from tests.mint.places import Place
from tests.support.lightning import LightningBed
from tests.support.stamps import output

pytestmark = pytest.mark.xdist_group("lightning")


EVERY = [
    (place, database, heard)
    for place in ("lnd", "lndrpc", "account", "wallet")
    for database in ("sqlite", "postgresql")
    for heard in ("stream", "round")
    # the others are told of nothing that was paid before they were started
    if heard == "round" or place == "lnd"
]
LONG = int(os.environ.get("CRASH_ROUNDS", "20")) > 20
Case = tuple[str, str, str]


def cases(*short: Case, but: str = "", stream: bool = False) -> pytest.MarkDecorator:
    """These in CI; by `make crash` all, `but` a place that cannot do it; by `stream` where what is heard makes two."""
    chosen = [case for case in EVERY if case[0] != but and (stream or case[2] == "round")] if LONG else short
    return pytest.mark.parametrize("case", chosen, indirect=True, ids="-".join)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def place(case: Case, request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(case[0])


@pytest.fixture
def heard(case: Case) -> str:
    return case[2]


@pytest.fixture
def settings(case: Case, place: Place, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    address = request.getfixturevalue("postgres_url") if case[1] == "postgresql" else ""
    return Settings.model_validate({"data_dir": tmp_path, "database_url": address} | place.settings)


@pytest.fixture(autouse=True)
def told_by_the_node_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wallets' questions do not make the mint ask the node: the stream and the rounds must do."""
    monkeypatch.setattr(tills, "ASKING", 0)
    monkeypatch.setattr(tills, "BACK_OFF", (0.2, 1.0))


async def killed(bed: LightningBed) -> None:
    await asyncio.to_thread(bed.command, "stop-mint-node", "kill")
    await asyncio.to_thread(bed.command, "restart-mint-node")


async def until_paid(desk: Desk, quote: Any, sat: int) -> None:
    async with asyncio.timeout(60):
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


@cases(
    ("lnd", "sqlite", "stream"),
    ("lnd", "postgresql", "round"),
    ("lndrpc", "sqlite", "round"),
    ("wallet", "postgresql", "round"),
    stream=True,
)
async def test_paid_while_the_mint_is_down_and_the_node_killed_after(
    settings: Settings, place: Place, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch, heard: str
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
    await killed(lightning_bed)

    reconcile = tills.Till.reconcile
    if heard == "stream":

        async def nothing(_till: object) -> int:
            return 0

        monkeypatch.setattr(tills.Till, "reconcile", nothing)
    async with open_desk(settings, listening=heard == "stream") as desk:
        if heard == "round":
            assert await answered(desk, reconcile) == 3
        sent = [16, 8, 1] if place.tells_amount else [8, 2]
        for quote, sat in ((exact, 10), (more, sum(sent)), (parts, 10)):
            await until_paid(desk, quote, sat)
        assert await reconcile(desk.mint.till) == 0
        assert settled_sat(desk) == 20 + sum(sent)
        await minted_whole(desk, exact, 8, 2)
        await minted_whole(desk, more, *sent)
        await minted_whole(desk, parts, 8, 2)
        assert (await desk.state_of(unpaid))["amount_paid"] == 0


async def answered(desk: Desk, reconcile: Any) -> int:
    """One round, as soon as what stands before the node has found it again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await desk.mint.lightning.check()
                return await reconcile(desk.mint.till)
            except LightningUnavailable:
                await asyncio.sleep(0.2)


@cases(("lnd", "postgresql", "round"))
async def test_the_node_is_killed_between_two_parts(settings: Settings, lightning_bed: LightningBed) -> None:
    async with open_desk(settings) as desk:
        quote = await desk.quote(10)
        first = asyncio.create_task(asyncio.to_thread(lightning_bed.send_part, quote["request"], 4_000))
        await until_held(lightning_bed, quote)
        assert await desk.mint.till.reconcile() == 0
        await killed(lightning_bed)
        await until_held(lightning_bed, quote)
        assert await answered(desk, tills.Till.reconcile) == 0
        assert (await desk.state_of(quote))["amount_paid"] == 0
        assert await asyncio.to_thread(lightning_bed.send_part, quote["request"], 6_000)
        assert await first
        assert await desk.mint.till.reconcile() == 1
        assert settled_sat(desk) == 10
        await minted_whole(desk, quote, 8, 2)


async def until_held(bed: LightningBed, quote: Any) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(bed.parts_held, quote["request"]) != 1:
            await asyncio.sleep(0.05)


# The backend for LNbits cannot set an expiry: LNbits' own setting holds there.
@cases(("lnd", "sqlite", "round"), but="account")
async def test_expired_while_the_mint_and_the_node_are_down(
    settings: Settings, place: Place, lightning_bed: LightningBed
) -> None:
    async with open_desk(settings) as desk:
        expiring(desk, 6)
        paid, unpaid = await desk.quote(10), await desk.quote(10)
    # by its hash: no other program has to start while the invoice can still be paid
    assert await place.pay_amount(paid["request"], 10)
    await asyncio.to_thread(lightning_bed.command, "stop-mint-node", "kill")
    await asyncio.sleep(max(0.0, unpaid["expiry"] + 0.1 - time.time()))
    async with open_desk(settings, listening=True) as desk:
        await asyncio.to_thread(lightning_bed.command, "restart-mint-node")
        desk.mint.till._round_due.set()
        await until_paid(desk, paid, 10)
        async with asyncio.timeout(60):
            hash_ = (await stored(desk, unpaid)).payment_hash
            while (await desk.mint.lightning.look_up(hash_)).progress is not Progress.LOST:
                await asyncio.sleep(0.05)
        # by its hash, since a payer that reads the invoice would not even try
        assert not await place.pay_amount(unpaid["request"], 10)
        assert await desk.mint.till.reconcile() == 0
        assert (await stored(desk, unpaid)).state == "LAPSED"
        assert settled_sat(desk) == 10
        await minted_whole(desk, paid, 8, 2)
