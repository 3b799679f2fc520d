"""Play money: wallets that pay each other in a book of their own, in memory or in a file that programs share.

    book = PlayBook()                 wallet(name) ─▶ make_invoice ─▶ BOLT11 for regtest ─▶ pay ─▶ preimage

For trying things and for tests. The invoices begin with `lnbcrt`, so that no real wallet pays one, and are real BOLT11
otherwise. A wallet begins with a million sat of it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from hashlib import sha256
from typing import Final, TypeVar

import msgspec

from pennypost.lightning import PAYING, Made, Paid, Received, Stage
from pennypost.protocol import secp
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import InvalidWalletLink, PaymentFailed, PaymentUnknown, WalletRefuses

FUNDS: Final = 1_000_000_000
"""What a wallet begins with, in msat."""
LOOK: Final = 0.05
"""Seconds between two looks into the book while waiting."""

T = TypeVar("T")

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS wallets (name TEXT PRIMARY KEY, key BLOB NOT NULL, point BLOB NOT NULL, msat INTEGER);
CREATE TABLE IF NOT EXISTS invoices (
    hash BLOB PRIMARY KEY, wallet TEXT, request TEXT, msat INTEGER, preimage BLOB, hold INTEGER, state TEXT,
    payer TEXT, expires_at INTEGER
);
CREATE TABLE IF NOT EXISTS receipts (
    number INTEGER PRIMARY KEY, wallet TEXT, hash BLOB, msat INTEGER, comment TEXT, records BLOB
);
"""


