"""uvicorn's HTTP, with bounds on what a connection may cost before its request is there: bytes of the head, and time.

Without them a stranger who sends a byte a second, or one endless header, holds a socket or memory for as long as he
likes. Bodies are bounded by the routes; what surrounds the chunks of one, and trailers, here: nobody reads them, so
they are thrown away. Between two requests uvicorn's own keep-alive limit holds. An answer waits for a client only while
he takes some of it.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pennypost_mint.runtime.limits import MAX_HEAD, PIPELINED, REQUEST_SECONDS, TAKE_BYTES, TAKE_SECONDS, TURN


class BoundedHttp(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`. A connection that exceeds a bound is cut off without an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._in_head = True
        self._brought = False
        self._deadline: asyncio.TimerHandle | None = None
        self._untaken = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._arrived()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client. Those that bring nothing of a body are counted: a head, or trailers without end."""
        self._brought = False
        began = monotonic()
        super().data_received(data)
        if self._brought:
            self._head = 0
        elif self._deadline is not None:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._cut_off()
        if (took := monotonic() - began) > TURN and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(took, self._go_on)

    def _go_on(self) -> None:
        """Reads on, unless an answer is owed or a body waits: then uvicorn does, when that is over."""
        waits = self.pipeline or (self.cycle is not None and not self.cycle.response_complete and self.cycle.body)
        if not waits and not self.transport.is_closing():
            self.flow.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer must not pass for one, for a proxy may have removed what it says from the head."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._brought = True
        super().on_body(body)

    def on_message_begin(self) -> None:
        """The head begins. Raises OverflowError, which ends the connection with 400: too many wait for their answer."""
        if len(self.pipeline) >= PIPELINED:
            raise OverflowError
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._await_request()

    def on_headers_complete(self) -> None:
        """The body begins: that of a WebSocket's handshake, too, where somebody sends one."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """The request is there, and the connection another protocol's from now on."""
        self._arrived()
        self._taken()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """More waits for the client than he takes at once."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """He has taken nearly all of it."""
        self._taken()
        super().resume_writing()

    def _await_taking(self) -> None:
        self._untaken = self.transport.get_write_buffer_size()
        self._patience = self.loop.call_later(TAKE_SECONDS, self._look_what_is_taken)

    def _look_what_is_taken(self) -> None:
        if self._untaken - self.transport.get_write_buffer_size() < TAKE_BYTES:
            self._cut_off()
        else:
            self._await_taking()

    def _taken(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        self.transport.abort()
        if self.cycle is not None:
            # now, not a moment later: nothing may be written any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
