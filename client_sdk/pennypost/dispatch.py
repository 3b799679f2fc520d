"""One call of `send`: its letters, drafted at every office at once, then sent to each by itself.

    the same call again? ─▶ go on with its letters        by key, or by text while on their way
    else ─▶ sealed ─▶ drafted: one transaction ─▶ Outbox of each office, side by side ─▶ Receipt
                                                     └─ does not answer: it gets the letter later

    post      one event whose caller has written it down himself: invitations, offers, requests, invoices, notices
    release   a held letter that was paid for, at each office that has it

A draft is there before anything is spent, so the same call after a crash finds the same events, and each office gets
the same stamp again. When nothing could be stamped at all, nothing was sent, and the drafts are gone with the error.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from pennypost import letters
from pennypost.exchange import Progress
from pennypost.letters import Note, Waiting
from pennypost.mail import DUPLICATE, Receipt, sum_offices, sum_up
from pennypost.outbox import (
    PASSING,
    PATIENCE,
    Letter,
    Outbox,
    answers_on,
    draft_on,
    join_on,
    withdraw_on,
    write_letter_on,
)
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
        open_relay: Callable[[str, int], Outbox],
    ) -> None:
        """`tell` is told, in a sentence, what became of letters of an earlier run; `under_way` are the ids of events
        that are being sent in this process, shared with the outboxes; `max_stamps` the most that a letter may cost, in
        sat, at all offices together. `open_relay` gives the outbox of an address that the person named for a letter,
        which may cost so many sat there.
        """
        self._outboxes, self._store, self._now, self._tell = outboxes, store, now, tell
        self._under_way, self._max_stamps, self._open_relay = under_way, max_stamps, open_relay
        self._flushed = False

    @property
    def urls(self) -> list[str]:
        """Addresses of the offices, the first one first."""
        return [each.url for each in self._outboxes]

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
        OnceUsed, what `seal` raises, and as Outbox.go_on where no office took the letter and none refused it.
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

    async def post(self, event: Event, patience: float = PATIENCE, on_progress: Progress | None = None) -> Receipt:
        """Send one event to every office; one that was posted before is not posted or paid again.

        Raises as Outbox.go_on where no office took it and none refused it.
        """
        self._under_way.add(event.id)
        try:
            if not self._flushed:
                await self._catch_up(min(patience, CATCH_UP))
            if len(self._outboxes) > 1 and not await self._store.run(begun_on, event.id):
                await self._afford([event])
            await self._store.run(draft_on, event, self.urls, self._now())
            return await self._deliver([event.id], patience, on_progress)
        finally:
            self._under_way.discard(event.id)

    async def post_also(self, event: Event, relays: Mapping[str, int]) -> list[Receipt]:
        """Send an event that the offices have to these addresses too, for so many sat each at most: a receipt for each.

        Nobody waits for a relay that does not answer: it gets the event with the next `flush`, and the same stamp.
        """
        self._under_way.add(event.id)
        outboxes = [self._open_relay(url, most) for url, most in relays.items()]
        enough = asyncio.Event()
        enough.set()
        try:
            await self._store.run(also_on, event, list(relays), self._now())
            done = await asyncio.gather(*(_tried(each.go_on(event.id, 0, None, enough)) for each in outboxes))
            failures = {
                (event.id, url): each
                for url, each in zip(relays, done, strict=True)
                if isinstance(each, PennypostError)
            }
            await self._store.run(_give_up_on, [event.id], failures)
            return [
                each if isinstance(each, Receipt) else Receipt(event.id, url, False, each.code, 0, 0)
                for url, each in zip(relays, done, strict=True)
                if each is not None
            ]
        finally:
            self._under_way.discard(event.id)
            for outbox in outboxes:
                await outbox.close()

    async def release(self, event_id: str) -> None:
        """Have every office that holds this letter show it; one that is away does so with the next `flush`.

        Raises the first failure where none has shown it now.
        """
        done = await asyncio.gather(*(_tried(each.release()) for each in self._outboxes))
        failure = next((each for each in done if isinstance(each, PennypostError)), None)
        if failure is not None and not any(event_id in each for each in done if isinstance(each, list)):
            raise failure

    async def known(self, event_id: str) -> Receipt:
        """What offices have said to an event that one of them has, as far as that is still remembered."""
        receipts = await self._store.run(answers_on, event_id)
        # A key is remembered longer than its letter is kept: nobody knows more then than that it was sent.
        return sum_offices(receipts) if receipts else Receipt(event_id, self._outboxes[0].url, True, DUPLICATE, 0, 0)

    async def price(self, events: Sequence[Event], relays: Sequence[str] = ()) -> Receipt:
        """What these letters would cost at all offices, and at `relays`, with the code `dry-run`.

        Nothing is reserved, written or sent. Raises where none of the offices tells its price.
        """
        outboxes = [self._open_relay(url, self._max_stamps) for url in relays]
        try:
            asked = [(await self._prices(event), await self._prices(event, outboxes)) for event in events]
            return sum_up([sum_offices([*own, *others]) for own, others in asked])
        finally:
            for outbox in outboxes:
                await outbox.close()

    async def flush(self, patience: float = PATIENCE) -> list[Receipt]:
        """Send what is in the outbox, and release what was paid for: the receipts of what has an answer now.

        What waits for a relay that its person named goes there too. Raises where nothing has an answer.
        """
        self._flushed = True
        named = await self._store.run(relays_on, self.urls)
        relays = [self._open_relay(url, self._max_stamps) for url in named]
        try:
            done = await asyncio.gather(*(_tried(each.flush(patience)) for each in (*self._outboxes, *relays)))
        finally:
            for each in relays:
                await each.close()
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

    async def _prices(self, event: Event, relays: Sequence[Outbox] | None = None) -> list[Receipt]:
        """What each office asks, or each of `relays`; raises where no office tells its price."""
        outboxes = self._outboxes if relays is None else relays
        done = await asyncio.gather(*(_tried(each.price(event)) for each in outboxes))
        failures = [each for each in done if isinstance(each, PennypostError)]
        if relays is None and len(failures) == len(done):
            raise failures[0]
        return [
            each if isinstance(each, Receipt) else Receipt(event.id, outbox.url, False, each.code, 0, 0)
            for outbox, each in zip(outboxes, done, strict=True)
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
        ]
        return sum_offices(receipts) if receipts else await self.known(id)


def begun_on(connection: sqlite3.Connection, event_id: str) -> bool:
    """Whether some office has an event, or is to have it: its price was agreed to then."""
    found = connection.execute("SELECT 1 FROM outbox WHERE event_id = ? AND state <> 'refused'", (event_id,))
    return found.fetchone() is not None


def also_on(connection: sqlite3.Connection, event: Event, relays: Sequence[str], now: int) -> None:
    """An event goes to these addresses too, which its person named; `flush` finds them again."""
    for url in relays:
        draft_on(connection, event, [url], now)
        connection.execute("INSERT INTO relays (url, named_at) VALUES (?, ?) ON CONFLICT (url) DO NOTHING", (url, now))


def relays_on(connection: sqlite3.Connection, offices: Sequence[str]) -> list[str]:
    """Addresses beside `offices` that somebody's letters wait for because he named them; others are forgotten."""
    waiting = "SELECT 1 FROM outbox o WHERE o.office = relays.url AND o.state IN ('drafted', 'waiting')"
    connection.execute(f"DELETE FROM relays WHERE NOT EXISTS ({waiting})")
    return [url for (url,) in connection.execute("SELECT url FROM relays ORDER BY url") if url not in offices]


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
