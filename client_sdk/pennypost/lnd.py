"""One's own LND node as the wallet, over its REST interface.

    pay            POST /v2/router/send                    rights: offchain:write, offchain:read
    payment        GET  /v2/router/track/<hash>                    offchain:read
    make_invoice   POST /v1/invoices, /v2/invoices/hodl            invoices:write
    settle, cancel POST /v2/invoices/settle, …/cancel              invoices:write
    invoice        GET  /v1/invoice/<hash>                         invoices:read
    received       GET  /v1/invoices/subscribe                     invoices:read

A preimage can be set, so an offer's payment releases its key while the seller is away. What the node says in words is
not repeated: it can name addresses and secrets.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from pennypost.lightning import ASKING, PAYING, Made, Paid, Received, Stage, check_made, fee_limit, proves
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    InvalidWalletLink,
    PaymentFailed,
    PaymentUnknown,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
)

if TYPE_CHECKING:
    import httpx

ANSWER_LIMIT: Final = 1024 * 1024
"""Bytes of an answer, and of a line of one that streams."""
SILENCE: Final = 90.0
"""Seconds a stream may say nothing before it is opened again."""
KEYSEND: Final = 5482373484
"""The TLV type that carries a keysend payment's preimage."""
_MAX_RECORD: Final = 4_096

T = TypeVar("T")


class _Invoice(msgspec.Struct):
    r_hash: str
    state: str = "OPEN"
    amt_paid_msat: str = "0"
    memo: str = ""
    htlcs: list[dict[str, Any]] = []


class _Made(msgspec.Struct):
    payment_request: str


class _Update(msgspec.Struct):
    status: str = ""
    payment_preimage: str = ""
    fee_msat: str = "0"


class _Refusal(msgspec.Struct):
    code: int = 0


class _PaymentLine(msgspec.Struct):
    result: _Update | None = None
    error: _Refusal | None = None


class _InvoiceLine(msgspec.Struct):
    result: _Invoice


class _Amount(msgspec.Struct):
    msat: str = "0"


class _Balance(msgspec.Struct):
    local_balance: _Amount


