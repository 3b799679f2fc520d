"""The only way out: HTTP requests and WebSockets, behind one small protocol.

    mint_client ─┐                  ┌─ NetworkTransport   httpx and websockets
                 ├──▶ Transport ◀───┤
    office ──────┘                  └─ AsgiTransport      the sandbox, in memory (asgi.py)

What holds for every implementation, because the other side may be hostile:
- only addresses that the person configured are dialled; redirects are never followed;
- every read has a size limit and every call a deadline;
- failures are `OfficeUnreachable` (nothing there, too slow) or `OfficeMisbehaves` (more than was allowed).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from pennypost.protocol.errors import InvalidInput, OfficeMisbehaves, OfficeUnreachable

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

TIMEOUT = 20.0
"""Seconds for an HTTP request or for opening a WebSocket, unless told otherwise."""

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of an answer. 1,000 blind signatures with their proofs need about 400 KiB."""

FRAME_LIMIT = 1024 * 1024
"""Bytes of a WebSocket message. The largest letter is below 64 KiB; other relays may send more."""

PROXY = "the environment's proxy cannot be used; one that speaks SOCKS needs pip install 'httpx[socks]' python-socks"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer whose body is read and within its limit."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case."""


class WebSocket(Protocol):
    """An open WebSocket."""

    async def send(self, text: str) -> None:
        """Send one text message. Raises OfficeUnreachable when the connection is gone."""
        ...

    async def receive(self) -> str | bytes:
        """The next message. Raises OfficeUnreachable when the connection is gone, OfficeMisbehaves over the limit."""
        ...

    async def close(self) -> None:
        """Close it; closing twice is harmless."""
        ...


class Transport(Protocol):
    """What the rest of the SDK needs of a network."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        limit: int = BODY_LIMIT,
        timeout: float = TIMEOUT,
    ) -> Response:
        """One HTTP exchange: `limit` bytes of answer at most, `timeout` seconds in all.

        Raises OfficeUnreachable, OfficeMisbehaves. Every status but a redirect is an answer.
        """
        ...

    async def websocket(self, url: str, *, limit: int = FRAME_LIMIT, timeout: float = TIMEOUT) -> WebSocket:
        """Open a WebSocket at an `http(s)` address. Raises OfficeUnreachable, OfficeMisbehaves."""
        ...

    async def close(self) -> None:
        """Give back connections; closing twice is harmless."""
        ...


def parse_address(text: str) -> str:
    """The canonical form of an office's or a mint's address: scheme, host and port, path without its last slash.

    `ws` and `wss` are read as `http` and `https`; a missing scheme is `https`, on loopback `http`. Raises InvalidInput.
    """
    text = text.strip()
    if "://" not in text:
        text = f"{'http' if is_loopback('http://' + text) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise InvalidInput("not an address") from None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    plain = text.isascii() and text.isprintable() and " " not in text and "\\" not in text
    if scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query or parts.fragment or not plain:
        raise InvalidInput("an address looks like https://host or http://host:port")
    if port == {"http": 80, "https": 443}[scheme]:
        port = None
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def is_loopback(url: str) -> bool:
    """Whether an address names this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class NetworkTransport:
    """HTTP by httpx, WebSockets by websockets. The environment's proxies are used for all but loopback."""

    def __init__(self) -> None:
        self._http: dict[bool, httpx.AsyncClient] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        limit: int = BODY_LIMIT,
        timeout: float = TIMEOUT,
    ) -> Response:
        """As Transport.request."""
        import httpx

        # A compressed answer could be a thousand times larger than it looks.
        asked = {"accept-encoding": "identity", "user-agent": "pennypost", **(headers or {})}
        client = self._client(is_loopback(url))
        try:
            async with (
                asyncio.timeout(timeout),
                client.stream(method, url, headers=asked, content=body or None, timeout=timeout) as answer,
            ):
                if answer.is_redirect:
                    raise OfficeMisbehaves("it redirects elsewhere")
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise OfficeMisbehaves("it compresses unasked")
                content = bytearray()
                async for chunk in answer.aiter_raw():
                    content += chunk
                    if len(content) > limit:
                        raise OfficeMisbehaves("its answer is too large")
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status_code, bytes(content), found)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError, UnicodeError):
            # UnicodeError: a name that is none under IDNA (`xn--.onion`), which httpx finds before it dials.
            raise OfficeUnreachable from None

    def _client(self, loopback: bool) -> httpx.AsyncClient:
        import httpx

        if loopback not in self._http:
            try:
                # The environment's certificate authorities hold on this machine too, its proxies do not.
                self._http[loopback] = httpx.AsyncClient(
                    trust_env=not loopback, follow_redirects=False, verify=httpx.create_ssl_context()
                )
            except (ImportError, ValueError):
                raise OfficeUnreachable(PROXY) from None
        return self._http[loopback]

    async def websocket(self, url: str, *, limit: int = FRAME_LIMIT, timeout: float = TIMEOUT) -> WebSocket:
        """As Transport.websocket."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidURI

        try:
            connection = await connect(
                "ws" + url.removeprefix("http"),
                proxy=None if is_loopback(url) else True,
                open_timeout=timeout,
                max_size=limit,
                max_queue=64,
                compression=None,
                close_timeout=2,
                user_agent_header="pennypost",
            )
        except ImportError:
            raise OfficeUnreachable(PROXY) from None
        except (InvalidHandshake, InvalidURI, TimeoutError, OSError, UnicodeError):
            raise OfficeUnreachable from None
        return _NetworkWebSocket(connection)

    async def close(self) -> None:
        """As Transport.close."""
        while self._http:
            _, client = self._http.popitem()
            await client.aclose()


class _NetworkWebSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(text)
        except ConnectionClosed:
            raise OfficeUnreachable("the connection was closed") from None

    async def receive(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            # 1009: what came was over our limit, and websockets closed the connection for it.
            if closed.sent is not None and closed.sent.code == 1009:
                raise OfficeMisbehaves("its message is too large") from None
            raise OfficeUnreachable("the connection was closed") from None

    async def close(self) -> None:
        await self._connection.close()
