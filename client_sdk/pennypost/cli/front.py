"""What stands between us and a post office, for `pennypost doctor`: TLS, a proxy, a cache, another address.

    TLS handshake ─▶ HTTP ─▶ headers of a cache? ─▶ the addresses it names itself ─▶ WebSocket opens ─▶ a frame comes
                     a letter without a stamp ─▶ 402, in the office's own words ─▶ a large question to the mint

Everything here is seen from outside, by asking as any client asks; nothing is sent that names anybody.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec

from pennypost.line import filter_of
from pennypost.protocol import frames, secp
from pennypost.protocol.errors import CertificateWrong, OfficeUnreachable, ProxyInTheWay
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, event_json
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.relay_info import MEDIA_TYPE, read_postage
from pennypost.protocol.stealth import Address, wrap_letter
from pennypost.transport import NetworkTransport, Response, is_loopback, parse_address

if TYPE_CHECKING:
    from pennypost.client import AsyncClient

PATIENCE: Final = 8.0
"""Seconds for one of these looks."""
LETTER: Final = 10_000
"""Characters of a letter of the largest size, 16 KiB."""
LARGE: Final = 64 * 1024
"""Bytes of the largest question of a wallet, and room."""
JSON: Final = {"content-type": "application/json"}

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


async def bodies(client: AsyncClient) -> str:
    """Whether a large letter gets through, and its refusal comes back as the office gives it (NUT-24).

    The letter has no stamp and is to nobody, by nobody. Raises ProxyInTheWay, OfficeUnreachable, OfficeMisbehaves.
    """
    transport, office, mint = NetworkTransport(), client.office.url, client.stamps.mint.url
    try:
        question = b'{"Ys":[]' + b" " * LARGE + b"}"
        answer = await transport.request("POST", mint + "/v1/checkstate", headers=JSON, body=question, timeout=PATIENCE)
        _own_words(answer, "the mint")
        if not read_postage(await client.office.information(int(time.time()))).sat:
            return "large requests come through; letters need no stamp here, so none was tried"
        event = _letter_to_nobody()
        answer = await transport.request(
            "POST", office + "/v1/events", headers=JSON, body=event_json(event), timeout=PATIENCE
        )
    finally:
        await transport.close()
    _own_words(answer, "the post office")
    if answer.status == 402 and not answer.headers.get("x-cashu"):
        raise ProxyInTheWay("a header of the post office is left out: X-Cashu, which says what a letter costs")
    return "a letter of 16 KiB comes through, and what the office says to it"


def _own_words(answer: Response, whose: str) -> None:
    """Raises ProxyInTheWay where somebody else answered: ours is JSON, refusals too."""
    try:
        msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        if answer.status == 413:
            raise ProxyInTheWay(f"requests of {LARGE // 1024} KiB do not reach {whose}: a limit is too low") from None
        if answer.status in (502, 503, 504):
            raise ProxyInTheWay(f"it answers, but does not reach {whose} behind it") from None
        raise ProxyInTheWay(f"what {whose} says to a refusal is replaced by a page of the proxy") from None


def _letter_to_nobody() -> Event:
    while not secp.valid_secret(writer := secrets.token_bytes(32)):
        pass
    now, nobody = int(time.time()), secp.xonly(writer)
    return wrap_letter(
        make_rumor(nobody, created_at=now, content="x" * LETTER),
        writer,
        Address(nobody, nobody),
        secrets.token_bytes(31).rjust(32, b"\1"),
        created_at=now,
        expiration=now + 3_600,
        randomness=secrets.token_bytes(RANDOMNESS),
    )


async def date(client: AsyncClient) -> float | None:
    """What time it is at the office, in Unix seconds, by its answers' Date (RFC 9110, 6.6.1); None: it does not say."""
    transport = NetworkTransport()
    try:
        answer = await transport.request(
            "GET", client.office.url + "/", headers={"accept": MEDIA_TYPE}, timeout=PATIENCE
        )
    finally:
        await transport.close()
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def _origin(url: str) -> str:
    parts = urlsplit(parse_address(url.partition("?")[0].partition("#")[0]))
    host = "this machine" if is_loopback(url) else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}"
