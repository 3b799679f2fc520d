"""Payments find their quotes, whatever happened meanwhile. The node here follows a script; `test_lnd` has real ones."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint import till as tills
from pennypost_mint.lightning import Invoice, Progress, Receipt
from pennypost_mint.till import Till
from tests.mint.desk import MINT, QUOTE, Desk, open_desk, settings_for
from tests.support.stamps import output


class Script:
    """A node that says what a test wants it to say."""

    till = "script"
    play_money = False

    def __init__(self) -> None:
        self.receipts: dict[bytes, Receipt] = {}
        self.stream: asyncio.Queue[Receipt | None] = asyncio.Queue()
        self.subscribed_after: list[int | None] = []
        self.looked_up = 0
        self.away = False
        self.expiry = 3_600
        self.slow = 0.0
        self.dumb: set[bytes] = set()

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        if self.away:
            raise LightningUnavailable
        payment_hash = secrets.token_bytes(32)
        self.receipts[payment_hash] = Receipt(payment_hash, Progress.OPEN, 0)
        return Invoice(f"lnscript{payment_hash.hex()}", payment_hash, int(time.time()) + self.expiry)

    def pay(self, quote: Any, msat: int, position: int | None = None) -> Receipt:
        """The node has received so much in all."""
        payment_hash = bytes.fromhex(quote["request"].removeprefix("lnscript"))
        self.receipts[payment_hash] = Receipt(payment_hash, Progress.SETTLED, msat, position)
        return self.receipts[payment_hash]

    def cancel(self, quote: Any) -> None:
        payment_hash = bytes.fromhex(quote["request"].removeprefix("lnscript"))
        self.receipts[payment_hash] = Receipt(payment_hash, Progress.LOST, 0)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        self.looked_up += 1
        await asyncio.sleep(self.slow)
        if self.away or payment_hash in self.dumb:
            raise LightningUnavailable
        return self.receipts.get(payment_hash, Receipt(payment_hash, Progress.LOST, 0))

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        self.subscribed_after.append(after)
        while (receipt := await self.stream.get()) is not None:
            yield receipt
        raise LightningUnavailable

    async def check(self) -> None:
        if self.away:
            raise LightningUnavailable

    async def balance(self) -> int | None:
        return None

    async def close(self) -> None:
        return None


@pytest.fixture
def node() -> Script:
    return Script()


@pytest.fixture
async def desk(tmp_path: Path, database_url: str, node: Script) -> AsyncIterator[Desk]:
    async with open_desk(settings_for(tmp_path, database_url), lightning=node) as opened:
        yield opened


async def until_paid(desk: Desk, quote: Any, amount: int) -> None:
    async with asyncio.timeout(20):
        for _ in iter(int, 1):
            found = await desk.state_of(quote)
            if found["amount_paid"] == amount:
                return
            await asyncio.sleep(0.01)


async def test_the_stream_credits(desk: Desk, node: Script) -> None:
    desk.mint.till.start()
    quote = await desk.quote(10)
    receipt = node.pay(quote, 10_000, position=5)
    node.receipts.clear()
    node.stream.put_nowait(receipt)
    await until_paid(desk, quote, 10)
    await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(8), output(2)])})


async def test_the_stream_goes_on_where_it_stopped(desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tills, "BACK_OFF", (0.01, 0.02))
    desk.mint.till.start()
    first, second = await desk.quote(1), await desk.quote(2)
    receipts = [node.pay(first, 1_000, position=7), node.pay(second, 2_000, position=8)]
    node.receipts.clear()
    node.stream.put_nowait(receipts[0])
    await until_paid(desk, first, 1)
    node.stream.put_nowait(None)
    node.stream.put_nowait(None)
    node.stream.put_nowait(receipts[1])
    await until_paid(desk, second, 2)
    assert node.subscribed_after == [None, 7, 7]
    await desk.mint.till.stop()
    later = Till(desk.database, node, desk.mint.metrics)
    later.start()
    async with asyncio.timeout(20):
        for _ in iter(lambda: len(node.subscribed_after), 4):
            await asyncio.sleep(0.01)
    await later.stop()
    assert node.subscribed_after[-1] == 8


async def test_an_older_position_does_not_turn_the_stream_back(desk: Desk, node: Script) -> None:
    for position, expected in ((9, 9), (3, 9), (10, 10)):
        await desk.mint.till._credit(Receipt(bytes(32), Progress.SETTLED, 1_000, position))
        assert await desk.database.read(tills._position, node.till) == expected


async def test_a_payment_heard_of_before_the_quotes_row_is_found_when_the_wallet_asks(desk: Desk, node: Script) -> None:
    quote = await desk.quote(10)
    # As if the notice had come before the row: nobody was there to credit, the node alone knows.
    node.pay(quote, 10_000)
    assert (await desk.state_of(quote))["state"] == "PAID"


async def test_a_wallet_that_mints_without_asking_finds_it_too(desk: Desk, node: Script) -> None:
    quote = await desk.quote(8)
    node.pay(quote, 8_000)
    await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(8)])})


async def test_what_was_paid_while_we_were_down_is_credited_at_the_start(
    tmp_path: Path, database_url: str, node: Script
) -> None:
    settings = settings_for(tmp_path, database_url)
    async with open_desk(settings, lightning=node) as desk:
        quote = await desk.quote(10)
    node.pay(quote, 10_000)
    async with open_desk(settings, lightning=node, listening=True) as desk:
        await until_paid(desk, quote, 10)


async def test_a_round_credits_pays_no_attention_to_what_is_open_and_lets_the_dead_lapse(
    desk: Desk, node: Script
) -> None:
    paid, open_, little = await desk.quote(10), await desk.quote(10), await desk.quote(10)
    cancelled = await desk.quote(10)
    node.expiry = -5
    expired, late = await desk.quote(10), await desk.quote(10)
    node.pay(paid, 10_000)
    node.pay(little, 9_000)
    node.pay(late, 10_000)
    node.cancel(cancelled)
    node.cancel(expired)
    assert await desk.mint.till.reconcile() == 2
    node.looked_up = 0
    assert await desk.mint.till.reconcile() == 0
    assert node.looked_up == 3
    node.pay(little, 20_000)
    assert await desk.mint.till.reconcile() == 1
    assert (await desk.state_of(little))["amount_paid"] == 20
    assert (await desk.state_of(open_))["state"] == "UNPAID"
    # Lapsed, and paid nevertheless.
    node.pay(expired, 10_000)
    assert (await desk.state_of(expired))["state"] == "PAID"


async def test_too_much_is_credited_and_mintable(desk: Desk, node: Script) -> None:
    quote = await desk.quote(10)
    node.pay(quote, 13_999)
    outputs = desk.messages([output(8), output(4), output(1)])
    await desk.done(MINT, {"quote": quote["quote"], "outputs": outputs})
    found = await desk.state_of(quote)
    assert (found["amount"], found["amount_paid"], found["amount_issued"]) == (10, 13, 13)


async def test_too_little_waits(desk: Desk, node: Script) -> None:
    quote = await desk.quote(10)
    node.pay(quote, 9_999)
    assert (await desk.state_of(quote))["state"] == "UNPAID"
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(8)])}) == 20001


async def test_a_round_reaches_every_open_quote(desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tills, "PAGE", 3)
    for quote in [await desk.quote(1) for _ in range(7)]:
        node.pay(quote, 1_000)
    assert [await desk.mint.till.reconcile() for _ in range(2)] == [7, 0]


async def test_a_round_that_takes_too_long_goes_on_next_time(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "PAGE", 3)
    monkeypatch.setattr(tills, "EVERY", -1)
    for quote in [await desk.quote(1) for _ in range(7)]:
        node.pay(quote, 1_000)
    assert [await desk.mint.till.reconcile() for _ in range(4)] == [3, 3, 1, 0]


async def test_a_node_that_calls_an_invoice_open_for_ever_is_not_asked_for_ever(desk: Desk, node: Script) -> None:
    node.expiry = 60 - tills.STILL
    waiting = await desk.quote(10)
    node.expiry = -60 - tills.STILL
    over = await desk.quote(10)
    for looked_up in (2, 3, 4):
        assert await desk.mint.till.reconcile() == 0
        assert node.looked_up == looked_up
    node.pay(over, 10_000)
    node.pay(waiting, 10_000)
    assert (await desk.state_of(over))["state"] == "PAID"
    assert await desk.mint.till.reconcile() == 1


async def test_a_stream_that_ends_at_once_is_not_opened_without_a_rest(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def ends(after: int | None) -> AsyncIterator[Receipt]:
        node.subscribed_after.append(after)
        if len(node.subscribed_after) == 3:
            enough.set()
            await asyncio.Event().wait()
        for receipt in ():
            yield receipt

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr(node, "settled", ends)
    monkeypatch.setattr(asyncio, "sleep", rest)
    following = asyncio.create_task(desk.mint.till._follow())
    async with asyncio.timeout(20):
        await enough.wait()
    following.cancel()
    assert rests.count(tills.BACK_OFF[0]) == 2


async def test_a_node_that_is_away_stops_sales_and_nothing_else(desk: Desk, node: Script) -> None:
    quote = await desk.quote(8)
    [proof] = await bought(desk, node, 1)
    node.away = True
    status, answer = await desk.ask(QUOTE, {"amount": 1, "unit": "sat"})
    assert (status, answer["code"]) == (503, 20000)
    response = await desk.http.post(QUOTE, json={"amount": 1, "unit": "sat"})
    assert response.headers["retry-after"]
    assert (await desk.state_of(quote))["state"] == "UNPAID"
    await desk.done("/v1/swap", {"inputs": [proof], "outputs": desk.messages([output(1)])})
    with pytest.raises(LightningUnavailable):
        await desk.mint.till.reconcile()
    node.away = False
    node.pay(quote, 8_000)
    assert await desk.mint.till.reconcile() == 1


async def test_a_node_that_is_away_is_seen_in_the_metrics(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "EVERY", 0.01)
    desk.mint.till.start()
    for away, told in ((False, b"1.0"), (True, b"0.0"), (False, b"1.0")):
        node.away = away
        async with asyncio.timeout(20):
            for _ in iter(int, 1):
                if b"pennypost_mint_lightning_up " + told in desk.mint.metrics.text():
                    break
                await asyncio.sleep(0.01)


async def test_an_invoice_that_the_node_cannot_tell_of_does_not_hide_the_others(desk: Desk, node: Script) -> None:
    quotes = [await desk.quote(amount) for amount in range(1, 21)]
    for quote in quotes[:10]:
        node.dumb.add(bytes.fromhex(quote["request"].removeprefix("lnscript")))
    for quote in quotes:
        node.pay(quote, quote["amount"] * 1_000)
    assert await desk.mint.till.reconcile() == 10
    node.dumb.clear()
    assert await desk.mint.till.reconcile() == 10


async def test_wallets_that_ask_often_do_not_ask_the_node_often(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "ASK_AGAIN", 3_600)
    quote = await desk.quote(8)
    await asyncio.gather(*(desk.state_of(quote) for _ in range(50)))
    assert node.looked_up == 1


async def test_a_slow_node_does_not_keep_a_wallet_waiting(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "ASK_SECONDS", 0.05)
    quote = await desk.quote(8)
    node.slow = 3_600
    async with asyncio.timeout(30):
        assert (await desk.state_of(quote))["state"] == "UNPAID"


async def test_listening_survives_what_it_does_not_expect(
    desk: Desk, node: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "BACK_OFF", (0.01, 0.02))
    desk.mint.till.start()
    node.stream.put_nowait("not a receipt")  # type: ignore[arg-type]
    quote = await desk.quote(1)
    node.stream.put_nowait(node.pay(quote, 1_000))
    await until_paid(desk, quote, 1)


async def bought(desk: Desk, node: Script, *amounts: int) -> list[Any]:
    outputs = [output(amount) for amount in amounts]
    quote = await desk.quote(sum(amounts))
    node.pay(quote, sum(amounts) * 1_000)
    answer = await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages(outputs)})
    return desk.proofs(outputs, answer["signatures"])
