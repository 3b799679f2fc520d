"""Letters between programs: offers, requests for invoices, invoices. People's letters are the inbox's.

    file     header feed ─▶ Scanner ─▶ bodies ─▶ open ─▶ what came, in the tables of trade.py ─▶ place remembered
    letter   content of some kind ─▶ stealth wrap ─▶ Event, the same for whoever looks at it
    post     Event ─▶ outbox ─▶ Receipt

It has a place of its own in the feed, so neither takes a letter from the other. What arrives and the new place are
written in one transaction: a crash files a letter again, which changes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from pennypost import trade
from pennypost.contacts import Contacts
from pennypost.exchange import Progress
from pennypost.inbox import SCAN_LIMIT
from pennypost.keys import Identity
from pennypost.mail import Receipt
from pennypost.office import Office
from pennypost.outbox import PATIENCE, Outbox
from pennypost.people import People
from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, InvalidOffer, InvalidPayload, OfficeMisbehaves
from pennypost.protocol.event import KIND_CHAT, Event, expiration
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, make_rumor
from pennypost.protocol.headers import HELD, RELEASED
from pennypost.protocol.invoice_request import KIND_INVOICE, KIND_REQUEST, read_answer, read_request
from pennypost.protocol.offer import KIND_ECASH, KIND_OFFER, parse_offer
from pennypost.protocol.stealth import Address, Scanner, lifetime, open_letter, wrap_letter
from pennypost.store import Store

DAY: Final = 86_400


class _Ecash(msgspec.Struct):
    """Ecash for an offer: what a rumor of kind 4414 holds."""

    offer: str
    token: str


_ecash: Final = msgspec.json.Decoder(_Ecash)


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter ready to be posted, and the rumor inside."""

    event: Event
    rumor: Rumor


class Desk:
    """Letters between programs of one home, at one office."""

    def __init__(
        self,
        office: Office,
        store: Store,
        outbox: Outbox,
        identity: Callable[[], Identity],
        people: People,
        contacts: Contacts,
        clock: Callable[[], float],
    ) -> None:
        self.office, self.store, self._outbox, self.people = office, store, outbox, people
        self._contacts = contacts
        self._identity, self._clock = identity, clock

    @property
    def identity(self) -> Identity:
        """Who we are."""
        return self._identity()

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    def letter(
        self,
        receiver: bytes,
        content: str,
        *,
        kind: int = KIND_CHAT,
        tags: list[list[str]] | None = None,
        keep: int = DAY,
        hold: bytes | None = None,
        one_time: bytes | None = None,
    ) -> Letter:
        """A letter to `receiver` (32 bytes), kept for `keep` seconds, held under `hold` where that is given.

        `one_time` is the secret of its author, by default a fresh one. Raises InvalidKey, LetterTooLarge.
        """
        now, identity = self.now(), self.identity
        rumor = make_rumor(
            identity.pub, created_at=now, content=content, tags=[["p", receiver.hex()], *(tags or [])], kind=kind
        )
        secp.lift_x(receiver)
        while True:
            secret = one_time or new_secret()
            try:
                event = wrap_letter(
                    rumor,
                    identity.secret,
                    Address(receiver, receiver),
                    secret,
                    created_at=now,
                    expiration=now + lifetime(keep),
                    randomness=secrets.token_bytes(RANDOMNESS),
                    hold=hold,
                )
            except InvalidKey:
                # A fresh key that does not fit chances once in 2^128.
                if one_time is not None:
                    raise
                continue
            return Letter(event, rumor)

    async def post(self, event: Event, patience: float = PATIENCE, on_progress: Progress | None = None) -> Receipt:
        """Post an event with its stamp; one that was posted before is not paid for again. Raises as Outbox.send."""
        return await self._outbox.send(event, patience, on_progress)

    async def price(self, event: Event) -> Receipt:
        """What posting it would cost, with the code `dry-run`. Raises as Outbox.price."""
        return await self._outbox.price(event)

    async def file(self, *, wait: int = 0) -> None:
        """File what has come in since the last run; the office is asked to wait up to `wait` seconds for the next.

        Raises OfficeUnreachable, OfficeMisbehaves.
        """
        identity = await self.office.identity(self.now())
        after = await self.store.run(trade.place_on, self.office.url, identity)
        scanner = Scanner(self.identity.secret, self.identity.pub)
        scanned = 0
        while True:
            headers = await self.office.headers(after, wait=0 if scanned else wait)
            if not headers:
                return
            readable = [each for each in headers if not each.flags & HELD or each.flags & RELEASED]
            hits = await asyncio.to_thread(scanner.scan, readable)
            place = {hit.header.pubkey.hex(): number for number, hit in enumerate(hits)}
            events = await self.office.letters([hit.header.pubkey for hit in hits]) if hits else []
            events.sort(key=lambda event: place.get(event.pubkey, 0))
            after, now = headers[-1].seq, self.now()
            opened = [each for event in events if (each := self.open(event)) is not None]
            found = [each for each in opened if await self._contacts.shows(each[0])]

            def file_on(
                connection: sqlite3.Connection,
                found: list[tuple[bytes, Rumor]] = found,
                last: int = after,
                now: int = now,
            ) -> None:
                for sender, rumor in found:
                    _file_on(connection, sender, rumor, now)
                trade.move_on(connection, self.office.url, last, identity)

            await self.store.run(file_on)
            scanned += len(headers)
            if scanned > SCAN_LIMIT:
                raise OfficeMisbehaves("its header feed has no end")

    def open(self, event: Event) -> tuple[bytes, Rumor] | None:
        """Sender and rumor of a letter to us that is still good; None for any other."""
        try:
            until = expiration(event)
            if until is not None and until <= self._clock():
                return None
            return open_letter(event, self.identity.secret, self.identity.secret)
        except InvalidInput:
            return None


def new_secret() -> bytes:
    """A fresh secret key."""
    while not secp.valid_secret(secret := secrets.token_bytes(32)):
        pass
    return secret


def _file_on(connection: sqlite3.Connection, sender: bytes, rumor: Rumor, now: int) -> None:
    """Write what a letter brings; one that cannot be read is passed over in silence: anyone may write to anyone."""
    try:
        if rumor.kind == KIND_OFFER:
            offer = parse_offer(rumor.content)
            if offer.seller == sender:
                trade.add_offer_on(connection, offer, now)
        elif rumor.kind == KIND_REQUEST:
            trade.add_request_on(connection, rumor.id, sender, read_request(rumor), now)
        elif rumor.kind == KIND_INVOICE:
            trade.add_answer_on(connection, sender, read_answer(rumor))
        elif rumor.kind == KIND_ECASH:
            found = _ecash.decode(rumor.content)
            trade.add_token_on(connection, sender.hex(), found.offer, found.token, now)
    except (InvalidOffer, InvalidPayload, msgspec.DecodeError, RecursionError):
        return
