"""Texts for sale: the buyer's payment releases the key (wire contract, section 4, Reader pays).

    sell    K ─▶ invoice over SHA256(K) ─▶ written down ─▶ ciphertext posted ─▶ offer posted, for each buyer his own
            written down with its letters (sale_book.py): the same call after a crash goes on
    buy     offer ─▶ ciphertext fetched ─▶ check_offer ─▶ paid, once ─▶ K ─▶ text, or GarbageProof
    settle  invoices that the seller's wallet holds ─▶ settled with K; needed where it cannot set a preimage otherwise

How K becomes the preimage, the first that the seller's wallet can do: an invoice with a preset preimage (LND), a hold
invoice (NWC), a preimage that the wallet shows when it makes the invoice. Where it can do none of these, and only with
`trust_office`, the office hands K out to whoever shows the preimage. Without Lightning the buyer locks stamps to H, and
the seller shows K when he takes them (ecash_lock.py). Letters go to every office, and the first that has what an offer
names is enough for its buyer; the payment is one, whatever the number of offices.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import msgspec

from pennypost import ecash_lock, ledger, sale_book, trade
from pennypost.desk import DAY, Desk, new_secret
from pennypost.ecash_lock import EcashLocks
from pennypost.exchange import Progress
from pennypost.letters import Note, note_of
from pennypost.lightning import Made, Stage, fee_limit
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
    PennypostError,
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
INVOICE_LENGTH: Final = 400
"""Characters of an invoice whose price is only asked for."""
TOKEN_LENGTH: Final = 700
"""Characters of a token for each locked stamp in it."""
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
    """Of the ciphertext, of the key where the office is trusted with it, and of the offer; with `dry-run` their prices,
    and there is no offer."""


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
    receipts: tuple[Receipt, ...] = ()
    """Of the letter with locked stamps, where it was paid so."""


class Offers:
    """Selling and buying of one home."""

    def __init__(self, desk: Desk, payments: Payments, locks: EcashLocks) -> None:
        self._desk, self._payments, self._locks, self._store = desk, payments, locks, desk.store
        self._under_way: set[str] = set()
        """Ids of the offers that are being made in this process."""

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
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Sale]:
        """Offer a text to one buyer or several (npub, nprofile or hex), each for `sat`, payable for `valid` seconds.

        Everyone gets a ciphertext, a key and an invoice of his own; with `ecash` they pay with stamps of our mint
        instead of Lightning, and `settle` takes them. Costs two stamps a buyer at each office, three with
        `trust_office`; with `dry_run` nothing is made, sent or spent, and the receipts say what it would cost at most.

        Nothing is posted or paid twice: the same call again, after an error or a crash, goes on with the same offers
        until they are posted. With a key of your own (`once`, 1 to 200 characters, apart from those of
        `AsyncClient.send`) this holds for a year and after that too: who has his offer gets no other, and buyers that
        are new get theirs.

        Raises WalletError, InvalidKey, InvalidInput, LetterTooLarge, OnceUsed, and as AsyncClient.send.
        """
        buyers = [await self._desk.people.key(each) for each in ([to] if isinstance(to, str) else to)]
        if not 0 < sat <= MAX_SAT or not 0 < valid <= 30 * DAY or not 0 < len(buyers) <= BUYERS:
            raise InvalidInput("a price is of 1 sat or more, an offer for 1 to 100 people and up to 30 days")
        said = ("offer", text, sat, description, valid, ecash, trust_office)
        note = note_of(self._desk.identity.secret, b"", once, *said)
        sales: list[Sale] = []
        for number, buyer in enumerate(buyers):
            if on_progress is not None:
                on_progress("making offers", number, len(buyers))

            async def make(buyer: bytes = buyer) -> tuple[sale_book.Begun, Made]:
                if dry_run:
                    key, made = _guess(sat, valid, ecash, trust_office, self._desk.now())
                else:
                    asking = self._ask(sat, valid) if ecash else self._invoice(sat * MSAT, valid, trust_office)
                    key, made = await asking
                return self._make(buyer, text, sat, description, valid, key, made)

            if dry_run:
                begun, _ = await make()
                price = self._desk.dispatch.price
                receipts = tuple([await price([each]) for each in begun.letters])
                sales.append(Sale("", nip19.encode_npub(buyer), sat, begun.expires_at, "", begun.hold, receipts))
            else:
                sales.append(await self._sell(buyer, note, make, patience))
        return sales

    async def _sell(
        self,
        buyer: bytes,
        note: Note,
        make: Callable[[], Awaitable[tuple[sale_book.Begun, Made]]],
        patience: float,
    ) -> Sale:
        now = self._desk.now()
        begun = await self._store.run(sale_book.known_on, note, buyer.hex(), now, frozenset(self._under_way))
        if begun is None:
            fresh, made = await make()
            begun = await self._store.run(sale_book.begin_on, note, fresh, fresh.sat * MSAT, made, now)
        own = begun.id
        self._under_way.add(own)
        try:
            if begun.posted:
                receipts = tuple([await self._desk.dispatch.known(each) for each in begun.posted])
            else:
                receipts = await self._post(begun, patience)
        finally:
            self._under_way.discard(own)
        npub = nip19.encode_npub(buyer)
        return Sale(begun.id, npub, begun.sat, begun.expires_at, begun.text, begun.hold, receipts)

    def _make(
        self, buyer: bytes, text: str, sat: int, description: str, valid: int, key: bytes, made: Made
    ) -> tuple[sale_book.Begun, Made]:
        """The letters of a sale, and its invoice as it is kept."""
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
        events = [each.event for each in letters]
        text = encode_offer(offer)
        return sale_book.Begun(offer.id.hex(), buyer.hex(), text, sat, made.hold, offer.expires_at, events), kept

    async def _post(self, begun: sale_book.Begun, patience: float) -> tuple[Receipt, ...]:
        """The offer goes last, and only when what it names is stored."""
        receipts: list[Receipt] = []
        try:
            for event in begun.letters:
                receipt = await self._desk.post(event, patience)
                if receipt.error is not None:
                    raise receipt.error
                receipts.append(receipt)
        except PennypostError:
            await self._store.run(sale_book.give_up_on, begun)
            raise
        await self._store.run(sale_book.done_on, begun)
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

    async def buy(
        self,
        offer: str,
        *,
        most: int = MOST,
        trust_office: bool = False,
        dry_run: bool = False,
        wait: float = WAIT,
    ) -> Bought:
        """Pay for an offer, named by its text (ppo1…) or the beginning of its id, and open what was paid for.

        At most `most` sat; nothing is paid before everything that can be verified is (`check_offer`), and for one
        payment hash once: the same call again gives the same text. Raises GarbageProof with its evidence where the
        seller had signed something else; PaymentUnknown, NotAnswered: the same call again goes on; after any other
        error nothing was paid. An offer for ecash is paid with stamps locked to its key, and its seller has `wait`
        seconds to take them; stamps that he never takes come back by `refunds`.

        With `dry_run` nothing is filed, fetched, checked or paid: `msat` is the price of an offer that is known here,
        or given by its text, `fee_msat` the most that the payment's fees may be.
        """
        if dry_run:
            return await self._price(await self._find(offer, keep=False))
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
        receipts: tuple[Receipt, ...] = ()
        if isinstance(asked, EcashAsk):
            (key, receipts), fee = await self._pay_ecash(chosen, asked, wait), 0
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
        return Bought(chosen.id.hex(), npub, text, chosen.msat, fee, receipts)

    async def _price(self, offer: Offer) -> Bought:
        """What an offer costs: its price and fees, or its price and the stamps of the letter with locked stamps."""
        asked, seller = payment_of(offer), nip19.encode_npub(offer.seller)
        if not isinstance(asked, EcashAsk):
            return Bought(offer.id.hex(), seller, "", offer.msat, fee_limit(offer.msat))
        sizes = ledger.denominations(offer.msat // MSAT, 0)
        content = msgspec.json.encode({"offer": offer.id.hex(), "token": "x" * TOKEN_LENGTH * len(sizes)}).decode()
        keep = min(30 * DAY, max(3_600, offer.expires_at + ecash_lock.CLAIM_FOR - self._desk.now()))
        letter = self._desk.letter(offer.seller, content, kind=KIND_ECASH, keep=keep)
        price = await self._desk.dispatch.price([letter.event])
        return Bought(offer.id.hex(), seller, "", offer.msat, 0, (price,))

    async def _begun(self, offer: Offer) -> bool:
        """Whether it was paid, or its payment is under way. Raises PaymentUnknown while that is not known."""
        asked = payment_of(offer)
        if isinstance(asked, EcashAsk):
            row = await self._locks.find(offer.key_hash)
            return row is not None and row.state != "begun"
        return await self._payments.outcome(asked.payment_hash) is not None

    async def _pay_ecash(self, offer: Offer, asked: EcashAsk, wait: float) -> tuple[bytes, tuple[Receipt, ...]]:
        """K, for stamps locked to its hash, once, and the receipt of the letter with them.

        Raises NotAnswered while the seller has not taken them.
        """
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
        receipts: tuple[Receipt, ...] = ()
        if row.event is not None and row.state == "locked":
            receipts = (await desk.post(row.event, wait),)
            if receipts[0].error is not None:
                raise receipts[0].error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            key = await self._locks.preimage(row)
            if key is not None:
                await self._store.run(ecash_lock.end_on, offer.key_hash, "spent")
                return key, receipts
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

    async def _find(self, named: str, *, keep: bool = True) -> Offer:
        """The offer of a text, or of the beginning of an id; with `keep` it is filed, and what has come looked at."""
        named = named.strip()
        if named.startswith(PREFIX):
            offer = parse_offer(named)
            if keep:
                await self._store.run(trade.add_offer_on, offer, self._desk.now())
            return offer
        if not named or not all(digit in "0123456789abcdef" for digit in named) or len(named) > 64:
            raise InvalidOffer("name it by its text (ppo1…), or by the beginning of its id")
        found = await self._store.run(trade.offers_on, named)
        if not found and keep:
            await self._desk.file()
            found = await self._store.run(trade.offers_on, named)
        if len(found) != 1:
            raise InvalidOffer("no offer has this id" if not found else "several offers begin so: name more of it")
        return parse_offer(found[0][0])

    async def _ciphertext(self, offer: Offer) -> bytes:
        kept = await self._store.run(trade.body_on, offer.id.hex())
        return kept if kept is not None else await self._fetch(offer, offer.letter)

    async def _fetch(self, offer: Offer, author: bytes) -> bytes:
        """What the seller's letter by this one-time key holds, of the first office that has it."""
        async with aclosing(self._desk.fetch(author)) as events:
            async for _, event in events:
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
        """K, out of the hands of the first office that has it.

        Raises NotAnswered: what was paid stays paid, and the same call tries again.
        """
        hold = hold_tag(_payment_hash(offer), offer.id)
        silent: PennypostError | None = None
        for office in self._desk.offices:
            try:
                await office.release(hold, preimage, offer.id)
                return await self._fetch(offer, offer.drop)
            except (HoldUnknown, InvalidOffer):
                continue
            except PennypostError as error:
                silent = error
        if silent is not None:
            raise silent
        raise NotAnswered("the office does not hand out the key that was paid for")


def _guess(sat: int, valid: int, ecash: bool, trust_office: bool, now: int) -> tuple[bytes, Made]:
    """A key and an invoice for the size of an offer whose price is asked for: nothing is asked of wallet or mint."""
    key = secrets.token_bytes(32)
    if ecash:
        return key, Made(f"{ECASH}{'02' * 33}@{'x' * 40}", sha256(key).digest(), now + valid, key, hold=True)
    # With `trust_office` the wallet may be one that cannot, and then there is a letter more.
    payment_hash = bytes(32) if trust_office else sha256(key).digest()
    return key, Made("lnbc" + "q" * INVOICE_LENGTH, payment_hash, now + valid, None)


def _payment_hash(offer: Offer) -> bytes:
    asked = payment_of(offer)
    return offer.key_hash if isinstance(asked, EcashAsk) else asked.payment_hash


def _own_key(secret: bytes, purpose: bytes, key_hash: bytes) -> bytes:
    """A key of ours for one offer, made again whenever it is needed."""
    return secp.tagged_hash("ecash-lock", purpose, secret, key_hash)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