class PlayBook:
    """Who has how much play money. `path=None` keeps it in memory, for all threads of this process."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Raises InvalidWalletLink where the file cannot be used."""
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._connection.executescript(_TABLES)
        except sqlite3.Error:
            raise InvalidWalletLink("the file of its play money cannot be used") from None

    def wallet(self, name: str | None = None) -> PlayWallet:
        """The wallet of that name, or a fresh one."""
        name = name or secrets.token_hex(8)
        key = secrets.token_bytes(31).rjust(32, b"\1")

        def add_on(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO wallets VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (name, key, secp.point(key), FUNDS)
            )

        self.run(add_on)
        return PlayWallet(self, name)

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                done = work(self._connection)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            return done

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class PlayWallet:
    """One wallet of a book (see lightning.Wallet)."""

    late = 0

    def __init__(self, book: PlayBook, name: str) -> None:
        self._book, self.name = book, name

    @property
    def node(self) -> bytes:
        """The key that keysend payments name, 33 bytes."""
        return self._row("point")

    def _row(self, column: str) -> bytes:
        query = f"SELECT {column} FROM wallets WHERE name = ?"
        return self._book.run(lambda connection: connection.execute(query, (self.name,)).fetchone()[0])

    async def pay(self, request: str, *, max_fee_msat: int, timeout: float = PAYING) -> Paid:
        """As Wallet.pay."""
        invoice = parse_invoice(request)
        stage = self._book.run(lambda connection: self._pay_on(connection, request, invoice.payment_hash))
        deadline = time.monotonic() + timeout
        while stage is Stage.HELD and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)
            stage = self._book.run(lambda connection: _stage_on(connection, invoice.payment_hash))
        match stage:
            case Stage.SETTLED:
                return Paid(self._preimage(invoice.payment_hash), 0)
            case Stage.HELD:
                raise PaymentUnknown("the receiver has not taken it yet")
            case _:
                raise PaymentFailed("the receiver gave it back")

    def _pay_on(self, connection: sqlite3.Connection, request: str, payment_hash: bytes) -> Stage:
        row = connection.execute(
            "SELECT state, msat, hold, expires_at, request FROM invoices WHERE hash = ?", (payment_hash,)
        ).fetchone()
        if row is None or row[4] != request.strip().lower().removeprefix("lightning:"):
            raise PaymentFailed("no such invoice in this book of play money")
        state, msat, hold, expires_at, _ = row
        if state != Stage.OPEN or expires_at <= time.time():
            raise PaymentFailed("this invoice was paid, or its time is over")
        self._move_on(connection, self.name, -msat)
        stage = Stage.HELD if hold else Stage.SETTLED
        connection.execute(
            "UPDATE invoices SET state = ?, payer = ? WHERE hash = ?", (stage.value, self.name, payment_hash)
        )
        if stage is Stage.SETTLED:
            _receive_on(connection, payment_hash)
        return stage

    def _move_on(self, connection: sqlite3.Connection, name: str, msat: int) -> None:
        moved = connection.execute(
            "UPDATE wallets SET msat = msat + ? WHERE name = ? AND msat + ? >= 0", (msat, name, msat)
        )
        if moved.rowcount != 1:
            raise PaymentFailed("there is not so much play money in this wallet")

    def _preimage(self, payment_hash: bytes) -> bytes:
        query = "SELECT preimage FROM invoices WHERE hash = ?"
        return self._book.run(lambda connection: connection.execute(query, (payment_hash,)).fetchone()[0])

    async def payment(self, payment_hash: bytes) -> Paid | None:
        """As Wallet.payment."""
        query = "SELECT state, preimage FROM invoices WHERE hash = ? AND payer = ?"
        row = self._book.run(lambda connection: connection.execute(query, (payment_hash, self.name)).fetchone())
        if row is None or row[0] == Stage.OVER:
            return None
        if row[0] == Stage.HELD:
            raise PaymentUnknown("the receiver has not taken it yet")
        return Paid(row[1], 0)

    async def make_invoice(
        self,
        msat: int,
        *,
        description: str = "",
        description_hash: bytes | None = None,
        expiry: int = 3600,
        preimage: bytes | None = None,
        hold: bool = False,
    ) -> Made:
        """As Wallet.make_invoice; a preimage can be set."""
        preimage = preimage or secrets.token_bytes(32)
        payment_hash, now = sha256(preimage).digest(), int(time.time())
        described = description_hash if description_hash is not None else description
        key, payment_secret = self._row("key"), secrets.token_bytes(32)
        request = write_invoice(key, msat, payment_hash, payment_secret, described, now, expiry)

        def add_on(connection: sqlite3.Connection) -> None:
            added = connection.execute(
                "INSERT INTO invoices VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING",
                (payment_hash, self.name, request, msat, None if hold else preimage, hold, Stage.OPEN, now + expiry),
            )
            if added.rowcount != 1:
                raise WalletRefuses("there is an invoice with this payment hash")

        self._book.run(add_on)
        return Made(request, payment_hash, now + expiry, None if hold else preimage, hold)

    async def invoice(self, payment_hash: bytes) -> tuple[Stage, int]:
        """As Wallet.invoice."""
        query = "SELECT state, msat, expires_at FROM invoices WHERE hash = ? AND wallet = ?"
        row = self._book.run(lambda connection: connection.execute(query, (payment_hash, self.name)).fetchone())
        if row is None or (row[0] == Stage.OPEN and row[2] <= time.time()):
            return Stage.OVER, 0
        return Stage(row[0]), row[1] if row[0] in (Stage.HELD, Stage.SETTLED) else 0

    async def settle(self, preimage: bytes) -> None:
        """As Wallet.settle."""
        payment_hash = sha256(preimage).digest()

        def settle_on(connection: sqlite3.Connection) -> None:
            settled = connection.execute(
                "UPDATE invoices SET state = 'settled', preimage = ? WHERE hash = ? AND wallet = ? AND state = 'held'",
                (preimage, payment_hash, self.name),
            )
            if settled.rowcount == 1:
                _receive_on(connection, payment_hash)
            elif _stage_on(connection, payment_hash) is not Stage.SETTLED:
                raise WalletRefuses("nobody has paid this invoice")

        self._book.run(settle_on)

    async def cancel(self, payment_hash: bytes) -> None:
        """As Wallet.cancel."""

        def cancel_on(connection: sqlite3.Connection) -> None:
            held = connection.execute(
                "SELECT payer, msat FROM invoices WHERE hash = ? AND wallet = ? AND state = 'held'",
                (payment_hash, self.name),
            ).fetchone()
            if held is not None:
                self._move_on(connection, held[0], held[1])
            connection.execute(
                "UPDATE invoices SET state = 'over' WHERE hash = ? AND wallet = ? AND state IN ('open', 'held')",
                (payment_hash, self.name),
            )

        self._book.run(cancel_on)

    async def keysend(self, node: bytes, msat: int, records: Mapping[int, bytes], preimage: bytes) -> Paid:
        """As Wallet.keysend."""

        def send_on(connection: sqlite3.Connection) -> None:
            found = connection.execute("SELECT name FROM wallets WHERE point = ?", (node,)).fetchone()
            if found is None:
                raise PaymentFailed("nobody in this book has that key")
            payment_hash = sha256(preimage).digest()
            if connection.execute("SELECT 1 FROM invoices WHERE hash = ?", (payment_hash,)).fetchone():
                raise PaymentFailed("this was paid before")
            connection.execute(
                "INSERT INTO invoices (hash, wallet, request, msat, preimage, hold, state, payer, expires_at)"
                " VALUES (?, ?, '', ?, ?, 0, ?, ?, 0)",
                (payment_hash, found[0], msat, preimage, Stage.SETTLED, self.name),
            )
            self._move_on(connection, self.name, -msat)
            self._move_on(connection, found[0], msat)
            written = msgspec.json.encode({number: value.hex() for number, value in records.items()})
            connection.execute(
                "INSERT INTO receipts (wallet, hash, msat, comment, records) VALUES (?, ?, ?, '', ?)",
                (found[0], payment_hash, msat, written),
            )

        self._book.run(send_on)
        return Paid(preimage, 0)

    async def received(self) -> AsyncGenerator[Received]:
        """As Wallet.received."""
        last = self._book.run(lambda c: c.execute("SELECT coalesce(max(number), 0) FROM receipts").fetchone()[0])
        query = "SELECT number, hash, msat, comment, records FROM receipts WHERE wallet = ? AND number > ?"
        while True:
            rows = self._book.run(lambda c, after=last: c.execute(query, (self.name, after)).fetchall())
            for number, payment_hash, msat, comment, records in rows:
                last = number
                read = msgspec.json.decode(records, type=dict[int, str])
                yield Received(payment_hash, msat, comment, {key: bytes.fromhex(each) for key, each in read.items()})
            await asyncio.sleep(LOOK)

    async def balance(self) -> int:
        """As Wallet.balance."""
        query = "SELECT msat FROM wallets WHERE name = ?"
        return self._book.run(lambda connection: connection.execute(query, (self.name,)).fetchone()[0])

    async def close(self) -> None:
        """As Wallet.close; the book stays open for the others."""


def _stage_on(connection: sqlite3.Connection, payment_hash: bytes) -> Stage:
    with closing(connection.execute("SELECT state FROM invoices WHERE hash = ?", (payment_hash,))) as found:
        row = found.fetchone()
    return Stage(row[0]) if row else Stage.OVER


def _receive_on(connection: sqlite3.Connection, payment_hash: bytes) -> None:
    """The payee has an invoice's amount, and hears of it."""
    connection.execute(
        "UPDATE wallets SET msat = msat + (SELECT msat FROM invoices WHERE hash = ?)"
        " WHERE name = (SELECT wallet FROM invoices WHERE hash = ?)",
        (payment_hash, payment_hash),
    )
    connection.execute(
        "INSERT INTO receipts (wallet, hash, msat, comment, records)"
        " SELECT wallet, hash, msat, '', '{}' FROM invoices WHERE hash = ?",
        (payment_hash,),
    )
