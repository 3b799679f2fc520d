"""LND over its REST interface, with a macaroon that can make and read invoices and nothing else.

    create_invoice  POST /v1/invoices                       rights: invoices:write
    look_up         GET  /v1/invoice/<payment hash>         rights: invoices:read
    settled         GET  /v1/invoices/subscribe?settle_index=N   lines of JSON, one invoice each
    balance         GET  /v1/balance/channels               rights: offchain:read, which need not be given

Every call has a time limit. LND sends no backlog for settle_index 0 or none, so until the first invoice has
settled only look-ups find what was missed. Its refusals are HTTP 500 with a text that we do not repeat.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Invoice, Progress, Receipt, rest
from pennypost_mint.lightning.rest import check_invoice, count, decode, fit_memo, read_file, trust

SILENCE = 90.0
"""Seconds a stream may say nothing: then it is opened again, since a connection that died says nothing either."""

_CERTIFICATE = "PENNYPOST_LND_CERT_FILE"

_UNKNOWN = bytes(32)


class _Made(msgspec.Struct):
    r_hash: str
    payment_request: str


class _Found(msgspec.Struct):
    r_hash: str
    state: str = "OPEN"
    amt_paid_msat: str = "0"
    settle_index: str = "0"


class _Line(msgspec.Struct):
    result: _Found


class _Sum(msgspec.Struct):
    sat: str = "0"


class _Funds(msgspec.Struct):
    local_balance: _Sum = msgspec.field(default_factory=_Sum)


class LndNode:
    """One LND node. `macaroon` is the file's bytes; `certificate` the PEM it must show, None: any the system trusts."""

    play_money = False

    def __init__(self, url: str, macaroon: bytes, certificate: bytes | None) -> None:
        self.till = "lnd:" + sha256(url.encode() + (certificate or b"")).hexdigest()[:24]
        headers = {"Grpc-Metadata-macaroon": macaroon.hex()}
        self._client = rest.open_client(url, headers, trust(certificate, _CERTIFICATE))

    @classmethod
    def open(cls, url: str, macaroon_file: Path | None, certificate_file: Path | None) -> LndNode:
        """A node by its settings; raises ConfigurationError naming the one that is wrong."""
        if not url:
            raise ConfigurationError("PENNYPOST_LND_URL is not set")
        if macaroon_file is None:
            raise ConfigurationError("PENNYPOST_LND_MACAROON_FILE is not set")
        if certificate_file is not None and not url.startswith("https://"):
            raise ConfigurationError(f"{_CERTIFICATE} is set, but PENNYPOST_LND_URL is not https")
        macaroon = read_file(macaroon_file, "PENNYPOST_LND_MACAROON_FILE")
        certificate = None if certificate_file is None else read_file(certificate_file, _CERTIFICATE)
        return cls(url, macaroon, certificate)

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        # `private` adds the hints without which a node that has only unannounced channels cannot be paid.
        order = {"value": str(amount), "memo": fit_memo(memo), "expiry": str(expiry_seconds), "private": True}
        made = decode(await self._ask("POST", "/v1/invoices", json=order), _Made)
        invoice = check_invoice(made.payment_request, amount)
        if invoice.payment_hash != _hash(made.r_hash):
            raise LightningUnavailable
        return Invoice(made.payment_request, invoice.payment_hash, invoice.expires_at)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        answer = await rest.send(self._client, "GET", f"/v1/invoice/{payment_hash.hex()}")
        if answer.status == httpx.codes.NOT_FOUND:
            return Receipt(payment_hash, Progress.LOST, 0)
        receipt = _receipt(decode(_good(answer), _Found))
        if receipt.payment_hash != payment_hash:
            raise LightningUnavailable
        return receipt

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        query = {"settle_index": str(after)} if after else {}
        limits = httpx.Timeout(rest.SECONDS, read=SILENCE)
        try:
            async with self._client.stream("GET", "/v1/invoices/subscribe", params=query, timeout=limits) as response:
                if response.status_code != httpx.codes.OK:
                    raise LightningUnavailable
                async for line in response.aiter_lines():
                    receipt = _receipt(decode(line.encode(), _Line).result)
                    if receipt.progress is Progress.SETTLED:
                        yield receipt
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError:
            raise LightningUnavailable from None

    async def check(self) -> None:
        # A hash nobody has: answered by every node that is up, with no right but invoices:read.
        await self.look_up(_UNKNOWN)

    async def balance(self) -> int | None:
        answer = await rest.send(self._client, "GET", "/v1/balance/channels")
        # Any refusal: without the right LND answers 500.
        return count(decode(answer.body, _Funds).local_balance.sat) if answer.status == httpx.codes.OK else None

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        return _good(await rest.send(self._client, method, path, **options))


def _good(answer: rest.Answer) -> bytes:
    if answer.status != httpx.codes.OK:
        raise LightningUnavailable
    return answer.body


def _receipt(found: _Found) -> Receipt:
    payment_hash = _hash(found.r_hash)
    if found.state == "SETTLED":
        return Receipt(payment_hash, Progress.SETTLED, count(found.amt_paid_msat), count(found.settle_index))
    # LND says CANCELED of an expired invoice too; ACCEPTED is a payment that is held and not ours yet.
    return Receipt(payment_hash, Progress.LOST if found.state == "CANCELED" else Progress.OPEN, 0)


def _hash(text: str) -> bytes:
    try:
        payment_hash = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise LightningUnavailable from None
    if len(payment_hash) != 32:
        raise LightningUnavailable
    return payment_hash
