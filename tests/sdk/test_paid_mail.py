"""Messages with their payment through a real office: asked, invoiced, paid once, shown; whatever dies on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Mail, Sandbox, trade
from pennypost.play import FUNDS
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    InvalidInput,
    InvoiceMismatch,
    LetterTooLarge,
    NotAnswered,
    NotFound,
    NoWallet,
    OfferExpired,
    PaymentFailed,
    PennypostError,
)
from pennypost.protocol.invoice_request import KIND_INVOICE, InvoiceAnswer, encode_answer, proof_tag
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.test_mail import read
from tests.sdk.test_offers import Purse, funds

Make = Callable[..., AsyncClient]
MOST_STEPS = 80


@pytest.fixture
async def bob(client: Make) -> AsyncClient:
    made = client()
    await made.stamps.buy(200)
    return made


@asynccontextmanager
async def answering(who: AsyncClient, price: int = 10) -> AsyncIterator[None]:
    """`who` answers every request while the block runs."""

    async def answer() -> None:
        async for _ in who.paid.answer_all(price, watch=True):
            pass

    task = asyncio.create_task(answer())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def payer(client: Make, *args: Any, **options: Any) -> AsyncClient:
    made = client(*args, **options)
    await made.stamps.buy(8)
    return made


@pytest.mark.parametrize("hold", [False, True])
async def test_a_message_with_its_payment(client: Make, bob: AsyncClient, hold: bool) -> None:
    alice = await payer(client)
    before = await funds(bob)
    async with answering(bob):
        done = await alice.paid.send(bob.npub, "a question", sat=21, about="about cats", hold=hold)
    assert (done.msat, done.fee_msat, done.receipt.accepted) == (21_000, 0, True)
    (mail,) = await read(bob)
    assert (mail.text, mail.sender, mail.paid_msat) == ("a question", alice.npub, 21_000)
    assert (await funds(alice), await funds(bob) - before) == (FUNDS - 21_000, 21_000)
    assert [each.paid_msat for each in await read(bob, again=True)] == [21_000]
    assert await alice.paid.finish() == []


async def test_the_receivers_price(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    async with answering(bob, price=13):
        assert (await alice.paid.send(bob.npub, "hello")).msat == 13_000
        with pytest.raises(AmountTooHigh):
            await alice.paid.send(bob.npub, "hello again", most=12)
        with pytest.raises(NotAnswered):
            await alice.paid.send(bob.npub, "cheap", sat=12, wait=1)
        assert (await alice.paid.send(bob.npub, "generous", sat=50)).msat == 50_000
    assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [("hello", 13_000), ("generous", 50_000)]
    assert await funds(alice) == FUNDS - 63_000


async def test_answered_by_hand(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", about="cats", wait=0)
    (request,) = await bob.paid.requests()
    assert (request.sender, request.msat, request.about) == (alice.identity.pub.hex(), 0, "cats")
    with pytest.raises(InvalidInput):
        await bob.paid.answer(request.id)
    assert (await bob.paid.answer(request.id, 7)).accepted
    assert await bob.paid.requests() == []
    with pytest.raises(NotFound):
        await bob.paid.answer(request.id, 7)
    assert (await alice.paid.send(bob.npub, "hello", about="cats")).msat == 7_000


async def test_the_same_call_goes_on_and_a_new_one_asks_anew(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    for _ in range(2):
        with pytest.raises(NotAnswered):
            await alice.paid.send(bob.npub, "one", sat=20, wait=0)
    assert len(await bob.paid.requests()) == 1 and await alice.stamps.balance() == 7
    async with answering(bob):
        first = await alice.paid.send(bob.npub, "one", sat=20)
        second = await alice.paid.send(bob.npub, "one", sat=20)
    assert first.request != second.request
    assert [mail.paid_msat for mail in await read(bob)] == [20_000, 20_000]


# Nothing is paid for what does not verify


def invoice(msat: int = 21_000, described: bytes | str = b"", *, expiry: int = 3_600) -> str:
    now = int(time.time())
    return write_invoice(b"\7" * 32, msat, sha256(b"x").digest(), b"\1" * 32, described, now, expiry)


MATRIX: dict[str, tuple[Callable[[bytes], str], type[PennypostError]]] = {
    "amount above": (lambda id: invoice(21_001, id), InvoiceMismatch),
    "amount below": (lambda id: invoice(20_999, id), InvoiceMismatch),
    "of another request": (lambda id: invoice(described=bytes(32)), InvoiceMismatch),
    "with words": (lambda id: invoice(described="tea"), InvoiceMismatch),
    "expired": (lambda id: invoice(described=id, expiry=1), OfferExpired),
    "broken": (lambda id: invoice(described=id)[:-6] + "qqqqqq", InvoiceMismatch),
    "no invoice": (lambda id: "pay me", InvoiceMismatch),
    "empty": (lambda id: "", InvoiceMismatch),
}


async def answer_with(who: AsyncClient, receiver: AsyncClient, request: str, text: str) -> None:
    desk = who.paid._desk
    letter = desk.letter(receiver.identity.pub, encode_answer(InvoiceAnswer(request, text)), kind=KIND_INVOICE)
    assert (await desk.post(letter.event)).accepted


@pytest.mark.parametrize(("made", "error"), MATRIX.values(), ids=MATRIX.keys())
async def test_nothing_is_paid_for_what_does_not_verify(
    client: Make, bob: AsyncClient, office: Sandbox, made: Callable[[bytes], str], error: type[PennypostError]
) -> None:
    purse = Purse(office.wallet())
    alice = await payer(client, lightning=purse)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", sat=21, wait=0)
    (request,) = await bob.paid.requests()
    await answer_with(bob, alice, request.id, made(bytes.fromhex(request.id)))
    with pytest.raises(error):
        await alice.paid.send(bob.npub, "hello", sat=21)
    assert purse.told == 0 and await read(bob) == []
    assert await alice.paid.finish() == []


async def test_an_invoice_by_anybody_else_is_not_heard(client: Make, bob: AsyncClient, office: Sandbox) -> None:
    """A stranger who learned the request's id answers first: payee is who was asked, and nobody else."""
    purse = Purse(office.wallet())
    alice, thief = await payer(client, lightning=purse), await payer(client)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", sat=21, wait=0)
    (request,) = await bob.paid.requests()
    await answer_with(thief, alice, request.id, invoice(described=bytes.fromhex(request.id)))
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", sat=21, wait=0)
    assert purse.told == 0
    async with answering(bob):
        assert (await alice.paid.send(bob.npub, "hello", sat=21)).msat == 21_000
    assert await funds(thief) == FUNDS


