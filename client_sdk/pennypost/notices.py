"""Lightning notices: a payment tells its receiver that a letter waits for him (wire contract, section 3).

    send     how long a comment is taken? ─▶ notice that fits ─▶ letter posted at every office, and at the relays that
             are named for it ─▶ payment with the notice
             carried by an LNURL-pay comment, by keysend (TLV 34349334), or by hand
             written down before each step (notice_book.py): the same call after a crash goes on
    receive  payment of our wallet, or pasted text ─▶ read: who, until when, where. Nothing is looked up
             ─▶ the person decides ─▶ fetch: the letter by that key, opened, its signature over the notice checked

The letter is a stealth wrap as any other, so its receiver finds it by scanning too.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from pennypost import lnurl, notice_book
from pennypost.desk import DAY, Desk, new_secret
from pennypost.letters import Note, note_of
from pennypost.lightning import fee_limit
from pennypost.mail import DRY_RUN, Mail, Receipt
from pennypost.notice_book import Begun
from pennypost.office import Office
from pennypost.outbox import PATIENCE
from pennypost.payments import Payment, Payments
from pennypost.protocol import nip19
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    CommentTooShort,
    InvalidInput,
    InvalidNotice,
    NotFound,
    OfficeUnreachable,
    PennypostError,
    PriceTooHigh,
)
from pennypost.protocol.event import KIND_CHAT, Event, expiration
from pennypost.protocol.notice import (
    BLASTR,
    MAX_WHERE,
    SHORTEST,
    TLV,
    NewNotice,
    Notice,
    confirms,
    find_notice,
    new_notice,
    read_notice,
)
from pennypost.protocol.stealth import lifetime
from pennypost.transport import Transport, is_loopback, parse_address

MSAT: Final = 1_000
MOST: Final = 100
"""The most that a notice may cost unless told otherwise, in sat."""
MAX_SAT: Final = 1_000_000
RELAYS: Final = 200
"""Relays of one broadcast."""
NAMED: Final = 4
"""Relays of a stranger's notice that are asked."""

Carrier = Literal["comment", "keysend", "hand"]

_NODE: Final = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Price:
    """What one relay asks for a letter."""

    relay: str
    sat: int | None
    """None where it does not answer, or asks for stamps of another mint: it is left out."""


@dataclass(frozen=True, slots=True)
class NoticeReceipt:
    """What became of a letter and its notice."""

    notice: str
    """The text ppn1…, to hand over where no payment carried it."""
    carrier: Carrier
    signed: bool
    """Whether the notice says who writes; a short comment leaves no room for it."""
    msat: int
    """What the payment brought the receiver; 0 without one."""
    fee_msat: int
    receipts: tuple[Receipt, ...]
    """Of each office, then of each relay; with `dry-run` what each asks, `fee_msat` being the most that fees may be."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A notice that came in, read without asking anybody."""

    notice: str
    sender: str | None
    """The writer's npub, proved by his signature; None where he does not say."""
    where: str
    expires_at: int
    msat: int = 0
    """What the payment brought that carried it; 0 where it was pasted."""


