"""Mail into a file and out of one: a JSON event a line, in the order of the feed.

    export   feed number after feed number ─▶ FILE         import   FILE ─▶ signature ─▶ the transaction of any letter
                            └─ FILE.resume: how far ────────────────┘

Both go on where they were interrupted: FILE.resume says how many bytes of the file are whole, until the end.
What is held is not exported: its payment has not been made. An import takes no stamps; it is the operator's. What is
deleted, banned, expired or replaced here stays out, and what is here already is passed over, so it may be repeated.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from sqlalchemy import BigInteger, Connection, bindparam, select

from pennypost.protocol import secp
from pennypost.protocol.errors import FileUnusable, PennypostError
from pennypost.protocol.event import check_id, is_ephemeral, parse_event
from pennypost.protocol.price import Postage, PriceList, keep_until
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.limits import MOST_EVENT
from pennypost_mint.runtime.sets import select_in
from pennypost_postoffice.accept import describe
from pennypost_postoffice.bans import Bans
from pennypost_postoffice.commit import Done, commit_on
from pennypost_postoffice.feed import head_on
from pennypost_postoffice.operate.removal import Selection
from pennypost_postoffice.post import Answer, Post
from pennypost_postoffice.rows import feed_record, tag_keys
from pennypost_postoffice.tables import events, feed

STEP = 500
"""Events of one transaction."""

MAX_LINE = 4 * MOST_EVENT
"""Bytes of a line: an event with every character escaped, and more."""

ROUNDS = 20
"""Tries of events that wait for another transaction with the same id or address."""

Shown = Callable[[int, float], None]
"""Told how many events are done, and which part of all that is."""


class Place:
    """How far a file is whole: `number` in the feed (export) and bytes; kept beside the file until the end."""

    def __init__(self, file: Path) -> None:
        self._path = file.with_name(file.name + ".resume")

    def read(self) -> tuple[int, int]:
        """Number and bytes; 0 and 0 at the beginning. Raises FileUnusable."""
        try:
            found: Any = json.loads(self._path.read_text())
            return int(found["number"]), int(found["bytes"])
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError):
            raise FileUnusable("the .resume file beside it cannot be read; delete it to begin anew") from None

    def write(self, number: int, size: int) -> None:
        """Notes it, whole or not at all. Raises OSError."""
        part = self._path.with_name(self._path.name + ".part")
        part.write_text(json.dumps({"number": number, "bytes": size}))
        os.replace(part, self._path)

    def forget(self) -> None:
        """The file is whole."""
        self._path.unlink(missing_ok=True)


def mail_on(connection: Connection, after: int, upto: int, now: int, selection: Selection) -> list[tuple[int, bytes]]:
    """At most STEP events of the selection with numbers from `after`, excluded, to `upto`."""
    chosen: Any = (
        select(feed.c.seq, events.c.body)
        .select_from(feed.join(events, events.c.id == feed.c.event_id))
        .where(
            feed.c.seq > bindparam("after", type_=BigInteger),
            feed.c.seq <= bindparam("upto", type_=BigInteger),
            feed.c.keep_until > bindparam("now", type_=BigInteger),
            *selection.conditions(),
        )
        .order_by(feed.c.seq)
        .limit(STEP)
    )
    found: Any = connection.execute(chosen, {"after": after, "upto": upto, "now": now})
    return [(row[0], row[1]) for row in found]


async def export(database: Database, file: Path, selection: Selection, now: int, shown: Shown) -> int:
    """Writes all mail of the selection that is stored now; returns how many events. Raises FileUnusable.

    What is deleted meanwhile may be in the file; what comes meanwhile is not.
    """
    place = Place(file)
    number, size = place.read()
    if not number and _exists(file):
        raise FileUnusable("it exists")
    upto = await database.read(head_on)
    count = 0
    try:
        with _open(file, "r+b" if number else "xb") as out:
            out.truncate(size)
            out.seek(size)
            while rows := await database.read(mail_on, number, upto, now, selection):
                out.write(b"".join(body + b"\n" for _, body in rows))
                out.flush()
                os.fsync(out.fileno())
                number, count = rows[-1][0], count + len(rows)
                place.write(number, out.tell())
                shown(count, number / max(1, upto))
    except OSError as error:
        raise FileUnusable("it cannot be written") from error
    place.forget()
    return count


def _exists(file: Path) -> bool:
    return file.exists()


def _open(file: Path, mode: str) -> BinaryIO:
    """For the operator's eyes alone."""
    return cast("BinaryIO", open(file, mode, opener=lambda path, flags: os.open(path, flags, 0o600)))