async def test_a_swapped_invoice_after_the_first_is_not_heard(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", sat=21, wait=0)
    (request,) = await bob.paid.requests()
    await bob.paid.answer(request.id)
    await answer_with(bob, alice, request.id, invoice(described=bytes.fromhex(request.id)))
    assert (await alice.paid.send(bob.npub, "hello", sat=21)).msat == 21_000


async def test_a_payment_that_fails_may_be_tried_again(client: Make, bob: AsyncClient, office: Sandbox) -> None:
    purse = Purse(office.wallet())
    alice = await payer(client, lightning=purse)
    async with answering(bob):
        for hold in (False, True):
            purse.fails = [PaymentFailed()]
            with pytest.raises(PaymentFailed):
                await alice.paid.send(bob.npub, f"hello {hold}", sat=21, hold=hold)
            assert [mail.text for mail in await read(bob)] == []
            assert (await alice.paid.send(bob.npub, f"hello {hold}", sat=21, hold=hold)).msat == 21_000
            assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [(f"hello {hold}", 21_000)]
    assert await funds(alice) == FUNDS - 42_000


async def test_finishing_pays_nothing(client: Make, bob: AsyncClient, office: Sandbox) -> None:
    """A payment that failed is no promise to try again unasked; one that arrived is posted."""
    purse = Purse(office.wallet())
    alice = await payer(client, lightning=purse)
    async with answering(bob):
        purse.fails = [PaymentFailed()]
        with pytest.raises(PaymentFailed):
            await alice.paid.send(bob.npub, "hello", sat=21)
        assert await alice.paid.finish() == [] and purse.told == 1
        assert (await alice.paid.send(bob.npub, "hello", sat=21)).msat == 21_000
    assert await alice.paid.finish() == [] and purse.told == 2


async def test_more_may_be_allowed_the_next_time(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", most=5, wait=0)
    (request,) = await bob.paid.requests()
    await bob.paid.answer(request.id, 50)
    assert (await alice.paid.send(bob.npub, "hello", most=60)).msat == 50_000


# What a letter says of a payment


async def test_a_proof_counts_once_and_for_its_payer_alone(client: Make, bob: AsyncClient) -> None:
    alice, mallory = await payer(client), await payer(client)
    async with answering(bob):
        done = await alice.paid.send(bob.npub, "paid", sat=21)
    (first,) = await read(bob)
    assert first.proof is not None and first.paid_msat == 21_000
    tags = [proof_tag(done.request, first.proof.preimage)]
    for who, proof in (
        (alice, tags),
        (mallory, tags),
        (alice, [proof_tag(done.request)]),
        (alice, [proof_tag(done.request, bytes(32))]),
        (alice, [proof_tag("ab" * 32, first.proof.preimage)]),
    ):
        letter = who.paid._desk.letter(bob.identity.pub, "me too", tags=proof)
        assert (await who.paid._desk.post(letter.event)).accepted
    assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [("me too", 0)] * 5


async def test_what_was_not_paid_is_not_marked(client: Make, bob: AsyncClient) -> None:
    """The receiver's own wallet tells whether an invoice of a letter without a preimage is settled."""
    alice = await payer(client)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "hello", sat=21, wait=0)
    (request,) = await bob.paid.requests()
    await bob.paid.answer(request.id)
    letter = alice.paid._desk.letter(bob.identity.pub, "as if", tags=[proof_tag(request.id)])
    await alice.paid._desk.post(letter.event)
    assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [("as if", 0)]


async def test_a_held_letter_is_not_shown_before_it_is_paid(client: Make, bob: AsyncClient, office: Sandbox) -> None:
    purse = Purse(office.wallet())
    alice = await payer(client, lightning=purse)
    seen: list[list[Mail]] = []

    async def look(request: str, **options: Any) -> Any:
        seen.append(await read(bob))
        return await purse.inner.pay(request, **options)

    purse.pay = look  # type: ignore[method-assign]
    async with answering(bob):
        await alice.paid.send(bob.npub, "held", sat=21, hold=True)
    assert seen == [[]]
    assert [mail.text for mail in await read(bob)] == ["held"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sat": -1}, InvalidInput),
        ({"most": 0}, InvalidInput),
        ({"about": "x" * 501}, InvalidInput),
        ({"sat": 2_000}, AmountTooHigh),
        ({"text": "x" * 17_000}, LetterTooLarge),
    ],
)
async def test_what_cannot_be_asked_costs_nothing(
    client: Make, bob: AsyncClient, options: dict[str, Any], error: type[PennypostError]
) -> None:
    alice = await payer(client)
    given: dict[str, Any] = {"to": bob.npub, "text": "hello"}
    with pytest.raises(error):
        await alice.paid.send(**given | options)
    assert await alice.stamps.balance() == 8


