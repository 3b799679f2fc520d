"""The header feed: the same bytes for every reader, in numbers that only rise (wire contract, section 2, Headers).

    GET /v1/headers?after=<seq>   records of stealth wraps behind a number; waits for the next one when asked to
    GET /v1/pages/<n>             the wraps of 64 consecutive numbers, so that no fetch shows which was wanted

Readers are woken by commits of this process, and by the follower for those of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Connection, bindparam, select, update

from pennypost.protocol.headers import START
from pennypost_mint.runtime.limits import FEED_PAGE, FEED_WAIT, FEED_WAITERS, PAGE
from pennypost_mint.runtime.sets import insert_rows
from pennypost_postoffice.tables import events, feed, feed_head

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

_OFFSET = struct.Struct(">I")

_ADVANCE = (
    update(feed_head)
    .where(feed_head.c.id == 1)
    .values(last=feed_head.c.last + bindparam("count", type_=BigInteger))
    .returning(feed_head.c.last)
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
    count = len(rows)
    if not count:
        return 0
    first: int = connection.execute(_ADVANCE, {"count": count}).scalar_one() - count + 1
    insert_rows(connection, feed, _FEED, [(seq, *row) for seq, row in enumerate(rows, first)])
    return first


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


class Feed:
    """Reads the feed, and lets readers wait for it. Readers behind the same number share one look at the database."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._news = asyncio.Event()
        self._reads: dict[tuple[asyncio.Event, int, int], asyncio.Task[bytes]] = {}
        self._waiters = 0
        self._closed = False

    @property
    def waiters(self) -> int:
        """Long polls under way."""
        return self._waiters

    def grew(self) -> None:
        """Something was added: readers look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def close(self) -> None:
        """Every long poll is answered now."""
        self._closed = True
        self.grew()

    async def headers(self, after: int, limit: int, wait: float) -> bytes:
        """The feed behind `after`; with nothing there, waits up to `wait` seconds for something to come.

        Past FEED_WAITERS long polls nobody waits: the answer is what there is. Raises DatabaseUnavailable.
        """
        limit = min(limit, FEED_PAGE)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, FEED_WAIT)
        self._waiters += 1
        try:
            while True:
                news = self._news
                body = await self._read(news, after, limit)
                left = deadline - loop.time()
                if len(body) > START.size or left <= 0 or self._closed or self._waiters > FEED_WAITERS:
                    return body
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), left)
        finally:
            self._waiters -= 1

    async def page(self, number: int) -> bytes:
        """The JSON of one page. Raises DatabaseUnavailable."""
        return await self._office.database.read(page_on, number, self._office.now())

    async def _read(self, news: asyncio.Event, after: int, limit: int) -> bytes:
        key = (news, after, limit)
        task = self._reads.get(key)
        if task is None:
            reading = self._office.database.read(headers_on, after, limit, self._office.now())
            task = self._reads[key] = asyncio.ensure_future(reading)
            task.add_done_callback(lambda _: self._reads.pop(key))
        return await asyncio.shield(task)
