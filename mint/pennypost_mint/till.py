"""Listens to the Lightning node: every payment is credited, once, whenever it is heard of.

    stream of settled invoices ─┐
    a wallet asks for its quote ─┼─▶ credit_on (one transaction, with the stream's position)
    every minute, and at start  ─┘

None of the three is trusted alone: the stream misses what was paid before its first position or before the
quote's row was committed, wallets stop asking, and the round comes once a minute.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import DatabaseUnavailable, LightningUnavailable, PennypostError
from pennypost_mint.lightning import Lightning, Progress, Receipt
from pennypost_mint.quotes import Quote, State, credit_on, lapse_on, open_quotes_on, quote_of_on, quote_on
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.tables import lightning_cursors

EVERY = 60.0
"""Seconds between two rounds over the open quotes."""

PAGE = 1_000
"""Open quotes that a round reads at a time; it ends when EVERY is over, and the next goes on where it stopped."""

STILL = 3_600
"""Seconds after its invoice expired until a quote lapses whose node still calls it open: some never say more."""

GIVE_UP = 4
"""Look-ups in a row without an answer before that part of a round ends."""

AT_ONCE = 8
"""Look-ups of a round under way at once, so that wallets' requests find the node free."""

ASK_AGAIN = 3.0
"""Seconds before a wallet that asks for its unpaid quote makes us ask the node again."""

ASK_SECONDS = 3.0
"""Longest a wallet waits for that; then it gets what is known."""

ASKING = 32
"""Most of such look-ups under way; past it wallets get what is known."""

REMEMBERED = 10_000
BACK_OFF = (1.0, 60.0)
"""First and longest pause after the stream broke; it doubles in between."""

log = logger("till")

_c = lightning_cursors.c


