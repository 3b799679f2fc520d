"""Letters that go out: written down with their stamp before they are sent, sent until there is an answer.

    waiting ──▶ accepted          the stamp is gone (a duplicate: the mint is asked whether it is)
       │  ▲ same frame again      after silence, a broken line, an error of the office, a crash
       │  └─ another stamp        the first was spent elsewhere, or the price had risen
       └─────▶ refused            the stamp is given back, to be swapped before it is used again

One letter, one frame: a repeat carries the same event with the same stamp, so it can be paid for only once.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from dataclasses import dataclass, field
from typing import Final

from pennypost import ledger
from pennypost.exchange import Exchange, Progress
from pennypost.line import refusal
from pennypost.mail import ACCEPTED, DUPLICATE, Receipt
from pennypost.mint_client import UNIT
from pennypost.office import Office
from pennypost.protocol.errors import (
    OfficeMisbehaves,
    OfficeUnreachable,
    OtherMint,
    PennypostError,
    PriceTooHigh,
    ServerError,
    StampRequired,
    StampSpent,
    StampTooLittle,
    TooMany,
)
from pennypost.protocol.event import Event, event_json, expiration, parse_event
from pennypost.protocol.frames import OkMessage
from pennypost.protocol.token import Proof, Token, encode_token

PATIENCE: Final = 90.0
"""Seconds to go on trying; an office holds an event back for up to 60 while its database is away."""
ANSWER: Final = 20.0
"""Seconds to wait for an OK before the same frame is sent again."""
RESTAMPS: Final = 3
"""Other stamps to try for one letter."""

_UNTIL: Final = re.compile(r"until ([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of the outbox that has no answer yet."""

    event: Event
    office: str
    token: str | None = field(repr=False)
    sat: int
    mint: str


class Outbox:
    """Sends letters of one home to one office, stamped from one wallet."""

    def __init__(self, office: Office, exchange: Exchange, max_stamps: int) -> None:
        """`max_stamps`: the most that one letter may cost, in sat."""
        self._office, self._exchange, self._store = office, exchange, exchange.store
        self._max_stamps = max_stamps
        self._under_way: set[str] = set()

    async def send(self, event: Event, patience: float, on_progress: Progress | None = None) -> Receipt:
        """Post an event, stamped as the office asks; one that was posted before is not posted or paid again.

        Raises NotEnoughStamps, PriceTooHigh and OtherMint before anything is sent; OfficeUnreachable, ServerError or
        TooMany after `patience` seconds: the letter stays in the outbox then, and `flush` sends it.
        """
        self._under_way.add(event.id)
        try:
            letter = await self._store.run(known_on, event.id, self._office.url, self._exchange.mint.url)
            if isinstance(letter, int):
                return Receipt(event.id, self._office.url, True, DUPLICATE, 0, letter)
            if letter is None:
                letter = await self._write(event, await self._price(event))
            return await self._deliver(letter, patience, on_progress)
        finally:
            self._under_way.discard(event.id)

    async def flush(self, patience: float = PATIENCE) -> list[Receipt]:
        """Send what an earlier run left without an answer. Raises as `send`; the rest stays for later."""
        await self._store.run(drop_expired_on, self._exchange.now())
        receipts: list[Receipt] = []
        for letter in await self._store.run(waiting_on, self._office.url, self._exchange.mint.url):
            if letter.event.id not in self._under_way:
                self._under_way.add(letter.event.id)
                try:
                    receipts.append(await self._deliver(letter, patience))
                finally:
                    self._under_way.discard(letter.event.id)
        return receipts

    async def _price(self, event: Event, *, fresh: bool = False) -> tuple[int, str]:
        """The sat to attach, and the address that the token must name."""
        asked = await self._office.price(event, self._exchange.now(), fresh=fresh)
        if not asked.sat:
            return 0, ""
        if asked.sat > self._max_stamps:
            raise PriceTooHigh
        name = await self._exchange.mint.name(asked.mints)
        if name not in asked.mints and self._exchange.mint.url != self._office.url:
            raise OtherMint("this office takes stamps of other mints")
        return asked.sat, name if name in asked.mints else asked.mints[0]

    async def _write(self, event: Event, price: tuple[int, str]) -> Letter:
        """The letter with its stamp, both written down; a letter written before gets another stamp."""
        sat, name = price
        mint = self._exchange.mint.url

        def write_on(connection: sqlite3.Connection) -> Letter | None:
            proofs = ledger.choose_on(connection, mint, sat)
            if proofs is None:
                return None
            token = encode_token(Token(name, UNIT, proofs)) if proofs else None
            letter = Letter(event, self._office.url, token, sat, mint)
            write_letter_on(connection, letter, proofs, self._exchange.now())
            return letter

        return await self._exchange.take(sat, write_on)

    async def _deliver(self, letter: Letter, patience: float, on_progress: Progress | None = None) -> Receipt:
        loop = asyncio.get_running_loop()
        deadline, pause, restamps = loop.time() + patience, 0.5, 0
        while True:
            try:
                answer = await self._office.post(letter.event, letter.token, ANSWER)
                error = None if answer.accepted else refusal(answer.message)()
            except OfficeUnreachable as found:
                answer, error = None, found
            if answer is not None and error is None:
                return await self._accepted(letter, answer)
            if isinstance(error, OfficeUnreachable | ServerError | TooMany):
                if loop.time() + pause > deadline:
                    raise type(error)("the letter is kept, and sent with the next one")
                if on_progress is not None:
                    on_progress("trying again", int(loop.time() + patience - deadline), int(patience))
                await asyncio.sleep(pause)
                pause = min(10.0, pause * 2)
                continue
            assert error is not None
            if isinstance(error, StampSpent | StampRequired | StampTooLittle) and restamps < RESTAMPS:
                restamps += 1
                found = await self._restamp(letter, error)
                if found is not None:
                    letter = found
                    continue
            await self._store.run(finish_on, letter, "refused", error.code)
            return Receipt(letter.event.id, letter.office, False, error.code, 0, 0)

    async def _accepted(self, letter: Letter, answer: OkMessage) -> Receipt:
        code, used = ACCEPTED, letter.sat
        if answer.message.startswith("duplicate"):
            # Stored already: by this stamp, of a frame whose OK was lost, or by somebody else's.
            code = DUPLICATE
            if letter.token is not None:
                try:
                    settled = await self._exchange.settle_holder(letter.event.id)
                    used = letter.sat if settled is None else settled
                except PennypostError:
                    # The mint is away: the letter stays in the outbox, and the next flush asks again.
                    return self._receipt(letter, answer, code, used)
        await self._store.run(finish_on, letter, "accepted", code)
        return self._receipt(letter, answer, code, used)

    def _receipt(self, letter: Letter, answer: OkMessage, code: str, used: int) -> Receipt:
        until = _UNTIL.search(answer.message)
        kept_until = int(until[1]) if until else expiration(letter.event) or 0
        return Receipt(letter.event.id, letter.office, True, code, used, kept_until)

    async def _restamp(self, letter: Letter, error: PennypostError) -> Letter | None:
        """The same letter with another stamp; None where that would not help."""
        price = await self._price(letter.event, fresh=True)
        if isinstance(error, StampSpent):
            if letter.token is not None and await self._exchange.settle_holder(letter.event.id) == 0:
                await self._store.run(finish_on, letter, "refused", OfficeMisbehaves.code)
                raise OfficeMisbehaves("it calls a stamp spent that the mint does not")
        elif price[0] <= letter.sat:
            return None
        else:
            await self._store.run(ledger.release_on, letter.event.id)
        return await self._write(letter.event, price)


