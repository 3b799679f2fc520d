"""The state of a home in one SQLite file: what was promised, paid, reserved, sent and seen.

    await store.run(work, *args)      one transaction (WAL, full sync) on the store's own thread

`work(connection, *args)` is a plain function; the functions named `*_on(connection, …)` in ledger.py, outbox.py and
inbox.py are made for it. When `run` returns, what it wrote survives a power cut; when it raises, nothing was written.
Several processes may share a home: the write lock of SQLite keeps two of them from reserving the same stamp.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from pennypost import database
from pennypost.home import Home
from pennypost.protocol.errors import HomeUnusable

P = ParamSpec("P")
T = TypeVar("T")

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE keysets (
        id TEXT NOT NULL, mint TEXT NOT NULL, unit TEXT NOT NULL, active INTEGER NOT NULL, fee INTEGER NOT NULL,
        final_expiry INTEGER, keys BLOB NOT NULL, PRIMARY KEY (mint, id)
    ) STRICT;
    CREATE TABLE counters (keyset TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT;
    CREATE TABLE purchases (
        mint TEXT NOT NULL, quote TEXT NOT NULL, amount INTEGER NOT NULL, request TEXT NOT NULL, key BLOB NOT NULL,
        state TEXT NOT NULL, expiry INTEGER NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (mint, quote)
    ) STRICT;
    CREATE TABLE operations (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, mint TEXT NOT NULL, quote TEXT, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE outputs (
        b BLOB PRIMARY KEY, operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
        position INTEGER NOT NULL, keyset TEXT NOT NULL, amount INTEGER NOT NULL, secret TEXT NOT NULL, r BLOB NOT NULL
    ) STRICT;
    CREATE INDEX outputs_operation ON outputs (operation, position);
    CREATE TABLE proofs (
        secret TEXT PRIMARY KEY, mint TEXT NOT NULL, keyset TEXT NOT NULL, amount INTEGER NOT NULL, c TEXT NOT NULL,
        state TEXT NOT NULL, holder TEXT
    ) STRICT;
    CREATE INDEX proofs_state ON proofs (mint, state, amount);
    CREATE INDEX proofs_holder ON proofs (holder) WHERE holder IS NOT NULL;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, mint TEXT NOT NULL, token TEXT NOT NULL, amount INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE outbox (
        event_id TEXT PRIMARY KEY, office TEXT NOT NULL, mint TEXT NOT NULL, event BLOB, token TEXT,
        sat INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, keep_until INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outbox_state ON outbox (state, created_at);
    CREATE TABLE offices (
        url TEXT PRIMARY KEY, last INTEGER NOT NULL DEFAULT 0, identity TEXT NOT NULL DEFAULT '',
        information BLOB, asked_at INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE seen (event_id TEXT PRIMARY KEY, keep_until INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE payments (
        hash BLOB PRIMARY KEY, state TEXT NOT NULL, msat INTEGER NOT NULL, fee_msat INTEGER NOT NULL,
        request TEXT NOT NULL, preimage BLOB, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE invoices (
        hash BLOB PRIMARY KEY, purpose TEXT NOT NULL, subject TEXT NOT NULL, peer TEXT NOT NULL, msat INTEGER NOT NULL,
        request TEXT NOT NULL, preimage BLOB, hold INTEGER NOT NULL, state TEXT NOT NULL, claimed_by TEXT,
        expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL, UNIQUE (purpose, subject)
    ) STRICT;
    CREATE TABLE offers (
        id TEXT PRIMARY KEY, seller TEXT NOT NULL, offer TEXT NOT NULL, body BLOB, state TEXT NOT NULL,
        expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE asks (
        id TEXT PRIMARY KEY, receiver TEXT NOT NULL, msat INTEGER NOT NULL, most INTEGER NOT NULL, text TEXT,
        hold INTEGER NOT NULL, keep INTEGER NOT NULL, state TEXT NOT NULL, invoice TEXT, hash BLOB, event BLOB,
        expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE requests (
        id TEXT PRIMARY KEY, sender TEXT NOT NULL, msat INTEGER NOT NULL, about TEXT NOT NULL, state TEXT NOT NULL,
        expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE desks (office TEXT PRIMARY KEY, last INTEGER NOT NULL, identity TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE channels (
        id TEXT PRIMARY KEY, office TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
        posters TEXT NOT NULL, state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE channel_keys (
        channel TEXT NOT NULL REFERENCES channels (id) ON DELETE CASCADE, start INTEGER NOT NULL, sold INTEGER NOT NULL,
        period INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, box TEXT, until INTEGER,
        PRIMARY KEY (channel, start, sold)
    ) STRICT;
    CREATE TABLE channel_members (
        channel TEXT NOT NULL REFERENCES channels (id) ON DELETE CASCADE, pub TEXT NOT NULL,
        told INTEGER NOT NULL DEFAULT 0, told_at INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (channel, pub)
    ) STRICT;
    CREATE TABLE channel_places (
        channel TEXT NOT NULL, office TEXT NOT NULL, last INTEGER NOT NULL, identity TEXT NOT NULL,
        PRIMARY KEY (channel, office)
    ) STRICT;
    """,
    """
    CREATE TABLE ecash_locks (
        hash BLOB PRIMARY KEY, offer TEXT NOT NULL, mint TEXT NOT NULL, amount INTEGER NOT NULL,
        paid_with TEXT NOT NULL, outputs BLOB NOT NULL, locked TEXT, event BLOB, locktime INTEGER NOT NULL,
        state TEXT NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE locked_tokens (offer TEXT PRIMARY KEY, token TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE session_device (id INTEGER PRIMARY KEY, state TEXT NOT NULL, version INTEGER NOT NULL) STRICT;
    CREATE TABLE session_prekeys (
        peer TEXT NOT NULL, device TEXT NOT NULL, word TEXT NOT NULL, made_at INTEGER NOT NULL, once INTEGER NOT NULL,
        PRIMARY KEY (peer, device)
    ) STRICT;
    CREATE TABLE sessions (
        peer TEXT NOT NULL, device TEXT NOT NULL, id TEXT NOT NULL, names BLOB NOT NULL, state TEXT NOT NULL,
        agreement BLOB, version INTEGER NOT NULL, used_at INTEGER NOT NULL, PRIMARY KEY (peer, device, id)
    ) STRICT;
    CREATE TABLE session_mail (
        event_id TEXT PRIMARY KEY, text TEXT NOT NULL, sent_at INTEGER NOT NULL, device TEXT NOT NULL
    ) STRICT;
    CREATE TABLE session_resets (
        peer TEXT NOT NULL, device TEXT NOT NULL, id TEXT NOT NULL, told INTEGER NOT NULL,
        PRIMARY KEY (peer, device, id)
    ) STRICT;
    """,
    """
    CREATE TABLE plain_places (place TEXT PRIMARY KEY, looked_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE letters (
        event_id TEXT PRIMARY KEY, once TEXT, digest BLOB NOT NULL, receiver TEXT NOT NULL, keep_until INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX letters_once ON letters (once) WHERE once IS NOT NULL;
    CREATE INDEX letters_digest ON letters (digest) WHERE once IS NULL;
    CREATE TABLE outbox_by_office (
        event_id TEXT NOT NULL, office TEXT NOT NULL, mint TEXT NOT NULL, event BLOB, token TEXT, sat INTEGER NOT NULL,
        state TEXT NOT NULL, code TEXT NOT NULL, keep_until INTEGER NOT NULL, created_at INTEGER NOT NULL,
        PRIMARY KEY (event_id, office)
    ) STRICT;
    INSERT INTO outbox_by_office
        SELECT event_id, office, mint, event, token, sat, state, code, keep_until, created_at FROM outbox;
    UPDATE proofs SET holder = holder || ' ' || (SELECT office FROM outbox WHERE event_id = proofs.holder)
        WHERE state = 'reserved' AND holder IN (SELECT event_id FROM outbox);
    DROP TABLE outbox;
    ALTER TABLE outbox_by_office RENAME TO outbox;
    CREATE INDEX outbox_state ON outbox (office, state, created_at);
    """,
    """
    CREATE TABLE mints (url TEXT PRIMARY KEY, added_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE names (name TEXT PRIMARY KEY, key BLOB NOT NULL, asked_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE contacts (
        key BLOB PRIMARY KEY, name TEXT NOT NULL, standing TEXT NOT NULL, added_at INTEGER NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE scan_keys (pub TEXT PRIMARY KEY, made_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE notices (
        event_id TEXT PRIMARY KEY, once TEXT, digest BLOB NOT NULL, event BLOB, text TEXT NOT NULL,
        signed INTEGER NOT NULL, preimage BLOB, invoice TEXT, carrier TEXT NOT NULL DEFAULT '',
        msat INTEGER NOT NULL DEFAULT 0, fee_msat INTEGER NOT NULL DEFAULT 0, keep_until INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX notices_once ON notices (once) WHERE once IS NOT NULL;
    CREATE INDEX notices_digest ON notices (digest) WHERE once IS NULL;
    """,
    """
    ALTER TABLE asks ADD COLUMN once TEXT;
    ALTER TABLE asks ADD COLUMN digest BLOB;
    ALTER TABLE asks ADD COLUMN letter TEXT;
    CREATE UNIQUE INDEX asks_once ON asks (once) WHERE once IS NOT NULL;
    ALTER TABLE requests ADD COLUMN event BLOB;
    ALTER TABLE channel_places ADD COLUMN read_at INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE relays (url TEXT PRIMARY KEY, named_at INTEGER NOT NULL) STRICT;
    CREATE TABLE releases (
        office TEXT NOT NULL, event_id TEXT NOT NULL, hold BLOB NOT NULL, preimage BLOB NOT NULL,
        identifier BLOB NOT NULL, keep_until INTEGER NOT NULL, PRIMARY KEY (office, event_id)
    ) STRICT;
    CREATE TABLE sales (
        offer TEXT PRIMARY KEY, once TEXT, digest BLOB NOT NULL, buyer TEXT NOT NULL, text TEXT NOT NULL,
        sat INTEGER NOT NULL, hold INTEGER NOT NULL, letters BLOB, expires_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX sales_once ON sales (once, buyer) WHERE once IS NOT NULL;
    CREATE INDEX sales_digest ON sales (digest) WHERE once IS NULL;
    """,
)
"""Each entry brings a file from one `user_version` to the next; never edit one that was released."""


