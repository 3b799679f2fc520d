"""Play money: a node of our own that signs real BOLT11 for a network that is not there.

The invoices begin with `lnbcrt` (regtest), so that no real wallet pays one by mistake. Each settles by itself, at
once or after a while, or when `pennypost play pay INVOICE` says so. Its book is the table `play_invoices`, written in
one transaction with the quote, so what was promised before a restart is kept after it, and `play pay` may run in
another process.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from hashlib import sha256

from sqlalchemy import Connection, select, update

from pennypost.protocol.errors import NotFound, QuoteExpired
from pennypost_mint.lightning import Entry, Invoice, Progress, Receipt
from pennypost_mint.lightning.bolt11 import encode_invoice
from pennypost_mint.runtime.database import Database
from pennypost_mint.tables import play_invoices

MSAT = 1_000
TICK = 0.2
"""Seconds between two looks into the book: the most a payment waits to be seen."""

_c = play_invoices.c
_COLUMNS = ("payment_hash", "request", "amount", "created_at", "expiry", "settle_at", "settled_at")


class PlayNode:
    """A node whose invoices settle `settle_after` seconds after they were made; None: only when told to.

    Those that settle at once are settled when they are handed out.
    """

    till = "play"
    play_money = True

    def __init__(self, database: Database, settle_after: float | None) -> None:
        self._database = database
        self._settle_after = settle_after
        # Whoever pays never checks who is paid, and no real money follows the key: a new one at each start.
        self._key = secrets.token_bytes(32)

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        moment = time.time()
        now = int(moment)
        preimage = secrets.token_bytes(32)
        payment_hash = sha256(preimage).digest()
        request = encode_invoice(
            self._key,
            amount,
            payment_hash,
            secrets.token_bytes(32),
            f"play money: {memo}",
            now,
            expiry_seconds,
        )
        expiry = now + expiry_seconds
        settle_at = None if self._settle_after is None else int(moment + self._settle_after)
        settled_at = now if settle_at == now else None
        row = (payment_hash, request, amount, now, expiry, settle_at, settled_at)
        received_msat = 0 if settled_at is None else amount * MSAT
        return Invoice(request, payment_hash, expiry, Entry(play_invoices, _COLUMNS, row), received_msat)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        return await self._database.read(_look_up, payment_hash, int(time.time()))

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        while True:
            now = int(time.time())
            if await self._database.read(_any_due, now):
                for receipt in await self._database.write(_settle, now):
                    yield receipt
            await asyncio.sleep(TICK)

    async def check(self) -> None:
        return None

    async def balance(self) -> int | None:
        return None

    async def close(self) -> None:
        return None


async def pay_play_invoice(database: Database, request: str) -> int:
    """Pays an invoice of a play node with this book; returns its amount (sat). Paying twice pays once.

    Raises NotFound for an invoice that is not in the book and QuoteExpired for one that is too old.
    """
    return await database.write(_pay, request.removeprefix("lightning:").lower(), int(time.time()))


def _look_up(connection: Connection, payment_hash: bytes, now: int) -> Receipt:
    row = connection.execute(
        select(_c.amount, _c.expiry, _c.settle_at, _c.settled_at).where(_c.payment_hash == payment_hash)
    ).first()
    if row is None:
        return Receipt(payment_hash, Progress.LOST, 0)
    if row.settled_at is not None or (row.settle_at is not None and row.settle_at <= now):
        return Receipt(payment_hash, Progress.SETTLED, row.amount * MSAT)
    lost = now >= row.expiry and row.settle_at is None
    return Receipt(payment_hash, Progress.LOST if lost else Progress.OPEN, 0)


def _any_due(connection: Connection, now: int) -> bool:
    due = select(_c.payment_hash).where(_c.settled_at.is_(None), _c.settle_at <= now).limit(1)
    return connection.execute(due).first() is not None


def _settle(connection: Connection, now: int) -> list[Receipt]:
    settled = connection.execute(
        update(play_invoices)
        .where(_c.settled_at.is_(None), _c.settle_at <= now)
        .values(settled_at=now)
        .returning(_c.payment_hash, _c.amount)
    )
    return [Receipt(payment_hash, Progress.SETTLED, amount * MSAT) for payment_hash, amount in settled]


def _pay(connection: Connection, request: str, now: int) -> int:
    row = connection.execute(
        select(_c.payment_hash, _c.amount, _c.expiry, _c.settle_at).where(_c.request == request)
    ).first()
    if row is None:
        raise NotFound("no such play-money invoice in this book")
    if row.settle_at is None or row.settle_at > now:
        if now >= row.expiry:
            raise QuoteExpired("its time to be paid is over")
        connection.execute(update(play_invoices).where(_c.payment_hash == row.payment_hash).values(settle_at=now))
    return row.amount
