"""Letters that go out: written down with their stamp before they are sent, sent until there is an answer.

    drafted ─▶ waiting ──▶ accepted     the stamp is gone (a duplicate: the mint is asked whether it is)
                 │  ▲ same frame again  after silence, a broken line, an error of the office, a crash
                 │  └─ another stamp    the first was spent elsewhere, or the price had risen
                 └─────▶ refused        the stamp is given back, to be swapped before it is used again

One letter, one office, one frame: a repeat carries the same event with the same stamp, so it can be paid for only once.
Drafts are not stamped yet: a letter is drafted at all its offices at once (dispatch.py). A letter that was held and
paid for is released as soon as the office has it (releases.py).
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pennypost import ledger, letters, releases
from pennypost.exchange import Exchange, Progress
from pennypost.line import refusal
from pennypost.mail import ACCEPTED, DRY_RUN, DUPLICATE, REASON, Receipt
from pennypost.mint_client import UNIT
from pennypost.office import Office
from pennypost.protocol.errors import (
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    PolicyError,
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
from pennypost.purse import Purse

PATIENCE: Final = 90.0
"""Seconds to go on trying; an office holds an event back for up to 60 while its database is away."""
ANSWER: Final = 20.0
"""Seconds to wait for an OK before the same frame is sent again."""
RESTAMPS: Final = 3
"""Other stamps to try for one letter."""
PASSING: Final = (OfficeUnreachable, ServerError, TooMany)
"""What a letter waits for."""

_UNTIL: Final = re.compile(r"until ([0-9]{1,12})")

State = Literal["new", "drafted", "waiting", "accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Letter:
    """An event on its way to one office; `new` is not written down yet."""

    event: Event
    office: str
    token: str | None = field(default=None, repr=False)
    sat: int = 0
    mint: str = ""
    state: State = "new"

    @property
    def holder(self) -> str:
        """Under which name its stamps are reserved."""
        return f"{self.event.id} {self.office}"


class Outbox:
    """Sends letters of one home to one office, stamped from one wallet."""

    def __init__(
        self, office: Office, exchange: Exchange, purse: Purse, max_stamps: int, under_way: set[str] | None = None
    ) -> None:
        """`exchange`: with the office's own mint. `max_stamps`: the most that one letter may cost, in sat. `under_way`:
        ids of the events being sent.
        """
        self._office, self._exchange, self._purse, self._store = office, exchange, purse, exchange.store
        self._max_stamps = max_stamps
        self._under_way: set[str] = set() if under_way is None else under_way

    @property
    def url(self) -> str:
        """The office's address."""
        return self._office.url

    async def go_on(
        self, event_id: str, patience: float, on_progress: Progress | None, enough: asyncio.Event
    ) -> Receipt | None:
        """Send a letter that was drafted; of one that has its answer, what that was. One that was sent before is not
        paid again.

        None where this office was never to have it. When `enough` is set another office has the letter, and nobody
        waits any longer for one that does not answer. Raises NotEnoughStamps, PriceTooHigh and OtherMint before
        anything is sent; OfficeUnreachable, ServerError or TooMany after `patience` seconds: the letter stays in the
        outbox then, and `flush` sends it.
        """
        known = await self._store.run(known_on, event_id, self.url)
        return await self._send(known, patience, on_progress, enough) if isinstance(known, Letter) else known

    async def price(self, event: Event) -> Receipt:
        """What a letter would cost now, with the code `dry-run`; nothing is reserved, written or sent.

        Raises OfficeUnreachable, OfficeMisbehaves; OtherMint where this wallet's stamps are not taken.
        """
        sat, _, _ = await self._asked(event)
        return Receipt(event.id, self.url, False, DRY_RUN, sat, 0)

    async def flush(self, patience: float = PATIENCE) -> list[Receipt]:
        """Send what an earlier run left without an answer: the receipts. What fails stays for later.

        Raises as `go_on` where nothing has an answer now.
        """
        await self._store.run(drop_expired_on, self._exchange.now())
        receipts: list[Receipt] = []
        failure: PennypostError | None = None
        for letter in await self._store.run(waiting_on, self.url):
            if letter.event.id not in self._under_way:
                self._under_way.add(letter.event.id)
                try:
                    receipts.append(await self._send(letter, patience))
                except PennypostError as error:
                    failure = failure or error
                    if isinstance(error, PASSING):
                        # The others would wait as long.
                        break
                finally:
                    self._under_way.discard(letter.event.id)
        if not isinstance(failure, PASSING):
            try:
                await self.release()
            except PennypostError as error:
                failure = failure or error
        if failure is not None and not receipts:
            raise failure
        return receipts

    async def release(self) -> list[str]:
        """Have the office show what was paid for of the letters it holds: their event ids.

        Each is tried before the first failure is raised: what the office refuses is not asked again, the rest is.
        """
        released: list[str] = []
        failure: PennypostError | None = None
        for each in await self._store.run(releases.due_on, self.url, self._exchange.now()):
            try:
                await self._office.release(each.hold, each.preimage, each.identifier)
                released.append(each.event_id)
            except PolicyError as error:
                if not each.stored:
                    # The letter has not come there yet.
                    continue
                failure = failure or error
            except PennypostError as error:
                failure = failure or error
                continue
            await self._store.run(releases.done_on, each)
        if failure is not None:
            raise failure
        return released

    async def close(self) -> None:
        """Close the office's connections."""
        await self._office.close()

    async def _send(
        self,
        letter: Letter,
        patience: float,
        on_progress: Progress | None = None,
        enough: asyncio.Event | None = None,
    ) -> Receipt:
        if letter.state != "waiting":
            written = await self._write(letter, await self._price(letter.event))
            if isinstance(written, Receipt):
                return written
            letter = written
        return await self._deliver(letter, patience, on_progress, enough or asyncio.Event())

    async def _price(self, event: Event, *, fresh: bool = False) -> tuple[int, str, Exchange]:
        """The sat to attach, within our limit, the address that the token must name, and whose stamps these are."""
        asked = await self._asked(event, fresh=fresh)
        if asked[0] > self._max_stamps:
            raise PriceTooHigh
        return asked

    async def _asked(self, event: Event, *, fresh: bool = False) -> tuple[int, str, Exchange]:
        asked = await self._office.price(event, self._exchange.now(), fresh=fresh)
        if not asked.sat:
            return 0, "", self._exchange
        exchange, name = await self._purse.exchange_for(asked.mints, asked.sat, self._exchange, self.url)
        return asked.sat, name, exchange

    async def _write(self, letter: Letter, price: tuple[int, str, Exchange]) -> Letter | Receipt:
        """The letter with its stamp, both written down; as it stands where another process has moved it on."""
        sat, name, exchange = price
        mint = exchange.mint.url

        def write_on(connection: sqlite3.Connection) -> Letter | Receipt | None:
            known = known_on(connection, letter.event.id, letter.office)
            if isinstance(known, Receipt) and known.accepted:
                return known
            if isinstance(known, Letter) and known.state == "waiting" and known.token != letter.token:
                return known
            proofs = ledger.choose_on(connection, mint, sat)
            if proofs is None:
                return None
            token = encode_token(Token(name, UNIT, proofs)) if proofs else None
            stamped = replace(letter, token=token, sat=sat, mint=mint, state="waiting")
            write_letter_on(connection, stamped, proofs, exchange.now())
            return stamped

        return await exchange.take(sat, write_on)

    async def _deliver(
        self, letter: Letter, patience: float, on_progress: Progress | None, enough: asyncio.Event
    ) -> Receipt:
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
                if loop.time() + pause > deadline or enough.is_set():
                    raise type(error)("the letter is kept, and sent with the next one")
                if on_progress is not None:
                    on_progress("trying again", int(loop.time() + patience - deadline), int(patience))
                with suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), pause)
                pause = min(10.0, pause * 2)
                continue
            assert error is not None
            if isinstance(error, StampSpent | StampRequired | StampTooLittle) and restamps < RESTAMPS:
                restamps += 1
                found = await self._restamp(letter, error)
                if isinstance(found, Receipt):
                    return found
                if found is not None:
                    letter = found
                    continue
            await self._store.run(finish_on, letter, "refused", error.code)
            said = "" if answer is None else answer.message[:REASON]
            return Receipt(letter.event.id, letter.office, False, error.code, 0, 0, said)

    async def _accepted(self, letter: Letter, answer: OkMessage) -> Receipt:
        code, used = ACCEPTED, letter.sat
        if answer.message.startswith("duplicate"):
            # Stored already: by this stamp, of a frame whose OK was lost, or by somebody else's.
            code = DUPLICATE
            if letter.token is not None:
                try:
                    settled = await self._purse.exchange_of(letter.mint).settle_holder(letter.holder)
                    used = letter.sat if settled is None else settled
                except PennypostError:
                    # The mint is away: the letter stays in the outbox, and the next flush asks again.
                    return self._receipt(letter, answer, code, used)
        await self._store.run(finish_on, letter, "accepted", code)
        return self._receipt(letter, answer, code, used)

    def _receipt(self, letter: Letter, answer: OkMessage, code: str, used: int) -> Receipt:
        until = _UNTIL.search(answer.message)
        kept_until = int(until[1]) if until else expiration(letter.event) or 0
        return Receipt(letter.event.id, letter.office, True, code, used, kept_until, answer.message[:REASON])

    async def _restamp(self, letter: Letter, error: PennypostError) -> Letter | Receipt | None:
        """The same letter with another stamp; None where that would not help."""
        price = await self._price(letter.event, fresh=True)
        if isinstance(error, StampSpent):
            exchange = self._purse.exchange_of(letter.mint)
            if letter.token is not None and await exchange.settle_holder(letter.holder) == 0:
                await self._store.run(finish_on, letter, "refused", OfficeMisbehaves.code)
                raise OfficeMisbehaves("it calls a stamp spent that the mint does not")
        elif price[0] <= letter.sat:
            return None
        else:
            await self._store.run(ledger.release_on, letter.holder)
        return await self._write(letter, price)


