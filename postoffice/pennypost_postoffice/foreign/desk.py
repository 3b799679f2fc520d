"""Where letters with stamps of one mint elsewhere wait: fair between senders, bounded, a few at the mint at once.

    put ▶ Queue ▶ a turn ▶ quote ▶ begin_on ▶ step ─┬─ over
                                                    └─ not known yet ▶ Exchange.persist, beside the others

A mint that does not answer is left alone for a while: nothing new is written down for it, and whoever waits is told
after HELD_BACK to try again, with a stamp that nobody has touched.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from pennypost.protocol import bdhke
from pennypost.protocol.errors import (
    Overloaded,
    StampError,
    StampSpent,
    StampTooLittle,
    StampUnknownKeyset,
    StampWrongUnit,
)
from pennypost_mint.runtime.limits import FOREIGN_AT_ONCE, FOREIGN_ROWS
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.foreign.closed import was_closed_on
from pennypost_postoffice.foreign.exchange import TROUBLE, Exchange
from pennypost_postoffice.foreign.journal import Begin, Entry, Input, Order, StampInUse, begin_on
from pennypost_postoffice.foreign.line import Nonsense, Refusal, Unanswered
from pennypost_postoffice.foreign.mint import UNIT, Mint, fee, split
from pennypost_postoffice.foreign.swap import Swap
from pennypost_postoffice.post import Post

if TYPE_CHECKING:
    from pennypost_postoffice.foreign.service import Foreign

BACK = (1.0, 30.0)
"""Seconds that a mint which does not answer is left alone: at first, and at most."""

AGAIN = 0.3
"""Seconds before a letter is looked at again that another transaction, or another process, has in hand."""

log = logger("foreign")


class Queue:
    """Letters that wait, one of each sender in turn."""

    def __init__(self) -> None:
        self._lines: OrderedDict[object, deque[Post]] = OrderedDict()
        self._some = asyncio.Event()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, post: Post) -> None:
        """Behind the others of its sender."""
        sender = post.sender
        key = sender.source if sender.rate_key is None else sender.rate_key
        self._lines.setdefault(key, deque()).append(post)
        self._count += 1
        self._some.set()

    async def take(self) -> Post:
        """The next one; waits for it."""
        while not self._lines:
            self._some.clear()
            await self._some.wait()
        key, line = self._lines.popitem(last=False)
        post = line.popleft()
        self._count -= 1
        if line:
            self._lines[key] = line
        return post

    def all(self) -> list[Post]:
        """Everything that waits."""
        return [post for line in self._lines.values() for post in line]


class Desk:
    """One mint of PENNYPOST_MINT_URLS in this process."""

    def __init__(self, foreign: Foreign, mint: Mint) -> None:
        self.mint = mint
        self.queue = Queue()
        self.rows = 0
        """Rows of the journal that this process works on."""
        self._foreign, self._office = foreign, foreign.office
        self._slots = asyncio.Semaphore(FOREIGN_AT_ONCE)
        self._spare: dict[tuple[str, int], list[int]] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._back_at = 0.0
        self._pause = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the mint did not answer the last question."""
        return self._pause > 0

    def away(self) -> None:
        """The mint could not be reached."""
        if monotonic() < self._back_at:
            # others were under way when the first one failed: it is one silence, not as many
            return
        if not self._pause:
            log.warning("a mint elsewhere does not answer", mint=self.mint.url)
        self._pause = min(max(BACK[0], 2 * self._pause), BACK[1])
        self._back_at = monotonic() + self._pause

    def answered(self) -> None:
        """The mint answered."""
        if self._pause:
            log.info("a mint elsewhere answers again", mint=self.mint.url)
        self._pause = self._back_at = 0.0

    def spare(self, keyset: str, count: int, counter: int) -> None:
        """`count` output numbers from `counter` on are free again: bad stamps leave no gaps for a restore to cross."""
        self._spare.setdefault((keyset, count), []).append(counter)

    def counted(self, change: int) -> None:
        """A row more, or one less."""
        self.rows += change
        if self.rows < FOREIGN_ROWS:
            self._room.set()
        else:
            self._room.clear()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of the few that may ask the mint at once, while it answers."""
        await self._enter()
        try:
            yield
        finally:
            self._slots.release()

    async def _enter(self) -> None:
        while True:
            await self._slots.acquire()
            if (pause := self._back_at - monotonic()) <= 0:
                return
            self._slots.release()
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """Serves whoever waits until it is cancelled."""
        while True:
            # nobody is taken out of the queue before he can be served: those who wait there are in turn
            await self._room.wait()
            await self._enter()
            self._foreign.spawn(self._serve(await self.queue.take()))

    async def _serve(self, post: Post) -> None:
        """Has a turn already, and gives it back."""
        exchange: Exchange | None = None
        try:
            exchange = await self._begin(post)
            over = exchange is None or await exchange.step()
        except BaseException:
            if exchange is not None:
                self._foreign.dropped(exchange)
            raise
        finally:
            self._slots.release()
        if exchange is not None and not over:
            await exchange.persist()

    async def _begin(self, post: Post) -> Exchange | None:
        """Its row; None when it is on another way already."""
        if not self._office.unanswered([post]) or self._foreign.joined(post):
            return None
        order: Order | None = None
        begun: Entry | Begin | None = None
        try:
            order = await self._order(post)
            begun = await self._office.database.write(begin_on, post, order, self._foreign.now_ms())
        except StampError as error:
            self._foreign.refuse(post, error)
        except (Unanswered, Nonsense, Refusal) as error:
            if isinstance(error, Nonsense):
                log.warning("a mint elsewhere misbehaves", mint=self.mint.url, reason=str(error))
            self.away()
            self._foreign.later(post, AGAIN)
        except StampInUse as error:
            self._foreign.follow(post, error.event_id)
        except IntegrityError:
            self._foreign.later(post, AGAIN)
        except TROUBLE:
            # it may be written all the same, with these numbers
            order = None
            self._foreign.later(post, AGAIN)
        else:
            if isinstance(begun, Entry):
                return self._foreign.began(self, begun, post)
            if begun is Begin.DECIDED:
                # by what is stored; should that change in this instant, its sender shall come again
                post.refusal, post.foreign = Overloaded(), None
                self._office.committer.put(post)
            else:
                self._foreign.later(post, AGAIN)
        finally:
            if order is not None and order.counter is not None and not isinstance(begun, Entry):
                self.spare(order.keyset, len(order.amounts), order.counter)
        return None

    async def _order(self, post: Post) -> Order:
        """What the stamp is swapped for. Raises StampError, what `Mint` raises, and TROUBLE.

        A stamp that is remembered as spent may have been taken for a swap of this very event that was closed.
        """
        stamp, now = post.foreign, self._office.now()
        assert stamp is not None
        spent = self._foreign.knows_spent(stamp.proofs)
        if spent and not await self._office.database.read(was_closed_on, post.id):
            raise StampSpent
        keysets = [await self.mint.find(proof.id) for proof in stamp.proofs]
        for keyset in keysets:
            if keyset.unit != UNIT:
                raise StampWrongUnit
            if keyset.expired(now):
                raise StampUnknownKeyset("it has expired")
        arrives = stamp.sat - fee(keysets)
        if arrives < post.postage.sat:
            raise StampTooLittle(f"{post.postage.sat} sat are needed after the mint's fee")
        active = await self.mint.active(now)
        amounts = split(arrives, await self.mint.keys(active.id))
        inputs = [
            Input(bdhke.hash_to_curve(each.secret.encode()), keyset.id, each.amount, each.secret, bytes.fromhex(each.C))
            for each, keyset in zip(stamp.proofs, keysets, strict=True)
        ]
        spare = self._spare.get((active.id, len(amounts)))
        return Order(self.mint.url, active.id, tuple(amounts), tuple(inputs), spare.pop() if spare else None)

    def swap(self, entry: Entry, *, fresh: bool) -> Swap:
        """The decision about one row."""
        office = self._office
        return Swap(entry, self.mint, office.database, office.workers.run, self._foreign.seed, fresh=fresh)
