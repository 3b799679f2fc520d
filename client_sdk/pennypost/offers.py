"""Texts for sale: the buyer's payment releases the key (wire contract, section 4, Reader pays).

    sell    K ─▶ invoice over SHA256(K) ─▶ written down ─▶ ciphertext posted ─▶ offer posted, for each buyer his own
    buy     offer ─▶ ciphertext fetched ─▶ check_offer ─▶ paid, once ─▶ K ─▶ text, or GarbageProof
    settle  invoices that the seller's wallet holds ─▶ settled with K; needed where it cannot set a preimage otherwise

How K becomes the preimage, the first that the seller's wallet can do: an invoice with a preset preimage (LND), a hold
invoice (NWC), a preimage that the wallet shows when it makes the invoice. Where it can do none of these, and only with
`trust_office`, the office hands K out to whoever shows the preimage. Without Lightning the buyer locks stamps to H, and
the seller shows K when he takes them (ecash_lock.py).
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import msgspec

from pennypost import ecash_lock, trade
from pennypost.desk import DAY, Desk, Letter, new_secret
from pennypost.ecash_lock import EcashLocks
from pennypost.exchange import Progress
from pennypost.lightning import Made, Stage
from pennypost.mail import Receipt
from pennypost.outbox import PATIENCE
from pennypost.payments import Payments
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import (
    AlreadyPaid,
    AmountTooHigh,
    GarbageProof,
    HoldUnknown,
    InvalidInput,
    InvalidOffer,
    InvoiceMismatch,
    MintError,
    NotAnswered,
    OfferExpired,
    OtherMint,
    ProofPending,
    StampError,
    WalletCannot,
)
from pennypost.protocol.hold import hold_tag
from pennypost.protocol.offer import (
    ECASH,
    KIND_CIPHERTEXT,
    KIND_ECASH,
    KIND_OFFER,
    PREFIX,
    EcashAsk,
    Offer,
    check_offer,
    encode_offer,
    make_offer,
    open_text,
    parse_offer,
    payment_of,
    seal_text,
)
from pennypost.protocol.token import Token, encode_token
from pennypost.trade import Invoice

MSAT: Final = 1_000
MOST: Final = 1_000
"""The most that a text may cost unless told otherwise, in sat."""
MAX_SAT: Final = 100_000_000
WAIT: Final = 60.0
"""Seconds to wait for a seller to take locked stamps."""
LOOK: Final = 1.0
"""Seconds between two questions whether he has."""
BUYERS: Final = 100
"""Buyers of one call."""
BODY_LIMIT: Final = 32 * 1024
"""Characters of a ciphertext's letter."""


@dataclass(frozen=True, slots=True)
class Sale:
    """An offer that was made: `offer` is its text (ppo1…), which only the buyer can use."""

    id: str
    buyer: str
    """The buyer's npub."""
    sat: int
    expires_at: int
    offer: str = field(repr=False)
    hold: bool
    """Whether it has to be settled (`settle`) after the buyer has paid."""
    receipts: tuple[Receipt, ...]
    """Of the ciphertext, of the key where the office is trusted with it, and of the offer."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An offer made to us, verified as far as it can be without its ciphertext."""

    id: str
    seller: str
    """The seller's npub."""
    sat: int
    """The price, rounded up."""
    description: str
    expires_at: int
    trusts_office: bool
    state: str
    """`new`, `taken` (its ciphertext is here, perhaps paid), `read` or `garbage`."""


@dataclass(frozen=True, slots=True)
class Bought:
    """A text that was paid for; amounts in msat."""

    id: str
    seller: str
    text: str
    msat: int
    fee_msat: int