class Store:
    """One open state file. Close it: its thread and its write-ahead log end with it."""

    def __init__(self, home: Home) -> None:
        """Nothing is opened, and no directory made, before the first `run`."""
        self._home = home
        self._thread = ThreadPoolExecutor(1, "pennypost-store")
        self._connection: sqlite3.Connection | None = None
        self._module: Any = sqlite3
        """Whose errors the connection raises: sqlite3, or SQLCipher's."""
        self._hold: int | None = None
        self._closed = False

    async def run(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(connection, …)` returns, once its one transaction is durable. Raises HomeUnusable."""
        loop = asyncio.get_running_loop()
        # Shielded: a caller that is cancelled must not leave it unknown whether the commit happened.
        return await asyncio.shield(
            loop.run_in_executor(self._thread, lambda: self._transaction(lambda c: work(c, *args, **kwargs)))
        )

    async def checkpoint(self) -> None:
        """Bring the write-ahead log into the file and empty it: what was deleted is gone from both."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._transaction_free, "PRAGMA wal_checkpoint(TRUNCATE)"
        )

    async def close(self) -> None:
        """Finish what is being written and close the file; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            # It has nothing left to do, so this takes no time.
            self._thread.shutdown()

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result
        except self._module.OperationalError:
            raise HomeUnusable("its database is locked, full or read-only") from None
        except self._module.DatabaseError as error:
            # The class itself is what a damaged file raises; its subclasses are faults of ours.
            if type(error) is self._module.DatabaseError:
                raise HomeUnusable("its database is damaged") from None
            raise

    def _transaction_free(self, statement: str) -> None:
        connection = self._connection or self._open()
        connection.execute(statement).fetchall()

    def _open(self) -> sqlite3.Connection:
        path = self._home.database()
        if path is not None and self._hold is None:
            self._home.tidy()
            # Until it is closed the home is not encrypted or decrypted by another process.
            self._hold = self._home.hold()
        try:
            connection, self._module = database.connect(path, self._key())
        except (OSError, sqlite3.Error):
            raise HomeUnusable("its database cannot be opened") from None
        try:
            database.write_ahead(connection, self._module)
            for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection)
        except self._module.DatabaseError:
            connection.close()
            raise HomeUnusable("its database cannot be opened") from None
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _key(self) -> bytes | None:
        key = self._home.key()
        if key is None:
            return None
        from pennypost.keyring import database_key

        return database_key(key)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        connection.execute("ROLLBACK")
        raise HomeUnusable("a newer pennypost made its database")
    for step in MIGRATIONS[version:]:
        for statement in step.split(";"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    connection.execute("COMMIT")
