"""uvicorn's HTTP, with bounds on what a connection may cost before its request is there: bytes of the head, and time.

Without them a stranger who sends a byte a second, or one endless header, holds a socket or memory for as long as he
likes. Bodies are bounded by the routes; between two requests uvicorn's own keep-alive limit holds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pennypost_mint.runtime.limits import MAX_HEAD, REQUEST_SECONDS


class BoundedHttp(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`. A connection that exceeds a bound is cut off without an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        super().data_received(data)
        if self._in_head and self._deadline is not None:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """The head begins."""
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._await_request()

    def on_headers_complete(self) -> None:
        """The body begins, unless it becomes a WebSocket."""
        self._in_head = False
        if self.parser is not None and self.parser.should_upgrade():
            self._arrived()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._arrived()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
