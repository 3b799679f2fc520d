"""Texts for sale through a real office: sold, bought once, refused unpaid, proved garbage, whatever dies on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Sandbox, offers, trade
from pennypost.lightning import Stage
from pennypost.offers import Sale
from pennypost.play import FUNDS, PlayWallet
from pennypost.protocol import secp
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    GarbageProof,
    InvalidInput,
    InvalidKey,
    InvalidOffer,
    InvoiceMismatch,
    LetterTooLarge,
    NotAnswered,
    NoWallet,
    OfferExpired,
    PaymentFailed,
    PaymentUnknown,
    PennypostError,
    WalletCannot,
)
from pennypost.protocol.offer import MAX_TEXT, Offer, encode_offer, judge, parse_offer
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import texts

Make = Callable[..., AsyncClient]
MOST_STEPS = 60


class Purse:
    """A wallet with the habits of others; it counts what it is told to pay."""

    def __init__(self, inner: Any, habit: str = "") -> None:
        self.inner: PlayWallet = inner
        self.habit, self.told = habit, 0
        self.fails: list[PennypostError] = []

    async def pay(self, request: str, **options: Any) -> Any:
        self.told += 1
        if self.fails:
            raise self.fails.pop(0)
        return await self.inner.pay(request, **options)

    async def make_invoice(self, msat: int, **options: Any) -> Any:
        if options.get("preimage") is not None:
            if self.habit == "holds":
                return await self.inner.make_invoice(msat, **options | {"hold": True})
            if self.habit:
                raise WalletCannot
        made = await self.inner.make_invoice(msat, **options)
        return replace(made, preimage=None) if self.habit == "neither" else made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
async def seller(client: Make) -> AsyncClient:
    made = client()
    await made.stamps.buy(20)
    return made


async def funds(client: AsyncClient) -> int:
    return await client.payments.wallet.balance()


async def test_a_text_is_sold_and_bought(client: Make, seller: AsyncClient) -> None:
    buyer = client()
    (sale,) = await seller.offers.sell(buyer.npub, "ünï ✉ report", sat=21, description="cats")
    assert (sale.buyer, sale.sat, sale.hold) == (buyer.npub, 21, False)
    assert [receipt.accepted for receipt in sale.receipts] == [True, True]
    (listed,) = await buyer.offers.all()
    assert (listed.id, listed.seller, listed.sat, listed.description) == (sale.id, seller.npub, 21, "cats")
    assert (listed.state, listed.trusts_office) == ("new", False)
    bought = await buyer.offers.buy(sale.id[:10], most=21)
    assert (bought.text, bought.msat, bought.seller) == ("ünï ✉ report", 21_000, seller.npub)
    assert (await funds(buyer), await funds(seller)) == (FUNDS - 21_000, FUNDS + 21_000)
    assert [each.state for each in await buyer.offers.all()] == ["read"]
    assert [each.subject for each in await seller.offers.settle()] == [sale.id]
    assert [each.state for each in await seller.offers.sales()] == ["settled"]
    assert await texts(buyer) == [], "no letter for people"


async def test_bought_again_it_is_opened_and_not_paid_again(client: Make, seller: AsyncClient, office: Sandbox) -> None:
    purse, now = Purse(office.wallet()), [time.time()]
    buyer = client(lightning=purse, clock=lambda: now[0])
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    for offer in (sale.offer, sale.id, sale.offer):
        assert (await buyer.offers.buy(offer)).text == "report"
    now[0] += 86_400
    assert (await buyer.offers.buy(sale.id)).text == "report", "what was paid is opened, however late"
    assert purse.told == 1


async def test_each_buyer_has_an_offer_of_his_own(client: Make, seller: AsyncClient) -> None:
    bob, carol = client(), client()
    sales = await seller.offers.sell([bob.npub, carol.npub], "report", sat=5)
    assert len({sale.id for sale in sales}) == 2
    with pytest.raises(InvalidOffer):
        await bob.offers.buy(sales[1].offer)
    for buyer, sale in zip((bob, carol), sales, strict=True):
        assert (await buyer.offers.buy(sale.offer)).text == "report"
    assert await funds(seller) == FUNDS + 10_000


async def settled(seller: AsyncClient) -> None:
    async with asyncio.timeout(20):
        while not await seller.offers.settle():
            await asyncio.sleep(0.01)


async def test_a_wallet_with_hold_invoices(client: Make, office: Sandbox) -> None:
    seller, buyer = client(lightning=Purse(office.wallet(), "holds")), client()
    await seller.stamps.buy(5)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    assert sale.hold
    bought, _ = await asyncio.gather(buyer.offers.buy(sale.offer), settled(seller))
    assert bought.text == "report"
    assert await funds(seller) == FUNDS + 21_000
    assert await seller.offers.settle() == []


async def test_a_seller_who_comes_late(client: Make, office: Sandbox) -> None:
    """The payment hangs; the buyer asks again and does not pay again."""
    purse = Purse(office.wallet())
    seller, buyer = client(lightning=Purse(office.wallet(), "holds")), client(lightning=purse)
    await seller.stamps.buy(5)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    pay = purse.inner.pay

    async def impatient(request: str, *, max_fee_msat: int, timeout: float = 0) -> Any:
        return await pay(request, max_fee_msat=max_fee_msat, timeout=0.1)

    purse.inner.pay = impatient  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(PaymentUnknown):
            await buyer.offers.buy(sale.offer)
    await seller.offers.settle()
    assert (await buyer.offers.buy(sale.offer)).text == "report"
    assert purse.told == 1


async def test_a_wallet_that_shows_its_preimage(client: Make, office: Sandbox) -> None:
    seller, buyer = client(lightning=Purse(office.wallet(), "shows")), client()
    await seller.stamps.buy(5)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    assert not sale.hold and not parse_offer(sale.offer).trusts_office
    assert (await buyer.offers.buy(sale.offer)).text == "report"


async def test_the_last_resort_trusts_the_office(client: Make, office: Sandbox) -> None:
    seller, purse = client(lightning=Purse(office.wallet(), "neither")), Purse(office.wallet())
    buyer = client(lightning=purse)
    await seller.stamps.buy(5)
    with pytest.raises(WalletCannot):
        await seller.offers.sell(buyer.npub, "report", sat=21)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21, trust_office=True)
    assert len(sale.receipts) == 3 and parse_offer(sale.offer).trusts_office
    (listed,) = await buyer.offers.all()
    assert listed.trusts_office
    with pytest.raises(InvalidOffer):
        await buyer.offers.buy(sale.id)
    assert purse.told == 0
    with pytest.raises(InvalidOffer):
        await buyer.offers._fetch(parse_offer(sale.offer), parse_offer(sale.offer).drop)
    assert (await buyer.offers.buy(sale.id, trust_office=True)).text == "report"
    assert purse.told == 1


async def test_a_seller_who_drops_another_key(client: Make, office: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What trusting the office and the seller can cost: it is said, and there is no proof for others."""
    seller, purse = client(lightning=Purse(office.wallet(), "neither")), Purse(office.wallet())
    buyer = client(lightning=purse)
    await seller.stamps.buy(5)
    seal = offers.seal_text
    monkeypatch.setattr(offers, "seal_text", lambda text, key, *rest: seal(text, bytes(reversed(key)), *rest))
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21, trust_office=True)
    with pytest.raises(GarbageProof) as found:
        await buyer.offers.buy(sale.offer, trust_office=True)
    assert found.value.evidence == "" and purse.told == 1
    assert [each.state for each in await buyer.offers.all()] == ["garbage"]


