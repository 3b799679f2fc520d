"""Deleting mail as the operator: what a selection finds, and taking it out with tombstones, so that it stays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from pennypost_mint.runtime.sets import insert_ignore
from pennypost_postoffice.deletion import OPERATOR, Target
from pennypost_postoffice.holds import held_on
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.tables import events, tombstones

STEP = 500
"""Events of one transaction, so that no letter waits long."""

_COLUMNS = [events.c[name] for name in Target._fields]


@dataclass(frozen=True)
class Selection:
    """Which events: all conditions given must hold. Times are `created_at` in Unix seconds, `until` included."""

    ids: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    kinds: range | None = None
    since: int | None = None
    until: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it leaves nothing out."""
        return self == Selection()

    def covers(self, target: Target) -> bool:
        """Whether an event that is not in `events`, for it is held, is one of them; only those named by id are."""
        return (
            target.id.hex() in self.ids
            and (not self.authors or target.pubkey.hex() in self.authors)
            and (self.kinds is None or target.kind in self.kinds)
            and (self.since is None or target.created_at >= self.since)
            and (self.until is None or target.created_at <= self.until)
        )

    def conditions(self) -> list[Any]:
        """The same for a WHERE."""
        found: list[Any] = []
        if self.ids:
            found.append(events.c.id.in_([bytes.fromhex(each) for each in self.ids]))
        if self.authors:
            found.append(events.c.pubkey.in_([bytes.fromhex(each) for each in self.authors]))
        if self.kinds is not None:
            found.append(events.c.kind.between(self.kinds[0], self.kinds[-1]))
        if self.since is not None:
            found.append(events.c.created_at >= self.since)
        if self.until is not None:
            found.append(events.c.created_at <= self.until)
        return found


def count_on(connection: Connection, selection: Selection) -> dict[int, int]:
    """How many events of each kind there are."""
    counted = select(events.c.kind, func.count()).where(*selection.conditions())
    rows: Any = connection.execute(counted.group_by(events.c.kind))
    found: dict[int, int] = dict(rows.all())
    for target in _held_on(connection, selection):
        found[target.kind] = found.get(target.kind, 0) + 1
    return dict(sorted(found.items()))


def delete_on(connection: Connection, selection: Selection) -> int:
    """Deletes up to STEP of them, with everything that leads to them; returns how many.

    What is held is left alone unless it is named by its id: then no release brings it back.
    """
    chosen = select(*_COLUMNS).where(*selection.conditions()).order_by(events.c.id).limit(STEP)
    if connection.dialect.name == "postgresql":
        # of two who delete the same, one waits for the other and finds nothing
        chosen = chosen.with_for_update()
    targets = [Target(*row) for row in connection.execute(chosen)]
    targets += _held_on(connection, selection)
    graves = sorted((target.id, OPERATOR, target.keep_until) for target in targets)
    insert_ignore(connection, tombstones, ("id", "pubkey", "keep_until"), graves, "id")
    remove_on(connection, targets)
    return len(targets)


def _held_on(connection: Connection, selection: Selection) -> list[Target]:
    named = held_on(connection, [bytes.fromhex(each) for each in selection.ids])
    return [target for target in named.values() if selection.covers(target)]


def allow_on(connection: Connection, identifier: str) -> None:
    """Takes back that the operator deleted an event: who has it may post it again."""
    here = tombstones.c.id == bytes.fromhex(identifier), tombstones.c.pubkey == OPERATOR
    connection.execute(delete(tombstones).where(*here))
