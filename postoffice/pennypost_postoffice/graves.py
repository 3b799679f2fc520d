"""What stays out of the office: ids once deleted, keys that vanished, and how transactions of PostgreSQL notice both.

    an event      reads tombstones and `burials` in one statement ─▶ … ─▶ its number, under the feed's lock: still so?
    a deletion    writes tombstones ─▶ … ─▶ its number, `burials` + 1 ─▶ is there now what was not there before?

Whoever comes second under the lock sees the first, so of an event and a deletion beside it none gets past the other;
the event only looks again where `burials` grew meanwhile. SQLite has one writer: nobody is beside him.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Connection, LargeBinary, any_, bindparam, literal, null, select, union_all

from pennypost_mint.runtime.sets import select_in
from pennypost_postoffice.post import Post
from pennypost_postoffice.rows import vanish_keys
from pennypost_postoffice.tables import feed_head, tombstones, vanished


class Graves(NamedTuple):
    """Of some events: by whose right an id was deleted, until when a key vanished, and `burials` at that moment."""

    tombstones: dict[bytes, set[bytes]]
    vanished: dict[bytes, int]
    burials: int | None
    """None where no other transaction can be beside this one."""


def graves_on(connection: Connection, posts: Sequence[Post]) -> Graves:
    """Reads it in the caller's transaction, on PostgreSQL in one statement, so that it is one moment."""
    ids = [post.id for post in posts]
    if connection.dialect.name == "sqlite":
        return _graves_of_sqlite(connection, posts, ids)
    keys = [key for post in posts for key in vanish_keys(post.event)]
    found = Graves({}, {}, 0)
    burials = 0
    rows: Any = connection.execute(_everything(), {"ids": ids, "keys": keys})
    for what, name, by, number in rows:
        if what == _TOMBSTONE:
            found.tombstones.setdefault(name, set()).add(by)
        elif what == _VANISHED:
            found.vanished[name] = number
        else:
            burials = number
    return found._replace(burials=burials)


def _graves_of_sqlite(connection: Connection, posts: Sequence[Post], ids: Iterable[bytes]) -> Graves:
    found = Graves({}, {}, None)
    for identifier, pubkey in select_in(connection, tombstones, ("id", "pubkey"), "id", ids):
        found.tombstones.setdefault(identifier, set()).add(pubkey)
    if connection.execute(_ANYONE).first() is not None:
        keys = [key for post in posts for key in vanish_keys(post.event)]
        found.vanished.update(select_in(connection, vanished, ("key", "until"), "key", keys))
    return found


_TOMBSTONE, _VANISHED, _BURIALS = 1, 2, 3
_ANYONE = select(literal(1)).select_from(vanished).limit(1)
"""Hashing two keys an event costs as much as all of this; most offices have nobody who vanished."""


@lru_cache(maxsize=1)
def _everything() -> Any:
    none, array = null().cast(LargeBinary), ARRAY(LargeBinary)
    return union_all(
        select(literal(_TOMBSTONE), tombstones.c.id, tombstones.c.pubkey, literal(0, BigInteger)).where(
            tombstones.c.id == any_(bindparam("ids", type_=array))
        ),
        select(literal(_VANISHED), vanished.c.key, none, vanished.c.until).where(
            vanished.c.key == any_(bindparam("keys", type_=array))
        ),
        select(literal(_BURIALS), none, none, feed_head.c.burials).where(feed_head.c.id == 1),
    )
