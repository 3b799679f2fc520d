"""The header feed: the same bytes for every reader, in numbers that only rise (wire contract, section 2, Headers).

    GET /v1/headers?after=<seq>   records of stealth wraps behind a number; waits for the next one when asked to
    GET /v1/pages/<n>             the wraps of 64 consecutive numbers, so that no fetch shows which was wanted

Readers are woken by commits of this process, and by the follower for those of others.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Connection, bindparam, select, update

from pennypost.protocol.errors import FeedFull, Overloaded
from pennypost.protocol.headers import START
from pennypost_mint.runtime.limits import FEED_PAGE, FEED_READS, FEED_WAIT, PAGE
from pennypost_mint.runtime.sets import insert_rows
from pennypost_mint.runtime.sources import Source
from pennypost_postoffice.places import Places
from pennypost_postoffice.tables import events, feed, feed_head

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

_OFFSET = struct.Struct(">I")

WAKE = 100
"""Readers woken at once, so that thousands of them do not keep everyone else from being served."""

Gone = Callable[[], Awaitable[None]]

Look = tuple[int, int]
"""What is looked for: behind which number, and how many."""

_ADVANCE = (
    update(feed_head)
    .where(feed_head.c.id == 1)
    .values(
        last=feed_head.c.last + bindparam("count", type_=BigInteger),
        burials=feed_head.c.burials + bindparam("buried", type_=BigInteger),
    )
    .returning(feed_head.c.last, feed_head.c.burials)
)
"""Built once: to build it costs more than to run it."""

_FEED = ("seq", "event_id", "record", "keep_until")

_HEADERS: Any = (
    select(feed.c.seq, feed.c.record)
    .where(feed.c.seq > bindparam("after"), feed.c.record.is_not(None), feed.c.keep_until > bindparam("now"))
    .order_by(feed.c.seq)
    .limit(bindparam("limit"))
)

_PAGE: Any = (
    select(feed.c.seq, events.c.body)
    .select_from(feed.join(events, events.c.id == feed.c.event_id))
    .where(
        feed.c.seq.between(bindparam("first"), bindparam("last")),
        feed.c.record.is_not(None),
        feed.c.keep_until > bindparam("now"),
    )
    .order_by(feed.c.seq)
)


def append_on(connection: Connection, rows: Sequence[tuple[bytes, bytes | None, int]]) -> int:
    """Numbers for these (id, record, keep_until), the last step of a transaction; returns the first, 0 for no rows.

    Whoever updates the head holds it until his commit, so numbers become visible in their order.
    """
    if not rows:
        return 0
    first, _ = advance_on(connection, len(rows))
    number_on(connection, first, rows)
    return first


def advance_on(connection: Connection, count: int, *, buries: bool = False) -> tuple[int, int]:
    """Takes the head and with it `count` numbers: the first of them, and how many transactions have buried before.

    `buries`: this one makes tombstones, too.
    """
    last, burials = connection.execute(_ADVANCE, {"count": count, "buried": int(buries)}).one()
    return last - count + 1, burials - buries


def number_on(connection: Connection, first: int, rows: Sequence[tuple[bytes, bytes | None, int]]) -> None:
    """Writes the feed's lines from number `first` on."""
    insert_rows(connection, feed, _FEED, [(seq, *row) for seq, row in enumerate(rows, first)])


def headers_on(connection: Connection, after: int, limit: int, now: int) -> bytes:
    """The bytes of the feed behind number `after`: its start, then at most `limit` records."""
    rows: Any = connection.execute(_HEADERS, {"after": after, "limit": limit, "now": now}).all()
    start = rows[0][0] if rows else after
    return START.pack(start) + b"".join(_OFFSET.pack(seq - start) + record for seq, record in rows)


def page_on(connection: Connection, number: int, now: int) -> bytes:
    """The wraps with numbers `64·number` to `64·number + 63`, as a JSON array in that order."""
    first = number * PAGE
    rows: Any = connection.execute(_PAGE, {"first": first, "last": first + PAGE - 1, "now": now})
    return b"[" + b",".join(row[1] for row in rows) + b"]"


def etag(body: bytes) -> str:
    """The entity tag of an answer: it changes with every byte, so what expired is gone from caches that ask."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def head_on(connection: Connection) -> int:
    """The last number given out."""
    return connection.execute(select(feed_head.c.last).where(feed_head.c.id == 1)).scalar_one()


class Waiter:
    """One long poll, which gives way to another's where too many wait (places.py)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.used = False
        self.gave_way = False
        self.news: asyncio.Future[None] | None = None

    def give_way(self) -> None:
        """It is refused now."""
        self.gave_way = True
        if self.news is not None:
            _end(self.news)


