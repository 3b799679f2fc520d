"""Stamps of mints elsewhere, for one post office: the desks, the rows under way, what a crash left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from pennypost.protocol.errors import (
    Overloaded,
    StampError,
    StampLocked,
    StampRefused,
    StampTooLittle,
    StampWrongUnit,
)
from pennypost.protocol.token import Proof, parse_token, spending_condition
from pennypost_mint.runtime.limits import FOREIGN_WAITING, RECENT
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.foreign.desk import AGAIN, Desk
from pennypost_postoffice.foreign.exchange import TROUBLE, Courier, Exchange
from pennypost_postoffice.foreign.journal import MS, Entry, entries_on
from pennypost_postoffice.foreign.letter import kept_until, letter_of
from pennypost_postoffice.foreign.mint import UNIT, Mint
from pennypost_postoffice.post import ForeignStamp, Post, refusal
from pennypost_postoffice.stamps import mint_name

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

ADOPT_EVERY = 20.0
ADOPT_AFTER = 60.0
"""Seconds between two looks for rows that nobody works on, and after their last request when they count as such."""

MOST = (1 << 31) - 1
"""Sat of one stamp: its outputs' amounts fit their column, and no sum overflows."""

LAST_ORDERS = 5.0
"""Seconds that those who wait for a mint are given when the office closes."""

log = logger("foreign")


