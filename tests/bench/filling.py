"""Fills a stopped server's tables set-based, in the order and with the randomness of real use.

Rows come in commits of BATCH, each sorted by its key as the server sorts it; keys are random, so pages of the indexes
are as full as splitting leaves them. Only what is random is made anew for each row: nobody verifies what is stored.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import asyncpg

from pennypost.protocol.event import parse_event
from pennypost_postoffice.rows import feed_record, tag_keys
from tests.bench.letters import KEEP, PADDED

BATCH = 200
"""Rows that share a commit under load."""
COPIED = 50_000
"""Rows of one statement of PostgreSQL, and of one transaction of SQLite."""

Rows = Iterator[tuple[Any, ...]]


class Part(NamedTuple):
    """Rows for one table."""

    table: str
    columns: tuple[str, ...]
    rows: Rows


def fill_spent(address: str, count: int) -> None:
    """`count` spent proofs, and the outputs they once were; `address` is a SQLite file or one of PostgreSQL."""
    day = int(time.time()) // 86_400
    spent = ((b"\2" + os.urandom(32), 0, 1, day, None) for _ in range(count))
    signed = (
        (b"\2" + os.urandom(32), 0, 1, b"\2" + os.urandom(32), os.urandom(32), os.urandom(32), day)
        for _ in range(count)
    )
    _fill(address, Part("spent", ("y", "keyset", "amount", "day", "witness"), _as_committed(spent)))
    _fill(address, Part("outputs", ("b", "keyset", "amount", "c", "e", "s", "day"), _as_committed(signed)))
    _settle(address)


class Letter(NamedTuple):
    """A letter as the office stores it."""

    id: bytes
    pubkey: bytes
    created_at: int
    keep_until: int
    body: bytes
    key: bytes
    record: bytes


def fill_letters(address: str, first: int, count: int) -> None:
    """`count` stealth wraps with the feed numbers from `first` on, and as many spent stamps."""
    columns = ("id", "pubkey", "kind", "created_at", "keep_until", "body")
    for start in range(0, count, COPIED):
        letters = [_letter() for _ in range(min(COPIED, count - start))]
        events = ((each.id, each.pubkey, 1059, each.created_at, each.keep_until, each.body) for each in letters)
        _fill(address, Part("events", columns, _as_committed(events)))
        tags = ((each.key, each.created_at, each.id) for each in letters)
        _fill(address, Part("tags", ("key", "created_at", "event_id"), _as_committed(tags)))
        numbered = ((first + start + n, each.id, each.record, each.keep_until) for n, each in enumerate(letters))
        _fill(address, Part("feed", ("seq", "event_id", "record", "keep_until"), numbered))
    day = int(time.time()) // 86_400
    spent = ((b"\2" + os.urandom(32), 0, 1, day, None) for _ in range(count))
    _fill(address, Part("spent", ("y", "keyset", "amount", "day", "witness"), _as_committed(spent)))
    _execute(address, f"UPDATE feed_head SET last = {first + count - 1}")
    _settle(address)


def _letter() -> Letter:
    now = int(time.time())
    pubkey, identifier, receiver = os.urandom(32), os.urandom(32), os.urandom(32)
    sealed = b"\2" + os.urandom(32 + 2 + PADDED[identifier[0] % 3] + 32)
    body = (
        f'{{"id":"{identifier.hex()}","pubkey":"{pubkey.hex()}","created_at":{now},"kind":1059,'
        f'"tags":[["p","{receiver.hex()}"],["vt","{identifier[:4].hex()}"],["expiration","{now + KEEP}"]],'
        f'"content":"{base64.b64encode(sealed).decode()}","sig":"{os.urandom(64).hex()}"}}'
    ).encode()
    event = parse_event(body)
    record, (key,) = feed_record(event), tag_keys(event)
    assert record is not None
    return Letter(identifier, pubkey, now, now + KEEP, body, key, record)


def _as_committed(rows: Rows) -> Rows:
    while batch := sorted(islice(rows, BATCH)):
        yield from batch


def _is_file(address: str) -> bool:
    return "://" not in address


def _fill(address: str, part: Part) -> None:
    if _is_file(address):
        _fill_sqlite(address, part)
    else:
        asyncio.run(_fill_postgresql(address, part))


def _fill_sqlite(path: str, part: Part) -> None:
    marks = ", ".join("?" * len(part.columns))
    statement = f"INSERT INTO {part.table} ({', '.join(part.columns)}) VALUES ({marks})"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in ("synchronous = OFF", "cache_size = -1000000", "wal_autocheckpoint = 100000"):
            connection.execute(f"PRAGMA {pragma}")
        while batch := list(islice(part.rows, COPIED)):
            connection.execute("BEGIN")
            connection.executemany(statement, batch)
            connection.execute("COMMIT")
    finally:
        connection.close()


async def _fill_postgresql(address: str, part: Part) -> None:
    connection = await asyncpg.connect(address.replace("+asyncpg", ""))
    try:
        while batch := list(islice(part.rows, COPIED)):
            await connection.copy_records_to_table(part.table, records=batch, columns=list(part.columns))
    finally:
        await connection.close()


def _settle(address: str) -> None:
    """What a server that has run for a while has behind it: statistics, and a log that was written back."""
    if _is_file(address):
        _execute(address, "PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        _execute(address, "VACUUM (ANALYZE)")
        _execute(address, "CHECKPOINT")


def _execute(address: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(address.replace("+asyncpg", ""))
        try:
            await connection.execute(statement, timeout=600)
        finally:
            await connection.close()

    if not _is_file(address):
        asyncio.run(run())
        return
    connection = sqlite3.connect(address, isolation_level=None)
    try:
        connection.execute(statement).fetchall()
    finally:
        connection.close()