class Offers:
    """Selling and buying of one home."""

    def __init__(self, desk: Desk, payments: Payments, locks: EcashLocks) -> None:
        self._desk, self._payments, self._locks, self._store = desk, payments, locks, desk.store

    # Selling

    async def sell(
        self,
        to: str | Sequence[str],
        text: str,
        *,
        sat: int,
        description: str = "",
        valid: int = DAY,
        ecash: bool = False,
        trust_office: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Sale]:
        """Offer a text to one buyer or several (npub, nprofile or hex), each for `sat`, payable for `valid` seconds.

        Everyone gets a ciphertext, a key and an invoice of his own; with `ecash` they pay with stamps of our mint
        instead of Lightning, and `settle` takes them. Costs two stamps a buyer, three with `trust_office`. What was
        begun and not finished is not paid for: repeat it. Raises WalletError, InvalidKey, InvalidInput, LetterTooLarge,
        and as AsyncClient.send.
        """
        buyers = [await self._desk.people.key(each) for each in ([to] if isinstance(to, str) else to)]
        if not 0 < sat <= MAX_SAT or not 0 < valid <= 30 * DAY or not 0 < len(buyers) <= BUYERS:
            raise InvalidInput("a price is of 1 sat or more, an offer for 1 to 100 people and up to 30 days")
        sales: list[Sale] = []
        for number, buyer in enumerate(buyers):
            if on_progress is not None:
                on_progress("making offers", number, len(buyers))
            asking = self._ask(sat, valid) if ecash else self._invoice(sat * MSAT, valid, trust_office)
            key, made = await asking
            sales.append(await self._sell(buyer, text, sat, description, valid, key, made, patience))
        return sales

    async def _sell(
        self, buyer: bytes, text: str, sat: int, description: str, valid: int, key: bytes, made: Made, patience: float
    ) -> Sale:
        desk, identity = self._desk, self._desk.identity
        sealed = seal_text(text, key, new_secret(), buyer, secrets.token_bytes(32))
        body = desk.letter(buyer, _base64(sealed.ciphertext), kind=KIND_CIPHERTEXT, keep=valid)
        dropped = None if made.payment_hash == sealed.key_hash else new_secret()
        offer = make_offer(
            sealed,
            identity.secret,
            letter=bytes.fromhex(body.event.pubkey),
            msat=sat * MSAT,
            expires_at=min(desk.now() + valid, made.expires_at),
            description=description,
            invoice=made.request,
            drop=bytes(32) if dropped is None else secp.xonly(dropped),
            aux=secrets.token_bytes(32),
        )
        letters = [body]
        if dropped is not None:
            hold = hold_tag(made.payment_hash, offer.id)
            letters.append(
                desk.letter(buyer, _base64(key), kind=KIND_CIPHERTEXT, keep=valid, hold=hold, one_time=dropped)
            )
        letters.append(desk.letter(buyer, encode_offer(offer), kind=KIND_OFFER, keep=valid))
        kept = Made(made.request, made.payment_hash, made.expires_at, key if made.hold else None, made.hold)
        await self._store.run(trade.add_invoice_on, "offer", offer.id.hex(), buyer.hex(), offer.msat, kept, desk.now())
        receipts = await self._post(letters, patience)
        npub = nip19.encode_npub(buyer)
        return Sale(offer.id.hex(), npub, sat, offer.expires_at, encode_offer(offer), made.hold, receipts)

    async def _post(self, letters: Sequence[Letter], patience: float) -> tuple[Receipt, ...]:
        """The offer goes last, and only when what it names is stored."""
        receipts: list[Receipt] = []
        for letter in letters:
            receipt = await self._desk.post(letter.event, patience)
            if receipt.error is not None:
                raise receipt.error
            receipts.append(receipt)
        return tuple(receipts)

    async def _ask(self, sat: int, valid: int) -> tuple[bytes, Made]:
        """K, and what is asked instead of an invoice: ecash of our mint, locked to a key made for this offer."""
        if sat > ecash_lock.MOST:
            raise InvalidInput("an offer for ecash is of 100,000 sat at most")
        key = secrets.token_bytes(32)
        key_hash = sha256(key).digest()
        own = secp.point(_own_key(self._desk.identity.secret, b"lock", key_hash)).hex()
        request = f"{ECASH}{own}@{await self._locks.mint.name()}"
        return key, Made(request, key_hash, self._desk.now() + valid, key, hold=True)

    async def _invoice(self, msat: int, valid: int, trust_office: bool) -> tuple[bytes, Made]:
        """K, and an invoice whose payment releases it; with `trust_office` at last one that does not."""
        wallet, key = self._payments.wallet, secrets.token_bytes(32)
        try:
            return key, await wallet.make_invoice(msat, expiry=valid, preimage=key)
        except WalletCannot:
            made = await wallet.make_invoice(msat, expiry=valid)
        if made.preimage is not None:
            return made.preimage, made
        if not trust_office:
            raise WalletCannot("its payments cannot release a key that you choose, and it does not show its own")
        return key, made

    async def sales(self) -> list[Invoice]:
        """Our offers and how they stand, as of the last `settle`, the oldest first. Asks nobody."""
        return [each for each in await self._store.run(trade.invoices_on) if each.purpose == "offer"]

    async def settle(self) -> list[Invoice]:
        """Ask the wallet about what is open, and take held payments, which gives the buyer his key: what was settled.

        A seller whose sales are `hold` runs it while offers are open: payments that nobody takes go back. Raises
        WalletError, OfficeUnreachable, ServerError.
        """
        waiting, done = await self._store.run(trade.invoices_on, waiting=True), list[Invoice]()
        if any(each.request.startswith(ECASH) for each in waiting):
            await self._desk.file()
        for each in waiting:
            if each.request.startswith(ECASH):
                stage = await self._claim(each)
            else:
                wallet = self._payments.wallet
                stage, msat = await wallet.invoice(each.payment_hash)
                if stage is Stage.HELD and each.preimage is not None and msat >= each.msat:
                    await wallet.settle(each.preimage)
                    stage = Stage.SETTLED
            await self._store.run(trade.state_on, each.payment_hash, stage.value)
            if stage is Stage.SETTLED and each.purpose == "offer":
                done.append(each)
        return done

    async def _claim(self, sale: Invoice) -> Stage:
        """Take the stamps that were locked for a sale, where they have come. Raises OfficeUnreachable, ServerError."""
        over = sale.expires_at + ecash_lock.CLAIM_FOR < self._desk.now()
        token = await self._store.run(trade.token_on, sale.subject)
        if token is None or sale.preimage is None:
            return Stage.OVER if over else Stage.OPEN
        lock_key = _own_key(self._desk.identity.secret, b"lock", sale.payment_hash)
        try:
            await self._locks.claim(token, sale.preimage, sale.payment_hash, sale.msat // MSAT, lock_key)
        except ProofPending:
            return Stage.OPEN
        except (InvalidInput, InvoiceMismatch, OfferExpired, StampError, MintError):
            # What one buyer sends must not keep the others from being settled.
            await self._store.run(trade.drop_token_on, sale.subject)
            return Stage.OVER if over else Stage.OPEN
        return Stage.SETTLED

    # Buying

    async def all(self) -> list[Listed]:
        """Offers made to us, the newest first; fetches what has come. Raises OfficeUnreachable, OfficeMisbehaves."""
        await self._desk.file()
        listed: list[Listed] = []
        for text, state in await self._store.run(trade.offers_on):
            offer = parse_offer(text)
            listed.append(
                Listed(
                    offer.id.hex(),
                    nip19.encode_npub(offer.seller),
                    -(-offer.msat // MSAT),
                    offer.description,
                    offer.expires_at,
                    offer.trusts_office,
                    state,
                )
            )
        return listed

    async def buy(self, offer: str, *, most: int = MOST, trust_office: bool = False, wait: float = WAIT) -> Bought:
        """Pay for an offer, named by its text (ppo1…) or the beginning of its id, and open what was paid for.

        At most `most` sat; nothing is paid before everything that can be verified is (`check_offer`), and for one
        payment hash once: the same call again gives the same text. Raises GarbageProof with its evidence where the
        seller had signed something else; PaymentUnknown, NotAnswered: the same call again goes on; after any other
        error nothing was paid. An offer for ecash is paid with stamps locked to its key, and its seller has `wait`
        seconds to take them; stamps that he never takes come back by `refunds`.
        """
        chosen = await self._find(offer)
        identity, ciphertext = self._desk.identity, await self._ciphertext(chosen)
        begun = await self._begun(chosen)
        # What was paid once is opened, however late.
        now = 0 if begun else self._desk.now()
        asked, shared = check_offer(
            chosen,
            ciphertext,
            identity.secret,
            seller=chosen.seller,
            most_msat=chosen.msat if begun else most * MSAT,
            now=now,
            trust_office=trust_office or begun,
        )
        await self._store.run(trade.take_offer_on, chosen.id.hex(), ciphertext)
        if isinstance(asked, EcashAsk):
            key, fee = await self._pay_ecash(chosen, asked, wait), 0
        else:
            payment = await self._payments.pay(chosen.invoice, chosen.msat)
            key, fee = payment.preimage, payment.fee_msat
        if chosen.trusts_office:
            key = await self._dropped(chosen, key)
        try:
            if sha256(key).digest() != chosen.key_hash:
                raise GarbageProof("the office handed out another key; nobody else can check that")
            text = open_text(chosen, ciphertext, shared, key)
        except GarbageProof:
            await self._store.run(trade.end_offer_on, chosen.id.hex(), "garbage")
            raise
        await self._store.run(trade.end_offer_on, chosen.id.hex(), "read")
        npub = nip19.encode_npub(chosen.seller)
        return Bought(chosen.id.hex(), npub, text, chosen.msat, fee)

    async def _begun(self, offer: Offer) -> bool:
        """Whether it was paid, or its payment is under way. Raises PaymentUnknown while that is not known."""
        asked = payment_of(offer)
        if isinstance(asked, EcashAsk):
            row = await self._locks.find(offer.key_hash)
            return row is not None and row.state != "begun"
        return await self._payments.outcome(asked.payment_hash) is not None

    async def _pay_ecash(self, offer: Offer, asked: EcashAsk, wait: float) -> bytes:
        """K, for stamps locked to its hash, once. Raises NotAnswered while the seller has not taken them."""
        desk, sat = self._desk, offer.msat // MSAT
        if asked.mint != await self._locks.mint.name([asked.mint]):
            raise OtherMint
        if sat > ecash_lock.MOST:
            raise AmountTooHigh
        refund = _own_key(desk.identity.secret, b"refund", offer.key_hash)
        until = offer.expires_at + ecash_lock.CLAIM_FOR
        row = await self._locks.lock(
            offer.id.hex(), offer.key_hash, sat, asked.lock_key, secp.point(refund).hex(), until
        )
        if row.offer != offer.id.hex():
            raise AlreadyPaid("stamps were locked for another offer with the same key")
        if row.event is None and row.state == "locked":
            token = encode_token(Token(asked.mint, "sat", row.locked))
            content = msgspec.json.encode({"offer": offer.id.hex(), "token": token}).decode()
            keep = min(30 * DAY, max(3_600, until - desk.now()))
            letter = desk.letter(offer.seller, content, kind=KIND_ECASH, keep=keep)
            await self._store.run(ecash_lock.letter_on, offer.key_hash, letter.event)
            row = await self._locks.find(offer.key_hash) or row
        if row.event is not None and row.state == "locked":
            receipt = await desk.post(row.event, wait)
            if receipt.error is not None:
                raise receipt.error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            key = await self._locks.preimage(row)
            if key is not None:
                await self._store.run(ecash_lock.end_on, offer.key_hash, "spent")
                return key
            if row.state == "refunded":
                raise OfferExpired("the seller did not take the stamps, and you had them back")
            if loop.time() >= deadline:
                raise NotAnswered("the seller has not taken the locked stamps")
            await asyncio.sleep(min(LOOK, max(0.0, deadline - loop.time())))

    async def refunds(self) -> int:
        """Have back stamps that were locked and that no seller took in time: how many sat. Raises MintError."""
        back = 0
        for row in await self._store.run(ecash_lock.overdue_on, self._locks.mint.url, self._desk.now()):
            back += await self._locks.refund(row, _own_key(self._desk.identity.secret, b"refund", row.key_hash))
        return back

    async def _find(self, named: str) -> Offer:
        named = named.strip()
        if named.startswith(PREFIX):
            offer = parse_offer(named)
            await self._store.run(trade.add_offer_on, offer, self._desk.now())
            return offer
        if not named or not all(digit in "0123456789abcdef" for digit in named) or len(named) > 64:
            raise InvalidOffer("name it by its text (ppo1…), or by the beginning of its id")
        found = await self._store.run(trade.offers_on, named)
        if not found:
            await self._desk.file()
            found = await self._store.run(trade.offers_on, named)
        if len(found) != 1:
            raise InvalidOffer("no offer has this id" if not found else "several offers begin so: name more of it")
        return parse_offer(found[0][0])

    async def _ciphertext(self, offer: Offer) -> bytes:
        kept = await self._store.run(trade.body_on, offer.id.hex())
        return kept if kept is not None else await self._fetch(offer, offer.letter)

    async def _fetch(self, offer: Offer, author: bytes) -> bytes:
        """What the seller's letter by this one-time key holds."""
        for event in await self._desk.office.letters([author]):
            found = self._desk.open(event)
            if found is None or found[0] != offer.seller or found[1].kind != KIND_CIPHERTEXT:
                continue
            content = found[1].content
            try:
                return urlsafe_b64decode(content + "=" * (-len(content) % 4)) if len(content) <= BODY_LIMIT else b""
            except ValueError:
                raise InvalidOffer("its ciphertext is damaged") from None
        raise InvalidOffer("what it names is not at this office")

    async def _dropped(self, offer: Offer, preimage: bytes) -> bytes:
        """K, out of the office's hands. Raises NotAnswered: what was paid stays paid, and the same call tries again."""
        hold = hold_tag(_payment_hash(offer), offer.id)
        try:
            await self._desk.office.release(hold, preimage, offer.id)
            return await self._fetch(offer, offer.drop)
        except (HoldUnknown, InvalidOffer):
            raise NotAnswered("the office does not hand out the key that was paid for") from None


def _payment_hash(offer: Offer) -> bytes:
    asked = payment_of(offer)
    return offer.key_hash if isinstance(asked, EcashAsk) else asked.payment_hash


def _own_key(secret: bytes, purpose: bytes, key_hash: bytes) -> bytes:
    """A key of ours for one offer, made again whenever it is needed."""
    return secp.tagged_hash("ecash-lock", purpose, secret, key_hash)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
