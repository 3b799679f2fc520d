"""Use cases 2 and 3 over real Lightning: two LND nodes, both directions, preset preimages and hold invoices.

The sender's wallet is once @getalby/sdk's wallet service, reached by Nostr Wallet Connect over the post office itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient
from pennypost.lightning import Wallet, open_wallet
from pennypost.protocol.errors import GarbageProof, PaymentUnknown
from pennypost.protocol.offer import encode_offer, judge, parse_offer
from pennypost.transport import NetworkTransport
from tests.interop.test_wallet_payments import lnd_link
from tests.sdk.test_mail import read
from tests.sdk.test_offers import signed
from tests.sdk.test_paid_mail import answering
from tests.support.lightning import LightningBed
from tests.support.server import Server
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]

BOTH_WAYS = pytest.mark.parametrize(("payer", "payee"), [("payer", "office"), ("office", "payer")])


class Holding:
    """A wallet that can set a preimage in hold invoices alone, as one by Nostr Wallet Connect."""

    def __init__(self, inner: Wallet) -> None:
        self.inner = inner

    async def make_invoice(self, msat: int, **options: Any) -> Any:
        return await self.inner.make_invoice(msat, **options | {"hold": options.get("preimage") is not None})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
async def client(server: Server, lightning_bed: LightningBed, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`client(name, node)` has stamps and the wallet of that node."""
    async with AsyncExitStack() as stack:
        transport = NetworkTransport()
        stack.push_async_callback(transport.close)

        async def make(name: str, node: str, *, holding: bool = False) -> AsyncClient:
            wallet: Any = open_wallet(lnd_link(lightning_bed, node), transport)
            stack.push_async_callback(wallet.close)
            made = AsyncClient(server.url, tmp_path / name, lightning=Holding(wallet) if holding else wallet)
            stack.push_async_callback(made.close)
            await made.stamps.buy(10)
            return made

        yield make


async def settling(seller: AsyncClient) -> None:
    async with asyncio.timeout(60):
        while not await seller.offers.settle():
            await asyncio.sleep(0.05)


@BOTH_WAYS
async def test_the_payment_releases_the_text(client: Any, payer: str, payee: str) -> None:
    """A preset preimage: the seller may be away."""
    buyer, seller = await client("buyer", payer), await client("seller", payee)
    (sale,) = await seller.offers.sell(buyer.npub, "the report", sat=210)
    assert not sale.hold
    bought = await buyer.offers.buy(sale.offer)
    assert (bought.text, bought.msat) == ("the report", 210_000)
    assert (await buyer.offers.buy(sale.id)).text == "the report"
    assert [each.subject for each in await seller.offers.settle()] == [sale.id]


@BOTH_WAYS
async def test_the_payment_releases_the_text_by_a_hold_invoice(client: Any, payer: str, payee: str) -> None:
    buyer, seller = await client("buyer", payer), await client("seller", payee, holding=True)
    (sale,) = await seller.offers.sell(buyer.npub, "the report", sat=210)
    assert sale.hold
    bought, _ = await asyncio.gather(buyer.offers.buy(sale.offer), settling(seller))
    assert bought.text == "the report"
    assert (await buyer.payments.outcome(bytes.fromhex(await hash_of(seller)))) is not None


async def hash_of(seller: AsyncClient) -> str:
    return (await seller.offers.sales())[0].payment_hash.hex()


async def test_garbage_is_paid_once_and_proved(client: Any) -> None:
    buyer, seller = await client("buyer", "payer"), await client("seller", "office")
    (sale,) = await seller.offers.sell(buyer.npub, "the report", sat=21)
    cheat = encode_offer(signed(seller, parse_offer(sale.offer), text_hash=bytes(32)))
    before = await buyer.payments.wallet.balance()
    for _ in range(2):
        with pytest.raises(GarbageProof) as found:
            await buyer.offers.buy(cheat)
        assert judge(found.value.evidence).seller == seller.identity.pub
    assert before - await buyer.payments.wallet.balance() == 21_000


@BOTH_WAYS
@pytest.mark.parametrize("hold", [False, True])
async def test_a_message_with_its_payment(client: Any, payer: str, payee: str, hold: bool) -> None:
    alice, bob = await client("alice", payer), await client("bob", payee)
    async with answering(bob, price=100):
        done = await alice.paid.send(bob.npub, "my question", sat=150, hold=hold)
    assert done.msat == 150_000
    assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [("my question", 150_000)]


async def test_a_payment_that_hangs_is_found_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buyer's program gives up waiting for a seller who is away; it comes back and pays nothing more."""
    buyer, seller = await client("buyer", "payer"), await client("seller", "office", holding=True)
    (sale,) = await seller.offers.sell(buyer.npub, "the report", sat=210)
    before = await buyer.payments.wallet.balance()
    buying = asyncio.ensure_future(buyer.offers.buy(sale.offer))
    async with asyncio.timeout(60):
        while (await seller.payments.wallet.invoice(bytes.fromhex(await hash_of(seller))))[1] == 0:
            await asyncio.sleep(0.05)
    buying.cancel()
    await asyncio.wait({buying})
    with pytest.raises(PaymentUnknown):
        await buyer.offers.buy(sale.offer)
    await seller.offers.settle()
    async with asyncio.timeout(60):
        while True:
            try:
                bought = await buyer.offers.buy(sale.offer)
                break
            except PaymentUnknown:
                await asyncio.sleep(0.1)
    assert bought.text == "the report"
    assert before - await buyer.payments.wallet.balance() == 210_000


async def test_paid_by_a_wallet_of_somebody_else(
    client: Any, server: Server, lightning_bed: LightningBed, tmp_path: Path
) -> None:
    seller = await client("seller", "office")
    relay, payer = server.url.replace("http", "ws"), lightning_bed.nodes["payer"]
    alby = AlbyWallet(relay, payer, log=tmp_path / "alby.log", macaroon=lightning_bed.admin_macaroon("payer"))
    await asyncio.to_thread(alby.start)
    try:
        async with AsyncClient(server.url, tmp_path / "buyer", lightning=alby.uri) as buyer:
            await buyer.stamps.buy(5)
            (sale,) = await seller.offers.sell(buyer.npub, "the report", sat=21)
            assert (await buyer.offers.buy(sale.offer)).text == "the report"
            async with answering(seller):
                assert (await buyer.paid.send(seller.npub, "thanks", sat=10)).msat == 10_000
        assert [mail.paid_msat for mail in await read(seller)] == [10_000]
    finally:
        alby.kill()
