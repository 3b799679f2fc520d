"""Taking events out of every table: for deletions, replaced versions, lost races and retention.

    events ─ body ─▶ its tag keys, its address ─▶ tags, addresses, feed, events

The event itself says which rows it has elsewhere, so no table needs an index for this.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from pennypost.protocol.event import parse_event
from pennypost_mint.runtime.sets import delete_in, delete_rows
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.rows import address_of, tag_keys
from pennypost_postoffice.tables import addresses, events, feed, tags


def remove_on(connection: Connection, targets: Iterable[Target]) -> None:
    """Deletes stored events with everything that leads to them; an address that has a newer event is left alone."""
    found = sorted(targets)
    if not found:
        return
    ids = [target.id for target in found]
    tag_rows: list[tuple[bytes, int, bytes]] = []
    address_rows: list[tuple[bytes, bytes]] = []
    for target in found:
        event = parse_event(target.body)
        tag_rows += [(key, event.created_at, target.id) for key in tag_keys(event)]
        if (address := address_of(event)) is not None:
            address_rows.append((address, target.id))
    delete_in(connection, events, "id", ids)
    delete_rows(connection, addresses, ("address", "event_id"), address_rows)
    delete_rows(connection, tags, ("key", "created_at", "event_id"), sorted(tag_rows))
    delete_rows(connection, feed, ("keep_until", "event_id"), [(target.keep_until, target.id) for target in found])