async def pour(database: Database, out: BinaryIO, selection: Selection, now: int) -> int:
    """The same into a pipe, which cannot be resumed."""
    number, count, upto = 0, 0, await database.read(head_on)
    while rows := await database.read(mail_on, number, upto, now, selection):
        out.write(b"".join(body + b"\n" for _, body in rows))
        number, count = rows[-1][0], count + len(rows)
    out.flush()
    return count


class Carrier:
    """The sender of what is imported: nobody waits for the answers."""

    origin = ""

    def __init__(self) -> None:
        self.source = b""
        self.rate_key: object = self
        self.authenticated: set[str] = set()

    def took(self) -> None:
        """Nothing to count."""

    def answered(self, post: Post, answer: Answer) -> None:
        """Nothing to say."""


class Importer:
    """Takes lines; `counts` says what became of them: `stored`, `duplicate`, or the code of a refusal."""

    def __init__(self, database: Database, prices: PriceList, bans: Bans, now: Callable[[], int]) -> None:
        self._database, self._prices, self._bans, self._now = database, prices, bans, now
        self._carrier = Carrier()
        self.counts: Counter[str] = Counter()

    async def take(self, lines: list[bytes]) -> None:
        """Stores what can be stored of these lines; all of it is durable afterwards. Raises DatabaseUnavailable."""
        posts: dict[bytes, Post] = {}
        for line in lines:
            try:
                post = self._read(line)
            except PennypostError as error:
                self.counts[error.code] += 1
                continue
            self.counts["duplicate"] += post.id in posts
            posts.setdefault(post.id, post)
        known = await self._database.read(_stored_on, list(posts))
        self.counts["duplicate"] += len(known)
        await self._store([post for post in posts.values() if post.id not in known and self._is_signed(post)])

    def _read(self, line: bytes) -> Post:
        """Raises InvalidEvent, KindRefused, Banned."""
        post = Post(self._carrier, 0.0)
        post.event = parse_event(line)
        check_id(post.event)
        self._bans.check(post.event)
        describe(post)
        # it was served where it comes from: it is not held again
        post.hold = None
        post.postage = Postage(0, keep_until(post.event, self._prices), free=True)
        post.tag_keys = tag_keys(post.event)
        post.record = feed_record(post.event)
        return post

    def _is_signed(self, post: Post) -> bool:
        signed = secp.schnorr_verify(post.pubkey, post.id, bytes.fromhex(post.event.sig))
        if not signed:
            self.counts["signature"] += 1
        elif is_ephemeral(post.event.kind):
            self.counts["ephemeral"] += 1
            return False
        return signed

    async def _store(self, posts: list[Post]) -> None:
        for _ in range(ROUNDS):
            if not posts:
                return
            done: Done = await self._database.write(commit_on, posts, self._now())
            self.counts["stored"] += len(done.stored)
            self.counts["duplicate"] += len(done.duplicates)
            for _post, error in done.refused:
                self.counts[error.code] += 1
            posts = [*done.waiting, *done.claimed]
        self.counts["busy"] += len(posts)


def _stored_on(connection: Connection, ids: list[bytes]) -> set[bytes]:
    return {row[0] for row in select_in(connection, events, ("id",), "id", ids)}


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends, empty ones left out. A line that is too long ends it: FileUnusable."""
    while line := source.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise FileUnusable("a line is longer than any event")
        yield line


async def bring(importer: Importer, source: BinaryIO, file: Path | None, shown: Shown) -> None:
    """Imports a file, or a pipe when `file` is None. Raises FileUnusable, DatabaseUnavailable."""
    place = Place(file) if file is not None else None
    size = os.fstat(source.fileno()).st_size if file is not None else 0
    start = place.read()[1] if place is not None else 0
    if start:
        source.seek(start)
    position, done, lines = start, 0, list[bytes]()
    for line in lines_of(source):
        position += len(line)
        if stripped := line.strip():
            lines.append(stripped)
        if len(lines) >= STEP:
            await importer.take(lines)
            done, lines = done + len(lines), []
            if place is not None:
                place.write(0, position)
            shown(done, position / max(1, size))
    await importer.take(lines)
    shown(done + len(lines), 1.0)
    if place is not None:
        place.forget()
