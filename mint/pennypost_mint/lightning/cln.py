"""Core Lightning over its REST interface (clnrest), with a rune that can make and read invoices and nothing else.

    create_invoice  POST /v1/invoice
    look_up         POST /v1/listinvoices      {payment_hash}
    settled         POST /v1/waitanyinvoice    {lastpay_index, timeout}, one answer for each payment
    balance         POST /v1/listfunds         which the rune need not allow

A rune that allows the three methods is enough. Every call has a time limit. `waitanyinvoice` begins where we stopped:
a node gives every payment a number (`pay_index`) and hands out the first one after the number it is given, so nothing
that was paid while we were away is missed; without a number it begins with the first payment the node ever took.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Invoice, Progress, Receipt, rest
from pennypost_mint.lightning.rest import check_invoice, count, decode, fit_memo, read_file, trust
from pennypost_mint.runtime.logs import logger

WAIT = 60
"""Seconds that the node may hold one `waitanyinvoice`; then it is asked again, for a dead connection is silent too."""

GRACE = 10.0
"""Seconds it may take longer than it was asked to."""

_CERTIFICATE = "PENNYPOST_CLN_CERT_FILE"
_CREATED, _OK, _FAILED = 201, 200, 500
_TIMED_OUT = 904
"""The error of `waitanyinvoice` when nothing was paid in time (lightning-waitanyinvoice(7), Errors)."""

log = logger("lightning")

_UNKNOWN = bytes(32)
_MAX_INDEX = 2**63 - 1


class _Made(msgspec.Struct):
    bolt11: str
    payment_hash: str


class _Found(msgspec.Struct):
    payment_hash: str
    status: str
    # Nodes before 23.08 write "1000msat".
    amount_received_msat: int | str = 0
    pay_index: int = 0


class _List(msgspec.Struct):
    invoices: list[_Found]


class _Channel(msgspec.Struct):
    our_amount_msat: int | str = 0
    state: str = ""


class _Funds(msgspec.Struct):
    channels: list[_Channel]


class _Refusal(msgspec.Struct):
    code: int = 0


class ClnNode:
    """One Core Lightning node. `certificate` is the PEM it must show; None: any the system trusts."""

    play_money = False

    def __init__(self, url: str, rune: str, certificate: bytes | None) -> None:
        self.till = "cln:" + sha256(url.encode() + (certificate or b"")).hexdigest()[:24]
        self._client = rest.open_client(url, {"Rune": rune}, trust(certificate, _CERTIFICATE))

    @classmethod
    def open(cls, url: str, rune: str, certificate_file: Path | None) -> ClnNode:
        """A node by its settings; raises ConfigurationError naming the one that is wrong."""
        if not url:
            raise ConfigurationError("PENNYPOST_CLN_URL is not set")
        if not rune or not rune.isascii() or not rune.isprintable() or " " in rune:
            raise ConfigurationError("PENNYPOST_CLN_RUNE (or PENNYPOST_CLN_RUNE_FILE) does not hold a rune")
        if certificate_file is not None and not url.startswith("https://"):
            raise ConfigurationError(f"{_CERTIFICATE} is set, but PENNYPOST_CLN_URL is not https")
        return cls(url, rune, None if certificate_file is None else read_file(certificate_file, _CERTIFICATE))

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        order = {
            "amount_msat": amount * rest.MSAT,
            "label": f"pennypost-{secrets.token_hex(16)}",
            "description": fit_memo(memo),
            "expiry": expiry_seconds,
        }
        made = decode(await self._ask("invoice", order), _Made)
        invoice = check_invoice(made.bolt11, amount)
        if invoice.payment_hash != rest.payment_hash(made.payment_hash):
            raise LightningUnavailable
        return Invoice(made.bolt11, invoice.payment_hash, invoice.expires_at)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        answer = await self._ask("listinvoices", {"payment_hash": payment_hash.hex()})
        found = decode(answer, _List).invoices
        if not found:
            return Receipt(payment_hash, Progress.LOST, 0)
        receipt = _receipt(found[0])
        if receipt.payment_hash != payment_hash or len(found) > 1:
            raise LightningUnavailable
        return receipt

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        index = after or 0
        while True:
            order = {"lastpay_index": index, "timeout": WAIT}
            answer = await rest.send(self._client, "POST", "/v1/waitanyinvoice", json=order, seconds=WAIT + GRACE)
            if answer.status == _FAILED and _refusal(answer.body) == _TIMED_OUT:
                continue
            receipt = _receipt(decode(_good(answer), _Found))
            if receipt.progress is not Progress.SETTLED or receipt.position is None or receipt.position <= index:
                # The same answer again would be asked for without end.
                raise LightningUnavailable
            yield receipt
            index = receipt.position

    async def check(self) -> None:
        # A hash nobody has: answered by every node that is up, with no right but listinvoices.
        answer = await rest.send(self._client, "POST", "/v1/listinvoices", json={"payment_hash": _UNKNOWN.hex()})
        if answer.status not in (_OK, _CREATED):
            log.error("Core Lightning refuses: is it the right rune?", status=answer.status)
            raise LightningUnavailable

    async def balance(self) -> int | None:
        answer = await rest.send(self._client, "POST", "/v1/listfunds", json={})
        if answer.status not in (_OK, _CREATED):
            return None
        channels = decode(answer.body, _Funds).channels
        return sum(_msat(each.our_amount_msat) for each in channels if each.state == "CHANNELD_NORMAL") // rest.MSAT

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, order: Mapping[str, object]) -> bytes:
        return _good(await rest.send(self._client, "POST", f"/v1/{method}", json=order))


def _good(answer: rest.Answer) -> bytes:
    if answer.status not in (_OK, _CREATED):
        raise LightningUnavailable
    return answer.body


def _refusal(body: bytes) -> int:
    return decode(body, _Refusal).code


def _receipt(found: _Found) -> Receipt:
    payment_hash = rest.payment_hash(found.payment_hash)
    match found.status:
        case "paid":
            if not 0 < found.pay_index <= _MAX_INDEX:
                raise LightningUnavailable
            return Receipt(payment_hash, Progress.SETTLED, _msat(found.amount_received_msat), found.pay_index)
        case "expired":
            return Receipt(payment_hash, Progress.LOST, 0)
        case _:
            return Receipt(payment_hash, Progress.OPEN, 0)


def _msat(amount: int | str) -> int:
    return count(str(amount).removesuffix("msat"))
