"""Deleting mail as the operator: what a selection finds, and taking it out with tombstones, so that it stays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select

from pennypost_mint.runtime.sets import insert_ignore
from pennypost_postoffice.deletion import OPERATOR, Target
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.tables import events, held, tombstones

STEP = 500
"""Events of one transaction, so that no letter waits long."""


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

    def conditions(self, table: Table = events) -> list[Any]:
        """The same for a WHERE over `events`, or over `held`."""
        here, found = table.c, list[Any]()
        if self.ids:
            found.append(here.id.in_([bytes.fromhex(each) for each in self.ids]))
        if self.authors:
            found.append(here.pubkey.in_([bytes.fromhex(each) for each in self.authors]))
        if self.kinds is not None:
            found.append(here.kind.between(self.kinds[0], self.kinds[-1]))
        if self.since is not None:
            found.append(here.created_at >= self.since)
        if self.until is not None:
            found.append(here.created_at <= self.until)
        return found


def count_on(connection: Connection, selection: Selection) -> dict[int, int]:
    """How many events of each kind there are, held ones among them."""
    found: dict[int, int] = {}
    for table in (events, held):
        counted = select(table.c.kind, func.count()).where(*selection.conditions(table)).group_by(table.c.kind)
        for kind, count in connection.execute(counted):
            found[kind] = found.get(kind, 0) + count
    return dict(sorted(found.items()))


def delete_on(connection: Connection, selection: Selection) -> int:
    """Deletes up to STEP of them, with everything that leads to them; returns how many.

    What is held goes, too: no release brings it back.
    """
    # held first: what a release moves meanwhile is found among the events
    targets = _found_on(connection, held, selection, STEP)
    targets += _found_on(connection, events, selection, STEP - len(targets))
    graves = sorted((target.id, OPERATOR, target.keep_until) for target in targets)
    insert_ignore(connection, tombstones, ("id", "pubkey", "keep_until"), graves, "id")
    remove_on(connection, targets)
    return len(targets)


def _found_on(connection: Connection, table: Table, selection: Selection, limit: int) -> list[Target]:
    columns = [table.c[name] for name in Target._fields]
    chosen = select(*columns).where(*selection.conditions(table)).order_by(table.c.id).limit(limit)
    if connection.dialect.name == "postgresql":
        # of two who delete the same, one waits for the other and finds nothing
        chosen = chosen.with_for_update()
    return [Target(*row) for row in connection.execute(chosen)]


def allow_on(connection: Connection, identifier: str) -> None:
    """Takes back that the operator deleted an event: who has it may post it again."""
    here = tombstones.c.id == bytes.fromhex(identifier), tombstones.c.pubkey == OPERATOR
    connection.execute(delete(tombstones).where(*here))
