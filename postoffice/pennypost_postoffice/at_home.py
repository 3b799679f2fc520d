"""Play money in a container: listened to on every address, answered only to who asks for this machine.

In a container everybody seems to come from elsewhere, and which ports are published is not known there. What a client
names as its host is what its user typed, and no stranger's user types localhost: published by mistake, the office
answers `play-money` to all of them. It guards against a mistake of the operator, not against who forges a `Host`;
what such a one gets is worth nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pennypost.protocol.errors import PlayMoneyAtHome

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED = 1008
"""Close code of a handshake that is refused; the client sees HTTP 403."""


def is_loopback(host: str) -> bool:
    """Whether this name or address means the machine it is used on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def at_home(application: Application) -> Application:
    """The same ASGI application for those whose `Host` is a name or an address of loopback; 403 for others."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if is_loopback(_asked_host(scope)):
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": CLOSED})
        else:
            error = PlayMoneyAtHome()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": msgspec.json.encode(error.nut00())})

    return answer


def _asked_host(scope: Scope) -> str:
    """The host that is asked for, without its port; nothing where that is not said once, or cannot be read."""
    given = [value for name, value in scope["headers"] if name == b"host"]
    try:
        return (urlsplit("//" + given[0].decode("ascii")).hostname or "") if len(given) == 1 else ""
    except ValueError:
        return ""
