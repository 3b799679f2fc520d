"""Posts that come in: one pass over an office's feed since the last run, for all channels of a home.

    headers ─▶ letters to us ─▶ invitations and changes ─▶ keys
            └▶ ChannelScanner, Scanner of the drop box ─▶ hits ─▶ bodies ─▶ open ─▶ Post ─▶ place remembered

What cannot be opened, or is by somebody who may not post, is passed over in silence. A key that comes later than what
it opens sends the channel's place back to the beginning: what was shown is not shown again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

from pennypost.channels.book import CONTROL, KEEP, end_on, keys_on, move_on, places_on, take_on, tidy_on
from pennypost.exchange import Progress
from pennypost.inbox import PAUSE, SCAN_LIMIT, WAIT, bodies, remember_on, was_seen_on
from pennypost.keys import Identity
from pennypost.mail import Privacy
from pennypost.office import Office
from pennypost.protocol import nip19, secp
from pennypost.protocol.channel import (
    KIND_CHANNEL,
    ChannelScanner,
    Epoch,
    Grant,
    open_post,
    parse_grant,
)
from pennypost.protocol.errors import (
    InvalidInput,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    ServerError,
    TooMany,
)
from pennypost.protocol.event import KIND_CHAT, Event, expiration
from pennypost.protocol.headers import HELD, RELEASED, Header
from pennypost.protocol.stealth import Scanner, open_letter
from pennypost.store import Store

Fetch = Callable[[set[bytes]], Awaitable[dict[bytes, list[Event]]]]


@dataclass(frozen=True, slots=True)
class Post:
    """A post of a channel, or a letter to its drop box."""

    channel: str
    """The channel's id."""
    name: str
    author: str
    """The author's npub, proved by the signature inside."""
    text: str
    sent_at: int
    """Unix seconds, as the author says."""
    kept_until: int
    """Unix seconds; the office deletes it then."""
    id: str
    """The event's id at the office."""
    office: str
    box: bool
    """Whether it is a letter to the drop box, by whoever it may be."""


