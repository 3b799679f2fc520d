"""Holds: mail that is shown to nobody until the preimage of a payment is presented (wire contract, section 4).

    EVENT with ["hold", T] ─▶ commit ─▶ holds ─┬─ T is closed   ─▶ held, and its header with the held flag
                                               └─ T is released ─▶ events, as any other
    RELEASE T, x, id ─▶ T = H("hold", SHA256(x) ‖ id)? ─▶ one transaction:
                        holds (closed → released), held ─▶ events, tags, feed ─▶ subscribers

What is held is in no table that anything is served from, so no reader has to leave it out. Whoever holds or releases
takes the row of T first: of a release and an event that meet, one sees the other. The row is remembered until the last
event under it is over; then T is forgotten, and an event under it is held again.

Lock order: holds < held < events < … < feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pennypost.protocol.errors import HoldUnknown, HoldWrong, InvalidInput, TooMany
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, is_hex64, parse_event
from pennypost.protocol.headers import RELEASED
from pennypost.protocol.hold import opens
from pennypost_mint.runtime.limits import HELD_EVENTS, HOLD_BURST, HOLD_RATE, RELEASE_BURST, RELEASE_RATE, TokenBucket
from pennypost_mint.runtime.sets import delete_in, delete_rows, insert_ignore, insert_rows, select_in
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.feed import append_on
from pennypost_postoffice.rows import feed_record, tag_keys, with_flags
from pennypost_postoffice.tables import events, held, held_receivers, holds, tags

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

_EVENT = ("id", "pubkey", "kind", "created_at", "keep_until", "body", "unpriced_bytes")
_HELD = ("id", "hold", "pubkey", "kind", "created_at", "keep_until", "body", "unpriced_bytes")
_TAG = ("key", "created_at", "event_id")
_TARGET = [held.c[name] for name in Target._fields]


class Released(NamedTuple):
    """What a release opened: events with their JSON, in the order of the feed, and the first of their numbers."""

    opened: list[tuple[Event, bytes]]
    first: int


ALREADY = Released([], 0)


def receivers_of(event: Event) -> set[bytes]:
    """Keys that a gift wrap is addressed to; none for other kinds."""
    if event.kind != KIND_GIFT_WRAP:
        return set()
    return {bytes.fromhex(tag[1]) for tag in event.tags if tag[0] == "p" and len(tag) > 1 and is_hex64(tag[1])}


def take_on(connection: Connection, wanted: Mapping[bytes, int], now: int) -> tuple[set[bytes], dict[bytes, int]]:
    """Locks the rows of these tags, made where they are missing, and prolongs them to these times (Unix seconds).

    Returns the tags that are released, and for each of the others how many more events it takes.
    """
    insert: Any = sqlite.insert(holds) if connection.dialect.name == "sqlite" else postgresql.insert(holds)
    given = insert.excluded.keep_until
    later = case((given > holds.c.keep_until, given), else_=holds.c.keep_until)
    still = and_(holds.c.released, holds.c.keep_until > now)
    statement = insert.on_conflict_do_update(index_elements=["hold"], set_={"keep_until": later, "released": still})
    rows = [{"hold": hold, "released": False, "keep_until": until} for hold, until in sorted(wanted.items())]
    connection.execute(statement, rows)
    found = sorted(wanted)
    released = {row[0] for row in select_in(connection, holds, ("hold", "released"), "hold", found) if row[1]}
    room = dict.fromkeys(wanted, HELD_EVENTS)
    counted = select(held.c.hold, func.count()).where(held.c.hold.in_(found)).group_by(held.c.hold)
    for hold, count in connection.execute(counted):
        room[hold] -= count
    return released, room


def keep_on(
    connection: Connection, rows: Sequence[tuple[Any, ...]], receivers: Iterable[tuple[bytes, bytes]]
) -> set[bytes]:
    """Inserts held events (columns of `held`, in order) and (receiver, id) pairs; returns the ids that were new."""
    inserted = insert_ignore(connection, held, _HELD, sorted(rows), "id")
    insert_rows(
        connection, held_receivers, ("receiver", "event_id"), sorted(row for row in receivers if row[1] in inserted)
    )
    return inserted


def held_on(connection: Connection, ids: Iterable[bytes]) -> dict[bytes, Target]:
    """Held events by id."""
    return {row[0]: Target(*row) for row in select_in(connection, held, Target._fields, "id", ids)}


def remove_held_on(connection: Connection, targets: Iterable[tuple[bytes, Event]]) -> None:
    """Deletes held events, given by id and event, with what leads to them but their headers."""
    found = sorted(targets, key=lambda target: target[0])
    delete_in(connection, held, "id", [identifier for identifier, _ in found])
    pairs = [(receiver, identifier) for identifier, event in found for receiver in receivers_of(event)]
    delete_rows(connection, held_receivers, ("receiver", "event_id"), sorted(pairs))


def held_for_on(connection: Connection, pubkey: bytes, until: int, limit: int) -> list[Target]:
    """At most `limit` held events by this key, or gift wraps to it, created up to `until` (NIP-62)."""
    to_it = select(held_receivers.c.event_id).where(held_receivers.c.receiver == pubkey)
    old = held.c.created_at <= until
    own = select(*_TARGET).where(held.c.pubkey == pubkey, old).limit(limit)
    others = select(*_TARGET).where(held.c.id.in_(to_it), old).limit(limit)
    rows = [*connection.execute(own), *connection.execute(others)]
    return list({row[0]: Target(*row) for row in rows}.values())[:limit]


def expired_on(connection: Connection, now: int, limit: int) -> list[Target]:
    """At most `limit` events whose time was over before anybody released them."""
    over = select(*_TARGET).where(held.c.keep_until <= now).order_by(held.c.keep_until).limit(limit)
    return [Target(*row) for row in connection.execute(over)]


def is_released_on(connection: Connection, hold: bytes, now: int) -> bool:
    """Whether T is released. Raises HoldUnknown where nothing was ever held under it, or all of it is over."""
    known = select(holds.c.released).where(holds.c.hold == hold, holds.c.keep_until > now)
    found: bool | None = connection.execute(known).scalar_one_or_none()
    if found is None:
        raise HoldUnknown
    return found


_RELEASE: Any = (
    update(holds)
    .where(holds.c.hold == bindparam("tag"), holds.c.released.is_(False), holds.c.keep_until > bindparam("now"))
    .values(released=True)
    .returning(holds.c.hold)
)
_TAKE: Any = (
    delete(held)
    .where(held.c.hold == bindparam("tag"), held.c.keep_until > bindparam("now"))
    .returning(*_TARGET, held.c.unpriced_bytes)
)


def release_on(connection: Connection, hold: bytes, now: int) -> Released:
    """Opens what is held under T, with its new records in the feed; of two at once, one does it. Raises HoldUnknown."""
    if connection.execute(_RELEASE, {"tag": hold, "now": now}).first() is None:
        is_released_on(connection, hold, now)
        return ALREADY
    rows = [tuple(row) for row in connection.execute(_TAKE, {"tag": hold, "now": now})]
    rows.sort(key=lambda row: row[0])
    found = [Target(*row[:-1]) for row in rows]
    opened = [(parse_event(target.body), target) for target in found]
    pairs = [(receiver, target.id) for event, target in opened for receiver in receivers_of(event)]
    delete_rows(connection, held_receivers, ("receiver", "event_id"), sorted(pairs))
    # one that an operator imported openly is open already
    fresh = insert_ignore(connection, events, _EVENT, rows, "id")
    opened = [(event, target) for event, target in opened if target.id in fresh]
    tag_rows = [(key, event.created_at, target.id) for event, target in opened for key in tag_keys(event)]
    insert_rows(connection, tags, _TAG, sorted(tag_rows))
    first = append_on(
        connection,
        [(target.id, with_flags(feed_record(event), RELEASED), target.keep_until) for event, target in opened],
    )
    return Released([(event, target.body) for event, target in opened], first)


class Holds:
    """Releases for whoever asks. Wrong tries are counted for each source and each T, in memory alone.

    Anybody can make a T, x and id that fit, so what fits is no proof of a payment and costs a look-up: callers take it
    off the asker's share of CPU (shares.py), where it slows him down and refuses nobody.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._wrong_by_source = TokenBucket(RELEASE_RATE, RELEASE_BURST, monotonic)
        self._wrong_by_hold = TokenBucket(HOLD_RATE, HOLD_BURST, monotonic)

    async def release(self, hold: bytes, preimage: object, identifier: object, source: object) -> str:
        """What `["RELEASE", T, x, id]` is answered when it is granted; `source` is whom wrong tries count against.

        The right x and id always open: no other's tries stand in their way. Raises InvalidInput, HoldWrong, TooMany
        (for a wrong x), HoldUnknown or DatabaseUnavailable; asking again is safe after each.
        """
        if not is_hex64(preimage) or not is_hex64(identifier):
            raise InvalidInput("x and id are 64 lower-case hex digits each")
        if not opens(hold, bytes.fromhex(str(preimage)), bytes.fromhex(str(identifier))):
            if not (self._wrong_by_source.take(source) and self._wrong_by_hold.take(hold)):
                raise TooMany
            raise HoldWrong
        office, now = self._office, self._office.now()
        if await office.database.read(is_released_on, hold, now):
            return "duplicate: already released"
        found: Released = await office.database.write(release_on, hold, now)
        office.released(found.first, found.opened)
        return "duplicate: already released" if found is ALREADY else f"accepted: released {len(found.opened)}"