async def test_an_office_that_keeps_the_key_back_can_be_asked_again(
    client: Make, office: Sandbox, meddler: Meddler
) -> None:
    seller, purse = client(lightning=Purse(office.wallet(), "neither")), Purse(office.wallet())
    buyer = client(lightning=purse, transport=meddler)
    await seller.stamps.buy(5)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21, trust_office=True)
    meddler.replace("/v1/holds/", b'{"detail":"nothing here [hold-unknown]","code":0}', 404)
    for _ in range(2):
        with pytest.raises(NotAnswered):
            await buyer.offers.buy(sale.offer, trust_office=True)
    meddler.honest()
    assert (await buyer.offers.buy(sale.offer)).text == "report"
    assert purse.told == 1


# Nothing is paid for what does not verify


async def dishonest(seller: AsyncClient, buyer: AsyncClient, **changed: Any) -> str:
    """The offer of a seller who signs whatever is asked."""
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    return encode_offer(signed(seller, parse_offer(sale.offer), **changed))


def signed(seller: AsyncClient, offer: Offer, **changed: Any) -> Offer:
    other = replace(offer, **changed)
    return replace(other, signature=secp.schnorr_sign(seller.identity.secret, other.id, bytes(32)))


def bolt11(msat: int = 21_000, payment_hash: bytes = b"\1" * 32, expiry: int = 3_600) -> str:
    return write_invoice(b"\7" * 32, msat, payment_hash, b"\1" * 32, "", int(time.time()), expiry)