class Till:
    """Moves payments from the node into the quotes."""

    def __init__(
        self,
        database: Database,
        lightning: Lightning,
        metrics: Metrics,
        changed: Callable[[Iterable[str]], None] = lambda _quotes: None,
    ) -> None:
        """`changed` is told the ids of quotes whose payment was credited, after the commit."""
        self._changed = changed
        self._database = database
        self._lightning = lightning
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._asking = 0
        self._round_due = asyncio.Event()
        self._after = (0, "")

    def start(self) -> None:
        """Starts listening in the background."""
        self._tasks = [
            asyncio.create_task(self._forever(self._follow)),
            asyncio.create_task(self._forever(self._rounds)),
        ]

    async def stop(self) -> None:
        """Ends it; a transaction under way is finished by the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def refresh(self, quote: Quote) -> Quote:
        """The quote after asking the node, unless that was done a moment ago or the node is slow."""
        if quote.state not in (State.UNPAID, State.LAPSED):
            return quote
        now = time.monotonic()
        if now - self._asked.get(quote.id, -ASK_AGAIN) < ASK_AGAIN or self._asking >= ASKING:
            return quote
        self._asked[quote.id] = now
        self._asked.move_to_end(quote.id)
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        self._asking += 1
        try:
            async with asyncio.timeout(ASK_SECONDS):
                receipt = await self._lightning.look_up(quote.payment_hash)
        except (LightningUnavailable, TimeoutError):
            return quote
        finally:
            self._asking -= 1
        if receipt.progress is not Progress.SETTLED:
            return quote
        await self._credit(receipt)
        return await self._database.read(quote_on, quote.id) or quote

    async def settle(self, quote: Quote) -> tuple[Receipt, int]:
        """What the node says of a quote's invoice, and the sat credited now; what cannot be paid any more lapses.

        A lapsed one is looked up when its wallet asks, and credited whenever its payment is heard of.
        Raises LightningUnavailable.
        """
        receipt = await self._lightning.look_up(quote.payment_hash)
        if receipt.progress is Progress.SETTLED:
            return receipt, await self._credit(receipt)
        over = quote.expiry + (0 if receipt.progress is Progress.LOST else STILL)
        if quote.state == State.UNPAID and time.time() > over:
            await self._database.write(lapse_on, quote.id, int(time.time()))
        return receipt, 0

    async def reconcile(self) -> int:
        """One round over open quotes, as far as it comes in EVERY seconds; returns how many were credited.

        Raises LightningUnavailable when the node answered nothing.
        """
        end = time.monotonic() + EVERY
        credited = 0
        while True:
            quotes = await self._database.read(open_quotes_on, self._after, PAGE)
            self._after = (quotes[-1].created_at, quotes[-1].id) if len(quotes) == PAGE else (0, "")
            queue = iter(quotes)
            results = await asyncio.gather(*(self._work_off(queue) for _ in range(AT_ONCE)), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            done = [result for result in results if isinstance(result, tuple)]
            if quotes and not sum(answered for _, answered in done):
                raise LightningUnavailable
            credited += sum(found for found, _ in done)
            if len(quotes) < PAGE or time.monotonic() > end:
                return credited

    async def _work_off(self, quotes: Iterator[Quote]) -> tuple[int, int]:
        """How many were credited, and of how many the node told."""
        credited = answered = failed = 0
        for quote in quotes:
            try:
                _, sat = await self.settle(quote)
            except LightningUnavailable:
                # One invoice that the node cannot tell of must not keep the others from being asked about.
                failed += 1
                if failed == GIVE_UP:
                    break
                continue
            answered, failed = answered + 1, 0
            credited += bool(sat)
        return credited, answered

    async def _rounds(self) -> None:
        while True:
            self._round_due.clear()
            try:
                await self._lightning.check()
                await self.reconcile()
                self._metrics.mint_lightning_up.set(1)
            except LightningUnavailable:
                self._metrics.mint_lightning_up.set(0)
                log.warning("the Lightning node does not answer")
            try:
                await asyncio.wait_for(self._round_due.wait(), EVERY)
            except TimeoutError:
                continue

    async def _follow(self) -> None:
        till = self._lightning.till
        pause, longest = BACK_OFF
        while True:
            try:
                async for receipt in self._lightning.settled(await self._database.read(_position, till)):
                    await self._credit(receipt)
                    pause = BACK_OFF[0]
                # It ended in silence, not in an error: from the stored position nothing is missed, and one that ends
                # at once must not be opened without a rest.
                await asyncio.sleep(BACK_OFF[0])
            except LightningUnavailable:
                log.warning("the stream of payments broke", seconds_until_next=round(pause))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                pause = min(2 * pause, longest)
                # The stream says nothing of what was settled before the first position it has.
                self._round_due.set()

    async def _credit(self, receipt: Receipt) -> int:
        credited, quote_id = await self._database.write(_credit, self._lightning.till, receipt, int(time.time()))
        if quote_id is not None:
            self._changed([quote_id])
        self._metrics.mint_settled_sat.inc(credited)
        return credited

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailable:
                log.warning("payments wait for the database")
            except PennypostError as error:
                log.error("listening for payments failed", code=error.code)
            except Exception as error:  # noqa: BLE001 - logged; payments must be listened for whatever happens
                log.error("listening for payments failed", kind=type(error).__name__)
            await asyncio.sleep(BACK_OFF[0])


def _credit(connection: Connection, till: str, receipt: Receipt, now: int) -> tuple[int, str | None]:
    """What was credited (sat), and to which quote."""
    credited = credit_on(connection, receipt.payment_hash, receipt.received_msat, now)
    if receipt.position is not None:
        _move_on(connection, till, receipt.position)
    return credited, quote_of_on(connection, receipt.payment_hash) if credited else None


def _position(connection: Connection, till: str) -> int | None:
    return connection.execute(select(_c.position).where(_c.backend == till)).scalar()


def _move_on(connection: Connection, till: str, position: int) -> None:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(lightning_cursors).values(backend=till, position=position)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_c.backend],
            set_={"position": statement.excluded.position},
            where=_c.position < statement.excluded.position,
        )
    )
