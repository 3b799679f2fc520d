"""Spent proofs. The primary key of `spent` decides who of two spenders was first.

These run in the caller's transaction: the mint's swap and the post office's commit use the same three.
Lock order: spent before outputs, each in the order of its key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost_mint.runtime.sets import delete_in, insert_ignore, select_in
from pennypost_mint.tables import spent

DAY = 86_400

_COLUMNS = ("y", "keyset", "amount", "day", "witness")


class SpentProof(NamedTuple):
    """A row of `spent`: Y (33 bytes), the keyset's position, amount, Unix day, what unlocked it (NUT-07)."""

    y: bytes
    keyset: int
    amount: int
    day: int
    witness: str | None


def spent_on(connection: Connection, ys: Iterable[bytes]) -> set[bytes]:
    """Those of these Ys that are spent."""
    return {row[0] for row in select_in(connection, spent, ("y",), "y", ys)}


def witnesses_on(connection: Connection, ys: Iterable[bytes]) -> dict[bytes, str | None]:
    """Those of these Ys that are spent, with what unlocked them."""
    return {row[0]: row[1] for row in select_in(connection, spent, ("y", "witness"), "y", ys)}


def spend_on(connection: Connection, rows: Iterable[SpentProof], *, absent: bool = False) -> set[bytes]:
    """Spends these proofs, in the order of Y; returns the Ys spent by this call, the others were spent before.

    A caller that needs all of them must roll back, or give back the rest by `unspend_on`. `absent`: his transaction has
    looked, and they were not spent.
    """
    return insert_ignore(connection, spent, _COLUMNS, sorted(rows), "y", absent=absent)


def unspend_on(connection: Connection, ys: Iterable[bytes]) -> None:
    """Gives back proofs spent earlier in this same transaction."""
    delete_in(connection, spent, "y", ys)