# Rows


def write_letter_on(connection: sqlite3.Connection, letter: Letter, proofs: Sequence[Proof], now: int) -> None:
    """A letter as it stands, with the stamps it carries, reserved for it alone."""
    connection.execute(
        "INSERT INTO outbox (event_id, office, mint, event, token, sat, state, code, keep_until, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '', ?, ?)"
        " ON CONFLICT (event_id, office) DO UPDATE SET mint = excluded.mint, event = excluded.event,"
        " token = excluded.token, sat = excluded.sat, state = excluded.state, code = ''",
        (
            letter.event.id,
            letter.office,
            letter.mint,
            event_json(letter.event),
            letter.token,
            letter.sat,
            letter.state,
            expiration(letter.event) or 0,
            now,
        ),
    )
    ledger.hold_on(connection, proofs, "reserved", letter.holder)


def known_on(connection: sqlite3.Connection, event_id: str, office: str) -> Letter | Receipt | None:
    """A letter to this office that has no answer yet; of one that has, what it was; None for any other."""
    row = connection.execute(
        "SELECT event, token, sat, mint, state, code, keep_until FROM outbox WHERE event_id = ? AND office = ?",
        (event_id, office),
    ).fetchone()
    if row is None:
        return None
    event, token, sat, mint, state, code, keep_until = row
    if state in ("drafted", "waiting"):
        return Letter(parse_event(event), office, token, sat, mint, state)
    accepted = state == "accepted"
    return Receipt(event_id, office, accepted, DUPLICATE if accepted else code, 0, keep_until if accepted else 0)