class Feed:
    """Reads the feed, and lets readers wait for it. Readers behind the same number share looks at the database."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._turn = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._woken: deque[asyncio.Future[None]] = deque()
        self._waiters: Places[Waiter] = Places()
        self._reading = 0
        self._closed = False
        self._looks: dict[Look, asyncio.Task[bytes]] = {}
        """Under way, by what they look for."""
        self._next_looks: dict[Look, asyncio.Task[bytes]] = {}
        """Those that begin when the ones under way are done."""

    @property
    def waiters(self) -> int:
        """Long polls under way."""
        return len(self._waiters)

    @property
    def reading(self) -> int:
        """Reads under way that requests asked for at once; at most FEED_READS."""
        return self._reading

    def grew(self) -> None:
        """Something was added: readers look again."""
        self._turn += 1
        idle = not self._woken
        self._woken.extend(self._waiting)
        self._waiting = set()
        if idle:
            self._wake()

    def close(self) -> None:
        """Every long poll is answered now."""
        self._closed = True
        self.grew()

    def _wake(self) -> None:
        """Some of those that are to be woken; what comes from sockets has its turn before the next."""
        for _ in range(min(WAKE, len(self._woken))):
            _end(self._woken.popleft())
        if self._woken:
            asyncio.get_running_loop().call_soon(self._wake)

    async def headers(
        self, after: int, limit: int, wait: float, gone: Gone | None = None, source: Source = b""
    ) -> bytes:
        """The feed behind `after`; with nothing there, waits up to `wait` seconds for something to come.

        `gone` ends when the reader goes away: then nobody waits any more. Of more than PENNYPOST_MAX_WAITERS readers
        one gives way, of the `source` that has most. Raises FeedFull for that one, Overloaded when FEED_READS reads are
        under way, and DatabaseUnavailable.
        """
        limit = min(limit, FEED_PAGE)
        turn = self._turn
        async with self._one_of_few():
            body = await self._read(after, limit)
        if len(body) > START.size or wait <= 0 or self._closed:
            return body
        places = self._office.settings.max_waiters
        if places == 0:
            raise FeedFull
        waiter = Waiter(source)
        self._waiters.take(waiter, places)
        leaving = asyncio.ensure_future(gone()) if gone is not None else None
        try:
            return await self._wait(waiter, after, limit, turn, wait, leaving) or body
        finally:
            self._waiters.leave(waiter)
            if leaving is not None:
                leaving.cancel()

    async def _wait(
        self, waiter: Waiter, after: int, limit: int, turn: int, wait: float, leaving: asyncio.Future[None] | None
    ) -> bytes | None:
        """What was added since `turn`; None when the time is over or the reader is gone. Raises FeedFull."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, FEED_WAIT)
        while not self._closed and loop.time() < deadline and not (leaving is not None and leaving.done()):
            if waiter.gave_way:
                raise FeedFull
            if turn == self._turn:
                await self._next(waiter, deadline, leaving)
                continue
            turn = self._turn
            body = await self._read(after, limit)
            if len(body) > START.size:
                return body
        return None

    async def _next(self, waiter: Waiter, deadline: float, leaving: asyncio.Future[None] | None) -> None:
        """Returns when the feed grew, the reader went away, or it is time (seconds of the loop's clock)."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        waiter.news = news
        self._waiting.add(news)
        timer = loop.call_at(deadline, _end, news)
        ended = partial(_end, news)
        if leaving is not None:
            leaving.add_done_callback(ended)
        try:
            await news
        finally:
            self._waiting.discard(news)
            timer.cancel()
            if leaving is not None:
                leaving.remove_done_callback(ended)

    async def page(self, number: int) -> bytes:
        """The JSON of one page. Raises Overloaded when FEED_READS reads are under way, and DatabaseUnavailable."""
        async with self._one_of_few():
            return await self._office.database.read(page_on, number, self._office.now())

    @asynccontextmanager
    async def _one_of_few(self) -> AsyncGenerator[None, None]:
        """A read that a request asks for at once; those of woken readers are bounded by their number."""
        if self._reading >= FEED_READS:
            raise Overloaded("too many readers at once")
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    async def _read(self, after: int, limit: int) -> bytes:
        """One look for all who asked the same before it began: it sees whatever was deleted or over when they asked,
        at whichever process."""
        look = (after, limit)
        task = self._next_looks.get(look)
        if task is None:
            task = self._next_looks[look] = asyncio.ensure_future(self._look(look))
        return await asyncio.shield(task)

    async def _look(self, look: Look) -> bytes:
        if (before := self._looks.get(look)) is not None:
            await asyncio.wait((before,))
        # from here on whoever comes has a look of his own
        task = self._looks[look] = self._next_looks.pop(look)
        try:
            return await self._office.database.read(headers_on, *look, self._office.now())
        finally:
            if self._looks[look] is task:
                del self._looks[look]


def _end(future: asyncio.Future[None], _by: object = None) -> None:
    if not future.done():
        future.set_result(None)
