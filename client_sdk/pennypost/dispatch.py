"""One call of `send`: its letters, drafted at every office at once, then sent to each by itself.

    the same call again? ─▶ go on with its letters        by key, or by text while on their way
    else ─▶ sealed ─▶ drafted: one transaction ─▶ Outbox of each office, side by side ─▶ Receipt
                                                     └─ does not answer: it gets the letter later

A draft is there before anything is spent, so the same call after a crash finds the same events, and each office gets
the same stamp again. When nothing could be stamped at all, nothing was sent, and the drafts are gone with the error.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from pennypost import letters
from pennypost.exchange import Progress
from pennypost.letters import Note, Waiting
from pennypost.mail import DUPLICATE, Receipt, sum_offices, sum_up
from pennypost.outbox import PASSING, PATIENCE, Letter, Outbox, answers_on, join_on, withdraw_on, write_letter_on
from pennypost.protocol.errors import InvalidInput, PennypostError, PriceTooHigh
from pennypost.protocol.event import Event
from pennypost.store import Store

CATCH_UP: Final = 10.0
"""Seconds that letters of an earlier run may hold up a new one."""
T = TypeVar("T")

JITTER: Final = 3_600.0
"""Seconds that a letter may be held back at most, to blur its time."""


class Dispatch:
    """Sends the letters of one home to its offices."""

    def __init__(
        self,
        outboxes: Sequence[Outbox],
        store: Store,
        now: Callable[[], int],
        tell: Callable[[str], None],
        under_way: set[str],
        max_stamps: int,
    ) -> None:
        """`tell` is told, in a sentence, what became of letters of an earlier run; `under_way` are the ids of events
        that are being sent in this process, shared with the outboxes; `max_stamps` the most that a letter may cost, in
        sat, at all offices together.
        """
        self._outboxes, self._store, self._now, self._tell = outboxes, store, now, tell
        self._under_way, self._max_stamps = under_way, max_stamps
        self._flushed = False

    async def send(
        self,
        note: Note,
        seal: Callable[[], Awaitable[list[Event]]],
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
        jitter: float = 0.0,
    ) -> Receipt:
        """Send what `seal` makes, once for each `note`: a call that was begun before is gone on with.

        A new one is sealed after up to `jitter` seconds, so that its time is that of sending. Raises InvalidInput,
        OnceUsed, what `seal` raises, and as Outbox.send where no office took the letter and none refused it.
        """
        if not 0 <= jitter <= JITTER:
            raise InvalidInput("a letter waits for an hour at most")
        ids = await self._store.run(letters.known_on, note, frozenset(self._under_way))
        begun, own = bool(ids), set(ids)
        self._under_way |= own
        try:
            if not self._flushed:
                await self._catch_up(min(patience, CATCH_UP))
            if not begun:
                if jitter:
                    await asyncio.sleep(random.SystemRandom().uniform(0, jitter))
                events = await seal()
                await self._afford(events)
                own.update(each.id for each in events)
                self._under_way |= own
                ids = await self._draft(note, events)
            else:
                await self._store.run(join_on, ids, [each.url for each in self._outboxes], self._now())
            if begun and note.once is None:
                self._tell("This letter was still in the outbox: it goes on, and no other is sent.")
            return await self._deliver(ids, patience, on_progress)
        finally:
            self._under_way -= own

    async def price(self, events: Sequence[Event]) -> Receipt:
        """What these letters would cost at all offices, with the code `dry-run`; raises where none tells its price."""
        return sum_up([sum_offices(await self._prices(event)) for event in events])

    async def flush(self, patience: float = PATIENCE) -> list[Receipt]:
        """Send what is in the outbox: the receipts of what has an answer now. Raises where nothing has one."""
        self._flushed = True
        done = await asyncio.gather(*(_tried(each.flush(patience)) for each in self._outboxes))
        receipts = [receipt for each in done if isinstance(each, list) for receipt in each]
        failure = next((each for each in done if isinstance(each, PennypostError)), None)
        if failure is not None and not receipts:
            raise failure
        left = sum(each.event_id not in self._under_way for each in await self.waiting())
        if left:
            self._tell(f"Still in the outbox: {left}.")
        return receipts

    async def waiting(self) -> list[Waiting]:
        """What is in the outbox, the oldest first."""
        return await self._store.run(letters.outbox_on)

    async def _catch_up(self, patience: float) -> None:
        """Send what an earlier run left; where that does not succeed, it must not hold up what is sent now."""
        try:
            receipts = await self.flush(patience)
        except PennypostError as error:
            self._tell(f"A letter of an earlier run is still waiting: {error}.")
            return
        for receipt in receipts:
            self._tell(f"A letter of an earlier run has its answer now: {receipt.code} ({receipt.event_id}).")

    async def _prices(self, event: Event) -> list[Receipt]:
        done = await asyncio.gather(*(_tried(each.price(event)) for each in self._outboxes))
        failures = [each for each in done if isinstance(each, PennypostError)]
        if len(failures) == len(done):
            raise failures[0]
        return [
            each if isinstance(each, Receipt) else Receipt(event.id, outbox.url, False, each.code, 0, 0)
            for outbox, each in zip(self._outboxes, done, strict=True)
        ]

    async def _afford(self, events: Sequence[Event]) -> None:
        """Raises PriceTooHigh where the offices together ask more than our limit for one letter."""
        if len(self._outboxes) > 1:
            for event in events:
                if sum(each.stamps for each in await self._prices(event)) > self._max_stamps:
                    raise PriceTooHigh

    async def _draft(self, note: Note, events: Sequence[Event]) -> list[str]:
        """The ids of the letters, written down; those of another call with the same key, where it was faster."""

        def draft_on(connection: sqlite3.Connection) -> list[str]:
            known = [] if note.once is None else letters.known_on(connection, note)
            if known:
                return known
            letters.add_letters_on(connection, note, events, self._now())
            for event in events:
                for outbox in self._outboxes:
                    write_letter_on(connection, Letter(event, outbox.url, state="drafted"), [], self._now())
            return [each.id for each in events]

        return await self._store.run(draft_on)

    async def _deliver(self, ids: Sequence[str], patience: float, on_progress: Progress | None) -> Receipt:
        places = [(id, outbox) for id in ids for outbox in self._outboxes]
        enough = {id: asyncio.Event() for id in ids}

        async def one(id: str, outbox: Outbox) -> Receipt | PennypostError | None:
            done = await _tried(outbox.go_on(id, patience, on_progress, enough[id]))
            if isinstance(done, Receipt) and done.accepted:
                enough[id].set()
            return done

        done = await asyncio.gather(*(one(id, outbox) for id, outbox in places))
        found = dict(zip(((id, outbox.url) for id, outbox in places), done, strict=True))
        failures = {place: each for place, each in found.items() if isinstance(each, PennypostError)}
        if failures:
            kept = await self._store.run(_give_up_on, ids, failures)
            if not any(isinstance(each, Receipt) for each in done):
                # What waits with its stamp says so; any other error means that nothing was sent.
                raise next((error for (id, _), error in failures.items() if id in kept), next(iter(failures.values())))
        return sum_up(
            [await self._sum(id, [(url, each) for (one, url), each in found.items() if one == id]) for id in ids]
        )

    async def _sum(self, id: str, found: Sequence[tuple[str, Receipt | PennypostError | None]]) -> Receipt:
        receipts = [
            each if isinstance(each, Receipt) else Receipt(id, url, False, each.code, 0, 0)
            for url, each in found
            if each is not None
        ] or await self._store.run(answers_on, id)
        # With a key that is remembered longer than its letter was kept, nobody knows more than that it was sent.
        return sum_offices(receipts) if receipts else Receipt(id, self._outboxes[0].url, True, DUPLICATE, 0, 0)


def _give_up_on(
    connection: sqlite3.Connection, ids: Sequence[str], failures: dict[tuple[str, str], PennypostError]
) -> set[str]:
    """Drafts that failed for good are gone; all are, of letters that no office has or may have. Ids of the others."""
    sent = {
        id
        for id in ids
        if connection.execute(
            "SELECT 1 FROM outbox WHERE event_id = ? AND state IN ('waiting', 'accepted')", (id,)
        ).fetchone()
    }
    for (id, office), error in failures.items():
        if id not in sent or not isinstance(error, PASSING):
            withdraw_on(connection, id, office)
    return sent


async def _tried(work: Awaitable[T]) -> T | PennypostError:
    try:
        return await work
    except PennypostError as error:
        return error
