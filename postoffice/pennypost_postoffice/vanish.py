"""Requests to vanish (NIP-62): everything of a key goes, and of the key a hash and a time are kept.

    kind 62, free ─▶ begin: vanished (hash, time), vanishing (key, while it lasts), `burials` + 1
                       ─▶ STEP after STEP: held ─ events by the key ─ gift wraps to it, in transactions of their own
                       ─▶ end: no row names the key any more ─▶ on SQLite the log is emptied ─▶ OK

From `begin` on nothing of the key up to that time gets in (graves.py); a step finds whatever got in before, so after
the last one nothing is left. A process that ends in between goes on when it starts again. The request itself is not
kept. Letters by stealth name nobody: they go when their time is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import DatabaseUnavailable, VanishElsewhere
from pennypost.protocol.event import KIND_DELETION, KIND_GIFT_WRAP, Event, parse_event
from pennypost_mint.runtime.limits import VANISHED_ROWS
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sets import delete_rows, select_in
from pennypost_postoffice.auth import relay_name
from pennypost_postoffice.deletion import Target, read_deletion
from pennypost_postoffice.feed import advance_on
from pennypost_postoffice.holds import held_for_on
from pennypost_postoffice.post import Answer, Post
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.rows import tag_key, vanish_key
from pennypost_postoffice.stage import Stage
from pennypost_postoffice.tables import address_tombstones, events, tags, tombstones, vanished, vanishing

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

STEP = 200
"""Events looked at in one transaction, so that no letter waits long behind it."""

AT_ONCE = 4
"""Requests carried out side by side."""

EVERYWHERE = "ALL_RELAYS"

PAUSE = 1.0
"""Seconds before a database that is away is asked again."""

_TARGET = [events.c[name] for name in Target._fields]

log = logger("vanish")

After = tuple[int, bytes] | None
"""Time and id of the last tag row looked at."""


class Step(NamedTuple):
    """What one step deleted, and behind which gift wrap the next one begins; `done`: there is nothing more."""

    removed: int
    after: After
    done: bool


def check_vanish(event: Event, names: set[str]) -> None:
    """Raises VanishElsewhere unless a `relay` tag names this office, known as `names`, or all relays.

    The host by which a sender says he reached us is no name: anybody could send us a request that was meant for others.
    """
    for tag in event.tags:
        if tag[0] == "relay" and len(tag) > 1 and (tag[1] == EVERYWHERE or relay_name(tag[1]) in names):
            return
    raise VanishElsewhere


def begin_on(connection: Connection, pubkey: bytes, until: int) -> None:
    """From its commit on nothing of this key up to `until` (Unix seconds) gets in."""
    key = vanish_key(pubkey.hex())
    _later_on(connection, vanished, {"key": key, "until": until, "had_mail": False})
    _later_on(connection, vanishing, {"pubkey": pubkey, "until": until})
    advance_on(connection, 0, buries=True)


def _later_on(connection: Connection, table: Any, row: dict[str, Any]) -> None:
    """Inserts the row; where one has its key, the later time stays."""
    insert: Any = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table).values(row)
    given = insert.excluded.until
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={"until": given}, where=given > table.c.until
        )
    )


def step_on(connection: Connection, pubkey: bytes, until: int, after: After) -> Step:
    """Deletes about STEP events of this key, or gift wraps to it, up to `until`."""
    own = select(*_TARGET).where(events.c.pubkey == pubkey, events.c.created_at <= until).limit(STEP)
    found = [Target(*row) for row in connection.execute(own)]
    found += held_for_on(connection, pubkey, until, STEP)
    if found:
        _unbury_on(connection, pubkey, until, found)
        remove_on(connection, found)
        return Step(len(found), after, done=False)
    key = tag_key("p", pubkey.hex())
    time, identifier = tags.c.created_at, tags.c.event_id
    to_it = select(time, identifier).where(tags.c.key == key, time <= until)
    if after is not None:
        to_it = to_it.where(time <= after[0], or_(time < after[0], identifier > after[1]))
    rows: Any = connection.execute(to_it.order_by(time.desc(), identifier).limit(STEP)).all()
    wraps = select(*_TARGET).where(events.c.id.in_([row[1] for row in rows]), events.c.kind == KIND_GIFT_WRAP)
    found = [Target(*row) for row in connection.execute(wraps)]
    remove_on(connection, found)
    return Step(len(found), (rows[-1][0], rows[-1][1]) if rows else after, done=len(rows) < STEP)


def _unbury_on(connection: Connection, pubkey: bytes, until: int, found: list[Target]) -> None:
    """With a deletion go its tombstones, which name the key, but for those that a later one, which stays, needs.

    What was signed up to `until` is kept out by `vanished` instead.
    """
    for target in found:
        if target.kind != KIND_DELETION or target.pubkey != pubkey:
            continue
        request = read_deletion(parse_event(target.body))
        assert request is not None
        # locked: a deletion that another process stores just now comes before this, and is seen below, or behind it
        graves = select(tombstones.c.id).where(tombstones.c.pubkey == pubkey, tombstones.c.id.in_(request.ids))
        buried = set(connection.execute(graves.order_by(tombstones.c.id).with_for_update()).scalars())
        buried -= _named_later_on(connection, pubkey, until, buried)
        delete_rows(connection, tombstones, ("id", "pubkey"), [(each, pubkey) for each in sorted(buried)])
        places = address_tombstones.c
        told = places.address.in_(request.addresses), places.deleted_at <= until
        connection.execute(delete(address_tombstones).where(*told))


def _named_later_on(connection: Connection, pubkey: bytes, until: int, ids: set[bytes]) -> set[bytes]:
    """Those of `ids` that a stored deletion of this key behind `until` names."""
    names = {tag_key("e", each.hex()): each for each in ids}
    naming = select(tags.c.key, tags.c.event_id).where(tags.c.key.in_(names), tags.c.created_at > until)
    # not joined: SQLite would go through all names for each later event of the key
    rows = connection.execute(naming).all() if ids else []
    found = select_in(connection, events, ("id", "pubkey", "kind"), "id", {row[1] for row in rows})
    later = {identifier for identifier, by, kind in found if by == pubkey and kind == KIND_DELETION}
    return {names[key] for key, identifier in rows if identifier in later}


def end_on(connection: Connection, pubkey: bytes, until: int, had_mail: bool) -> None:
    """Forgets the key, unless a later request came meanwhile."""
    if had_mail:
        connection.execute(update(vanished).where(vanished.c.key == vanish_key(pubkey.hex())).values(had_mail=True))
    connection.execute(delete(vanishing).where(vanishing.c.pubkey == pubkey, vanishing.c.until <= until))


def forget_on(connection: Connection) -> int:
    """Deletes hashes of keys that had nothing here, the oldest, past VANISHED_ROWS; returns how many."""
    idle = vanished.c.had_mail.is_(False)
    over: int = connection.execute(select(func.count()).select_from(vanished).where(idle)).scalar_one() - VANISHED_ROWS
    if over <= 0:
        return 0
    oldest = select(vanished.c.key).where(idle).order_by(vanished.c.until).limit(over)
    connection.execute(delete(vanished).where(vanished.c.key.in_(oldest)))
    return over


def unfinished_on(connection: Connection) -> list[tuple[bytes, int]]:
    """Requests that a process began and did not end."""
    return [(row[0], row[1]) for row in connection.execute(select(vanishing.c.pubkey, vanishing.c.until))]


class Vanisher:
    """Carries out verified requests, and what an earlier process left of them."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._stage = Stage(self._vanish, office.failed, most=1, at_once=AT_ONCE)

    def put(self, post: Post) -> None:
        """Takes a verified request; it is answered when everything is gone."""
        self._stage.put(post)

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._go_on())
            group.create_task(self._stage.run())

    async def _go_on(self) -> None:
        while True:
            try:
                for pubkey, until in await self._office.database.read(unfinished_on):
                    await self._finish(pubkey, until)
                return
            except DatabaseUnavailable:
                await asyncio.sleep(PAUSE)

    async def _vanish(self, batch: list[Post]) -> None:
        for post in batch:
            until = post.event.created_at
            try:
                await self._office.database.write(begin_on, post.pubkey, until)
                await self._finish(post.pubkey, until)
            except DatabaseUnavailable:
                self._stage.put_back([post])
                await asyncio.sleep(PAUSE)
            else:
                self._office.answer(post, Answer(True, f"accepted: vanished up to {until}", "vanished"))

    async def _finish(self, pubkey: bytes, until: int) -> None:
        database = self._office.database
        removed, after, done = 0, None, False
        while not done:
            step: Step = await database.write(step_on, pubkey, until, after)
            removed, after, done = removed + step.removed, step.after, step.done
        await database.write(end_on, pubkey, until, removed > 0)
        await database.checkpoint()
        log.info("a request to vanish was carried out", events=removed)
