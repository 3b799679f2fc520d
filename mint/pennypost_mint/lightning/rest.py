"""What the adapters of nodes with an HTTP interface share: one client, one limit, one error.

    settings ──read_file, trust──▶ open_client ──send──▶ status, body ──decode──▶ a struct

Whatever a node does wrong is LightningUnavailable, without its words: they can name addresses and secrets.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec
from cryptography import x509

from pennypost.protocol.bolt11 import Bolt11, parse_invoice
from pennypost.protocol.errors import ConfigurationError, InvalidInvoice, LightningUnavailable
from pennypost_mint.lightning.bolt11 import MAX_MEMO

SECONDS = 10.0
"""Longest a call may take in all, however slowly its answer drips."""

ANSWER_LIMIT = 1024 * 1024
"""Bytes of an answer."""

MSAT = 1_000

T = TypeVar("T")
E = TypeVar("E", bound=x509.ExtensionType)

_HASH = re.compile(r"[0-9a-f]{64}")


class Answer(NamedTuple):
    """Status and body of an HTTP answer."""

    status: int
    body: bytes


def open_client(url: str, headers: Mapping[str, str], trust: ssl.SSLContext) -> httpx.AsyncClient:
    """A client of one node: no proxy, no redirects, a bound on connections."""
    return httpx.AsyncClient(
        base_url=url,
        headers=dict(headers),
        verify=trust,
        timeout=httpx.Timeout(SECONDS),
        limits=httpx.Limits(max_connections=32),
        trust_env=False,
    )


async def send(
    client: httpx.AsyncClient, method: str, path: str, *, seconds: float | None = None, **options: Any
) -> Answer:
    """One call that ends within `seconds` (SECONDS unless given). Raises LightningUnavailable without a whole answer.

    The handshake has half of it, so that httpx itself ends one that hangs: cut off from outside, it leaves its socket
    open until it is garbage.
    """
    seconds = SECONDS if seconds is None else seconds
    limits = httpx.Timeout(seconds, connect=seconds / 2)
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream(method, path, timeout=limits, **options) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_LIMIT:
                    raise LightningUnavailable
            return Answer(response.status_code, bytes(body))
    except (httpx.HTTPError, httpx.StreamError, TimeoutError):
        # `from None`: the library's text names the node's address.
        raise LightningUnavailable from None


def decode(body: bytes, shape: type[T]) -> T:
    """The JSON body as a struct. Raises LightningUnavailable."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LightningUnavailable from None


def count(text: str) -> int:
    """A number that a node writes as text: ASCII digits only. Raises LightningUnavailable."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise LightningUnavailable
    return int(text)


def payment_hash(text: str) -> bytes:
    """The 32 bytes of 64 lower-case hex digits. Raises LightningUnavailable."""
    if not _HASH.fullmatch(text):
        raise LightningUnavailable
    return bytes.fromhex(text)


def check_invoice(request: str, amount: int) -> Bolt11:
    """The invoice that a node made, which must be for exactly `amount` sat. Raises LightningUnavailable."""
    try:
        invoice = parse_invoice(request)
    except InvalidInvoice:
        raise LightningUnavailable from None
    if invoice.amount_msat != amount * MSAT or not request.isalnum():
        raise LightningUnavailable
    return invoice


def fit_memo(memo: str) -> str:
    """The memo as every node takes it: what is not printable becomes a space, and 639 bytes are the most."""
    plain = "".join(char if char.isprintable() else " " for char in memo)
    return plain.encode(errors="replace")[:MAX_MEMO].decode(errors="ignore")


def read_file(path: Path, name: str) -> bytes:
    """The content of the file that setting `name` names. Raises ConfigurationError."""
    try:
        content = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"{name} names a file that cannot be read") from None
    if not content:
        raise ConfigurationError(f"{name} names an empty file")
    return content


def trust(certificate: bytes | None, name: str) -> ssl.SSLContext:
    """Trusts the PEM certificate of setting `name` alone; None: whatever the system trusts. Raises ConfigurationError.

    Host names are not checked where the certificate is the node's own proof: one that signed itself and names hosts
    (LND's tls.cert, Core Lightning's ca.pem), or one that can sign no other (a server.pem). For a root that signs for
    many, they are.
    """
    if certificate is None:
        return ssl.create_default_context()
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        context = ssl.create_default_context(cadata=certificate.decode("ascii"))
        context.check_hostname = not (len(chain) == 1 and _is_its_own_proof(chain[0]))
    except (ValueError, ssl.SSLError):
        raise ConfigurationError(f"{name} is not a PEM certificate") from None
    # A certificate that did not sign itself is trusted as it is, without the one that signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 also asks for extensions that nodes leave out of the certificates they make for themselves.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _is_its_own_proof(certificate: x509.Certificate) -> bool:
    if certificate.issuer == certificate.subject:
        return _extension(certificate, x509.SubjectAlternativeName) is not None
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is None or not constraints.ca


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
