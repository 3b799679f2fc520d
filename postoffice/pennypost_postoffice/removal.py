"""Taking events out of every table: for deletions, replaced versions, lost races and retention.

    events ─ body ─▶ its tag keys, its address, its hold tag ─▶ held, events, addresses, tags, feed, postmarks

The event itself says which rows it has elsewhere, so no table needs an index for this.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from pennypost.protocol.event import Event, parse_event, tag_value
from pennypost.protocol.hold import TAG as HOLD_TAG
from pennypost_mint.runtime.sets import delete_in, delete_rows
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.holds import remove_held_on
from pennypost_postoffice.rows import address_of, held_name, tag_keys
from pennypost_postoffice.tables import addresses, events, feed, postmarks, tags


def remove_on(connection: Connection, targets: Iterable[Target]) -> None:
    """Deletes stored events with everything that leads to them; an address that has a newer event is left alone."""
    found = sorted(targets)
    if not found:
        return
    ids = [target.id for target in found]
    tag_rows: list[tuple[bytes, int, bytes]] = []
    address_rows: list[tuple[bytes, bytes]] = []
    feed_rows = [(target.keep_until, target.id) for target in found]
    holding: list[tuple[bytes, Event]] = []
    for target in found:
        event = parse_event(target.body)
        tag_rows += [(key, event.created_at, target.id) for key in tag_keys(event)]
        if (address := address_of(event)) is not None:
            address_rows.append((address, target.id))
        if tag_value(event, HOLD_TAG) is not None:
            holding.append((target.id, event))
            feed_rows.append((target.keep_until, held_name(target.id)))
    # first: a release under way moves it from there to `events`
    remove_held_on(connection, holding)
    delete_in(connection, events, "id", ids)
    delete_rows(connection, addresses, ("address", "event_id"), address_rows)
    delete_rows(connection, tags, ("key", "created_at", "event_id"), sorted(tag_rows))
    delete_rows(connection, feed, ("keep_until", "event_id"), feed_rows)
    delete_in(connection, postmarks, "event_id", ids)
