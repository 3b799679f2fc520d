"""Plain NIP-17 mail that came in: gift wraps addressed to our npub, by whatever program they were written.

    REQ {kinds: [1059], #p: [us], since} ─▶ not seen yet ─▶ unwrap: seal's author = rumor's author ─▶ Mail
                └─ auth-required ─▶ AUTH as us (NIP-42) ─▶ once more

Asking so tells the office who we are; what is asked for by stealth goes over another connection. Wraps are dated back
by up to two days, so the place to go on from lies behind the last look by somewhat more; what was shown is not shown
again.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from pennypost.exchange import Progress
from pennypost.inbox import PAUSE, remember_on, was_seen_on
from pennypost.keys import Identity
from pennypost.mail import Mail, is_message, mail_of
from pennypost.office import LETTERS, TIMEOUT, Office
from pennypost.protocol.errors import InvalidInput, OfficeMisbehaves, OfficeUnreachable, ServerError, TooMany
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, expiration
from pennypost.protocol.filter import Filter
from pennypost.protocol.giftwrap import unwrap
from pennypost.protocol.headers import view_tag
from pennypost.protocol.nip17 import SHIFT
from pennypost.protocol.nip42 import answer_challenge
from pennypost.store import Store

LATE: Final = 86_400
"""Seconds more than SHIFT that a wrap may lie with its sender before it arrives, and is still found."""
AT_ONCE: Final = 1_000
"""Messages put in order before they are shown."""
PAGES: Final = 1_000
"""Answers of one look."""
KEPT: Final = 30 * 86_400
"""Seconds that an office keeps an event without an expiration unless it says otherwise."""
T = TypeVar("T")


class PlainInbox:
    """Reads the NIP-17 mail of one identity at one office."""

    def __init__(self, office: Office, store: Store, identity: Identity, clock: Callable[[], float]) -> None:
        self._office, self._store, self._identity, self._clock = office, store, identity, clock
        self._line = office.line(self._sign_in)

    async def read(
        self, *, watch: bool = False, again: bool = False, on_progress: Progress | None = None
    ) -> AsyncGenerator[Mail]:
        """Messages in the order of their dates, from where the last run stopped; `watch` and `again` as Inbox.read.

        Raises OfficeUnreachable, OfficeMisbehaves, or the refusal of the office.
        """
        while True:
            try:
                if not watch:
                    async with aclosing(self._stored(again)) as stored:
                        async for mail in stored:
                            yield mail
                    return
                async with aclosing(self._watched(again)) as live:
                    async for mail in live:
                        yield mail
            except (OfficeUnreachable, ServerError, TooMany):
                if not watch:
                    raise
                if on_progress is not None:
                    on_progress("the office does not answer, trying again", 0, 0)
                await asyncio.sleep(PAUSE)
            again = False

    async def close(self) -> None:
        """Close the connection."""
        await self._line.close()

    def _sign_in(self, challenge: str) -> Event:
        return answer_challenge(
            self._identity.secret,
            # An address of HTTP made one of WebSocket: http to ws, https to wss.
            f"ws{self._office.url.removeprefix('http')}/",
            challenge,
            created_at=int(self._clock()),
            aux=secrets.token_bytes(32),
        )

    def _filter(self, limit: int, since: int | None = None, until: int | None = None) -> Filter:
        receiver = (self._identity.pub.hex(),)
        return Filter(kinds=(KIND_GIFT_WRAP,), tags={"p": receiver}, since=since, until=until, limit=limit)

    async def _watched(self, again: bool) -> AsyncGenerator[Mail]:
        # The subscription is open before what is stored is asked for: nothing falls between.
        async with await self._line.follow(self._filter(0), most=LETTERS, timeout=TIMEOUT) as live:
            async with aclosing(self._stored(again)) as stored:
                async for mail in stored:
                    yield mail
            while True:
                async for mail in self._shown([await live.next()], again=False):
                    yield mail
                await self._store.run(move_on, self._place(), int(self._clock()))

    async def _stored(self, again: bool) -> AsyncGenerator[Mail]:
        started = int(self._clock())
        since = 0 if again else max(0, await self._store.run(place_on, self._place()) - SHIFT - LATE)
        until: int | None = None
        met: set[str] = set()
        found: list[Event] = []
        for _ in range(PAGES):
            page = await self._line.fetch(self._filter(LETTERS, since, until), most=LETTERS, timeout=TIMEOUT)
            fresh = [event for event in page if event.id not in met]
            met.update(event.id for event in fresh)
            found += fresh
            oldest = min((event.created_at for event in page), default=0)
            # A page of one second alone is passed over as a whole, for no filter goes further into it.
            until = oldest if fresh else oldest - 1
            over = len(page) < LETTERS or until < since
            if over or len(found) >= AT_ONCE:
                async for mail in self._shown(found, again=again):
                    yield mail
                found = []
            if over:
                if not again:
                    await self._store.run(move_on, self._place(), started)
                return
        raise OfficeMisbehaves("its mail for us has no end")

    def _place(self) -> str:
        return f"{self._office.url} {self._identity.pub.hex()}"

    async def _shown(self, events: Sequence[Event], *, again: bool) -> AsyncGenerator[Mail]:
        """Mail of wraps not shown before, each remembered when the next is asked for."""
        if not again:
            seen = await self._store.run(seen_on, [event.id for event in events])
            events = [event for event in events if event.id not in seen]
        letters = await asyncio.to_thread(self._open, events)
        for mail in sorted(letters, key=lambda mail: mail.sent_at):
            yield mail
            if not again:
                await self._store.run(remember_on, mail.id, mail.kept_until, int(self._clock()))

    def _open(self, events: Sequence[Event]) -> list[Mail]:
        """What can be opened; the rest is passed over in silence, for anyone may write to anyone."""
        now, letters = self._clock(), list[Mail]()
        for event in events:
            try:
                until = expiration(event)
                if view_tag(event) is not None or (until is not None and until <= now):
                    continue
                sender, rumor = unwrap(event, self._identity.secret)
            except InvalidInput:
                continue
            if not is_message(rumor):
                continue
            kept_until = event.created_at + KEPT if until is None else until
            letters.append(mail_of(sender, rumor, event.id, kept_until, self._office.url, mode="nip17"))
        return letters


async def merged(*sources: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Letters of several readers as they come; each is asked for its next when the one it gave counts as read."""
    waiting = {asyncio.ensure_future(anext(source, None)): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source, mail = waiting.pop(task), task.result()
                if mail is not None:
                    yield mail
                    waiting[asyncio.ensure_future(anext(source, None))] = source
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        for source in sources:
            await source.aclose()


def place_on(connection: sqlite3.Connection, place: str) -> int:
    """Unix seconds of the last complete look; 0 before the first."""
    row = connection.execute("SELECT looked_at FROM plain_places WHERE place = ?", (place,)).fetchone()
    return row[0] if row else 0


def move_on(connection: sqlite3.Connection, place: str, looked_at: int) -> None:
    """Everything that had come at that time has been read."""
    connection.execute(
        "INSERT INTO plain_places (place, looked_at) VALUES (?, ?)"
        " ON CONFLICT (place) DO UPDATE SET looked_at = max(looked_at, excluded.looked_at)",
        (place, looked_at),
    )


def seen_on(connection: sqlite3.Connection, event_ids: Sequence[str]) -> set[str]:
    """Those of these letters that were shown before."""
    return {id for id in event_ids if was_seen_on(connection, id)}
