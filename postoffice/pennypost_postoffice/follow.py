"""Publishes what the feed reached, whoever wrote it: each event once, in the order of its number.

    own commit ─┬─ the very next numbers ──────▶ from memory ─┐
                └─ others' come before it ─┐                  ├─▶ live subscribers, long polls of the feed
    bus, or a look now and then ───────────┴▶ rows behind ────┘
                                   └▶ marks: bans, reload

Numbers become visible in their order (`feed_head`), so whoever asks for what is behind the last number he published
misses nothing. A version that is replaced or deleted before another process has read it is not published there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, select

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost.protocol.event import Event, parse_event
from pennypost_mint.runtime.limits import STEP_BYTES
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.feed import head_on
from pennypost_postoffice.live import Subscription
from pennypost_postoffice.marks import marks_on
from pennypost_postoffice.tables import events, feed

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

ALONE = 1.0
"""Seconds between two looks at what other processes wrote, without a bus."""

WITH_BUS = 2.0
"""The same with a bus: for a notice that was lost, and for what commands changed."""

ROWS = 500
"""Most events read at once."""

ENDLESS = 2**62

log = logger("follow")

Published = tuple[Event, bytes] | None
"""An event and its JSON; None for one that nobody may see."""

_BEHIND: Any = (
    select(feed.c.seq, events.c.body)
    .select_from(feed.join(events, events.c.id == feed.c.event_id))
    .where(
        feed.c.seq > bindparam("after", type_=BigInteger),
        feed.c.seq < bindparam("below", type_=BigInteger),
        feed.c.keep_until > bindparam("now", type_=BigInteger),
    )
    .order_by(feed.c.seq)
    .limit(ROWS)
)


class Behind(NamedTuple):
    """What lies behind a number: the feed's last number when the look began, and events with their numbers."""

    head: int
    rows: Sequence[tuple[int, bytes]]


def behind_on(connection: Connection, after: int, below: int, now: int, bodies: bool) -> Behind:
    """At most ROWS events with numbers between `after` and `below`; none unless `bodies` are wanted."""
    head = head_on(connection)
    if not bodies or head <= after:
        return Behind(head, [])
    found: Any = connection.execute(_BEHIND, {"after": after, "below": below, "now": now}).all()
    return Behind(head, [(row[0], row[1]) for row in found])


class Follower:
    """Knows the last number that was published to the subscribers of this process."""

    def __init__(self, office: Office, marks: Callable[[dict[str, str]], Awaitable[None]]) -> None:
        self._office = office
        self._on_marks = marks
        self._cursor = 0
        self._own: dict[int, Sequence[Published]] = {}
        """Own commits that wait for others' before them, by their first number."""
        self._catching: list[Subscription] = []
        self._wake = asyncio.Event()
        self._look = self._marks = False

    @property
    def cursor(self) -> int:
        """Everything up to this number is published."""
        return self._cursor

    async def start(self) -> None:
        """Begins behind what is there now. Raises DatabaseUnavailable."""
        self._cursor = await self._office.database.read(head_on)
        await self._on_marks(await self._office.database.read(marks_on))

    def committed(self, first: int, published: Sequence[Published]) -> None:
        """Own events with the numbers from `first` on, after their commit."""
        self._own[first] = published
        self._publish_own()
        if self._own:
            self.look()

    def heard(self, number: int) -> None:
        """Another process says how far the feed is; only the database knows."""
        if number > self._cursor:
            self.look()

    def look(self) -> None:
        """Something may have been added."""
        self._look = True
        self._wake.set()

    def look_at_marks(self) -> None:
        """Somebody changed a mark, or may have while we heard nothing."""
        self._marks = True
        self._wake.set()

    def settles(self, subscription: Subscription) -> None:
        """Ends the subscription's memory of what it was sent as stored when all of that is published."""
        self._catching.append(subscription)

    async def run(self) -> None:
        """Works until it is cancelled."""
        last = monotonic()
        while True:
            try:
                if self._marks or monotonic() >= last + self._every:
                    last = monotonic()
                    self._look, self._marks = True, False
                    await self._on_marks(await self._office.database.read(marks_on))
                while self._look:
                    self._look = False
                    await self._catch_up()
            except DatabaseUnavailable:
                self._look = self._marks = True
                await asyncio.sleep(ALONE)
            await self._wait(last + self._every)

    @property
    def _every(self) -> float:
        return WITH_BUS if self._office.bus_is_up else ALONE

    async def _wait(self, until: float) -> None:
        self._wake.clear()
        if self._look or self._marks:
            return
        try:
            async with asyncio.timeout(max(0.0, until - monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _catch_up(self) -> None:
        """Publishes everything that was visible when it began."""
        settling, self._catching = self._catching, []
        try:
            await self._read_behind()
        except DatabaseUnavailable:
            self._catching += settling
            raise
        for subscription in settling:
            subscription.settled()

    async def _read_behind(self) -> None:
        office = self._office
        began, whole = self._cursor, False
        while not whole:
            after, below = self._cursor, min(self._own, default=ENDLESS)
            listened = office.live.listens
            head, rows = await office.database.read(behind_on, after, below, office.now(), listened)
            if office.live.listens and not listened:
                continue  # somebody subscribed meanwhile, and may have looked before we did
            size = 0
            for number, body in rows:
                if size >= STEP_BYTES or (size and office.outgoing.is_tight):
                    size = 0
                    await asyncio.sleep(0)
                size += len(body)
                if number > self._cursor:
                    office.live.publish(parse_event(body), body)
                    office.metrics.office_followed.inc()
                    self._cursor = number
            if len(rows) < ROWS:
                # nothing is left below; who subscribes from now on finds the rest as stored
                self._cursor = max(self._cursor, min(head, below - 1))
                whole = below > head
            self._publish_own()
            await asyncio.sleep(0)
        if self._cursor > began:
            office.feed.grew()

    def _publish_own(self) -> None:
        """Publishes STEP_BYTES, less where much waits for readers; the rest follows when sockets were written to."""
        size, outgoing = 0, self._office.outgoing
        while self._own and (first := min(self._own)) <= self._cursor + 1:
            published = self._own.pop(first)
            for number, each in enumerate(published, first):
                if size >= STEP_BYTES or (size and outgoing.is_tight):
                    self._own[number] = published[number - first :]
                    asyncio.get_running_loop().call_soon(self._publish_own)
                    return
                if number > self._cursor:
                    if each is not None:
                        size += len(each[1])
                        self._office.live.publish(*each)
                    self._cursor = number