MATRIX: dict[str, tuple[dict[str, Any], type[PennypostError]]] = {
    "wrong hash": ({"invoice": bolt11()}, InvoiceMismatch),
    "amount": ({"msat": 20_999}, InvoiceMismatch),
    "invoice expired": ({"invoice": "hash of the offer, in the past"}, OfferExpired),
    "offer expired": ({"expires_at": 1}, OfferExpired),
    "no invoice": ({"invoice": "lnbcrt1"}, InvoiceMismatch),
    "another ciphertext": ({"ciphertext_hash": b"\1" * 32}, InvalidOffer),
    "ciphertext not at the office": ({"letter": secp.xonly(b"\x09" * 32)}, InvalidOffer),
    "wrong Z": ({"commitment": b"\1" * 32}, InvalidOffer),
    "ephemeral of another": ({"ephemeral": secp.xonly(b"\x09" * 32)}, InvalidOffer),
    "key of another": ({"key_hash": b"\1" * 32}, InvalidOffer),
    "dearer than allowed": ({}, AmountTooHigh),
}


@pytest.mark.parametrize(("changed", "error"), MATRIX.values(), ids=MATRIX.keys())
async def test_nothing_is_paid_for_what_does_not_verify(
    client: Make, seller: AsyncClient, office: Sandbox, changed: dict[str, Any], error: type[PennypostError]
) -> None:
    purse = Purse(office.wallet())
    buyer = client(lightning=purse)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    offer = parse_offer(sale.offer)
    if "in the past" in str(changed.get("invoice")):
        changed = {"invoice": bolt11(payment_hash=offer.key_hash, expiry=1)}
    with pytest.raises(error):
        await buyer.offers.buy(encode_offer(signed(seller, offer, **changed)), most=20 if not changed else 1_000)
    assert purse.told == 0 and await funds(buyer) == FUNDS
    assert (await buyer.offers.buy(sale.offer)).text == "report", "the honest one still is"


async def test_an_offer_by_another_author(client: Make, seller: AsyncClient, office: Sandbox) -> None:
    """A thief signs the seller's offer anew, with his own invoice: he has no ciphertext of his own to show."""
    purse = Purse(office.wallet())
    buyer, thief = client(lightning=purse), client()
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    stolen = signed(thief, replace(parse_offer(sale.offer), seller=thief.identity.pub), invoice=bolt11())
    with pytest.raises(InvalidOffer):
        await buyer.offers.buy(encode_offer(stolen))
    assert purse.told == 0


async def test_one_hash_is_paid_once_whatever_is_offered(client: Make, seller: AsyncClient, office: Sandbox) -> None:
    """A second offer with the payment hash of the first, in another invoice."""
    purse = Purse(office.wallet())
    buyer = client(lightning=purse)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    offer = parse_offer(sale.offer)
    purse.fails = [PaymentFailed()]
    with pytest.raises(PaymentFailed):
        await buyer.offers.buy(sale.offer)
    again = signed(seller, offer, invoice=bolt11(payment_hash=offer.key_hash))
    with pytest.raises(PennypostError) as found:
        await buyer.offers.buy(encode_offer(again))
    assert found.value.code == "already-paid"
    assert (await buyer.offers.buy(sale.offer)).text == "report"
    assert purse.told == 2 and await funds(buyer) == FUNDS - 21_000


async def test_garbage_is_proved(client: Make, seller: AsyncClient) -> None:
    buyer = client()
    offer = await dishonest(seller, buyer, text_hash=b"\1" * 32)
    for _ in range(2):
        with pytest.raises(GarbageProof) as found:
            await buyer.offers.buy(offer)
        assert judge(found.value.evidence).seller == seller.identity.pub
    assert await funds(buyer) == FUNDS - 21_000, "paid once"
    assert [each.state for each in await buyer.offers.all()].count("garbage") == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sat": 0}, InvalidInput),
        ({"sat": 10**12}, InvalidInput),
        ({"valid": 0}, InvalidInput),
        ({"valid": 31 * 86_400}, InvalidInput),
        ({"to": []}, InvalidInput),
        ({"to": "nobody"}, InvalidKey),
        ({"text": "x" * (MAX_TEXT + 1)}, LetterTooLarge),
        ({"text": ""}, InvalidOffer),
        ({"description": "x" * 501}, InvalidOffer),
    ],
)
async def test_offers_that_cannot_be_made_cost_nothing(
    client: Make, seller: AsyncClient, options: dict[str, Any], error: type[PennypostError]
) -> None:
    given: dict[str, Any] = {"to": client().npub, "text": "report", "sat": 21}
    with pytest.raises(error):
        await seller.offers.sell(**given | options)
    assert await seller.stamps.balance() == 20


