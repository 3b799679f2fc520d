"""What this home pays: written down before the wallet is asked, so that no payment hash is ever paid twice.

    begin ─▶ begun ──▶ paid      the preimage is kept
               │  └──▶ failed    nothing was paid: the same invoice may be tried again, no other one with its hash
               └─ after a crash or silence the wallet is asked what became of it; it is not told to pay again

A row in `begun` is not sent to the wallet a second time before the wallet has said that it knows nothing of it, and the
time in which it could still act on it is over; then it is the same invoice, which no node pays twice.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from pennypost.lightning import PAYING, Paid, Wallet, fee_limit, proves
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    AlreadyPaid,
    InvoiceMismatch,
    NoWallet,
    OfferExpired,
    PaymentFailed,
    PaymentUnknown,
    WalletCannot,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
)
from pennypost.store import Store

NOTHING_PAID: Final = (PaymentFailed, WalletRefuses, WalletCannot, WalletUnreachable)
"""What a wallet raises when it certainly did not pay."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that arrived: payment hash and preimage have 32 bytes, amounts are in msat."""

    payment_hash: bytes
    msat: int
    fee_msat: int
    preimage: bytes = field(repr=False)


class Payments:
    """The payments of one home, by one wallet."""

    def __init__(self, store: Store, wallet: Callable[[], Wallet | None], clock: Callable[[], float]) -> None:
        """`wallet` gives the wallet, or None where none is connected."""
        self._store, self._wallet, self._clock = store, wallet, clock

    @property
    def wallet(self) -> Wallet:
        """Raises NoWallet."""
        wallet = self._wallet()
        if wallet is None:
            raise NoWallet
        return wallet

    async def pay(self, request: str, msat: int, *, timeout: float = PAYING) -> Payment:
        """Pay an invoice that the caller has checked, over exactly `msat`; one that was paid before is not paid again.

        Raises PaymentUnknown, AlreadyPaid where another invoice of this hash was tried, and after NoWallet,
        InvoiceMismatch, OfferExpired, WalletRefuses, WalletCannot, WalletUnreachable or PaymentFailed nothing was paid.
        """
        invoice, request = parse_invoice(request), request.strip().removeprefix("lightning:").lower()
        payment_hash = invoice.payment_hash
        if invoice.amount_msat != msat:
            raise InvoiceMismatch("its amount is not the price")
        wallet = self.wallet

        async def order() -> Paid:
            return await wallet.pay(request, max_fee_msat=fee_limit(msat), timeout=timeout)

        return await self._once(wallet, payment_hash, request, msat, invoice.expires_at, order)

    async def keysend(self, node: bytes, msat: int, records: Mapping[int, bytes], preimage: bytes) -> Payment:
        """Pay a node (33 bytes) without an invoice; what was paid with this preimage (32 bytes) is not paid again.

        The preimage is the caller's, chosen before: after a crash the same one finds the payment. Raises as `pay`,
        AlreadyPaid where it was tried for another node or other records.
        """
        wallet, payment_hash = self.wallet, sha256(preimage).digest()
        said = sha256(b"".join(struct.pack("!QI", k, len(v)) + v for k, v in sorted(records.items()))).hexdigest()

        async def order() -> Paid:
            return await wallet.keysend(node, msat, records, preimage)

        expires_at = int(self._clock()) + int(PAYING)
        return await self._once(wallet, payment_hash, f"keysend:{node.hex()}:{msat}:{said}", msat, expires_at, order)

    async def _once(
        self,
        wallet: Wallet,
        payment_hash: bytes,
        request: str,
        msat: int,
        expires_at: int,
        order: Callable[[], Awaitable[Paid]],
    ) -> Payment:
        now = int(self._clock())
        known = await self._store.run(begin_on, payment_hash, request, msat, now, expires_at)
        if known is not None and known.preimage:
            return Payment(payment_hash, known.msat, known.fee_msat, known.preimage)
        if known is not None:
            found = await self._look(wallet, payment_hash, known)
            if found is not None:
                return found
            await self._store.run(begin_on, payment_hash, request, msat, now, expires_at)
        try:
            return await self._done(payment_hash, msat, await order())
        except PaymentUnknown:
            raise
        except NOTHING_PAID:
            await self._store.run(fail_on, payment_hash)
            raise
        except WalletError as error:
            raise PaymentUnknown(error.detail) from None

    async def outcome(self, payment_hash: bytes) -> Payment | None:
        """What became of a payment of an earlier run; None: none was begun, or nothing was paid.

        Raises PaymentUnknown, NoWallet.
        """
        known = await self._store.run(payment_on, payment_hash)
        if known is None or known.state == "failed":
            return None
        if known.preimage:
            return Payment(payment_hash, known.msat, known.fee_msat, known.preimage)
        return await self._look(self.wallet, payment_hash, known)

    async def _look(self, wallet: Wallet, payment_hash: bytes, known: Row) -> Payment | None:
        """What the wallet says of a payment that was begun; None, and a row that failed, where it was not made."""
        try:
            found = await wallet.payment(payment_hash)
        except WalletError as error:
            raise PaymentUnknown(error.detail) from None
        if found is not None:
            return await self._done(payment_hash, known.msat, found)
        if self._clock() < known.created_at + wallet.late:
            raise PaymentUnknown("the wallet knows nothing of it yet")
        await self._store.run(fail_on, payment_hash)
        return None

    async def _done(self, payment_hash: bytes, msat: int, paid: Paid) -> Payment:
        if not proves(paid.preimage, payment_hash):
            raise PaymentUnknown("the wallet shows another preimage than that of the invoice")
        await self._store.run(finish_on, payment_hash, paid)
        return Payment(payment_hash, msat, paid.fee_msat, paid.preimage)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the journal."""

    state: str
    request: str
    msat: int
    fee_msat: int
    created_at: int
    preimage: bytes | None = field(repr=False)


def payment_on(connection: sqlite3.Connection, payment_hash: bytes) -> Row | None:
    """What the journal has of this payment hash."""
    row = connection.execute(
        "SELECT state, request, msat, fee_msat, created_at, preimage FROM payments WHERE hash = ?", (payment_hash,)
    ).fetchone()
    return Row(*row) if row else None


def begin_on(
    connection: sqlite3.Connection, payment_hash: bytes, request: str, msat: int, now: int, expires_at: int
) -> Row | None:
    """Write that this invoice is about to be paid; what the journal has when it was begun or paid before.

    Raises AlreadyPaid where another invoice with this hash was begun, OfferExpired for one whose time is over.
    """
    known = payment_on(connection, payment_hash)
    if known is not None and known.request != request:
        raise AlreadyPaid("another invoice with the same payment hash was tried before")
    if known is not None and known.state != "failed":
        return known
    if expires_at <= now:
        raise OfferExpired("the invoice has expired")
    connection.execute(
        "INSERT INTO payments (hash, state, msat, fee_msat, request, created_at) VALUES (?, 'begun', ?, 0, ?, ?)"
        " ON CONFLICT (hash) DO UPDATE SET state = 'begun', created_at = excluded.created_at",
        (payment_hash, msat, request, now),
    )
    return None


def finish_on(connection: sqlite3.Connection, payment_hash: bytes, paid: Paid) -> None:
    """The payment arrived."""
    connection.execute(
        "UPDATE payments SET state = 'paid', preimage = ?, fee_msat = ? WHERE hash = ?",
        (paid.preimage, paid.fee_msat, payment_hash),
    )


def fail_on(connection: sqlite3.Connection, payment_hash: bytes) -> None:
    """Nothing was paid."""
    connection.execute("UPDATE payments SET state = 'failed' WHERE hash = ? AND state = 'begun'", (payment_hash,))
