"""Core Lightning's REST interface after its published schema: what a node must answer, and nothing of a real node.

Every call and its answer are noted; `strays` holds them against `published.cln`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from hashlib import sha256
from typing import Any

from pennypost_mint.lightning.bolt11 import encode_invoice
from tests.support.http import Request
from tests.support.published import strays
from tests.support.published.cln import METHODS, judge

RUNE = "tU-RLjMiDpY2U0o3W1oFowar36RFGpWloPbW9-RuZdo9MyZpZD0wMjRiOWExZmE4ZTAwNmYxZTM5MzdmNjVmNjZjNDA4ZTZkYTh"

MISSING_RUNE, BAD_RUNE, NO_METHOD, BAD_PARAMETERS, TIMED_OUT = 1501, 1502, -32601, -32602, 904


class Refused(Exception):
    """HTTP status and code of an error."""

    def __init__(self, status: int, code: int) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class ClnRest:
    """The book of one node; it survives that the server in front of it is stopped."""

    def __init__(self) -> None:
        self.invoices: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.strays: list[str] = []
        """What of any call, or of its answer, does not fit what is published."""
        self.channels: list[dict[str, Any]] = []
        self._paid = asyncio.Event()
        self._payments = 0
        self._key = secrets.token_bytes(32)

    async def answer(self, request: Request) -> tuple[int, Any]:
        """One call, as clnrest answers it."""
        try:
            status, answer = 201, await self._call(request)
        except Refused as refused:
            status = refused.status
            answer = {"code": refused.code, "message": f"words about {request.body.decode()}"}
        self.strays += judge(request.method, request.path, request.json(), status, answer)
        return status, answer

    def pay(self, payment_hash: str, msat: int) -> None:
        """The node receives so much for an invoice that is not paid yet."""
        invoice = self.invoices[payment_hash]
        assert self.status(invoice) == "unpaid"
        self._payments += 1
        invoice |= {
            "status": "paid",
            "pay_index": self._payments,
            "amount_received_msat": msat,
            "paid_at": int(time.time()),
            "payment_preimage": secrets.token_hex(32),
        }
        self._paid.set()
        self._paid = asyncio.Event()

    async def _call(self, request: Request) -> dict[str, Any]:
        rune = request.headers.get("rune")
        if rune != RUNE:
            raise Refused(403, MISSING_RUNE) if rune is None else Refused(401, BAD_RUNE)
        name = request.path.removeprefix("/v1/")
        if request.method != "POST" or name not in METHODS:
            raise Refused(404, NO_METHOD)
        parameters = request.json()
        if strays(METHODS[name].request, parameters):
            raise Refused(500, BAD_PARAMETERS)
        self.calls.append((name, parameters))
        if name == "invoice":
            return self._invoice(**parameters)
        if name == "listfunds":
            return {"outputs": [], "channels": self.channels}
        if name == "listinvoices":
            return self._list(**parameters)
        return await self._wait(**parameters)

    def _invoice(self, amount_msat: int, label: str, description: str, expiry: int = 604_800) -> dict[str, Any]:
        if type(amount_msat) is not int or amount_msat <= 0 or not description.isprintable():
            raise Refused(500, BAD_PARAMETERS)
        if any(invoice["label"] == label for invoice in self.invoices.values()):
            raise Refused(500, 900)
        now, secret, preimage = int(time.time()), secrets.token_bytes(32), secrets.token_bytes(32)
        payment_hash = sha256(preimage).digest()
        bolt11 = encode_invoice(self._key, amount_msat // 1_000, payment_hash, secret, description, now, expiry)
        self.invoices[payment_hash.hex()] = {
            "label": label,
            "description": description,
            "payment_hash": payment_hash.hex(),
            "status": "unpaid",
            "expires_at": now + expiry,
            "amount_msat": amount_msat,
            "bolt11": bolt11,
            "created_index": len(self.invoices) + 1,
        }
        return {
            "bolt11": bolt11,
            "payment_hash": payment_hash.hex(),
            "payment_secret": secret.hex(),
            "expires_at": now + expiry,
            "created_index": len(self.invoices),
            "warning_capacity": "Insufficient incoming channel capacity to pay invoice",
        }

    def _list(self, payment_hash: str) -> dict[str, Any]:
        found = self.invoices.get(payment_hash)
        return {"invoices": [] if found is None else [found | {"status": self.status(found)}]}

    async def _wait(self, lastpay_index: int = 0, timeout: int | None = None) -> dict[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            paid = [each for each in self.invoices.values() if each.get("pay_index", 0) > lastpay_index]
            if paid:
                return min(paid, key=lambda invoice: invoice["pay_index"])
            left = None if deadline is None else deadline - time.monotonic()
            try:
                await asyncio.wait_for(self._paid.wait(), left)
            except TimeoutError:
                raise Refused(500, TIMED_OUT) from None

    @staticmethod
    def status(invoice: dict[str, Any]) -> str:
        """unpaid, paid or expired."""
        late = invoice["status"] == "unpaid" and time.time() >= invoice["expires_at"]
        return "expired" if late else invoice["status"]
