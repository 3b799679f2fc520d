"""One letter whose stamp of a mint elsewhere is being swapped, and all who wait for what comes of it.

    row ▶ step ▶ step … ─┬─ Swapped ▶ paid ▶ commit ▶ accepted     ─┐
                         ├─ Refused ▶ row gone ▶ the refusal        ├─▶ those with the same stamp hear it,
                         ├─ Untouched, Gone ▶ row gone              ─┘   the others are tried on their own
                         └─ Unknown ▶ later, as long as it takes; each sender is told to try again after HELD_BACK

While somebody waits, or after a start, the mint is asked for the swap; afterwards only what became of it: nobody's
stamp is taken who was told long ago that it was not.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from pennypost.protocol.errors import (
    DatabaseUnavailable,
    Overloaded,
    PennypostError,
    StampRefused,
    StampSpent,
    StampTooLittle,
    StampUnknownKeyset,
    WorkerFailed,
)
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.foreign.journal import Entry, Paid, drop_on, end_on, renew_on
from pennypost_postoffice.foreign.line import Nonsense, Refusal, Unanswered
from pennypost_postoffice.foreign.mint import fee, split
from pennypost_postoffice.foreign.swap import Gone, Outdated, Refused, Swap, Swapped, Unknown, Untouched
from pennypost_postoffice.post import Answer, Post, Sender, refusal, stored

if TYPE_CHECKING:
    from pennypost_postoffice.foreign.desk import Desk
    from pennypost_postoffice.foreign.service import Foreign

PAUSE = (0.5, 8.0, 60.0)
"""Seconds between two steps: the first, the longest while somebody waits, the longest when nobody does."""

RENEWALS = 12
"""Times that other outputs are tried. Each skips twice as many numbers: a book from an old backup catches up."""

TROUBLE = (DatabaseUnavailable, Overloaded, WorkerFailed)

log = logger("foreign")


class Exchange:
    """One row of the journal in this process. `keep_until` of its event in Unix seconds; None: the treasury's own."""

    def __init__(self, foreign: Foreign, desk: Desk, swap: Swap, keep_until: int | None, *, replayed: bool) -> None:
        self._foreign, self._office, self._desk, self._swap = foreign, foreign.office, desk, swap
        self._keep_until = keep_until
        self._replayed = replayed
        self._secrets = {each.secret for each in swap.entry.inputs}
        self._listeners: list[Post] = []
        self._followers: list[Post] = []
        self._news = asyncio.Event()
        self._renewed = 0
        self.began = monotonic()

    @property
    def entry(self) -> Entry:
        """The row as this process knows it."""
        return self._swap.entry

    def join(self, post: Post) -> None:
        """Somebody waits for the end: with the same stamp for its answer, with another to be tried afterwards."""
        given = {proof.secret for proof in post.foreign.proofs} if post.foreign else set[str]()
        own = post.id == self.entry.event_id and given == self._secrets
        (self._listeners if own else self._followers).append(post)
        self._news.set()

    def waiting(self) -> list[Post]:
        """Those who have no answer yet."""
        self._listeners = self._office.unanswered(self._listeners)
        self._followers = self._office.unanswered(self._followers)
        return self._listeners + self._followers

    async def persist(self) -> None:
        """Steps until it is over; when something unforeseen ends it first, the row is adopted later."""
        try:
            await self._persist()
        except BaseException:
            self._foreign.dropped(self)
            raise

    async def _persist(self) -> None:
        pause = PAUSE[0]
        while True:
            async with self._desk.turn():
                if await self.step():
                    return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), pause)
                pause = PAUSE[0]
            except TimeoutError:
                pause = min(2 * pause, PAUSE[1] if self.waiting() else PAUSE[2])

    async def step(self) -> bool:
        """Asks the mint once; whether it is over. Repeating it is always safe."""
        try:
            return await self._step()
        except TROUBLE:
            return False

    async def _step(self) -> bool:
        outcome = await self._swap.attempt(forward=self._is_wanted())
        if isinstance(outcome, Unknown):
            if outcome.away:
                self._desk.away()
            else:
                self._replayed = False
            return False
        self._desk.answered()
        self._replayed = False
        match outcome:
            case Swapped():
                await self._store(Paid(self.entry, outcome.earned))
            case Outdated():
                return await self._renew()
            case Refused():
                await self._refuse(outcome.error)
            case Untouched():
                if await self._office.database.write(drop_on, self.entry):
                    log.info("a stamp of a mint elsewhere was left alone", mint=self.entry.mint)
                    self._spare()
                self._over()
            case Gone():
                self._over()
        return True

    def _is_wanted(self) -> bool:
        if self._keep_until is None:
            return True
        return (self._replayed or bool(self.waiting())) and self._keep_until > self._office.now()

    async def _renew(self) -> bool:
        """Other outputs: the mint signs with another keyset now, or asks another fee."""
        mint, entry = self._desk.mint, self.entry
        self._renewed += 1
        try:
            listed = await mint.keysets(within=0.0)
            active = await mint.active(self._office.now())
            if any(each.keyset not in listed for each in entry.inputs):
                await self._refuse(StampUnknownKeyset())
                return True
            arrives = sum(each.amount for each in entry.inputs) - fee([listed[each.keyset] for each in entry.inputs])
            price = max([post.postage.sat for post in self._office.unanswered(self._listeners)], default=1)
            if arrives < price:
                await self._refuse(StampTooLittle(f"{price} sat are needed after the mint's fee"))
                return True
            amounts = tuple(split(arrives, await mint.keys(active.id)))
        except (Unanswered, Nonsense, Refusal):
            return False
        if self._renewed > RENEWALS:
            await self._refuse(StampRefused())
            return True
        now_ms = self._foreign.now_ms()
        renewed = await self._office.database.write(renew_on, entry, active.id, amounts, 1 << self._renewed, now_ms)
        if renewed is None:
            self._over()
            return True
        self._swap.entry = renewed
        return await self._step()

    async def _refuse(self, error: PennypostError) -> None:
        if await self._office.database.write(drop_on, self.entry):
            self._spare()
            if isinstance(error, StampSpent):
                self._foreign.remember_spent(self._secrets)
            for post in self._listeners:
                self._office.answer(post, refusal(error))
            self._listeners = []
        self._over()

    def _spare(self) -> None:
        """Its outputs were not signed, and will not be; those of a renewed row may have been, long ago."""
        if not self._renewed:
            self._desk.spare(self.entry.keyset, len(self.entry.amounts), self.entry.counter)

    async def _store(self, paid: Paid) -> None:
        """The event and our proofs, in one transaction; as often as it takes."""
        if paid.entry.body is None:
            await self._office.database.write(end_on, [paid], self._office.now())
            self._over()
            return
        pause = PAUSE[0]
        while (answer := await self._commit(paid)) is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE[1])
        self._office.metrics.office_foreign_sat.inc(paid.sat)
        for post in self._listeners:
            self._office.answer(post, answer)
        self._listeners = []
        self._over()

    async def _commit(self, paid: Paid) -> Answer | None:
        """The final answer to a paid event, which one who waits hears first; None when it has to be tried again."""
        waiting = self._office.unanswered(self._listeners)
        post = waiting[0] if waiting else self._foreign.post_of(paid.entry)
        courier = Courier(post.sender if waiting else None, post.postage.keep_until)
        post.sender = courier
        post.pay(paid)
        if not waiting:
            self._office.took(post)
        self._office.committer.put(post)
        return await courier.heard

    def _over(self) -> None:
        """It is nobody's any more: those who still wait are tried on their own."""
        self._foreign.ended(self)
        for post in self.waiting():
            self._foreign.again(post)


class Courier:
    """The sender of a paid event: says what its commit answered, to the one who waits and to the exchange.

    Its row was written while the event was welcome. Deleted, replaced or over since then, it was accepted all the same.
    """

    source = b""
    rate_key: object = "foreign"

    def __init__(self, sender: Sender | None, keep_until: int) -> None:
        self._sender, self._keep_until = sender, keep_until
        self.origin = sender.origin if sender else ""
        self.authenticated = sender.authenticated if sender else set[str]()
        self.heard: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def took(self) -> None:
        """Nobody counts it: it was counted when it came."""

    def answered(self, post: Post, answer: Answer) -> None:
        """The commit's answer, or that of whoever grew tired of waiting."""
        failed = answer.status >= 500
        if not answer.accepted and not failed:
            answer = stored(self._keep_until, None)
        if self._sender is not None:
            self._sender.answered(post, answer)
        if not self.heard.done():
            self.heard.set_result(None if failed else answer)
