"""The mint's tables in a file, and back into an empty database, whichever kind either is.

    backup    one snapshot ─▶ table by table, in pages by key ─▶ FILE-….part ─▶ FILE     the mint goes on meanwhile
    verify    the whole file is read: checksum, rows, keys in order, keysets, sums
    restore   verify ─▶ seed ─▶ newer than the last stamp? ─▶ one transaction into empty tables

Mail is not in it. The seed is, where its file is encrypted, as it is there; in clear never.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import Connection, Table, func, select, text

from pennypost.protocol.errors import (
    BackupTooOld,
    BackupUnusable,
    DatabaseInUse,
    FileUnusable,
    MintNotStarted,
    SeedMismatch,
)
from pennypost_mint.keyring import check_seed
from pennypost_mint.keysets import KeysetRow
from pennypost_mint.last_use import last_use
from pennypost_mint.operate.backup_file import FORMAT, ROWS, Head, Reader, Rows, Writer
from pennypost_mint.operate.opening import snapshot
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_rows
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.seed import is_sealed, read_seed, read_text, unseal, write_seed
from pennypost_mint.tables import metadata

TABLES: dict[str, Table] = {str(table.name): table for table in metadata.sorted_tables}
"""All tables of the mint; what others refer to comes first."""

Progress = Callable[[int, int], None]
"""Told the rows done so far, and of how many."""


class Contents(NamedTuple):
    """What is in a backup that was read to its end; amounts in sat."""

    head: Head
    keysets: list[KeysetRow]
    signed: int
    spent: int

    @property
    def outstanding(self) -> int:
        """Sat in people's hands when it was made."""
        return self.signed - self.spent


async def backup(database: Database, settings: Settings, path: Path, progress: Progress) -> Head:
    """Writes the mint as it is now into a new file (mode 0600). Raises FileUnusable where there is one already."""
    sealed = read_text(settings.seed_file)
    seed = sealed if sealed is not None and is_sealed(sealed) else None
    return await snapshot(database, _backup_on, path, seed, progress)


def verify(path: Path, progress: Progress) -> Contents:
    """Reads the whole file. Raises BackupUnusable for one that is damaged, cut off or makes no sense."""
    with _opened(path) as file:
        reader = Reader(file)
        found = _Sums(reader.head)
        done, total = 0, sum(table.rows for table in reader.head.tables.values())
        for name, rows in reader.rows():
            found.take(name, rows)
            done += len(rows)
            progress(done, total)
    return found.contents()


async def restore(
    database: Database, settings: Settings, path: Path, progress: Progress, *, accept_double_spending: bool
) -> Contents:
    """Puts a backup into the empty tables of a migrated database, and its seed where the seed file is missing.

    Raises BackupUnusable, DatabaseInUse, SeedMismatch, SeedLocked, and BackupTooOld for one that is older than the
    last stamp taken or made, as the data folder has it, unless that is accepted. Then nothing was changed.
    """
    found = verify(path, progress)
    await database.read(_check_empty_on)
    used = last_use(settings.data_dir, found.head.mint)
    if used is not None and used > found.head.made_at and not accept_double_spending:
        raise BackupTooOld
    _settle_seed(settings, found)
    await database.write(_restore_on, path, progress)
    return found


def _settle_seed(settings: Settings, found: Contents) -> None:
    """The seed file that belongs to the backup: there already, or taken out of it. Raises SeedMismatch, SeedLocked."""
    path, passphrase = settings.seed_file, settings.mint_seed_passphrase.get_secret_value()
    seed = read_seed(path, passphrase)
    if seed is not None:
        check_seed(seed, found.keysets)
        return
    if found.head.seed is None:
        raise SeedMismatch("its file is missing, and the backup was made without it")
    check_seed(unseal(found.head.seed, passphrase), found.keysets)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_seed(path, found.head.seed)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError:
        raise BackupUnusable("the file cannot be read") from None