# Rows


def write_letter_on(connection: sqlite3.Connection, letter: Letter, proofs: list[Proof], now: int) -> None:
    """A letter with the stamps it carries, reserved for it alone."""
    connection.execute(
        "INSERT INTO outbox (event_id, office, mint, event, token, sat, state, code, keep_until, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, 'waiting', '', ?, ?)"
        " ON CONFLICT (event_id) DO UPDATE SET event = excluded.event, token = excluded.token, sat = excluded.sat,"
        " state = 'waiting', code = ''",
        (
            letter.event.id,
            letter.office,
            letter.mint,
            event_json(letter.event),
            letter.token,
            letter.sat,
            expiration(letter.event) or 0,
            now,
        ),
    )
    ledger.hold_on(connection, proofs, "reserved", letter.event.id)


def known_on(connection: sqlite3.Connection, event_id: str, office: str, mint: str) -> Letter | int | None:
    """A letter to this office that waits; of one it accepted the time it keeps it; None for any other."""
    row = connection.execute(
        "SELECT state, event, token, sat, keep_until FROM outbox WHERE event_id = ? AND office = ? AND mint = ?",
        (event_id, office, mint),
    ).fetchone()
    if row is None or row[0] == "refused":
        return None
    state, event, token, sat, keep_until = row
    return keep_until if state == "accepted" else Letter(parse_event(event), office, token, sat, mint)


def waiting_on(connection: sqlite3.Connection, office: str, mint: str) -> list[Letter]:
    """Letters to an office without an answer, stamped by a mint, the oldest first."""
    rows = connection.execute(
        "SELECT event, office, token, sat, mint FROM outbox WHERE office = ? AND mint = ? AND state = 'waiting'"
        " ORDER BY created_at, event_id",
        (office, mint),
    )
    return [Letter(parse_event(event), *rest) for event, *rest in rows]


def finish_on(connection: sqlite3.Connection, letter: Letter, state: str, code: str) -> None:
    """The answer is there. What the letter held is gone when it was accepted, else given back; so is its content."""
    if state == "accepted":
        ledger.drop_proofs_on(connection, ledger.held_on(connection, letter.event.id))
    else:
        ledger.release_on(connection, letter.event.id)
    connection.execute(
        "UPDATE outbox SET state = ?, code = ?, event = NULL, token = NULL WHERE event_id = ?",
        (state, code, letter.event.id),
    )


def drop_expired_on(connection: sqlite3.Connection, now: int) -> None:
    """Forget letters whose kept time is over; stamps of one that never had an answer are given back."""
    rows = connection.execute("SELECT event_id FROM outbox WHERE keep_until BETWEEN 1 AND ?", (now,)).fetchall()
    for (id,) in rows:
        ledger.release_on(connection, id)
        connection.execute("DELETE FROM outbox WHERE event_id = ?", (id,))
