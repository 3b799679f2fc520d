"""Offers paid with stamps locked to the hash of their key (NUT-14): through a real mint, whatever dies on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pennypost import AsyncClient, Sandbox, ecash_lock, orders
from pennypost.ecash_lock import CLAIM_FOR
from pennypost.mint_client import unblind
from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import (
    AmountTooHigh,
    GarbageProof,
    InvalidInput,
    InvoiceMismatch,
    NotAnswered,
    NotEnoughStamps,
    OfferExpired,
    OtherMint,
    PennypostError,
)
from pennypost.protocol.lock import Lock, lock_secret
from pennypost.protocol.offer import KIND_ECASH, encode_offer, parse_offer
from pennypost.protocol.token import Proof, Token, encode_token, parse_token, resolve_token
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.test_offers import signed

Make = Callable[..., AsyncClient]
MOST_STEPS = 80
DAY = 86_400


async def shop(client: Make, *args: Any, stamps: int = 30, **options: Any) -> AsyncClient:
    made = client(*args, **options)
    made._lightning = None
    await made.stamps.buy(stamps)
    return made


async def settled(seller: AsyncClient) -> list[Any]:
    async with asyncio.timeout(20):
        while not (done := await seller.offers.settle()):
            await asyncio.sleep(0.01)
    return done


async def sold(seller: AsyncClient, buyer: AsyncClient, text: str = "report", **options: Any) -> Any:
    (sale,) = await seller.offers.sell(buyer.npub, text, **{"sat": 13, "ecash": True} | options)
    return sale


async def test_stamps_release_the_text(client: Make) -> None:
    """No Lightning anywhere."""
    seller, buyer = await shop(client), await shop(client)
    sale = await sold(seller, buyer, description="cats")
    assert sale.hold
    bought, done = await asyncio.gather(buyer.offers.buy(sale.id), settled(seller))
    assert (bought.text, bought.msat, bought.fee_msat) == ("report", 13_000, 0)
    assert [each.subject for each in done] == [sale.id]
    assert await seller.stamps.balance() == 30 - 2 + 13
    assert await buyer.stamps.balance() == 30 - 13 - 1
    assert (await buyer.offers.buy(sale.offer, most=1)).text == "report", "opened again, and not paid again"
    for each in (seller, buyer):
        checked = await each.stamps.check()
        assert (checked.lost, checked.tokens, checked.problems) == (0, (), ())
    assert await seller.offers.settle() == [] and await buyer.offers.refunds() == 0


async def test_a_seller_who_comes_later(client: Make) -> None:
    seller, buyer = await shop(client), await shop(client)
    sale = await sold(seller, buyer)
    for _ in range(2):
        with pytest.raises(NotAnswered):
            await buyer.offers.buy(sale.id, wait=0)
    assert await buyer.stamps.balance() == 30 - 13 - 1
    await settled(seller)
    assert (await buyer.offers.buy(sale.id)).text == "report"


async def test_what_the_seller_never_takes_comes_back(client: Make) -> None:
    now = [time.time()]
    seller, buyer = await shop(client), await shop(client, clock=lambda: now[0])
    sale = await sold(seller, buyer, valid=3_600)
    # The mint's own clock decides: the lock is made as if the offer had been over for long.
    offer = signed(seller, parse_offer(sale.offer), expires_at=int(now[0]) - CLAIM_FOR - 60)
    now[0] -= 2 * DAY
    with pytest.raises(NotAnswered):
        await buyer.offers.buy(encode_offer(offer), wait=0)
    assert (await buyer.stamps.balance(), await buyer.offers.refunds()) == (16, 0)
    now[0] += 2 * DAY
    assert await buyer.offers.refunds() == 13
    assert await buyer.stamps.balance() == 29
    with pytest.raises(OfferExpired):
        await buyer.offers.buy(encode_offer(offer), wait=0)
    assert await buyer.offers.refunds() == 0 and await buyer.stamps.balance() == 29


async def test_garbage(client: Make) -> None:
    seller, buyer = await shop(client), await shop(client)
    sale = await sold(seller, buyer)
    cheat = signed(seller, parse_offer(sale.offer), text_hash=bytes(32))
    await seller._store.run(lambda c: c.execute("UPDATE invoices SET subject = ?", (cheat.id.hex(),)) and None)
    with pytest.raises(GarbageProof):
        await asyncio.gather(buyer.offers.buy(encode_offer(cheat)), settled(seller))


MATRIX: dict[str, tuple[dict[str, Any], type[PennypostError]]] = {
    "another mint": ({"invoice": "mint"}, OtherMint),
    "no key": ({"invoice": "ecash:00@http://pennypost.sandbox"}, InvoiceMismatch),
    "no mint": ({"invoice": f"ecash:{secp.point(bytes(31) + bytes([1])).hex()}@"}, InvoiceMismatch),
    "parts of a sat": ({"msat": 13_001}, InvalidInput),
    "too much for a letter": ({"msat": 200_000_000}, AmountTooHigh),
    "more than there is": ({"msat": 900_000}, NotEnoughStamps),
    "the office is trusted too": ({"drop": b"\1" * 32}, InvalidInput),
}


@pytest.mark.parametrize(("changed", "error"), MATRIX.values(), ids=MATRIX.keys())
async def test_nothing_is_locked_for_what_does_not_verify(
    client: Make, changed: dict[str, Any], error: type[PennypostError]
) -> None:
    seller, buyer = await shop(client), await shop(client)
    offer = parse_offer((await sold(seller, buyer)).offer)
    if changed.get("invoice") == "mint":
        changed = {"invoice": offer.invoice.partition("@")[0] + "@https://other.example"}
    with pytest.raises(error):
        await buyer.offers.buy(encode_offer(signed(seller, offer, **changed)), most=1_000_000, wait=0)
    assert await buyer.stamps.balance() == 30
    assert (await buyer.stamps.check()).tokens == ()


async def test_one_hash_is_locked_for_once(client: Make) -> None:
    seller, buyer = await shop(client), await shop(client)
    offer = parse_offer((await sold(seller, buyer)).offer)
    with pytest.raises(NotAnswered):
        await buyer.offers.buy(encode_offer(offer), wait=0)
    with pytest.raises(PennypostError) as found:
        await buyer.offers.buy(encode_offer(signed(seller, offer, description="the same again")), wait=0)
    assert found.value.code == "already-paid"
    assert await buyer.stamps.balance() == 30 - 13 - 1


async def forged(buyer: AsyncClient, offer: Any, **changed: Any) -> str:
    """A token of stamps that are locked, truly, but in another way than was asked."""
    own = offer.invoice.removeprefix("ecash:").partition("@")[0]
    rule: dict[str, Any] = {
        "kind": "HTLC",
        "data": offer.key_hash.hex(),
        "pubkeys": (own,),
        "locktime": int(time.time()) + DAY,
        "refund": (secp.point(b"\7" * 32).hex(),),
    }
    amount = changed.pop("amount", 13)
    if "locktime_in" in changed:
        changed["locktime"] = int(time.time()) + changed.pop("locktime_in")
    if changed.pop("ordinary", False):
        return await buyer.stamps.send(amount)
    lock = Lock(**rule | changed)
    keyset = await buyer.stamps.mint.active(int(time.time()))
    token = await buyer.stamps.send(amount)
    inputs = resolve_token(parse_token(token), await buyer.stamps.mint.keysets()).proofs
    outputs = [
        orders.Output(bdhke.blind(secret.encode(), b"\5" * 32), keyset.id, proof.amount, secret, b"\5" * 32)
        for number, proof in enumerate(inputs)
        for secret in [lock_secret(lock, bytes([number + 1]) * 32)]
    ]
    signatures = await buyer.stamps.mint.swap(inputs, outputs)
    proofs = [unblind(keyset, output, each) for output, each in zip(outputs, signatures, strict=True)]
    return encode_token(Token("http://pennypost.sandbox", "sat", proofs))


OTHER_KEY = secp.point(b"\x08" * 32).hex()
LOCKS: dict[str, dict[str, Any]] = {
    "ordinary stamps": {"ordinary": True},
    "another hash": {"data": "11" * 32},
    "another key": {"pubkeys": (OTHER_KEY,)},
    "a second key": {"pubkeys": "own and another"},
    "no key": {"pubkeys": ()},
    "a refund too soon": {"locktime_in": 60},
    "no locktime": {"locktime": None, "refund": ()},
    "signs the whole swap": {"sig_all": True},
    "too little": {"amount": 12},
}


@pytest.mark.parametrize("changed", LOCKS.values(), ids=LOCKS.keys())
async def test_a_seller_takes_only_what_was_asked_and_shows_no_key_for_less(
    client: Make, changed: dict[str, Any]
) -> None:
    seller, buyer, other = await shop(client), await shop(client), await shop(client)
    sale, honest = await sold(seller, buyer), await sold(seller, other)
    offer = parse_offer(sale.offer)
    if changed.get("pubkeys") == "own and another":
        changed = {"pubkeys": (offer.invoice.removeprefix("ecash:").partition("@")[0], OTHER_KEY)}
    token = await forged(buyer, offer, **changed)
    desk = buyer.offers._desk
    content = msgspec.json.encode({"offer": sale.id, "token": token}).decode()
    await desk.post(desk.letter(seller.identity.pub, content, kind=KIND_ECASH).event)
    asked: list[Any] = []
    swap = seller.stamps.mint.swap

    async def watched(inputs: Any, outputs: Any) -> Any:
        asked.extend(inputs)
        return await swap(inputs, outputs)

    seller.stamps.mint.swap = watched  # type: ignore[method-assign]
    bought, done = await asyncio.gather(other.offers.buy(honest.id), settled(seller))
    assert bought.text == "report" and [each.subject for each in done] == [honest.id]
    assert not any(offer.key_hash.hex() in (each.secret + str(each.witness)) for each in asked)
    assert (await seller.offers.sales())[0].subject in (sale.id, honest.id)
    assert {each.subject: each.state for each in await seller.offers.sales()}[sale.id] == "open"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"offer":1,"token":2}', '{"offer":"OFFER","token":"cashuBgarbage"}']
)
async def test_ecash_letters_that_are_none(client: Make, content: str) -> None:
    seller, buyer = await shop(client), await shop(client)
    sale = await sold(seller, buyer)
    desk = buyer.offers._desk
    letter = desk.letter(seller.identity.pub, content.replace("OFFER", sale.id), kind=KIND_ECASH)
    await desk.post(letter.event)
    assert await seller.offers.settle() == []
    bought, _ = await asyncio.gather(buyer.offers.buy(sale.id), settled(seller))
    assert bought.text == "report"


async def test_proofs_that_the_mint_never_signed(client: Make) -> None:
    seller, buyer = await shop(client), await shop(client)
    sale = await sold(seller, buyer)
    offer = parse_offer(sale.offer)
    own = offer.invoice.removeprefix("ecash:").partition("@")[0]
    keyset = await buyer.stamps.mint.active(int(time.time()))
    rule = Lock("HTLC", offer.key_hash.hex(), (own,), locktime=int(time.time()) + DAY, refund=(OTHER_KEY,))
    fake = [Proof(16, keyset.id, lock_secret(rule, b"\1" * 32), secp.point(b"\x09" * 32).hex())]
    token = encode_token(Token("http://pennypost.sandbox", "sat", fake))
    desk = buyer.offers._desk
    content = msgspec.json.encode({"offer": sale.id, "token": token}).decode()
    await desk.post(desk.letter(seller.identity.pub, content, kind=KIND_ECASH).event)
    assert await seller.offers.settle() == []
    assert [each.state for each in await seller.offers.sales()] == ["open"]
    assert (await seller.stamps.check()).problems == ()


@pytest.mark.parametrize("way", WAYS)
async def test_a_buyer_killed_at_any_step_locks_once_and_reads(
    client: Make, office: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    seller = await shop(client, stamps=200)
    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        buyer = await shop(client, home, stamps=20)
        sale = await sold(seller, buyer)

        async def buy(each: AsyncClient, sale: Any = sale) -> None:
            with pytest.raises(NotAnswered):
                await each.offers.buy(sale.id, wait=0)

        died = await dies(office, home, buy, way, step, monkeypatch)
        again = client(home)
        with pytest.raises(NotAnswered):
            await again.offers.buy(sale.offer, wait=0)
        await settled(seller)
        assert (await again.offers.buy(sale.offer, wait=0)).text == "report"
        checked = await again.stamps.check()
        assert (checked.lost, checked.tokens) == (0, ())
        assert checked.stamps == 20 - 13 - 1
        if not died:
            return
    pytest.fail("buying had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_a_seller_killed_at_any_step_has_his_stamps(
    client: Make, office: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    buyer = await shop(client, stamps=600)
    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        seller = await shop(client, home, stamps=2)
        sale = await sold(seller, buyer)
        with pytest.raises(NotAnswered):
            await buyer.offers.buy(sale.offer, wait=0)
        died = await dies(office, home, lambda each: each.offers.settle(), way, step, monkeypatch)
        again = client(home)
        await again.offers.settle()
        assert [each.state for each in await again.offers.sales()] == ["settled"]
        assert (await buyer.offers.buy(sale.offer, wait=0)).text == "report"
        checked = await again.stamps.check()
        assert (checked.stamps, checked.lost, checked.problems) == (13, 0, ())
        if not died:
            return
    pytest.fail("settling had no end")


def test_the_token_of_the_largest_offer_fits_a_letter() -> None:
    rule = Lock("HTLC", "11" * 32, (OTHER_KEY,), locktime=2**33, refund=(OTHER_KEY,))
    sizes = [1 << place for place in range(17)]
    assert sum(sizes) > ecash_lock.MOST
    proofs = [Proof(size, "01" + "ab" * 32, lock_secret(rule, bytes(32)), OTHER_KEY) for size in sizes]
    assert len(encode_token(Token("https://mint.example/with/a/long/path", "sat", proofs))) < 14_000
