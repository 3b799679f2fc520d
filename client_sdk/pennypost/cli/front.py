"""What stands between us and a post office, for `pennypost doctor`: TLS, a proxy, a cache, another address.

    TLS handshake ─▶ HTTP ─▶ headers of a cache? ─▶ the addresses it names itself ─▶ WebSocket opens ─▶ a frame comes

Everything here is seen from outside, by asking as any client asks; nothing is sent that names anybody.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec

from pennypost.line import filter_of
from pennypost.protocol import frames, secp
from pennypost.protocol.errors import CertificateWrong, OfficeUnreachable, ProxyInTheWay
from pennypost.protocol.event import KIND_GIFT_WRAP
from pennypost.protocol.relay_info import MEDIA_TYPE
from pennypost.transport import NetworkTransport, is_loopback, parse_address

if TYPE_CHECKING:
    from pennypost.client import AsyncClient

PATIENCE: Final = 8.0
"""Seconds for one of these looks."""

_CERTIFICATE: Final = {
    9: "it is not valid yet: a clock is wrong, here or there",
    10: "it has expired",
    18: "it is signed by itself",
    19: "it is signed by an authority that this machine does not know",
    20: "it is signed by an authority that this machine does not know, or one in between is not sent along",
    21: "it is signed by an authority that this machine does not know, or one in between is not sent along",
    62: "it is for another name",
    64: "it is for another address",
}
"""What OpenSSL's verification codes mean to a person."""


async def tls(client: AsyncClient) -> str:
    """The certificate, where the office is reached by https. Raises CertificateWrong, OfficeUnreachable."""
    parts = urlsplit(client.office.url)
    if parts.scheme != "https":
        return "none" if is_loopback(client.office.url) else "none: by http, which anybody on the way can read"
    if not is_loopback(client.office.url) and {"https", "all"} & set(getproxies()):
        return "not looked at: a proxy of yours is on the way"
    import httpx

    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=httpx.create_ssl_context(), server_hostname=parts.hostname
            )
    except ssl.SSLCertVerificationError as error:
        raise CertificateWrong(_CERTIFICATE.get(error.verify_code, "it cannot be verified")) from None
    except ssl.SSLError:
        raise CertificateWrong("no TLS is spoken at this port") from None
    except (OSError, TimeoutError):
        raise OfficeUnreachable from None
    version = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    return f"{version}, with a certificate that this machine trusts"


async def passes(client: AsyncClient) -> str:
    """Whether answers come as the office gives them, under the address that it believes to have.

    Raises ProxyInTheWay, OfficeUnreachable, OfficeMisbehaves.
    """
    transport, url = NetworkTransport(), client.office.url
    try:
        answer = await transport.request("GET", url + "/", headers={"accept": MEDIA_TYPE}, timeout=PATIENCE)
    finally:
        await transport.close()
    if answer.status in (502, 503, 504):
        raise ProxyInTheWay("it answers, but does not reach the post office behind it")
    if answer.headers.get("age", "0") != "0":
        raise ProxyInTheWay("a cache answers for the post office: what is new is seen late, or never")
    try:
        named = msgspec.json.decode(answer.body, type=dict[str, Any]).get("payments_url")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ProxyInTheWay("something else answers at this address: what is behind it is not asked") from None
    if isinstance(named, str) and named and _origin(named) != _origin(url):
        raise ProxyInTheWay("the post office believes to have another address: PENNYPOST_PUBLIC_URL must name this one")
    return "what the office says comes through, and names this address"


async def websocket(client: AsyncClient) -> str:
    """Whether a WebSocket opens, and frames come through at once. Raises ProxyInTheWay, OfficeUnreachable."""
    transport, url = NetworkTransport(), client.office.url
    try:
        await transport.request("GET", url + "/", headers={"accept": MEDIA_TYPE}, timeout=PATIENCE)
        try:
            socket = await transport.websocket(url, timeout=PATIENCE)
        except OfficeUnreachable:
            raise ProxyInTheWay("it answers HTTP, but opens no WebSocket: Upgrade is not passed on") from None
        try:
            wanted = filter_of([secp.xonly(secrets.token_bytes(32))], KIND_GIFT_WRAP)
            await socket.send(frames.req_frame("doctor", wanted))
            async with asyncio.timeout(PATIENCE):
                await socket.receive()
        except TimeoutError:
            raise ProxyInTheWay("a WebSocket opens, but no frame comes: they are buffered on the way") from None
        except OfficeUnreachable:
            raise ProxyInTheWay("a WebSocket opens, and is cut off at once") from None
        finally:
            await socket.close()
    finally:
        await transport.close()
    return "a WebSocket opens and answers"


def _origin(url: str) -> str:
    parts = urlsplit(parse_address(url.partition("?")[0].partition("#")[0]))
    host = "this machine" if is_loopback(url) else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}"