class LndWallet:
    """One LND node. `macaroon` is the file's bytes; `certificate` the PEM it shows, None: any the system trusts."""

    late = 0

    def __init__(self, url: str, macaroon: bytes, certificate: bytes | None) -> None:
        self._url, self._macaroon, self._certificate = url, macaroon, certificate
        self._opened: httpx.AsyncClient | None = None

    @classmethod
    def open(cls, url: str, macaroon: Path, certificate: Path | None) -> LndWallet:
        """A node by the files of its link. Raises InvalidWalletLink."""
        try:
            return cls(url, macaroon.read_bytes(), None if certificate is None else certificate.read_bytes())
        except (OSError, ValueError):
            # ValueError: a path with a zero byte, or one that has no form in the file system's encoding
            raise InvalidWalletLink("the file of its macaroon or certificate cannot be read") from None

    async def pay(self, request: str, *, max_fee_msat: int, timeout: float = PAYING) -> Paid:
        """As Wallet.pay."""
        order = {"payment_request": request.strip().removeprefix("lightning:")}
        return await self._send(order, parse_invoice(request).payment_hash, max_fee_msat, timeout)

    async def keysend(self, node: bytes, msat: int, records: Mapping[int, bytes], preimage: bytes) -> Paid:
        """As Wallet.keysend."""
        payment_hash = sha256(preimage).digest()
        order = {
            "dest": _base64(node),
            "amt_msat": str(msat),
            "payment_hash": _base64(payment_hash),
            "dest_custom_records": {str(key): _base64(value) for key, value in {**records, KEYSEND: preimage}.items()},
            "dest_features": ["TLV_ONION_REQ"],
            "final_cltv_delta": 80,
        }
        return await self._send(order, payment_hash, fee_limit(msat), PAYING)

    async def _send(self, order: Mapping[str, Any], payment_hash: bytes, max_fee_msat: int, timeout: float) -> Paid:
        body = {
            **order,
            "timeout_seconds": max(1, int(timeout)),
            "fee_limit_msat": str(max_fee_msat),
            "no_inflight_updates": True,
        }
        try:
            update = await self._last("POST", "/v2/router/send", timeout + ASKING, body)
        except WalletRefuses:
            # "Already paid" and "under way" come as refusals too: the node's books tell.
            found = await self.payment(payment_hash)
            if found is None:
                raise PaymentFailed from None
            return found
        return _paid(update, payment_hash)

    async def payment(self, payment_hash: bytes) -> Paid | None:
        """As Wallet.payment."""
        path = f"/v2/router/track/{base64.urlsafe_b64encode(payment_hash).decode()}"
        try:
            update = await self._last("GET", path, ASKING, None)
        except WalletRefuses as refusal:
            if isinstance(refusal, _NotFound):
                return None
            raise PaymentUnknown from None
        try:
            return _paid(update, payment_hash)
        except PaymentFailed:
            return None

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
        payment_hash = sha256(preimage).digest()
        # `private` adds the hints without which a node that has only unannounced channels cannot be paid.
        order: dict[str, Any] = {"value_msat": str(msat), "expiry": str(expiry), "private": True}
        order |= {"memo": description} if description_hash is None else {"description_hash": _base64(description_hash)}
        if hold:
            body = await self._ask("POST", "/v2/invoices/hodl", order | {"hash": _base64(payment_hash)})
        else:
            body = await self._ask("POST", "/v1/invoices", order | {"r_preimage": _base64(preimage)})
        request = _decode(body, _Made).payment_request
        made = check_made(request, msat, payment_hash, description_hash)
        return Made(request, payment_hash, made.expires_at, None if hold else preimage, hold)

    async def invoice(self, payment_hash: bytes) -> tuple[Stage, int]:
        """As Wallet.invoice."""
        try:
            found = _decode(await self._ask("GET", f"/v1/invoice/{payment_hash.hex()}"), _Invoice)
        except _NotFound:
            return Stage.OVER, 0
        states = {"SETTLED": Stage.SETTLED, "ACCEPTED": Stage.HELD, "CANCELED": Stage.OVER}
        stage = states.get(found.state, Stage.OPEN)
        return stage, _count(found.amt_paid_msat) if stage in (Stage.SETTLED, Stage.HELD) else 0

    async def settle(self, preimage: bytes) -> None:
        """As Wallet.settle."""
        try:
            await self._ask("POST", "/v2/invoices/settle", {"preimage": _base64(preimage)})
        except WalletRefuses:
            stage, _ = await self.invoice(sha256(preimage).digest())
            if stage is not Stage.SETTLED:
                raise

    async def cancel(self, payment_hash: bytes) -> None:
        """As Wallet.cancel."""
        await self._ask("POST", "/v2/invoices/cancel", {"payment_hash": _base64(payment_hash)})

    async def balance(self) -> int:
        """As Wallet.balance: what the channels hold on our side."""
        return _count(_decode(await self._ask("GET", "/v1/balance/channels"), _Balance).local_balance.msat)

    async def received(self) -> AsyncGenerator[Received]:
        """As Wallet.received."""
        async with aclosing(self._lines("GET", "/v1/invoices/subscribe", None, SILENCE)) as lines:
            async for line in lines:
                found = _decode(line, _InvoiceLine).result
                if found.state == "SETTLED":
                    payment_hash = _bytes(found.r_hash)
                    yield Received(payment_hash, _count(found.amt_paid_msat), found.memo, _records(found.htlcs))

    async def close(self) -> None:
        """As Wallet.close."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.aclose()

    # One call

    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._opened is None:
            self._opened = httpx.AsyncClient(
                base_url=self._url,
                # Nothing is unpacked: a small answer must not become a large one.
                headers={"Grpc-Metadata-macaroon": self._macaroon.hex(), "Accept-Encoding": "identity"},
                verify=_trust(self._certificate),
                timeout=ASKING,
                trust_env=False,
            )
        return self._opened

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        import httpx

        try:
            async with (
                asyncio.timeout(ASKING),
                # The handshake ends first, so that httpx itself ends one that hangs.
                self._client().stream(
                    method, path, json=body, timeout=httpx.Timeout(ASKING, connect=ASKING / 2)
                ) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > ANSWER_LIMIT:
                        raise WalletUnreachable
                _check(response.status_code, bytes(content))
                return bytes(content)
        except (httpx.HTTPError, httpx.StreamError, TimeoutError):
            raise WalletUnreachable from None

    async def _last(self, method: str, path: str, seconds: float, body: Mapping[str, Any] | None) -> _Update:
        """The first update of a payment that says more than nothing.

        Raises WalletUnreachable where nothing was delivered, PaymentUnknown where that is not known.
        """
        try:
            async with asyncio.timeout(seconds), aclosing(self._lines(method, path, body, seconds)) as lines:
                async for line in lines:
                    found = _update(line)
                    if found.error is not None:
                        raise _refusal(found.error.code)
                    if found.result is not None and found.result.status:
                        return found.result
        except TimeoutError:
            raise PaymentUnknown from None
        except _Broken:
            raise PaymentUnknown from None
        raise PaymentUnknown

    async def _lines(
        self, method: str, path: str, body: Mapping[str, Any] | None, silence: float
    ) -> AsyncGenerator[bytes]:
        import httpx

        limits = httpx.Timeout(ASKING, read=silence, connect=ASKING / 2)
        try:
            async with self._client().stream(method, path, json=body, timeout=limits) as response:
                if response.status_code != 200:
                    content = bytearray()
                    async for chunk in response.aiter_raw():
                        content += chunk[:ANSWER_LIMIT]
                        if len(content) > ANSWER_LIMIT:
                            break
                    _check(response.status_code, bytes(content))
                buffer = bytearray()
                async for chunk in response.aiter_raw():
                    buffer += chunk
                    while (end := buffer.find(b"\n")) >= 0:
                        yield bytes(buffer[:end])
                        del buffer[: end + 1]
                    if len(buffer) > ANSWER_LIMIT:
                        raise _Broken
        except httpx.ConnectError:
            raise WalletUnreachable from None
        except (httpx.HTTPError, httpx.StreamError):
            raise _Broken from None


class _NotFound(WalletRefuses):
    """The node does not have this."""


class _Broken(WalletUnreachable):
    """The connection ended in the middle."""


def _refusal(code: int) -> WalletRefuses:
    """A refusal by its gRPC status code: 5 is "not found"."""
    return _NotFound() if code == 5 else WalletRefuses()


def _check(status: int, body: bytes) -> None:
    if status == 200:
        return
    try:
        code = msgspec.json.decode(body, type=_Refusal).code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        code = 0
    # 14 is "unavailable": the node is starting, or its wallet is locked.
    raise WalletUnreachable if code == 14 or status == 503 else _refusal(5 if status == 404 else code)


def _update(line: bytes) -> _PaymentLine:
    try:
        return _decode(line, _PaymentLine)
    except WalletError as error:
        raise PaymentUnknown(error.detail) from None


def _paid(update: _Update, payment_hash: bytes) -> Paid:
    if update.status == "SUCCEEDED":
        try:
            preimage = bytes.fromhex(update.payment_preimage)
        except ValueError:
            raise PaymentUnknown from None
        if not proves(preimage, payment_hash):
            raise PaymentUnknown("the wallet shows another preimage than that of the invoice")
        try:
            return Paid(preimage, _count(update.fee_msat))
        except WalletError as error:
            raise PaymentUnknown(error.detail) from None
    if update.status == "FAILED":
        raise PaymentFailed
    raise PaymentUnknown


def _records(htlcs: list[dict[str, Any]]) -> dict[int, bytes]:
    records: dict[int, bytes] = {}
    for htlc in htlcs[:64]:
        found = htlc.get("custom_records")
        entries = list(cast("dict[str, object]", found).items()) if isinstance(found, dict) else []
        for key, value in entries[:64]:
            if isinstance(value, str) and key.isascii() and key.isdigit() and len(key) < 20:
                try:
                    records[int(key)] = base64.b64decode(value[: 2 * _MAX_RECORD], validate=True)
                except (binascii.Error, ValueError):
                    continue
    return records


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WalletError("the node's answer cannot be read") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WalletError("the node's answer cannot be read") from None
    if len(found) != 32:
        raise WalletError("the node's answer cannot be read")
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise WalletError("the node's answer cannot be read")
    return int(text)


def _trust(certificate: bytes | None) -> ssl.SSLContext:
    """Trusts the PEM certificate alone; it is the node's own proof, so the host's name is not compared."""
    if certificate is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cadata=certificate.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise InvalidWalletLink("its certificate is not PEM") from None
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 also asks for extensions that nodes leave out of the certificates they make for themselves.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
