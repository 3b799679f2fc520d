"""The treasury in a file: JSON without secrets, for they follow from the seed; `Treasury.restore` finds what is newer.

    {"pennypost_treasury": 2, "made_at", "key", "counters": [{keyset, mint, next}], "proofs": [{keyset, counter, …}],
     "closed": [{event_id, stamps, mint, keyset, counter, amounts, …}]}

Letters whose swap is under way are not in it: their stamps are not ours yet, and their senders come again. Swaps that
the operator closed are: what their mint did sign is found by `retry`, and who comes again goes on with the same
outputs. Files of version 1 have none.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, select

from pennypost.protocol import bdhke, nut13, secp
from pennypost.protocol.answers import HexKeyset, HexPoint, HexScalar
from pennypost.protocol.errors import InvalidInput, SeedMismatch
from pennypost_mint.api import Keyring
from pennypost_mint.runtime.database import Database
from pennypost_postoffice.foreign.closed import REASON, Closed, closed_on, reopen_on
from pennypost_postoffice.foreign.treasury import COLUMNS, Row, take_in_on
from pennypost_postoffice.tables import treasury, treasury_counters

MOST = 256 * 1024 * 1024
"""Bytes of a file; a million proofs have some 250 MB."""

AMOUNTS = 512
"""Characters of the outputs of one swap, as the journal writes them."""

Number = Annotated[int, Meta(ge=0, lt=1 << 62)]
Url = Annotated[str, Meta(min_length=8, max_length=512)]


class Counter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next number never used of a keyset."""

    keyset: HexKeyset
    mint: Url
    next: Number


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A proof without its secret; `sweep`: number of the token it is in."""

    mint: Url
    keyset: HexKeyset
    counter: Number
    amount: Annotated[int, Meta(ge=1, lt=1 << 62)]
    C: HexPoint
    day: Number
    sweep: Number | None


class KeptClosed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A swap that was closed (closed.py): `stamps` is a hash; `amounts` in sat, `began_at` in Unix milliseconds."""

    event_id: HexScalar
    stamps: HexScalar
    mint: Url
    keyset: HexKeyset
    counter: Number
    amounts: Annotated[list[Annotated[int, Meta(ge=1, lt=1 << 62)]], Meta(min_length=1)]
    letter: bool
    began_at: Number
    closed_at: Number
    reason: Annotated[str, Meta(max_length=REASON)]
    collected: bool


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; `key` is the public key of the seed, `made_at` Unix seconds."""

    pennypost_treasury: Literal[1, 2]
    made_at: Number
    key: HexPoint
    counters: list[Counter]
    proofs: list[Kept]
    closed: list[KeptClosed] = []

    @property
    def sat(self) -> int:
        """What the proofs are worth."""
        return sum(each.amount for each in self.proofs)


async def write_backup(database: Database, seed: bytes, path: Path) -> Backup:
    """Writes a new file (mode 0600). Raises InvalidInput where there is one, or where none can be."""
    made = Backup(2, int(time.time()), _key(seed), *await database.read(_all_on))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(made) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise InvalidInput("this file exists already") from None
    except OSError:
        raise InvalidInput("this file cannot be written") from None
    return made


async def read_backup(database: Database, seed: bytes, path: Path) -> int:
    """Takes in what a backup holds and the treasury has not; returns the sat that came in.

    Spent proofs come in, too: ask the mints afterwards (`Treasury.check`), and for what they signed for swaps that were
    closed (`Doubts.look`). Raises InvalidInput, SeedMismatch.
    """
    found = _read(path)
    if found.key != _key(seed):
        raise SeedMismatch("this backup belongs to another seed")
    closed = [_closed(each) for each in found.closed]
    came = 0
    for counter in found.counters:
        rows = [_row(seed, each) for each in found.proofs if each.keyset == counter.keyset]
        came += await database.write(take_in_on, rows, counter.keyset, counter.mint, counter.next)
    await database.write(reopen_on, closed)
    return came


def _read(path: Path) -> Backup:
    try:
        with path.open("rb") as file:
            body = file.read(MOST + 1)
    except OSError:
        raise InvalidInput("this file cannot be read") from None
    try:
        if len(body) > MOST:
            raise msgspec.ValidationError
        return msgspec.json.decode(body, type=Backup)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("this file is no backup of a treasury") from None


def _row(seed: bytes, each: Kept) -> Row:
    c = bytes.fromhex(each.C)
    try:
        secret, _ = nut13.derive(seed, each.keyset, each.counter)
    except ValueError:
        raise InvalidInput("this file is no backup of a treasury") from None
    if not secp.is_point(c):
        raise InvalidInput("this file is no backup of a treasury")
    y = bdhke.hash_to_curve(secret.encode())
    return Row(y, each.mint, each.keyset, each.counter, each.amount, c, each.day, each.sweep)


def _closed(each: KeptClosed) -> Closed:
    amounts = ",".join(map(str, each.amounts))
    if len(amounts) > AMOUNTS or not (each.reason + each.mint).isprintable():
        raise InvalidInput("this file is no backup of a treasury")
    return Closed(
        bytes.fromhex(each.event_id),
        bytes.fromhex(each.stamps),
        each.mint,
        each.keyset,
        each.counter,
        amounts,
        each.letter,
        each.began_at,
        each.closed_at,
        each.reason,
        each.collected,
    )


def _kept(each: Closed) -> KeptClosed:
    amounts = list(map(int, each.amounts.split(",")))
    names = (each.event_id.hex(), each.stamps.hex(), each.mint, each.keyset, each.counter, amounts)
    return KeptClosed(*names, *each[6:])


def _all_on(connection: Connection) -> tuple[list[Counter], list[Kept], list[KeptClosed]]:
    closed = [_kept(each) for each in closed_on(connection)]
    # counters before proofs: a proof that comes between the two has a number that the counters do not know yet, which
    # is what a restore looks at
    counted = connection.execute(select(treasury_counters).order_by(treasury_counters.c.keyset))
    counters = [Counter(row.keyset, row.mint, row.next) for row in counted]
    had = connection.execute(select(*(treasury.c[name] for name in COLUMNS)).order_by(treasury.c.y))
    rows = [Row(*row) for row in had]
    proofs = [Kept(row.mint, row.keyset, row.counter, row.amount, row.c.hex(), row.day, row.sweep) for row in rows]
    return counters, proofs, closed


def _key(seed: bytes) -> str:
    return Keyring.without_keysets(seed).identity.hex()