async def test_without_a_wallet(client: Make, bob: AsyncClient) -> None:
    alice = await payer(client)
    alice._lightning = None
    with pytest.raises(NoWallet):
        await alice.paid.send(bob.npub, "hello", sat=21)
    assert await alice.stamps.balance() == 8


async def test_strangers_cannot_fill_the_book(client: Make, bob: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade, "OPEN", 2)
    alice = await payer(client)
    for number in range(4):
        with pytest.raises(NotAnswered):
            await alice.paid.send(bob.npub, f"{number}", sat=21, wait=0)
    assert len(await bob.paid.requests()) == 2


async def test_answers_are_limited(client: Make, bob: AsyncClient) -> None:
    """Each costs a stamp, and whoever asks need not pay."""
    alice, before = await payer(client), await bob.stamps.balance()
    for number in range(3):
        with pytest.raises(NotAnswered):
            await alice.paid.send(bob.npub, f"{number}", sat=21, wait=0)
    assert len([each async for each in bob.paid.answer_all(1, limit=2)]) == 2
    assert before - await bob.stamps.balance() == 2
    assert len(await bob.paid.requests()) == 1


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_payer_killed_at_any_step_pays_once_and_is_heard(
    client: Make,
    bob: AsyncClient,
    office: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
    hold: bool,
) -> None:
    # Every other step with each of the two ways to send: together all of them.
    for step in range(int(hold), MOST_STEPS, 2):
        home, wallet = tmp_path / str(step), Purse(office.wallet())
        alice = client(home, lightning=wallet)
        await alice.stamps.buy(4)
        text = f"{step}"

        async def work(each: AsyncClient, text: str = text) -> None:
            with pytest.raises(NotAnswered):
                await each.paid.send(bob.npub, text, sat=21, hold=hold, wait=0, patience=0)
            await answered(bob)
            await each.paid.send(bob.npub, text, sat=21, hold=hold, patience=0)

        async def answered(who: AsyncClient) -> None:
            async for _ in who.paid.answer_all(1):
                pass

        run, died = trade.step_on, False
        died = await dies(office, home, work, way, step, monkeypatch, lightning=wallet)
        assert trade.step_on is run
        again = client(home, lightning=wallet)
        if died:
            sent = False
            for _ in range(2):
                try:
                    await again.paid.finish()
                    if not await again._store.run(trade.unfinished_on, int(time.time())) and wallet.told:
                        sent = True
                        break
                    await again.paid.send(bob.npub, text, sat=21, hold=hold, wait=0)
                    sent = True
                    break
                except NotAnswered:
                    await answered(bob)
            if not sent:
                await again.paid.send(bob.npub, text, sat=21, hold=hold, wait=5)
        letters = await read(bob)
        assert [(mail.text, mail.paid_msat) for mail in letters] == [(text, 21_000)]
        assert (wallet.told, await wallet.balance()) == (1, FUNDS - 21_000)
        if not died:
            return
    pytest.fail("paying had no end")
