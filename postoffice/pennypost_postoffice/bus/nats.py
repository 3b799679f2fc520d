"""NATS, where one is configured: PENNYPOST_BUS_URL=nats://[user:password@]host:4222 or tls://…

Whoever may publish on the subject can wake us for nothing and pass ephemeral events on unchecked: it is for the
processes of this office alone, as the database is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

CONNECT_SECONDS = 5

LOST = (Error, OSError, TimeoutError, EOFError)


class NatsLine:
    """The subject of one office on a NATS server."""

    most = 512 * 1024
    """NATS takes 1 MiB unless it is told otherwise."""

    def __init__(self, url: str, subject: str) -> None:
        self._url = url
        self._subject = subject
        self._client: Client | None = None

    async def open(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        async def message(received: Msg) -> None:
            heard(received.data.decode(errors="replace"))

        async def gone(*_: Any) -> None:
            lost()

        try:
            self._client = await nats.connect(
                self._url,
                name="pennypost",
                connect_timeout=CONNECT_SECONDS,
                # the bus makes its lines anew itself, and looks at what it missed
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=gone,
                disconnected_cb=gone,
                closed_cb=gone,
            )
            await self._client.subscribe(self._subject, cb=message)
        except LOST as error:
            raise ConnectionError from error

    async def send(self, texts: list[str]) -> None:
        if self._client is None:
            raise ConnectionAbortedError
        try:
            for text in texts:
                await self._client.publish(self._subject, text.encode())
            await self._client.flush(CONNECT_SECONDS)
        except LOST as error:
            raise ConnectionError from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.close()
            except LOST as error:
                raise ConnectionError from error