def _backup_on(connection: Connection, path: Path, seed: str | None, progress: Progress) -> Head:
    if path.exists():
        raise FileUnusable("it exists")
    # Before the snapshot is taken: what is noted later may be missing in it.
    made_at = time.time()
    try:
        descriptor, part = tempfile.mkstemp(prefix=f"{path.name}-", suffix=".part", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                head = _write_on(connection, file, made_at, seed, progress)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        raise FileUnusable("it cannot be written") from None
    return head


def _write_on(connection: Connection, file: BinaryIO, made_at: float, seed: str | None, progress: Progress) -> Head:
    tables = {
        name: Rows([str(column.name) for column in table.columns], _count_on(connection, table))
        for name, table in TABLES.items()
    }
    keysets = TABLES["keysets"].c
    mint = connection.execute(select(keysets.id).order_by(keysets.position).limit(1)).scalar()
    if mint is None:
        raise MintNotStarted
    head = Head(FORMAT, made_at, mint, version("pennypost"), tables, seed)
    writer = Writer(file, head)
    done, total = 0, sum(table.rows for table in tables.values())
    for name, table in TABLES.items():
        [key] = table.primary_key.columns
        last: Any = None
        while rows := _page_on(connection, table, key, last):
            writer.rows(name, rows)
            last = rows[-1][list(table.columns).index(key)]
            done += len(rows)
            progress(done, total)
    writer.end()
    return head


def _count_on(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _page_on(connection: Connection, table: Table, key: Any, last: Any) -> list[list[Any]]:
    statement = select(table).order_by(key).limit(ROWS)
    if last is not None:
        statement = statement.where(key > last)
    return [list(row) for row in connection.execute(statement)]


def _check_empty_on(connection: Connection) -> None:
    """Raises DatabaseInUse: a server that was ever started has made a keyset."""
    for table in TABLES.values():
        if connection.execute(select(table).limit(1)).first() is not None:
            raise DatabaseInUse


def _restore_on(connection: Connection, path: Path, progress: Progress) -> None:
    if connection.dialect.name == "postgresql":
        # A server that starts now makes its first keyset after us, and then finds ours.
        connection.execute(text("LOCK TABLE keysets IN EXCLUSIVE MODE"))
    _check_empty_on(connection)
    with _opened(path) as file:
        reader = Reader(file)
        _check_columns(reader.head)
        done, total = 0, sum(table.rows for table in reader.head.tables.values())
        for name, rows in reader.rows():
            columns = tuple(reader.head.tables[name].columns)
            insert_rows(connection, TABLES[name], columns, [tuple(row) for row in rows])
            done += len(rows)
            progress(done, total)


def _check_columns(head: Head) -> None:
    """Tables and columns that this version knows, in its order; what an older one lacked may be empty."""
    for name, given in head.tables.items():
        table = TABLES.get(name)
        if table is None:
            raise BackupUnusable("it was made by a newer version of this program")
        known = [column.name for column in table.columns]
        if [column for column in known if column in given.columns] != given.columns:
            raise BackupUnusable("it was made by a newer version of this program")
        if any(column.name not in given.columns and not column.nullable for column in table.columns):
            raise BackupUnusable("it was made by a version of this program that is too old")


class _Sums:
    """What `verify` remembers of the rows it has seen: little, whatever their number."""

    def __init__(self, head: Head) -> None:
        self._head = head
        _check_columns(head)
        if not {"keysets", "spent", "outputs", "mint_quotes"} <= head.tables.keys():
            raise BackupUnusable("tables are missing")
        self._keysets: list[KeysetRow] = []
        self._last: dict[str, Any] = {}
        self._sums: dict[str, Counter[int]] = {"outputs": Counter(), "spent": Counter()}

    def take(self, name: str, rows: list[Any]) -> None:
        """The next rows of a table. Raises BackupUnusable."""
        table, columns = TABLES[name], self._head.tables[name].columns
        [key] = table.primary_key.columns
        place = columns.index(key.name)
        kinds = [(table.c[column].type.python_type, table.c[column].nullable) for column in columns]
        for row in rows:
            if any(
                type(value) is not kind and not (value is None and empty)
                for value, (kind, empty) in zip(row, kinds, strict=True)
            ):
                raise BackupUnusable("a value is of the wrong kind")
            value, last = row[place], self._last.get(name)
            # Names are ordered as the database's language has it, so of them only the next one is compared.
            right = value != last if isinstance(value, str) else last is None or value > last
            if not right:
                raise BackupUnusable("a row is there twice, or out of order")
            self._last[name] = value
        if name == "keysets":
            given = [dict(zip(columns, row, strict=True)) for row in rows]
            self._keysets += [KeysetRow(*(row.get(field) for field in KeysetRow._fields)) for row in given]  # type: ignore[arg-type]
        elif name in self._sums:
            keyset, amount = columns.index("keyset"), columns.index("amount")
            for row in rows:
                self._sums[name][row[keyset]] += row[amount]

    def contents(self) -> Contents:
        """All of it. Raises BackupUnusable."""
        if not self._keysets or self._keysets[0].id != self._head.mint:
            raise BackupUnusable("its keysets are not those of its mint")
        known = {keyset.position for keyset in self._keysets}
        if any(not sums.keys() <= known for sums in self._sums.values()):
            raise BackupUnusable("a stamp is of a keyset that is not in it")
        signed, spent = (self._sums[name].total() for name in ("outputs", "spent"))
        return Contents(self._head, self._keysets, signed, spent)