class Foreign:
    """What an office with PENNYPOST_MINT_URLS has beside its own stamps. `run` it, `close` it."""

    def __init__(self, office: Office, urls: Iterable[str], seed: bytes) -> None:
        self.office = office
        self.seed = seed
        self.desks = {mint_name(url): Desk(self, Mint(url)) for url in urls}
        self._by_url = {desk.mint.url: desk for desk in self.desks.values()}
        self._under_way: dict[bytes, Exchange] = {}
        self._spent: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        metrics = office.metrics
        metrics.office_foreign_waiting.set_function(lambda: sum(len(desk.queue) for desk in self.desks.values()))
        metrics.office_foreign_journal.set_function(lambda: len(self._under_way))
        metrics.office_foreign_journal_seconds.set_function(self._oldest)
        metrics.office_foreign_mints_away.set_function(lambda: sum(desk.is_away for desk in self.desks.values()))

    def read(self, token: object, price: int) -> ForeignStamp | None:
        """The cheap half of taking such a stamp; None for one of a mint that is not listed. `price` in sat.

        Keysets and fees are looked at later, at the desk. Raises StampMalformed, StampWrongUnit, StampLocked (also for
        a lock to this office: the mint would ask for a signature), StampTooLittle and StampRefused.
        """
        read = parse_token(token, max_proofs=self.office.settings.max_proofs)
        desk = self.desks.get(mint_name(read.mint))
        if desk is None:
            return None
        if read.unit != UNIT:
            raise StampWrongUnit
        if any(spending_condition(proof.secret) is not None for proof in read.proofs):
            raise StampLocked
        if read.amount > MOST:
            raise StampRefused("nobody sends a letter for so much")
        if read.amount < price:
            raise StampTooLittle(f"{price} sat are needed")
        return ForeignStamp(desk.mint.url, list(read.proofs), read.amount)

    def put(self, post: Post) -> None:
        """Takes a verified event with such a stamp; it is answered later, once."""
        assert post.foreign is not None
        desk = self._by_url[post.foreign.mint]
        if self.joined(post):
            return
        if len(desk.queue) >= FOREIGN_WAITING or self._closing:
            self.office.answer(post, refusal(Overloaded()))
            return
        desk.queue.put(post)

    def joined(self, post: Post) -> bool:
        """Whether its event is on its way here already: then it waits for the end of that."""
        exchange = self._under_way.get(post.id)
        if exchange is not None:
            exchange.join(post)
        return exchange is not None

    def follow(self, post: Post, event_id: bytes) -> None:
        """Waits until what this event has in hand is over."""
        exchange = self._under_way.get(event_id)
        if exchange is not None:
            exchange.join(post)
        else:
            self.later(post, AGAIN)

    def wait_for(self, post: Post) -> None:
        """An event that a commit left alone because a swap for it is under way, here or in another process."""
        self.follow(post, post.id)

    def later(self, post: Post, seconds: float) -> None:
        """Tries it again in a while."""
        asyncio.get_running_loop().call_later(seconds, self.again, post)

    def again(self, post: Post) -> None:
        """Tries it again."""
        if not self.office.unanswered([post]):
            return
        if post.foreign is not None:
            self.put(post)
        else:
            self.office.committer.put(post)

    def refuse(self, post: Post, error: StampError) -> None:
        """A stamp that is no good, and was not touched; the event may be stored all the same."""
        post.refusal, post.foreign = error, None
        self.office.verifier.put(post)

    def began(self, desk: Desk, entry: Entry, post: Post) -> Exchange:
        """A row was written for this event."""
        exchange = Exchange(self, desk, desk.swap(entry, fresh=True), post.postage.keep_until, replayed=False)
        exchange.join(post)
        self._add(desk, exchange)
        return exchange

    def ended(self, exchange: Exchange) -> None:
        """Its row is gone, or no business of ours."""
        del self._under_way[exchange.entry.event_id]
        self._by_url[exchange.entry.mint].counted(-1)

    def dropped(self, exchange: Exchange) -> None:
        """Nobody works on its row any more, which stays: it is adopted later."""
        if self._under_way.pop(exchange.entry.event_id, None) is not None:
            self._by_url[exchange.entry.mint].counted(-1)

    def remember_spent(self, secrets: Iterable[str]) -> None:
        """Stamps that their mint calls spent: it is not asked again for them."""
        self._spent |= dict.fromkeys(secrets)
        if len(self._spent) > RECENT:
            for each in list(islice(self._spent, RECENT // 4)):
                del self._spent[each]

    def knows_spent(self, proofs: Iterable[Proof]) -> bool:
        """Whether one of them is remembered as spent."""
        return any(proof.secret in self._spent for proof in proofs)

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(time.time() * MS)

    def post_of(self, entry: Entry) -> Post:
        """The event of a row, for its commit when nobody waits for it any more."""
        return letter_of(entry, Courier(None, 0), self.office.policy.prices)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside everything else; what goes wrong is logged, and the rows it had are adopted later."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def run(self) -> None:
        """Takes up what an earlier run left, serves every desk, and looks for rows that another process lost."""
        for desk in self.desks.values():
            self.spawn(desk.run())
        replayed = True
        while True:
            try:
                self._adopt(await self.office.database.read(entries_on), replayed=replayed)
                replayed = False
            except TROUBLE:
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(ADOPT_EVERY)

    def closing(self) -> None:
        """Takes no more; those who wait for a mint are answered soon."""
        self._closing = True
        asyncio.get_running_loop().call_later(LAST_ORDERS, self._close_desks)

    async def close(self) -> None:
        """Leaves the mints; rows that are not over are taken up at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for desk in self.desks.values():
            await desk.mint.close()

    def _adopt(self, entries: list[Entry], *, replayed: bool) -> None:
        lost = set[str]()
        for entry in entries:
            desk = self._by_url.get(entry.mint)
            if desk is None:
                lost.add(entry.mint)
            elif entry.event_id not in self._under_way and (replayed or self._is_left(entry)):
                until = kept_until(entry, self.office.policy.prices)
                exchange = Exchange(self, desk, desk.swap(entry, fresh=False), until, replayed=replayed)
                self._add(desk, exchange)
                self.spawn(exchange.persist())
        for url in sorted(lost):
            log.warning("letters wait for a mint that PENNYPOST_MINT_URLS does not name any more", mint=url)

    def _is_left(self, entry: Entry) -> bool:
        return self.now_ms() - entry.asked_at > ADOPT_AFTER * MS

    def _add(self, desk: Desk, exchange: Exchange) -> None:
        self._under_way[exchange.entry.event_id] = exchange
        desk.counted(1)

    def _oldest(self) -> float:
        return max((monotonic() - each.began for each in self._under_way.values()), default=0.0)

    def _close_desks(self) -> None:
        waiting = [post for desk in self.desks.values() for post in desk.queue.all()]
        waiting += [post for exchange in self._under_way.values() for post in exchange.waiting()]
        for post in waiting:
            self.office.answer(post, refusal(Overloaded("shutting down")))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # its kind and place: its text could hold a token
            from pennypost_postoffice.office import where

            log.error("a swap ended in an unforeseen way", error=where(error))
