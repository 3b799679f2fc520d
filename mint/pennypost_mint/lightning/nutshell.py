"""The Lightning backends of the `cashu` package (Nutshell): LNbits, Blink, Strike, and LND over gRPC.

    this process ── JSON lines ──▶ nutshell_child.py.txt, run by PENNYPOST_CASHU_PYTHON ── HTTP, gRPC ──▶ the service

The package pins old versions of what we run on and changes global state when it is imported, so it lives in an
environment and a process of its own (`make cashu`). Its backends make invoices and say whether they are paid; around
that are our limits: time, the invoice read and held against the amount asked, and the table `lightning_invoices` with
what each backend calls an invoice, so that a restart of either process loses nothing. They do not say how much
arrived, except LND: elsewhere an invoice that is paid is credited with its own amount.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Invoice, Progress, Receipt
from pennypost_mint.lightning.child import Child
from pennypost_mint.lightning.lookout import Lookout
from pennypost_mint.lightning.rest import MSAT, check_invoice, fit_memo
from pennypost_mint.runtime.database import Database
from pennypost_mint.tables import lightning_invoices

SCRIPT = Path(__file__).with_name("nutshell_child.py.txt")

GIVE_UP = 86_400
"""Seconds past its expiry until an invoice that the service does not know any more counts as lost."""

MAX_REFERENCE = 4_096
"""Characters of what a service calls an invoice; Blink calls it by its BOLT11."""

MEMO = {"strike": 200}
"""Characters of a memo that a service takes at most, where that is less than an invoice holds."""

_c = lightning_invoices.c


class Row(NamedTuple):
    """A row of `lightning_invoices`; amount in sat, expiry in Unix seconds."""

    payment_hash: bytes
    backend: str
    reference: str
    amount: int
    expiry: int


class NutshellNode:
    """One account at a service. `backend` is lnbits, blink, strike or lndrpc, `environment` what it reads."""

    play_money = False

    def __init__(
        self,
        database: Database,
        python: Path,
        backend: str,
        environment: Mapping[str, str],
        *,
        endpoint: str = "",
    ) -> None:
        account = "\0".join([endpoint, *(f"{name}={environment[name]}" for name in sorted(environment))])
        self.till = f"{backend}:{sha256(account.encode()).hexdigest()[:24]}"
        self._database = database
        self._memo = MEMO.get(backend)
        first = {"backend": backend, "environment": dict(environment), "endpoint": endpoint}
        # -I: nothing of our environment or folders can be imported by mistake.
        self._child = Child([python, "-I", SCRIPT], first)
        self._lookout = Lookout(self.look_up)

    @classmethod
    def open(
        cls, database: Database, python: Path | None, backend: str, environment: Mapping[str, str | Path | None]
    ) -> NutshellNode:
        """An account by its settings, named as in `environment`; raises ConfigurationError naming the one missing."""
        if python is None:
            raise ConfigurationError(f"PENNYPOST_CASHU_PYTHON is not set, and {backend} needs it (make cashu)")
        if not python.is_file():
            raise ConfigurationError("PENNYPOST_CASHU_PYTHON names no program")
        given: dict[str, str] = {}
        for name, value in environment.items():
            setting, _, variable = name.partition(" ")
            if not value:
                raise ConfigurationError(f"{setting} is not set")
            if isinstance(value, Path) and not value.is_file():
                raise ConfigurationError(f"{setting} names a file that cannot be read")
            given[variable] = str(value.resolve()) if isinstance(value, Path) else value
        return cls(database, python.absolute(), backend, given)

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        order = {"do": "create", "amount": amount, "memo": fit_memo(memo)[: self._memo], "expiry": expiry_seconds}
        answer = await self._child.ask(order)
        request, reference = _text(answer.get("request")), _text(answer.get("reference"))
        found = check_invoice(request, amount)
        invoice = Invoice(request, found.payment_hash, found.expires_at)
        row = Row(invoice.payment_hash, self.till, reference, amount, invoice.expiry)
        await self._database.write(_add, row)
        self._lookout.add(invoice.payment_hash)
        return invoice

    async def look_up(self, payment_hash: bytes) -> Receipt:
        row = await self._database.read(_find, payment_hash)
        if row is None or row.backend != self.till:
            # Another node's invoice: this one cannot know it.
            return Receipt(payment_hash, Progress.LOST, 0)
        try:
            answer = await self._child.ask({"do": "look_up", "reference": row.reference})
        except LightningUnavailable:
            # Of an invoice that it has forgotten a service may only say that something went wrong.
            answer = {}
        match answer.get("state"):
            case "SETTLED":
                return Receipt(payment_hash, Progress.SETTLED, _received(answer.get("received_msat"), row.amount))
            case "PENDING":
                return Receipt(payment_hash, Progress.OPEN, 0)
            case "FAILED":
                return Receipt(payment_hash, Progress.LOST, 0)
            case _ if time.time() > row.expiry + GIVE_UP:
                return Receipt(payment_hash, Progress.LOST, 0)
            case _:
                # The backends say "unknown" of what they could not ask, too.
                raise LightningUnavailable

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        async for receipt in self._lookout.settled():
            yield receipt

    async def balance(self) -> int | None:
        found = (await self._child.ask({"do": "balance"})).get("sat")
        return found if type(found) is int and 0 <= found < 2**63 else None

    async def check(self) -> None:
        await self._child.ask({"do": "check"})

    async def close(self) -> None:
        await self._child.close()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REFERENCE or not value.isascii():
        raise LightningUnavailable
    return value


def _received(msat: Any, amount: int) -> int:
    if msat is None:
        return amount * MSAT
    if type(msat) is not int or not 0 <= msat < 2**63:
        raise LightningUnavailable
    return msat


def _add(connection: Connection, row: Row) -> None:
    connection.execute(insert(lightning_invoices).values(row._asdict()))


def _find(connection: Connection, payment_hash: bytes) -> Row | None:
    names = [lightning_invoices.c[name] for name in Row._fields]
    found = connection.execute(select(*names).where(_c.payment_hash == payment_hash)).first()
    return Row(*found) if found else None
