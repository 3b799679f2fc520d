"""Letters between programs: offers, requests for invoices, invoices. People's letters are the inbox's.

    file     header feed of each office ─▶ Scanner ─▶ bodies ─▶ open ─▶ what came, in the tables of trade.py
             ─▶ place remembered, one for each office
    letter   content of some kind ─▶ stealth wrap ─▶ Event, the same for whoever looks at it
    post     Event ─▶ outbox of each office ─▶ Receipt                    dispatch.py
    fetch    letters by one one-time key ◀─ of the first office that has one that fits

It has a place of its own in each feed, so neither takes a letter from the other. What arrives and the new place are
written in one transaction: a crash files a letter again, which changes nothing, and so does a letter that two offices
have.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pennypost import trade
from pennypost.contacts import Contacts
from pennypost.dispatch import Dispatch
from pennypost.exchange import Progress
from pennypost.inbox import SCAN_LIMIT
from pennypost.keys import Identity
from pennypost.mail import Receipt
from pennypost.office import Office
from pennypost.outbox import PATIENCE
from pennypost.people import People
from pennypost.protocol import secp
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidKey,
    InvalidOffer,
    InvalidPayload,
    OfficeMisbehaves,
    PennypostError,
)
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
    """Letters between programs of one home, at its offices."""

    def __init__(
        self,
        offices: Sequence[Office],
        store: Store,
        dispatch: Dispatch,
        identity: Callable[[], Identity],
        people: People,
        contacts: Contacts,
        clock: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        """`tell` is told, in a sentence, which office was left out."""
        self.offices, self.store, self.dispatch, self.people = offices, store, dispatch, people
        self._contacts = contacts
        self._identity, self.clock, self.tell = identity, clock, tell
        self._named: set[str] = set()
        """Offices that were said to be silent: once is enough."""

    @property
    def identity(self) -> Identity:
        """Who we are."""
        return self._identity()

    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock())

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
        """Post an event to every office; one that was posted before is not paid for again. Raises as Dispatch.post."""
        return await self.dispatch.post(event, patience, on_progress)

    async def file(self, *, wait: int = 0) -> None:
        """File what has come in since the last run, at every office; with nothing there, they are asked to wait up to
        `wait` seconds for the next letter, and the first that has one ends it.

        One that is away, or lies, is said and left out. Raises its failure where all are.
        """
        if len(self.offices) == 1:
            await self._file(self.offices[0], wait)
        elif not await self._file_each(0) and wait:
            await self._file_each(wait)

    async def _file_each(self, wait: int) -> bool:
        """Whether something had come at one of the offices; with `wait` the others are then left for the next time."""
        looks = {asyncio.ensure_future(self._file(office, wait)): office for office in self.offices}
        failures: list[PennypostError] = []
        came = False
        try:
            left = set(looks)
            while left and not (came and wait):
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for look in done:
                    try:
                        came = look.result() or came
                    except PennypostError as error:
                        failures.append(error)
                        self._leave_out(looks[look].url, error)
        finally:
            for look in looks:
                look.cancel()
            await asyncio.wait(looks)
        if len(failures) == len(looks):
            raise failures[0]
        return came

    def _leave_out(self, url: str, error: PennypostError) -> None:
        if url not in self._named:
            self._named.add(url)
            self.tell(f"{url}: {error}. What it has comes when it is read again.")

    async def fetch(self, author: bytes, offices: Sequence[Office] = ()) -> AsyncGenerator[tuple[Office, Event]]:
        """Letters by this one-time key (32 bytes): of each of our offices, then of `offices`.

        Where one did not say, its failure is raised after the last: whoever finds what he looks for stops before.
        """
        silent: PennypostError | None = None
        for office in [*self.offices, *offices]:
            try:
                for event in await office.letters([author]):
                    yield office, event
            except PennypostError as error:
                # A relay that lies or refuses does not keep the others from being asked.
                silent = error
        if silent is not None:
            raise silent

    async def published(self, author: bytes, kind: int) -> list[Event]:
        """What somebody (32-byte public key) has published under a kind at our offices.

        One that is away is said and left out. Raises its failure where all are.
        """
        asked = [each.published(author, kind) for each in self.offices]
        done = await asyncio.gather(*asked, return_exceptions=True)
        found: dict[str, Event] = {}
        failures: list[PennypostError] = []
        for office, each in zip(self.offices, done, strict=True):
            if isinstance(each, list):
                found |= {event.id: event for event in each}
            elif isinstance(each, PennypostError):
                failures.append(each)
                if len(done) > 1:
                    self._leave_out(office.url, each)
            else:
                raise each
        if len(failures) == len(done):
            raise failures[0]
        return list(found.values())

    async def _file(self, office: Office, wait: int) -> bool:
        """File what one office has: whether there was anything. Raises OfficeUnreachable, OfficeMisbehaves."""
        identity = await office.identity(self.now())
        after = await self.store.run(trade.place_on, office.url, identity)
        scanner = Scanner(self.identity.secret, self.identity.pub)
        scanned = 0
        while True:
            headers = await office.headers(after, wait=0 if scanned else wait)
            if not headers:
                return scanned > 0
            readable = [each for each in headers if not each.flags & HELD or each.flags & RELEASED]
            hits = await asyncio.to_thread(scanner.scan, readable)
            place = {hit.header.pubkey.hex(): number for number, hit in enumerate(hits)}
            events = await office.letters([hit.header.pubkey for hit in hits]) if hits else []
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
                trade.move_on(connection, office.url, last, identity)

            await self.store.run(file_on)
            scanned += len(headers)
            if scanned > SCAN_LIMIT:
                raise OfficeMisbehaves("its header feed has no end")

    def open(self, event: Event) -> tuple[bytes, Rumor] | None:
        """Sender and rumor of a letter to us that is still good; None for any other."""
        try:
            until = expiration(event)
            if until is not None and until <= self.clock():
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
