"""The file of a backup: one format for SQLite and PostgreSQL, written and read as a stream.

    MAGIC  frame(head)  frame(rows) …  frame(end)          frame: 4-byte length, big-endian, then MessagePack

    head   ["head", {format, made_at, mint, program, tables: {name: {columns, rows}}, seed}]
    rows   ["rows", table, [[value, …], …]]                at most ROWS rows, tables in the order of the head
    end    ["end", SHA-256 of everything before it]        a file without it was cut off

The checksum finds damage, not malice: whoever can write the file can make another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import BinaryIO

import msgspec

from pennypost.protocol.errors import BackupUnusable

MAGIC = b"pennypost mint backup\n"
FORMAT = 1

ROWS = 1_000
"""Most rows of one frame."""

MOST_BYTES = 1 << 26
"""Of one frame; a thousand rows with the longest invoices and witnesses stay far below."""

Row = Sequence[object]

_LENGTH = struct.Struct("!I")


class Rows(msgspec.Struct, array_like=True, frozen=True):
    """How many rows of a table follow, and their columns."""

    columns: list[str]
    rows: int


class Head(msgspec.Struct, frozen=True):
    """What the file is; `made_at` in Unix seconds, `mint`: its first keyset's id, `seed`: text of a sealed file."""

    format: int
    made_at: float
    mint: str
    program: str
    tables: dict[str, Rows]
    seed: str | None = None


class Writer:
    """Writes a backup into an open file."""

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file = file
        self._hash = sha256()
        self._put(MAGIC)
        self._frame(["head", head])

    def rows(self, table: str, rows: Sequence[Row]) -> None:
        """The next rows of a table, at most ROWS."""
        self._frame(["rows", table, rows])

    def end(self) -> None:
        """The last frame: without it the file is no backup."""
        self._frame(["end", self._hash.digest()])

    def _frame(self, content: object) -> None:
        body = msgspec.msgpack.encode(content)
        self._put(_LENGTH.pack(len(body)) + body)

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


class Reader:
    """Reads a backup from an open file; every method raises BackupUnusable for what is not one, or not whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = sha256()
        if self._take(len(MAGIC)) != MAGIC:
            raise BackupUnusable("it does not begin as one")
        kind, content = self._frame()
        if kind != "head" or len(content) != 1:
            raise BackupUnusable("its head cannot be read")
        if isinstance(content[0], dict) and content[0].get("format") != FORMAT:
            raise BackupUnusable("it was made by another version of this program")
        try:
            self.head = msgspec.convert(content[0], Head)
        except msgspec.ValidationError:
            raise BackupUnusable("its head cannot be read") from None

    def rows(self) -> Iterator[tuple[str, list[Row]]]:
        """Table and rows of each frame, in order; ends after the checksum was right and all rows were there."""
        left = {name: table.rows for name, table in self.head.tables.items()}
        while True:
            before = self._hash.digest()
            kind, content = self._frame()
            if kind == "end":
                break
            if kind != "rows" or len(content) != 2:
                raise BackupUnusable("a part of it cannot be read")
            table, rows = content
            if not isinstance(table, str) or table not in left or not isinstance(rows, list):
                raise BackupUnusable("a part of it cannot be read")
            width = len(self.head.tables[table].columns)
            if any(not isinstance(row, list) or len(row) != width for row in rows):
                raise BackupUnusable("a part of it cannot be read")
            left[table] -= len(rows)
            yield table, rows
        if content != [before] or self._file.read(1):
            raise BackupUnusable("its checksum is wrong")
        if any(left.values()):
            raise BackupUnusable("rows are missing")

    def _frame(self) -> tuple[object, list[object]]:
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if length > MOST_BYTES:
            raise BackupUnusable("a part of it is too large")
        try:
            found = msgspec.msgpack.decode(self._take(length))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BackupUnusable("a part of it cannot be read") from None
        if not isinstance(found, list) or not found:
            raise BackupUnusable("a part of it cannot be read")
        return found[0], found[1:]

    def _take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise BackupUnusable("it was cut off")
        self._hash.update(data)
        return data
