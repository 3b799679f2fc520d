"""Who wants to know of which quotes and proofs, and tells them (NUT-17).

    subscribed now ──────────────┐
    committed in this process ───┼─▶ due ─▶ one look into the database ─▶ whoever was told something else before
    a slice of all, every second ┘

A state is told as it is read, after the commit, so it is true whichever process made it, and it is told once. What was
committed here is told at once; what another process committed, or anything that was not reported, when its turn comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.answers import ProofState
from pennypost.protocol.errors import DatabaseUnavailable, TooManySubscriptions
from pennypost.protocol.subscription import Kind, Subscribe, notification
from pennypost_mint.info import quote_answer
from pennypost_mint.quotes import Quote, quotes_on
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.limits import MAX_WATCHED
from pennypost_mint.runtime.logs import logger
from pennypost_mint.spend import witnesses_on

EVERY = 1.0
"""Seconds between two looks at what nobody reported."""

SLICE = 5_000
"""Most quotes and proofs of one such look; past it they take turns."""

LOOK = 2_000
"""Most of one statement, so that no reader of the database waits long behind it."""

Key = str | bytes
"""A quote's id, or a proof's Y (33 bytes)."""

log = logger("watch")


class Told(NamedTuple):
    """What a subscriber knows of one object; whatever differs from it is news."""

    state: str
    paid: int = 0
    issued: int = 0


class Subscription:
    """One subscription of one connection: `tell` takes each notification as text."""

    __slots__ = ("keys", "name", "tell", "told")

    def __init__(self, command: Subscribe, tell: Callable[[str], None]) -> None:
        self.name = command.name
        self.tell = tell
        self.keys: dict[Key, str] = (
            {each: each for each in command.filters}
            if command.kind is Kind.MINT_QUOTE
            else {bytes.fromhex(each): each for each in command.filters}
        )
        """Each object as it was written in the filter."""
        self.told: dict[Key, Told] = {}


class Watch:
    """The subscriptions of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched: dict[Key, dict[Subscription, None]] = {}
        self._size = 0
        self._due: dict[Key, None] = {}
        self._news = asyncio.Event()

    @property
    def size(self) -> int:
        """Objects under watch, each counted once for each subscription."""
        return self._size

    def add(self, subscription: Subscription) -> None:
        """The current state of all it names is told soon, and every change from now on. Raises TooManySubscriptions."""
        if self._size + len(subscription.keys) > MAX_WATCHED:
            raise TooManySubscriptions("this mint watches as much as it can")
        for key in subscription.keys:
            self._watched.setdefault(key, {})[subscription] = None
        self._size += len(subscription.keys)
        self.changed(subscription.keys)

    def remove(self, subscription: Subscription) -> None:
        """Nothing is told any more; safe to repeat."""
        for key in subscription.keys:
            there = self._watched.get(key)
            if there is not None and subscription in there:
                del there[subscription]
                self._size -= 1
                if not there:
                    del self._watched[key]

    def changed(self, keys: Iterable[Key]) -> None:
        """A transaction of this process that changed these was committed."""
        if not self._watched:
            return
        due = [key for key in keys if key in self._watched]
        if due:
            self._due.update(dict.fromkeys(due))
            self._news.set()

    async def run(self) -> None:
        """Tells until it is cancelled."""
        next_round = monotonic() + EVERY
        while True:
            await self._wait(next_round)
            if monotonic() >= next_round:
                next_round = monotonic() + EVERY
                self._due.update(self._next_slice())
            try:
                while self._due:
                    await self._look()
            except DatabaseUnavailable:
                log.warning("subscribers wait for the database")
                await asyncio.sleep(EVERY)

    async def _wait(self, until: float) -> None:
        """Until something is due, or it is time to look at what is watched."""
        self._news.clear()
        if self._due:
            return
        try:
            async with asyncio.timeout(max(0.0, until - monotonic()) if self._watched else None):
                await self._news.wait()
        except TimeoutError:
            return

    def _next_slice(self) -> dict[Key, None]:
        """What was not looked at for longest; it goes to the end of the line."""
        keys = list(islice(self._watched, SLICE))
        for key in keys:
            self._watched[key] = self._watched.pop(key)
        return dict.fromkeys(keys)

    async def _look(self) -> None:
        keys = list(islice(self._due, LOOK))
        # Taken out before the look: what changes while it is under way is due again.
        for key in keys:
            del self._due[key]
        try:
            quotes, spent = await self._database.read(
                _states_on,
                [key for key in keys if isinstance(key, str)],
                [key for key in keys if isinstance(key, bytes)],
            )
        except DatabaseUnavailable:
            self._due.update(dict.fromkeys(keys))
            raise
        for key in keys:
            if isinstance(key, bytes):
                self._tell_proof(key, spent)
            elif key in quotes:
                self._tell_quote(quotes[key])

    def _tell_quote(self, quote: Quote) -> None:
        answer = quote_answer(quote)
        for subscription in self._behind(quote.id, Told(quote.wire_state, quote.amount_paid, quote.amount_issued)):
            subscription.tell(notification(subscription.name, answer))

    def _tell_proof(self, y: bytes, spent: dict[bytes, str | None]) -> None:
        state = "SPENT" if y in spent else "UNSPENT"
        for subscription in self._behind(y, Told(state)):
            answer = ProofState(subscription.keys[y], state, spent.get(y))
            subscription.tell(notification(subscription.name, answer))
        if y in spent:
            self._forget(y)

    def _behind(self, key: Key, told: Told) -> list[Subscription]:
        """Those who know something else; from now on they know this."""
        behind = [each for each in self._watched.get(key, ()) if each.told.get(key) != told]
        for subscription in behind:
            subscription.told[key] = told
        return behind

    def _forget(self, y: bytes) -> None:
        """A spent proof stays spent."""
        self._size -= len(self._watched.pop(y, ()))


def _states_on(
    connection: Connection, ids: list[str], ys: list[bytes]
) -> tuple[dict[str, Quote], dict[bytes, str | None]]:
    return {quote.id: quote for quote in quotes_on(connection, ids)}, witnesses_on(connection, ys)
