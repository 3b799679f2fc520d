"""Messages with their payment: the sender pays, and the letter shows it (wire contract, section 4, Sender pays).

    send     request ─▶ sealed invoice ─▶ check_invoice ─▶ paid, once ─▶ letter with the preimage inside
             hold: the letter is posted first and held, and released with the preimage after the payment
             letters go to every office, the payment is one; each office that holds the letter releases it
    answer   requests ─▶ by rule or by hand ─▶ invoice whose description hash is the request's id ─▶ sealed answer
    mark     letter that came ─▶ preimage of an invoice of ours? ─▶ what was paid with it, once

Each step is written down before it is taken: after a crash the same call goes on where it stopped. Nothing is paid for
an invoice that does not verify, and no letter that was paid for is forgotten.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Final

from pennypost import releases, trade
from pennypost.desk import DAY, Desk, Letter
from pennypost.exchange import Progress
from pennypost.letters import Note, note_of
from pennypost.lightning import Stage, fee_limit
from pennypost.mail import Mail, Receipt
from pennypost.outbox import PATIENCE
from pennypost.payments import Payment, Payments
from pennypost.protocol import nip19
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    InvalidInput,
    InvoiceMismatch,
    NotAnswered,
    NotFound,
    OfferExpired,
    OfficeUnreachable,
    PennypostError,
)
from pennypost.protocol.hold import hold_tag
from pennypost.protocol.invoice_request import (
    KIND_INVOICE,
    KIND_REQUEST,
    MAX_ABOUT,
    InvoiceAnswer,
    InvoiceRequest,
    check_invoice,
    encode_answer,
    encode_request,
    proof_tag,
)
from pennypost.trade import Ask, Request

MSAT: Final = 1_000
MOST: Final = 1_000
"""The most that a message may cost unless told otherwise, in sat."""
MAX_SAT: Final = 100_000_000
WAIT: Final = 60.0
"""Seconds to wait for the receiver's invoice."""
LOOK: Final = 20
"""Seconds that the office is asked to wait for the next letter."""
ASKED_FOR: Final = 3_600
"""Seconds in which a request wants its answer."""
ANSWERS: Final = 1_000
"""Requests that one run answers by itself, unless told otherwise."""
INVOICE_LENGTH: Final = 400
"""Characters of an invoice whose price is only asked for."""
INVOICE_FOR: Final = 3_600
"""Seconds in which our invoice can be paid."""


@dataclass(frozen=True, slots=True)
class PaidReceipt:
    """What became of a message that was paid for; amounts in msat.

    With the code `dry-run` in its receipt `msat` and `fee_msat` are the most that it may cost.
    """

    request: str
    receipt: Receipt
    """Of the message; with `dry-run` of request and message together."""
    msat: int
    fee_msat: int
    payment_hash: str


