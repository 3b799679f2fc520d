"""Letters that come in: found in the public header feed, fetched, opened.

    GET /v1/headers after the last number ─▶ Scanning: one ECDH and one hash a header ─▶ hits
        ─▶ bodies (fast: REQ of R · page: its page · all: every page) ─▶ open ─▶ Mail ─▶ place remembered

The place moves on only when the caller asks for the next letter, so a crash shows a letter again and loses none. What
cannot be opened is passed over in silence: anyone may write to anyone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from pennypost.exchange import Progress
from pennypost.keys import Identity
from pennypost.mail import Mail, Privacy, is_message, mail_of
from pennypost.office import PAGE, Office
from pennypost.protocol.errors import (
    InvalidInput,
    OfficeMisbehaves,
    OfficeUnreachable,
    ServerError,
    SessionsMissing,
    TooMany,
)
from pennypost.protocol.event import Event, expiration
from pennypost.protocol.giftwrap import Rumor
from pennypost.protocol.headers import HELD, RELEASED, Header
from pennypost.protocol.stealth import open_letter
from pennypost.scanning import Scanning
from pennypost.sessions import KIND_SESSION
from pennypost.store import Store

if TYPE_CHECKING:
    from pennypost.sessions.sessions import Sessions

WAIT: Final = 25
"""Seconds that the office is asked to wait for the next letter; proxies cut longer silences."""
PAUSE: Final = 5.0
"""Seconds before the next try after a failure while watching."""
SCAN_LIMIT: Final = 20_000_000
"""Headers of one run without waiting: a feed without an end is no feed."""
SEEN_FOR: Final = 366 * 86_400
"""Seconds that a letter is remembered as seen, at most."""


class Inbox:
    """Reads the mail of one identity at one office."""

    def __init__(
        self,
        office: Office,
        store: Store,
        identity: Identity,
        clock: Callable[[], float],
        sessions: Callable[[], Sessions] | None = None,
        shows: Callable[[bytes], Awaitable[bool]] | None = None,
        scan_secret: bytes | None = None,
    ) -> None:
        """`sessions` gives what opens messages of sessions; without it they are passed over. `shows` says whose letters
        are wanted: others' are passed over before anything is answered. `scan_secret` (32 bytes) is that of a scan key
        apart from the npub; letters to the npub alone are found too.
        """
        self._office, self._store, self._identity, self._clock = office, store, identity, clock
        self._sessions, self._shows = sessions, shows
        self._scan_secrets = [identity.secret] if scan_secret is None else [identity.secret, scan_secret]
        self._scanning = Scanning(self._scan_secrets, identity.pub)

    async def read(
        self,
        *,
        watch: bool = False,
        again: bool = False,
        privacy: Privacy = "fast",
        on_progress: Progress | None = None,
    ) -> AsyncGenerator[Mail]:
        """Letters in the order of the feed, from where the last run stopped.

        `watch` goes on waiting for more, also through failures of the network; `again` begins at the first number and
        shows letters seen before. Raises OfficeUnreachable, OfficeMisbehaves.
        """
        after = 0 if again else None
        scanned = 0
        while True:
            try:
                if after is None:
                    after = await self._place()
                headers = await self._office.headers(after, wait=WAIT if watch and scanned else 0)
            except (OfficeUnreachable, ServerError, TooMany):
                if not watch:
                    raise
                if on_progress is not None:
                    on_progress("the office does not answer, trying again", 0, 0)
                await asyncio.sleep(PAUSE)
                continue
            async with aclosing(self._letters(headers, privacy, again)) as letters:
                async for mail in letters:
                    yield mail
                    if mail.address and self._sessions is not None:
                        await self._sessions().read(mail.id)
                    if not again:
                        await self._store.run(remember_on, mail.id, mail.kept_until, int(self._clock()))
            if headers:
                after = headers[-1].seq
                if not again:
                    await self._store.run(move_on, self._office.url, after)
                if on_progress is not None:
                    on_progress("reading headers", after, 0)
            elif not watch:
                return
            scanned += max(1, len(headers))
            if scanned > SCAN_LIMIT and not watch:
                raise OfficeMisbehaves("its header feed has no end")

    def close(self) -> None:
        """End the scan's threads and processes."""
        self._scanning.close()

    async def _place(self) -> int:
        """Where the last run stopped. An office that has another key now is another one, whose numbers begin anew."""
        if not await self._store.run(place_on, self._office.url):
            return 0
        identity = await self._office.identity(int(self._clock()))
        return await self._store.run(place_of_on, self._office.url, identity)

    async def _letters(self, headers: Sequence[Header], privacy: Privacy, again: bool) -> AsyncGenerator[Mail]:
        readable = [each for each in headers if not each.flags & HELD or each.flags & RELEASED]
        hits = await self._scanning.scan(readable)
        fetched = await bodies(self._office, {hit.header.pubkey for hit in hits}, headers, privacy)
        for hit in hits:
            for event in fetched.get(hit.header.pubkey, ()):
                mail = await self._open(event)
                if mail is not None and (again or not await self._store.run(was_seen_on, mail.id)):
                    yield mail

    def _opened(self, event: Event) -> tuple[bytes, Rumor] | None:
        for scan_secret in self._scan_secrets:
            try:
                return open_letter(event, scan_secret, self._identity.secret)
            except InvalidInput:
                continue
        return None

    async def _open(self, event: Event) -> Mail | None:
        try:
            until = expiration(event)
        except InvalidInput:
            return None
        opened = self._opened(event)
        if opened is None:
            return None
        sender, rumor = opened
        if not (is_message(rumor) or rumor.kind == KIND_SESSION) or (until is not None and until <= self._clock()):
            return None
        if self._shows is not None and not await self._shows(sender):
            return None
        kept_until = event.created_at + 30 * 86_400 if until is None else until
        if rumor.kind == KIND_SESSION:
            try:
                sessions = self._sessions() if self._sessions is not None else None
            except SessionsMissing:
                return None
            return None if sessions is None else await sessions.take(sender, rumor, event, kept_until)
        return mail_of(sender, rumor, event.id, kept_until, self._office.url)