async def test_the_largest_text_fits(client: Make, seller: AsyncClient) -> None:
    buyer, text = client(), "é" * (MAX_TEXT // 2)
    (sale,) = await seller.offers.sell(buyer.npub, text, sat=1, description="x" * 500)
    assert (await buyer.offers.buy(sale.offer)).text == text


async def test_what_names_no_offer(client: Make) -> None:
    buyer = client()
    for named in ("", "ff", "zz", "f" * 65, "ppo1", "ppo1" + "A" * 600):
        with pytest.raises(InvalidOffer):
            await buyer.offers.buy(named)


async def test_without_a_wallet(client: Make, seller: AsyncClient) -> None:
    buyer = client()
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=21)
    buyer._lightning = seller._lightning = None
    with pytest.raises(NoWallet):
        await buyer.offers.buy(sale.offer)
    with pytest.raises(NoWallet):
        await seller.offers.sell(buyer.npub, "report", sat=21)


async def test_strangers_cannot_fill_the_book(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade, "OPEN", 2)
    seller, buyer = client(), client()
    await seller.stamps.buy(8)
    sales: list[Sale] = []
    for _ in range(4):
        sales += await seller.offers.sell(buyer.npub, "report", sat=1)
    assert len(await buyer.offers.all()) == 2
    assert (await buyer.offers.buy(sales[0].offer)).text == "report"


@pytest.mark.parametrize("way", WAYS)
async def test_a_buyer_killed_at_any_step_pays_once_and_reads(
    client: Make, office: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    seller = client()
    for step in range(MOST_STEPS):
        home, wallet = tmp_path / str(step), Purse(office.wallet())
        await seller.stamps.buy(2)
        buyer = client(home, lightning=wallet)
        (sale,) = await seller.offers.sell(buyer.npub, f"report {step}", sat=21)
        died = await dies(
            office, home, lambda each, sale=sale: each.offers.buy(sale.id), way, step, monkeypatch, lightning=wallet
        )
        assert (await client(home, lightning=wallet).offers.buy(sale.offer)).text == f"report {step}"
        assert (wallet.told, await wallet.balance()) == (1, FUNDS - 21_000)
        if not died:
            return
    pytest.fail("buying had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_a_seller_killed_at_any_step_gives_the_key_for_every_payment(
    client: Make, office: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Whatever of an offer got out, its key is in the seller's book before anybody can pay for it."""
    for step in range(MOST_STEPS):
        home, wallet, buyer = tmp_path / str(step), Purse(office.wallet(), "holds"), client()
        seller = client(home, lightning=wallet)
        await seller.stamps.buy(4)

        async def sell(each: AsyncClient, npub: str = buyer.npub) -> None:
            await each.offers.sell(npub, "x", sat=21, patience=0)

        died = await dies(office, home, sell, way, step, monkeypatch, lightning=wallet)
        again = client(home, lightning=wallet)
        await again.flush()
        offers = await buyer.offers.all()
        assert len(offers) <= 1 and (offers or died)
        for offer in offers:
            bought, _ = await asyncio.gather(buyer.offers.buy(offer.id), settled(again))
            assert bought.text == "x"
        if not died:
            return
    pytest.fail("selling had no end")


async def test_a_held_invoice_of_too_little_is_not_settled(client: Make, office: Sandbox) -> None:
    seller = client(lightning=Purse(office.wallet(), "holds"))
    await seller.stamps.buy(4)
    (sale,) = await seller.offers.sell(client().npub, "x", sat=21)
    wallet: Any = seller.payments.wallet
    settles: list[bytes] = []

    async def invoice(payment_hash: bytes) -> tuple[Stage, int]:
        return Stage.HELD, 20_999

    async def settle(preimage: bytes) -> None:
        settles.append(preimage)

    wallet.invoice, wallet.settle = invoice, settle
    assert await seller.offers.settle() == [] and settles == []
    assert (await seller.offers.sales())[0].subject == sale.id