class PaidMail:
    """Messages with payments of one home."""

    def __init__(self, desk: Desk, payments: Payments) -> None:
        self._desk, self._payments, self._store = desk, payments, desk.store

    # The sender

    async def send(
        self,
        to: str,
        text: str,
        *,
        sat: int = 0,
        most: int = MOST,
        about: str = "",
        hold: bool = False,
        keep: int = 30 * DAY,
        once: str | None = None,
        dry_run: bool = False,
        wait: float = WAIT,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> PaidReceipt:
        """Pay somebody `sat` (0: what he asks, up to `most`) with a message that only he can read.

        `about` is all that he sees before he answers. With `hold` the letter waits at the offices and is released after
        the payment, so that they attest it; one that is away then releases it with the next `flush`.

        Nothing is paid or posted twice: the same call again goes on with what an earlier one left. With a key of your
        own (`once`, 1 to 200 characters, apart from those of `AsyncClient.send`) this holds for a year and after it is
        done too: the same call again pays nothing and says `duplicate`. With `dry_run` nothing is asked, sent or paid.

        Raises NotAnswered after `wait` seconds without an invoice, PaymentUnknown, OnceUsed; after InvoiceMismatch,
        AmountTooHigh, OfferExpired and other WalletErrors nothing was paid, and as AsyncClient.send.
        """
        receiver = await self._desk.people.key(to)
        if not 0 <= sat <= MAX_SAT or not 0 < most <= MAX_SAT or len(about) > MAX_ABOUT:
            raise InvalidInput("an amount is of 1 sat or more, and `about` has up to 500 characters")
        if sat > most:
            raise AmountTooHigh
        # A letter that is too long is refused before anything is asked or paid.
        tag = [proof_tag("0" * 64)] if hold else [proof_tag("0" * 64, bytes(32))]
        letter = self._desk.letter(receiver, text, keep=keep, tags=tag, hold=bytes(32) if hold else None)
        if dry_run:
            request = self._request(receiver, sat * MSAT, about)
            price = await self._desk.dispatch.price([request.event, letter.event])
            msat = (sat or most) * MSAT
            return PaidReceipt("", price, msat, fee_limit(msat), "")
        _ = self._payments.wallet
        said = ("paid", text, sat, hold, keep)
        note = note_of(self._desk.identity.secret, receiver, once, *said)
        ask = await self._ask(receiver, text, sat * MSAT, most * MSAT, about, hold, keep, note)
        if ask.state == "sent":
            return await self._again(ask)
        return await self._go_on(ask, wait, patience, on_progress)

    async def _again(self, ask: Ask) -> PaidReceipt:
        """What became of a message that an earlier call paid for."""
        assert ask.invoice is not None
        payment = await self._payments.outcome(parse_invoice(ask.invoice).payment_hash)
        assert payment is not None
        receipt = await self._desk.dispatch.known(await self._store.run(trade.letter_of_ask_on, ask.id))
        return PaidReceipt(ask.id, receipt, payment.msat, payment.fee_msat, payment.payment_hash.hex())

    async def finish(self, *, patience: float = PATIENCE) -> list[PaidReceipt]:
        """Post what earlier runs paid for; nothing is paid here.

        All are tried before the first failure is raised: PaymentUnknown, NoWallet, and as AsyncClient.send.
        """
        done: list[PaidReceipt] = []
        failure: PennypostError | None = None
        for ask in await self._store.run(trade.unfinished_on, self._desk.now()):
            if ask.invoice is None or ask.state not in ("paying", "paid"):
                continue
            try:
                payment = await self._payments.outcome(parse_invoice(ask.invoice).payment_hash)
                if payment is not None:
                    done.append(await self._deliver(ask, payment, patience))
            except PennypostError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return done

    def _request(self, receiver: bytes, msat: int, about: str) -> Letter:
        expires_at = self._desk.now() + ASKED_FOR
        content = encode_request(InvoiceRequest(msat, expires_at, about, secrets.token_hex(16)))
        return self._desk.letter(receiver, content, kind=KIND_REQUEST, keep=DAY)

    async def _ask(
        self, receiver: bytes, text: str, msat: int, most: int, about: str, hold: bool, keep: int, note: Note
    ) -> Ask:
        now = self._desk.now()
        wanted = (receiver.hex(), text, msat, hold, keep)
        known = await self._store.run(trade.known_ask_on, note, wanted, now)
        if known is not None:
            return replace(known, most=most)
        letter = self._request(receiver, msat, about)
        ask = Ask(
            letter.rumor.id,
            receiver.hex(),
            msat,
            most,
            text,
            hold,
            keep,
            "asking",
            None,
            letter.event,
            now + ASKED_FOR + INVOICE_FOR,
        )
        return await self._store.run(trade.add_ask_on, ask, note, now)

    async def _go_on(self, ask: Ask, wait: float, patience: float, on_progress: Progress | None) -> PaidReceipt:
        if ask.state == "asking":
            ask = await self._answered(ask, wait, patience, on_progress)
        assert ask.invoice is not None
        try:
            payment = await self._pay(ask, patience)
        except (InvoiceMismatch, AmountTooHigh, OfferExpired):
            await self._store.run(trade.step_on, ask.id, "over")
            raise
        return await self._deliver(ask, payment, patience)

    async def _answered(self, ask: Ask, wait: float, patience: float, on_progress: Progress | None) -> Ask:
        """The same with the receiver's invoice."""
        if ask.event is not None and ask.invoice is None:
            receipt = await self._desk.post(ask.event, patience)
            if receipt.error is not None:
                await self._store.run(trade.step_on, ask.id, "over")
                raise receipt.error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while ask.invoice is None:
            left = deadline - loop.time()
            await self._desk.file(wait=max(0, min(LOOK, int(left))))
            found = await self._store.run(trade.ask_on, ask.id)
            if found is not None and found.invoice is not None:
                return replace(found, most=ask.most)
            if left <= 0:
                raise NotAnswered("the receiver has not sent an invoice")
            if on_progress is not None:
                on_progress("waiting for the invoice", int(wait - left), int(wait))
            await asyncio.sleep(min(0.2, max(0.0, left)))
        return ask

    async def _pay(self, ask: Ask, patience: float) -> Payment:
        assert ask.invoice is not None
        receiver = bytes.fromhex(ask.receiver)
        # The desk hears only the one who was asked: an answer by anybody else was never filed.
        begun = ask.state in ("paying", "paid")
        invoice = check_invoice(
            ask.invoice,
            request=bytes.fromhex(ask.id),
            author=receiver,
            receiver=receiver,
            msat=ask.msat,
            most_msat=ask.most,
            now=0 if begun else self._desk.now(),
        )
        assert invoice.amount_msat is not None
        if begun:
            earlier = await self._payments.outcome(invoice.payment_hash)
            if earlier is not None:
                return earlier
            if invoice.expires_at <= self._desk.now():
                raise OfferExpired
        if ask.hold:
            tag = hold_tag(invoice.payment_hash, bytes.fromhex(ask.id))
            held = self._desk.letter(receiver, ask.text, keep=ask.keep, tags=[proof_tag(ask.id)], hold=tag)
            event = ask.event if begun and ask.event is not None else held.event
            await self._store.run(trade.step_on, ask.id, "paying", event)
            receipt = await self._desk.post(event, patience)
            if receipt.error is not None:
                raise receipt.error
        else:
            await self._store.run(trade.step_on, ask.id, "paying")
        return await self._payments.pay(ask.invoice, invoice.amount_msat)

    async def _deliver(self, ask: Ask, payment: Payment, patience: float) -> PaidReceipt:
        current = await self._store.run(trade.ask_on, ask.id)
        assert current is not None
        receiver = bytes.fromhex(ask.receiver)
        event = current.event
        if current.state != "paid" and not ask.hold:
            tags = [proof_tag(ask.id, payment.preimage)]
            event = self._desk.letter(receiver, ask.text, keep=ask.keep, tags=tags).event
        assert event is not None
        await self._store.run(trade.step_on, ask.id, "paid", event)
        receipt = await self._desk.post(event, patience)
        if receipt.error is not None:
            # It was paid for: it stays, and is posted again by the same call or by `finish`.
            raise receipt.error
        if ask.hold:
            request = bytes.fromhex(ask.id)
            tag = hold_tag(payment.payment_hash, request)
            await self._store.run(releases.owe_on, event, tag, payment.preimage, request)
            await self._desk.dispatch.release(event.id)
        await self._store.run(trade.step_on, ask.id, "sent")
        return PaidReceipt(ask.id, receipt, payment.msat, payment.fee_msat, payment.payment_hash.hex())

    # The receiver

    async def requests(self) -> list[Request]:
        """Who asks for an invoice, the oldest first; fetches what has come. Raises OfficeUnreachable."""
        await self._desk.file()
        return await self._store.run(trade.requests_on, self._desk.now())

    async def answer(self, request: str, sat: int = 0, *, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """Send the invoice for a request: over what it offers, or over `sat` where it leaves the price to us.

        The same call again sends the same letter. With `dry_run` no invoice is made and nothing sent: `stamps` say what
        it would cost. Raises NotFound, InvalidInput without an amount, WalletError.
        """
        for each in await self._store.run(trade.requests_on, self._desk.now()):
            if each.id == request and dry_run:
                content = encode_answer(InvoiceAnswer(each.id, "lnbc" + "q" * INVOICE_LENGTH))
                letter = self._desk.letter(bytes.fromhex(each.sender), content, kind=KIND_INVOICE, keep=DAY)
                return await self._desk.dispatch.price([letter.event])
            if each.id == request:
                return await self._answer(each, each.msat or sat * MSAT, patience)
        raise NotFound("no such request, or its time is over")

    async def answer_all(
        self,
        price: int,
        *,
        watch: bool = False,
        limit: int = ANSWERS,
        patience: float = PATIENCE,
    ) -> AsyncGenerator[Request]:
        """Answer each request that offers `price` sat or more, or leaves the price to us; others in silence not.

        `watch` goes on; it ends after `limit` answers, for each costs a stamp and whoever asks need not pay. Yields
        what was answered, with its receipt. Raises WalletError, OfficeUnreachable.
        """
        if not 0 < price <= MAX_SAT:
            raise InvalidInput("a price is of 1 sat or more")
        first, count = True, 0
        while True:
            try:
                await self._desk.file(wait=LOOK if watch and not first else 0)
            except OfficeUnreachable:
                if not watch:
                    raise
                await asyncio.sleep(1)
                continue
            first = False
            for each in await self._store.run(trade.requests_on, self._desk.now()):
                if 0 < each.msat < price * MSAT:
                    await self._store.run(trade.answered_on, each.id, "refused")
                    continue
                if count >= limit:
                    return
                receipt = await self._answer(each, each.msat or price * MSAT, patience)
                count += 1
                yield replace(each, receipt=receipt)
            if not watch:
                return

    async def _answer(self, request: Request, msat: int, patience: float) -> Receipt:
        if msat <= 0:
            raise InvalidInput("the request leaves the price to you: name one")
        now = self._desk.now()
        known = await self._store.run(trade.invoice_on, "message", request.id)
        if known is None:
            made = await self._payments.wallet.make_invoice(
                msat, description_hash=bytes.fromhex(request.id), expiry=INVOICE_FOR
            )
            made = replace(made, preimage=None)
            await self._store.run(trade.add_invoice_on, "message", request.id, request.sender, msat, made, now)
            known = await self._store.run(trade.invoice_on, "message", request.id)
            assert known is not None
        content = encode_answer(InvoiceAnswer(request.id, known.request))
        letter = self._desk.letter(bytes.fromhex(request.sender), content, kind=KIND_INVOICE, keep=DAY)
        event = await self._store.run(trade.answer_on, request.id, letter.event)
        receipt = await self._desk.post(event, patience)
        if receipt.error is not None:
            raise receipt.error
        await self._store.run(trade.answered_on, request.id, "answered")
        return receipt

    async def mark(self, mail: Mail) -> Mail:
        """The letter with what was paid for it, where it shows the preimage of an invoice of ours, for the first time.

        One that was held is believed when our own wallet says that its invoice is settled.
        """
        if mail.proof is None:
            return mail
        sender = nip19.parse_public_key(mail.sender).hex()
        invoice = await self._store.run(trade.invoice_on, "message", mail.proof.request)
        if invoice is None:
            return mail
        if not mail.proof.preimage:
            try:
                stage, _ = await self._payments.wallet.invoice(invoice.payment_hash)
            except PennypostError:
                return mail
            if stage is not Stage.SETTLED:
                return mail
        msat = await self._store.run(trade.claim_on, sender, mail.proof, mail.id)
        return replace(mail, paid_msat=msat)