class Reader:
    """One pass over an office's feed, for the channels of a home."""

    def __init__(
        self,
        office: Office,
        offices: Sequence[str],
        store: Store,
        identity: Identity,
        clock: Callable[[], float],
        only: str | None,
    ) -> None:
        """`offices`: the addresses of all that are read; a key is needed as long as one of them was not read so far."""
        self._office, self._store, self._identity, self._clock, self._only = office, store, identity, clock, only
        self._offices = offices
        self._scanner = Scanner(identity.secret, identity.pub)
        self._thread = ThreadPoolExecutor(1, "pennypost-channels")

    def close(self) -> None:
        """End the thread that scans."""
        self._thread.shutdown(wait=False)

    async def read(self, watch: bool, privacy: Privacy, on_progress: Progress | None) -> AsyncGenerator[Post]:
        """As `Channels.read`."""
        scanned = 0
        while True:
            try:
                identity = await self._office.identity(int(self._clock()))
                places = await self._store.run(places_on, self._office.url, identity, self._only)
                after = min(places.values())
                headers = await self._office.headers(after, wait=WAIT if watch and scanned else 0)
            except (OfficeUnreachable, ServerError, TooMany):
                if not watch:
                    raise
                if on_progress is not None:
                    on_progress("the office does not answer, trying again", 0, 0)
                await asyncio.sleep(PAUSE)
                continue
            readable = [each for each in headers if not each.flags & HELD or each.flags & RELEASED]
            everything = None
            if privacy == "all":
                everything = await bodies(self._office, {each.pubkey for each in readable}, headers, privacy)

            async def fetch(
                wanted: set[bytes],
                headers: Sequence[Header] = headers,
                known: dict[bytes, list[Event]] | None = everything,
            ) -> dict[bytes, list[Event]]:
                return known if known is not None else await bodies(self._office, wanted, headers, privacy)

            await self._changes([each for each in readable if each.seq > places[CONTROL]], fetch)
            async with aclosing(self._posts(readable, places, fetch)) as posts:
                async for post in posts:
                    yield post
                    await self._store.run(remember_on, post.id, post.kept_until, int(self._clock()))
            if headers:
                await self._store.run(move_on, self._office.url, places, headers[-1].seq)
                if on_progress is not None:
                    on_progress("reading headers", headers[-1].seq, 0)
            else:
                await self._store.run(end_on, self._office.url, places, int(self._clock()))
                if await self._store.run(tidy_on, self._offices, self._only, int(self._clock())):
                    await self._store.checkpoint()
                if not watch:
                    return
            scanned += max(1, len(headers))
            if scanned > SCAN_LIMIT and not watch:
                raise OfficeMisbehaves("its header feed has no end")

    async def _scan(self, scanner: Scanner, headers: Sequence[Header]) -> list[bytes]:
        loop = asyncio.get_running_loop()
        return [hit.header.pubkey for hit in await loop.run_in_executor(self._thread, scanner.scan, headers)]

    async def _changes(self, readable: Sequence[Header], fetch: Fetch) -> None:
        """Invitations and changes among letters to us."""
        wanted = await self._scan(self._scanner, readable)
        fetched = await fetch(set(wanted))
        for one_time in wanted:
            for event in fetched.get(one_time, ()):
                grant = _told(event, self._identity)
                if grant is not None:
                    own, now = self._identity.pub.hex(), int(self._clock())
                    await self._store.run(take_on, grant, own, self._office.url, now, joined=False)

    async def _posts(self, readable: Sequence[Header], places: dict[str, int], fetch: Fetch) -> AsyncGenerator[Post]:
        loop = asyncio.get_running_loop()
        found: list[tuple[Header, Grant, Epoch | bytes]] = []
        for keys in await self._store.run(keys_on, self._only, int(self._clock())):
            headers = [each for each in readable if each.seq > places.get(keys.grant.channel, 0)]
            hits = await loop.run_in_executor(self._thread, ChannelScanner(keys.epochs).scan, headers)
            found += [(hit.header, keys.grant, epoch) for hit, epoch in hits]
            for box in keys.boxes:
                fitting = set(await self._scan(Scanner(box, secp.xonly(box)), headers))
                found += [(header, keys.grant, box) for header in headers if header.pubkey in fitting]
        fetched = await fetch({header.pubkey for header, _, _ in found})
        for header, grant, key in sorted(found, key=lambda each: each[0].seq):
            for event in fetched.get(header.pubkey, ()):
                post = self._open(event, grant, key)
                if post is not None and not await self._store.run(was_seen_on, post.id):
                    yield post

    def _open(self, event: Event, grant: Grant, key: Epoch | bytes) -> Post | None:
        """A post by one who may, or a letter to the drop box; None for what is neither."""
        try:
            if isinstance(key, Epoch):
                author, rumor = open_post(event, key)
                if grant.posters and author.hex() not in {grant.owner, *grant.posters}:
                    return None
            else:
                author, rumor = open_letter(event, key, key)
            until = expiration(event) or event.created_at + KEEP
        except InvalidInput:
            return None
        if rumor.kind != KIND_CHAT or until <= self._clock():
            return None
        return Post(
            grant.channel,
            grant.name,
            nip19.encode_npub(author),
            rumor.content,
            rumor.created_at,
            until,
            event.id,
            self._office.url,
            not isinstance(key, Epoch),
        )


def _told(event: Event, identity: Identity) -> Grant | None:
    """What an owner tells of his channel in a letter to us; None for every other letter."""
    try:
        sender, rumor = open_letter(event, identity.secret, identity.secret)
        if rumor.kind != KIND_CHANNEL:
            return None
        grant = parse_grant(rumor.content)
    except PennypostError:
        return None
    return grant if grant.owner == sender.hex() and grant.chain is not None else None
