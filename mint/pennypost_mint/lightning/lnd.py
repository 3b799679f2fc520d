"""LND over its REST interface, with a macaroon that can make and read invoices and nothing else.

    create_invoice  POST /v1/invoices                       rights: invoices:write
    look_up         GET  /v1/invoice/<payment hash>         rights: invoices:read
    settled         GET  /v1/invoices/subscribe?settle_index=N   lines of JSON, one invoice each

Every call has a time limit. LND sends no backlog for settle_index 0 or none, so until the first invoice has
settled only look-ups find what was missed. Its refusals are HTTP 500 with a text that we do not repeat.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from cryptography import x509

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Invoice, Progress, Receipt
from pennypost_mint.lightning.bolt11 import MAX_MEMO

TIMEOUT = httpx.Timeout(10.0)
SILENCE = 90.0
"""Seconds a stream may say nothing: then it is opened again, since a connection that died says nothing either."""

T = TypeVar("T")

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


class LndNode:
    """One LND node. `macaroon` is the file's bytes; `certificate` the PEM it must show, None: any the system trusts."""

    play_money = False

    def __init__(self, url: str, macaroon: bytes, certificate: bytes | None) -> None:
        self.till = "lnd:" + sha256(url.encode() + (certificate or b"")).hexdigest()[:24]
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Grpc-Metadata-macaroon": macaroon.hex()},
            verify=_trust(certificate),
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=32),
            trust_env=False,
        )

    @classmethod
    def open(cls, url: str, macaroon_file: Path | None, certificate_file: Path | None) -> LndNode:
        """A node by its settings; raises ConfigurationError naming the one that is wrong."""
        if not url:
            raise ConfigurationError("PENNYPOST_LND_URL is not set")
        if macaroon_file is None:
            raise ConfigurationError("PENNYPOST_LND_MACAROON_FILE is not set")
        if certificate_file is not None and not url.startswith("https://"):
            raise ConfigurationError("PENNYPOST_LND_CERT_FILE is set, but PENNYPOST_LND_URL is not https")
        macaroon = _read(macaroon_file, "PENNYPOST_LND_MACAROON_FILE")
        certificate = None if certificate_file is None else _read(certificate_file, "PENNYPOST_LND_CERT_FILE")
        return cls(url, macaroon, certificate)

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        now = int(time.time())
        short = memo.encode()[:MAX_MEMO].decode(errors="ignore")
        # `private` adds the hints without which a node that has only unannounced channels cannot be paid.
        order = {"value": str(amount), "memo": short, "expiry": str(expiry_seconds), "private": True}
        made = _decode(await self._ask("POST", "/v1/invoices", json=order), _Made)
        if not made.payment_request.startswith("ln"):
            raise LightningUnavailable
        return Invoice(made.payment_request, _hash(made.r_hash), now + expiry_seconds)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        response = await self._send("GET", f"/v1/invoice/{payment_hash.hex()}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return Receipt(payment_hash, Progress.LOST, 0)
        receipt = _receipt(_decode(_good(response), _Found))
        if receipt.payment_hash != payment_hash:
            raise LightningUnavailable
        return receipt

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        query = {"settle_index": str(after)} if after else {}
        limits = httpx.Timeout(TIMEOUT.connect, read=SILENCE)
        try:
            async with self._client.stream("GET", "/v1/invoices/subscribe", params=query, timeout=limits) as response:
                if response.status_code != httpx.codes.OK:
                    raise LightningUnavailable
                async for line in response.aiter_lines():
                    receipt = _receipt(_decode(line.encode(), _Line).result)
                    if receipt.progress is Progress.SETTLED:
                        yield receipt
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError:
            raise LightningUnavailable from None

    async def check(self) -> None:
        # A hash nobody has: answered by every node that is up, with no right but invoices:read.
        await self.look_up(_UNKNOWN)

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **options)
        except httpx.HTTPError:
            # `from None`: the library's text names the node's address.
            raise LightningUnavailable from None

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        return _good(await self._send(method, path, **options))


def _good(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise LightningUnavailable
    return response.content


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise LightningUnavailable from None


def _receipt(found: _Found) -> Receipt:
    payment_hash = _hash(found.r_hash)
    if found.state == "SETTLED":
        return Receipt(payment_hash, Progress.SETTLED, _count(found.amt_paid_msat), _count(found.settle_index))
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


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise LightningUnavailable
    return int(text)


def _read(path: Path, name: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"{name} names a file that cannot be read") from None
    if not content:
        raise ConfigurationError(f"{name} names an empty file")
    return content


def _trust(certificate: bytes | None) -> ssl.SSLContext:
    """Trusts the given certificate alone. One that signed itself is its own proof, whatever host name it has."""
    if certificate is None:
        return ssl.create_default_context()
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        context = ssl.create_default_context(cadata=certificate.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise ConfigurationError("PENNYPOST_LND_CERT_FILE is not a PEM certificate") from None
    context.check_hostname = not (len(chain) == 1 and chain[0].issuer == chain[0].subject)
    return context