async def bodies(
    office: Office, wanted: set[bytes], headers: Sequence[Header], privacy: Privacy
) -> dict[bytes, list[Event]]:
    """Events by author (`wanted`, 32 bytes each), each once, fetched as the level allows; `headers` are those read."""
    events: list[Event] = []
    if privacy == "fast":
        events = await office.letters(list(wanted))
    else:
        shown = [header for header in headers if privacy == "all" or header.pubkey in wanted]
        for number in sorted({header.seq // PAGE for header in shown}):
            events += [each for each in await office.page(number) if bytes.fromhex(each.pubkey) in wanted]
    found: dict[bytes, list[Event]] = {}
    for event in {each.id: each for each in events}.values():
        found.setdefault(bytes.fromhex(event.pubkey), []).append(event)
    return found


def place_on(connection: sqlite3.Connection, office: str) -> int:
    """The last number of an office's feed that was read."""
    row = connection.execute("SELECT last FROM offices WHERE url = ?", (office,)).fetchone()
    return row[0] if row else 0


def place_of_on(connection: sqlite3.Connection, office: str, identity: str) -> int:
    """The last number that was read of the office with this key."""
    connection.execute(
        "UPDATE offices SET last = CASE WHEN identity IN ('', ?) THEN last ELSE 0 END, identity = ? WHERE url = ?",
        (identity, identity, office),
    )
    return place_on(connection, office)


def move_on(connection: sqlite3.Connection, office: str, last: int) -> None:
    """Everything up to `last` has been read."""
    connection.execute(
        "INSERT INTO offices (url, last) VALUES (?, ?) ON CONFLICT (url) DO UPDATE SET last = max(last, excluded.last)",
        (office, last),
    )


def was_seen_on(connection: sqlite3.Connection, event_id: str) -> bool:
    """Whether this letter was shown before."""
    return connection.execute("SELECT 1 FROM seen WHERE event_id = ?", (event_id,)).fetchone() is not None


def remember_on(connection: sqlite3.Connection, event_id: str, keep_until: int, now: int) -> None:
    """This letter was shown; those that no office keeps any more are forgotten."""
    connection.execute("DELETE FROM seen WHERE keep_until < ?", (now,))
    connection.execute(
        "INSERT INTO seen (event_id, keep_until) VALUES (?, ?) ON CONFLICT (event_id) DO NOTHING",
        (event_id, min(keep_until, now + SEEN_FOR)),
    )