class Notices:
    """Lightning notices of one home."""

    def __init__(self, desk: Desk, payments: Payments, network: Transport) -> None:
        """`network` reaches addresses that others name."""
        self._desk, self._payments, self._network, self._store = desk, payments, network, desk.store
        self._under_way: set[str] = set()
        """Ids of the letters that are being sent in this process."""

    # Sending

    async def send(
        self,
        to: str,
        text: str,
        *,
        pay: str | None = None,
        sat: int = 1,
        most: int = MOST,
        anonymous: bool = False,
        where: str | None = None,
        relays: Sequence[str] = (),
        max_stamps: int = 64,
        keep: int = 7 * DAY,
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
    ) -> NoticeReceipt:
        """Write to somebody, and tell him by a payment of `sat` to `pay`: a Lightning address, an LNURL, or a node's
        key (66 hex digits). Without `pay` the notice is yours to hand over.

        `where` says which relays have the letter (39 characters, by default as many of our offices as fit); `relays`
        sends it to more, for `max_stamps` in all (see `prices`), and the notice then says "blastr". A relay that does
        not answer gets it with the next `flush`, and the same stamp. Where the receiver takes only short
        comments the notice leaves out first where, then who. Before anything is posted it is refused: CommentTooShort,
        AmountTooHigh, PriceTooHigh, InvalidInput, OnceUsed, and what the receiver's service raises. After the letter is
        posted the payment can fail (WalletError): the letter stays, to be found by scanning.

        Nothing is posted or paid twice: the same call after an error or a crash goes on with the same letter, notice
        and payment until they are told. With a key of your own (`once`, 1 to 200 characters, apart from those of
        `AsyncClient.send`) this holds for a year and after that too: the same call again posts and pays nothing, and
        returns the same notice. Raises PaymentUnknown while the wallet does not know what became of the payment.

        With `dry_run` only offices and relays are asked for their prices; nothing is sent, spent or paid.
        """
        receiver = await self._desk.people.key(to)
        if not 0 < sat <= MAX_SAT:
            raise InvalidInput("a payment is of 1 sat or more")
        if pay is not None and sat > most:
            raise AmountTooHigh
        if dry_run:
            return await self._price(receiver, text, pay, sat, anonymous, where, relays, keep)
        said = ("notice", text, pay, sat, anonymous, where, list(relays), lifetime(keep))
        note = note_of(self._desk.identity.secret, receiver, once, *said)
        begun = await self._known(note)
        if begun is not None and begun.carrier:
            return await self._again(begun)
        node = bytes.fromhex(pay) if pay is not None and _NODE.fullmatch(pay) else None
        point = await lnurl.look_up(pay, self._network) if pay is not None and node is None else None
        if pay is not None:
            _ = self._payments.wallet
        room = None if point is None else point.comment
        if begun is None:
            new, signed = self._fit(receiver, anonymous, where, relays, keep, room)
            event = self._desk.letter(receiver, text, tags=[new.tag], keep=keep, one_time=new.author_secret).event
            preimage = None if node is None else secrets.token_bytes(32)
            begun = Begun(event.id, event, new.text, signed, expiration(event) or 0, preimage)
        elif room is not None and len(begun.text) > room:
            raise CommentTooShort(f"it takes {room} characters")
        if point is not None and not point.least <= sat * MSAT <= point.most:
            raise InvalidInput(f"the receiver takes {-(-point.least // MSAT)} to {point.most // MSAT} sat")
        own = begun.id
        self._under_way.add(own)
        try:
            assert begun.event is not None
            chosen = await self._choose(begun.event, relays, max_stamps)
            begun = await self._store.run(notice_book.begin_on, note, begun, self._desk.now())
            if begun.event is None:
                return await self._again(begun)
            receipts = [*(await self._post(begun.event, patience)).relays]
            if chosen:
                receipts += await self._desk.dispatch.post_also(begun.event, chosen)
            if point is not None:
                payment = await self._payments.pay(await self._order(begun, point, sat * MSAT), sat * MSAT)
            elif node is not None:
                record = {TLV: begun.text.encode()}
                payment = await self._payments.keysend(node, sat * MSAT, record, begun.preimage or b"")
            else:
                payment = None
            return await self._told(begun, payment, receipts)
        finally:
            self._under_way.discard(own)

    async def _known(self, note: Note) -> Begun | None:
        """The same call made before, as far as it came; a payment that it had begun has its end. Raises as outcome."""
        now = self._desk.now()
        begun = await self._store.run(notice_book.known_on, note, now, frozenset(self._under_way))
        if begun is None or begun.carrier or begun.payment_hash is None:
            payment = None
        else:
            payment = await self._payments.outcome(begun.payment_hash)
        if begun is not None and payment is not None:
            await self._told(begun, payment, [])
            return replace(begun, carrier=_carrier(begun), msat=payment.msat, fee_msat=payment.fee_msat)
        if begun is not None and not begun.carrier and begun.kept_until <= now:
            await self._store.run(notice_book.drop_on, begun.id)
            return None
        return begun

    async def _again(self, begun: Begun) -> NoticeReceipt:
        """What became of a notice that an earlier call told of."""
        receipts = (await self._desk.dispatch.known(begun.id)).relays
        carrier = cast(Carrier, begun.carrier)
        return NoticeReceipt(begun.text, carrier, begun.signed, begun.msat, begun.fee_msat, receipts)

    async def _price(
        self,
        receiver: bytes,
        text: str,
        pay: str | None,
        sat: int,
        anonymous: bool,
        where: str | None,
        relays: Sequence[str],
        keep: int,
    ) -> NoticeReceipt:
        """What `send` would cost, as a receipt without a notice."""
        if pay is not None:
            _ = self._payments.wallet
        new, signed = self._fit(receiver, anonymous, where, relays, keep, None)
        letter = self._desk.letter(receiver, text, tags=[new.tag], keep=keep, one_time=new.author_secret)
        price = await self._desk.dispatch.price([letter.event], self._others(relays))
        carrier: Carrier = "hand" if pay is None else "keysend" if _NODE.fullmatch(pay) else "comment"
        msat = 0 if pay is None else sat * MSAT
        return NoticeReceipt("", carrier, signed, msat, fee_limit(msat) if msat else 0, price.relays)

    async def _post(self, event: Event, patience: float) -> Receipt:
        """Post the letter; where it is not taken and nothing was spent, the notice is forgotten with it."""
        try:
            receipt = await self._desk.post(event, patience)
            if receipt.error is not None:
                raise receipt.error
        except PennypostError:
            await self._store.run(notice_book.give_up_on, event.id)
            raise
        return receipt

    async def _order(self, begun: Begun, point: lnurl.PayPoint, msat: int) -> str:
        """The invoice to pay, written down; the one of an earlier run as long as it can be paid."""
        now = self._desk.now()
        if begun.invoice is not None and parse_invoice(begun.invoice).expires_at > now:
            return begun.invoice
        request = await lnurl.request_invoice(point, msat, begun.text, self._network)
        return await self._store.run(notice_book.order_on, begun.id, request, now)

    async def _told(self, begun: Begun, payment: Payment | None, receipts: Sequence[Receipt]) -> NoticeReceipt:
        carrier: Carrier = "hand" if payment is None else _carrier(begun)
        msat, fee = (0, 0) if payment is None else (payment.msat, payment.fee_msat)
        await self._store.run(notice_book.told_on, begun.id, carrier, msat, fee)
        return NoticeReceipt(begun.text, carrier, begun.signed, msat, fee, tuple(receipts))

    def _fit(
        self, receiver: bytes, anonymous: bool, where: str | None, relays: Sequence[str], keep: int, room: int | None
    ) -> tuple[NewNotice, bool]:
        """The longest notice that the comment has room for, and whether it says who writes."""
        if room is not None and room < SHORTEST:
            raise CommentTooShort(f"it takes {room} characters")
        hint = where if where is not None else BLASTR if relays else self._hint()
        secret = None if anonymous else self._desk.identity.secret
        for signer, place in ((secret, hint), (secret, ""), (None, hint), (None, "")):
            new = new_notice(
                receiver,
                new_secret(),
                expiry=self._desk.now() + keep,
                sender_secret=signer,
                where=place,
                aux=secrets.token_bytes(32),
            )
            if room is None or len(new.text) <= room:
                return new, signer is not None
        raise CommentTooShort

    def _hint(self) -> str:
        """Our offices as a notice names them, as many as there is room for."""
        hint = ""
        for office in self._desk.offices[:NAMED]:
            longer = f"{hint} {office.url.removeprefix('https://')}".strip()
            hint = longer if len(longer) <= MAX_WHERE else hint
        return hint

    async def prices(self, text: str, relays: Sequence[str], *, keep: int = 7 * DAY) -> list[Price]:
        """What each relay asks for such a letter, our offices first; nothing is sent."""
        letter = self._desk.letter(self._desk.identity.pub, text, keep=keep)
        return await self._ask(letter.event, relays)

    async def _ask(self, event: Event, relays: Sequence[str]) -> list[Price]:
        asked = await self._desk.dispatch.price([event], self._others(relays))
        return [Price(each.office, each.stamps if each.code == DRY_RUN else None) for each in asked.relays]

    def _others(self, relays: Sequence[str]) -> list[str]:
        """Addresses of relays beside our offices, each once. Raises InvalidInput."""
        if len(relays) > RELAYS:
            raise InvalidInput("a letter goes to 200 relays at most")
        own = self._desk.dispatch.urls
        return [url for url in dict.fromkeys(parse_address(each) for each in relays) if url not in own]

    async def _choose(self, event: Event, relays: Sequence[str], max_stamps: int) -> Mapping[str, int]:
        """The relays that can be paid, with their prices. Raises PriceTooHigh for the whole, our offices' too."""
        if not relays:
            return {}
        prices = await self._ask(event, relays)
        total = sum(each.sat or 0 for each in prices)
        if total > max_stamps:
            raise PriceTooHigh(f"{total} stamps in all")
        own = self._desk.dispatch.urls
        return {each.relay: each.sat for each in prices if each.sat is not None and each.relay not in own}

    # Receiving

    def read(self, text: str, *, msat: int = 0) -> Announced:
        """The notice in a comment or a pasted text, and who wrote it, proved. Asks nobody. Raises InvalidNotice."""
        found, notice = self._open(text)
        npub = None if notice.sender is None else nip19.encode_npub(notice.sender)
        return Announced(found, npub, notice.where, notice.expiry, msat)

    def _open(self, text: str) -> tuple[str, Notice]:
        found = find_notice(text)
        if found is None:
            raise InvalidNotice("there is none in it")
        return found, read_notice(found, self._desk.identity.secret)

    async def watch(self) -> AsyncGenerator[Announced]:
        """Notices in the payments that our wallet receives, as they come; others' payments are passed over.

        Nothing is looked up. Raises WalletUnreachable when the line breaks, WalletCannot, NoWallet.
        """
        received = self._payments.wallet.received()
        async with aclosing(received) as payments:
            async for payment in payments:
                record = payment.records.get(TLV, b"").decode("ascii", errors="replace")
                for text in (payment.comment, record):
                    try:
                        yield self.read(text, msat=payment.msat)
                        break
                    except InvalidNotice:
                        continue

    async def fetch(self, notice: str) -> Mail:
        """The letter that a notice announces: after the decision, for this asks a relay for it.

        Our offices are asked first, then the relays that the notice names: https, on the public net, no redirect.
        Raises InvalidNotice, NotFound where none has it or what is there is not its letter; where a relay did not say,
        what the last of these did instead: OfficeUnreachable, OfficeMisbehaves, or its refusal.
        """
        _, read = self._open(notice)
        named = await self._named(read)
        try:
            async with aclosing(self._desk.fetch(read.author, named)) as events:
                async for office, event in events:
                    found = self._desk.open(event)
                    if found is not None and found[1].kind == KIND_CHAT and confirms(read, *found):
                        sender, rumor = found
                        until = expiration(event) or event.created_at + 30 * DAY
                        npub = nip19.encode_npub(sender)
                        return Mail(npub, rumor.content, rumor.created_at, until, event.id, office.url)
        finally:
            for office in named:
                await office.close()
        raise NotFound("no relay has the letter of this notice")

    async def _named(self, notice: Notice) -> list[Office]:
        """The relays a stranger names, where they are on the public net, or on this machine as our own offices are."""
        offices: list[Office] = []
        for place in notice.where.split()[:NAMED]:
            if place == BLASTR:
                continue
            try:
                url = parse_address(place)
                own = is_loopback(url) and all(is_loopback(each) for each in self._desk.dispatch.urls)
                if not own:
                    if not url.startswith("https://") and not (urlsplit(url).hostname or "").endswith(".onion"):
                        continue
                    await lnurl.check_public(urlsplit(url).hostname or "")
            except (InvalidInput, OfficeUnreachable):
                continue
            if url not in self._desk.dispatch.urls:
                offices.append(Office(url, self._network, self._desk.store))
        return offices


def _carrier(begun: Begun) -> Carrier:
    """What carries a notice that is paid for."""
    return "comment" if begun.preimage is None else "keysend"