def answers_on(connection: sqlite3.Connection, event_id: str) -> list[Receipt]:
    """What offices have said to a letter, each."""
    offices = connection.execute("SELECT office FROM outbox WHERE event_id = ? ORDER BY office", (event_id,)).fetchall()
    known = [known_on(connection, event_id, office) for (office,) in offices]
    return [each for each in known if isinstance(each, Receipt)]


def join_on(connection: sqlite3.Connection, event_ids: Sequence[str], offices: Sequence[str], now: int) -> None:
    """Letters that wait for other offices alone go to these too, as the same events."""
    for id in event_ids:
        rows = connection.execute("SELECT office, event FROM outbox WHERE event_id = ?", (id,)).fetchall()
        content = next((event for _, event in rows if event is not None), None)
        if content is not None and not {office for office, _ in rows} & set(offices):
            for office in offices:
                write_letter_on(connection, Letter(parse_event(content), office, state="drafted"), [], now)


def draft_on(connection: sqlite3.Connection, event: Event, offices: Sequence[str], now: int) -> None:
    """A letter to these offices, where none of them has it or is to have it; one that they all refused begins anew."""
    known = [known_on(connection, event.id, office) for office in offices]
    if not any(isinstance(each, Letter) or (each is not None and each.accepted) for each in known):
        for office in offices:
            write_letter_on(connection, Letter(event, office, state="drafted"), [], now)


def waiting_on(connection: sqlite3.Connection, office: str) -> list[Letter]:
    """Letters to an office without an answer, the oldest first."""
    rows = connection.execute(
        "SELECT event, token, sat, mint, state FROM outbox WHERE office = ? AND state IN ('drafted', 'waiting')"
        " ORDER BY created_at, event_id",
        (office,),
    )
    return [Letter(parse_event(event), office, *rest) for event, *rest in rows]


def finish_on(connection: sqlite3.Connection, letter: Letter, state: str, code: str) -> None:
    """The answer is there. What the letter held is gone when it was accepted, else given back; so is its content."""
    if state == "accepted":
        ledger.drop_proofs_on(connection, ledger.held_on(connection, letter.holder))
    else:
        ledger.release_on(connection, letter.holder)
    connection.execute(
        "UPDATE outbox SET state = ?, code = ?, event = NULL, token = NULL WHERE event_id = ? AND office = ?",
        (state, code, letter.event.id, letter.office),
    )
    letters.follow_on(connection, letter.event.id)


def withdraw_on(connection: sqlite3.Connection, event_id: str, office: str) -> None:
    """Give up a draft: it was never stamped, and so never sent."""
    gone = connection.execute(
        "DELETE FROM outbox WHERE event_id = ? AND office = ? AND state = 'drafted'", (event_id, office)
    )
    if gone.rowcount:
        letters.follow_on(connection, event_id)


def drop_expired_on(connection: sqlite3.Connection, now: int) -> None:
    """Forget letters whose kept time is over; stamps of one that never had an answer are given back."""
    rows = connection.execute("SELECT event_id, office FROM outbox WHERE keep_until BETWEEN 1 AND ?", (now,)).fetchall()
    connection.execute(
        "UPDATE outbox SET state = 'refused' WHERE keep_until BETWEEN 1 AND ? AND state IN ('drafted', 'waiting')",
        (now,),
    )
    for id, office in rows:
        ledger.release_on(connection, f"{id} {office}")
        letters.follow_on(connection, id)
    connection.execute("DELETE FROM outbox WHERE keep_until BETWEEN 1 AND ?", (now,))
    letters.drop_letters_on(connection, now)
