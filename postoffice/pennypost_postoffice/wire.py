"""uvicorn's WebSocket, and two things it does not offer: many frames in one write, and an end that does not wait.

    connection ─ scope["extensions"][EXTENSION] ─▶ send(texts): one write for all that is ready
                                                   abort():     a reader that takes nothing is not waited for

Frames to a client are not masked and not compressed, so a frame is its length and the text (RFC 6455, section 5.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from struct import Struct
from typing import NamedTuple

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "pennypost.wire"

_TEXT = 0x81
_SHORT = Struct("!BB")
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


class Wire(NamedTuple):
    """What a connection may use where the server offers it."""

    send: Callable[[Sequence[str]], Awaitable[None]]
    abort: Callable[[], None]


def frame(text: str) -> bytes:
    """One unfragmented text frame from server to client."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return _SHORT.pack(_TEXT, size) + payload
    if size < 65_536:
        return _MEDIUM.pack(_TEXT, 126, size) + payload
    return _LONG.pack(_TEXT, 127, size) + payload


class WireProtocol(WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=…)`."""

    def handle_connect(self, event: Request) -> None:
        """Offers the extension to the application."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][EXTENSION] = Wire(self.send_texts, self.abort)  # type: ignore[index]

    async def send_texts(self, texts: Sequence[str]) -> None:
        """Writes the frames together; waits first while the client does not read. Raises ClientDisconnected."""
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(b"".join(map(frame, texts)))

    def abort(self) -> None:
        """Ends the connection now, whatever waits to be sent."""
        self.transport.abort()
