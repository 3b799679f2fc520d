"""LNURL-pay: an invoice from an address that people show (LUD-01, 06, 12, 16, 17).

    name@host · lnurl1… · lnurlp://…  ─▶ address ─▶ GET ─▶ PayPoint: how much, how long a comment
    PayPoint, msat, comment ─▶ GET callback ─▶ BOLT11 over exactly that amount

The address may be a stranger's and names another: only https is dialled, or http to an onion; no redirect is followed;
nothing private is reached, unless the person himself named this machine. Answers are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from pennypost.protocol import bech32
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidInvoice,
    InvoiceMismatch,
    OfficeMisbehaves,
    OfficeUnreachable,
    WalletRefuses,
)
from pennypost.transport import Transport, is_loopback

ANSWER_LIMIT: Final = 64 * 1024
"""Bytes of an answer; a picture may be among its metadata."""
MAX_ADDRESS: Final = 2_000
MAX_COMMENT: Final = 8_000
MOST_MSAT: Final = 21_000_000 * 100_000_000_000
"""All there ever will be."""

T = TypeVar("T")

_ADDRESS: Final = re.compile(r"([a-z0-9_.+-]{1,64})@([a-z0-9.-]{1,253}(?::[0-9]{1,5})?)")


@dataclass(frozen=True, slots=True)
class PayPoint:
    """Where to pay: amounts in msat, `comment` in characters (0: none is taken).

    `description_hash` is that of what the service says is paid for (SHA-256 of its metadata, 32 bytes).
    """

    callback: str
    least: int
    most: int
    comment: int
    description_hash: bytes


class _Point(msgspec.Struct):
    tag: str = ""
    callback: str = ""
    min_sendable: int = msgspec.field(default=0, name="minSendable")
    max_sendable: int = msgspec.field(default=0, name="maxSendable")
    comment: int | None = msgspec.field(default=0, name="commentAllowed")
    metadata: str = ""
    status: str = ""


class _Invoice(msgspec.Struct):
    pr: str = ""
    status: str = ""


def parse_lnurl(text: str) -> str:
    """The URL behind a Lightning address, `lnurl1…` or `lnurlp://…`. Raises InvalidInput."""
    text = text.strip().removeprefix("lightning:")
    if len(text) > MAX_ADDRESS:
        raise InvalidInput("it is no Lightning address and no LNURL")
    named = _ADDRESS.fullmatch(text.lower())
    if named is not None:
        return f"{_scheme(named[2])}://{named[2]}/.well-known/lnurlp/{quote(named[1])}"
    if text.lower().startswith("lnurl1"):
        found = bech32.decode(text, MAX_ADDRESS)
        if found is None or found[0] != "lnurl":
            raise InvalidInput("a character of the LNURL is wrong or missing")
        data = bytes(bech32.regroup(found[1], 5, 8)[: len(found[1]) * 5 // 8])
        try:
            return data.decode("ascii")
        except UnicodeDecodeError:
            raise InvalidInput("the LNURL holds no address") from None
    if text.startswith("lnurlp://"):
        rest = text.removeprefix("lnurlp://")
        return f"{_scheme(rest.split('/', 1)[0])}://{rest}"
    raise InvalidInput("it is no Lightning address and no LNURL")


def _scheme(host: str) -> str:
    name = host.rsplit(":", 1)[0]
    return "http" if name.endswith(".onion") or is_loopback(f"http://{host}") else "https"


async def look_up(address: str, transport: Transport) -> PayPoint:
    """Ask where and how to pay (LUD-06, steps 1 to 4). Raises InvalidInput, OfficeUnreachable, OfficeMisbehaves."""
    url = parse_lnurl(address)
    await _check(url, ours=is_loopback(url))
    point = _decode((await transport.request("GET", url, limit=ANSWER_LIMIT)).body, _Point)
    if point.status.upper() == "ERROR":
        raise WalletRefuses("the receiver's service knows nobody by this name")
    if point.tag != "payRequest" or not 0 < point.min_sendable <= point.max_sendable <= MOST_MSAT:
        raise OfficeMisbehaves("this address takes no payments")
    if not _describes(point.metadata):
        raise OfficeMisbehaves("this address does not say what is paid for")
    await _check(point.callback, ours=is_loopback(url))
    return PayPoint(
        point.callback,
        point.min_sendable,
        point.max_sendable,
        max(0, min(point.comment or 0, MAX_COMMENT)),
        sha256(point.metadata.encode()).digest(),
    )


def _describes(metadata: str) -> bool:
    """Whether metadata is a JSON array of pairs with exactly one plain text (LUD-06, metadata)."""
    try:
        pairs = msgspec.json.decode(metadata, type=list[list[str]])
        metadata.encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return sum(len(pair) == 2 and pair[0] == "text/plain" for pair in pairs) == 1


async def request_invoice(point: PayPoint, msat: int, comment: str, transport: Transport) -> str:
    """The invoice over exactly `msat` (LUD-06, steps 5 to 8; LUD-12). Nothing is paid yet.

    Raises InvalidInput for an amount or comment that the receiver does not take, InvoiceMismatch for another invoice.
    """
    if not point.least <= msat <= point.most:
        raise InvalidInput(f"the receiver takes {-(-point.least // 1000)} to {point.most // 1000} sat")
    if len(comment) > point.comment:
        raise InvalidInput("the receiver takes no comment of this length")
    mark = "&" if urlsplit(point.callback).query else "?"
    said = f"&comment={quote(comment, safe='')}" if comment else ""
    url = f"{point.callback}{mark}amount={msat}{said}"
    answer = _decode((await transport.request("GET", url, limit=ANSWER_LIMIT)).body, _Invoice)
    if answer.status.upper() == "ERROR":
        raise WalletRefuses("the receiver's service made no invoice")
    try:
        invoice = parse_invoice(answer.pr)
    except InvalidInvoice as error:
        raise InvoiceMismatch(error.detail) from None
    if invoice.amount_msat != msat:
        raise InvoiceMismatch("its amount is not the one asked for")
    # LUD-06 asked for this hash in every invoice once, and allows others now; a hash of something else is refused.
    if invoice.description_hash is not None and invoice.description_hash != point.description_hash:
        raise InvoiceMismatch("it is for something else than the address says")
    return answer.pr


async def check_public(host: str) -> None:
    """Raises InvalidInput for a host that is not on the public net: a stranger may not send us into our own.

    Names that a proxy resolves are the proxy's matter; those of NO_PROXY are ours. Between this look and the dialling a
    name can be made to lead elsewhere (DNS rebinding): who does that is met by TLS, and has no certificate there.
    """
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        if host.endswith(".onion") or (getproxies().keys() & {"https", "all"} and not proxy_bypass(f"{host}:443")):
            return
        try:
            async with asyncio.timeout(10):
                answers = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            raise OfficeUnreachable("its name leads nowhere") from None
        found = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in answers]
    if not all(each.is_global and not each.is_multicast for each in found):
        raise InvalidInput("the address leads into a private network")


async def _check(url: str, *, ours: bool) -> None:
    """https to the public net, http to an onion; this machine only where the person named it (`ours`)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise InvalidInput("it is no address") from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_ADDRESS
    if not host or "@" in parts.netloc or not plain:
        raise InvalidInput("it is no address")
    if ours and is_loopback(url) and parts.scheme in ("http", "https"):
        return
    if parts.scheme != "https" and not (parts.scheme == "http" and host.endswith(".onion")):
        raise InvalidInput("only https is dialled, or http to an onion")
    await check_public(host)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise OfficeMisbehaves("an answer that cannot be read") from None
