"""What waits for slow readers, over all connections of a process: past a bound the slowest are cut off.

    send ─▶ more than PENNYPOST_MAX_OUTGOING in all? ─ no ─▶ it waits for its reader (connection.py; HTTP: Answering)
                └ yes ─▶ who has let most bytes wait longest is cut off, then the next, until a quarter is free

Each connection has a bound of its own, OUTGOING; this one is for many of them. Above half of it stored events are read
only for who has taken what was sent, and publishing lets the sockets be written to in between. Not counted is what lies
in the sockets themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any, Protocol

from pennypost_mint.runtime.limits import WRITE

Send = Callable[[Any], Awaitable[None]]


class SlowReader(Protocol):
    """A connection, or an answer over HTTP."""

    waiting: int
    """Bytes that wait for it."""

    since: float
    """When it last took something, or what waits began to (seconds of the monotonic clock)."""

    def cut_off(self) -> None:
        """Ends it; nothing waits for it any more."""
        ...


def weight(text: str) -> int:
    """Bytes of memory of a text, at most: Python keeps it at 1 to 4 bytes a character."""
    return len(text) if text.isascii() else 4 * len(text)


class Outgoing:
    """The sum of what waits: `size` is kept by the connections, and by answers over HTTP. At most `most` bytes.

    `cut_off` is called for each answer that is given up; connections count themselves.
    """

    def __init__(
        self, readers: Callable[[], Iterable[SlowReader]], most: int, cut_off: Callable[[], None] = lambda: None
    ) -> None:
        self._readers, self._cut_off = readers, cut_off
        self._answers: set[Answering] = set()
        self.most = most
        self.size = 0

    def answering(self, send: Send) -> Send:
        """The `send` of one HTTP request (ASGI), by which a large body goes out as its reader takes it."""
        return Answering(self, send)

    def begins(self, answer: Answering) -> None:
        """So many bytes of it wait."""
        self._answers.add(answer)
        self.size += answer.waiting
        if self.size > self.most:
            self.relieve()

    def ends(self, answer: Answering) -> None:
        """It is sent, or given up."""
        self._answers.discard(answer)
        self.size -= answer.waiting
        answer.waiting = 0

    def gave_up(self) -> None:
        """An answer is given up."""
        self._cut_off()

    @property
    def is_tight(self) -> bool:
        """Whether more than half of the bound waits."""
        return 2 * self.size > self.most

    def relieve(self) -> None:
        """Cuts off the slowest while the bound is passed, until a quarter is free."""
        now = monotonic()
        behind = [reader for reader in (*self._readers(), *self._answers) if reader.waiting]
        behind.sort(key=lambda reader: reader.waiting * (now - reader.since), reverse=True)
        for reader in behind:
            if 4 * self.size <= 3 * self.most:
                break
            reader.cut_off()


class Answering:
    """Sends one answer over HTTP. Of one that is given up the rest is not sent, so that its connection is closed."""

    def __init__(self, everyone: Outgoing, send: Send) -> None:
        self._everyone, self._send = everyone, send
        self._task: asyncio.Task[Any] | None = None
        self._is_over = False
        self.waiting = 0
        self.since = 0.0

    async def __call__(self, message: Any) -> None:
        """ASGI's `send`."""
        body = message.get("body", b"")
        if self._is_over:
            return
        if len(body) <= WRITE:
            await self._send(message)
            return
        self._task, self.waiting, self.since = asyncio.current_task(), len(body), monotonic()
        self._everyone.begins(self)
        try:
            for at in range(0, len(body), WRITE):
                if self._is_over:
                    # given up before anything was sent: the cancellation comes here
                    await asyncio.sleep(0)
                last = at + WRITE >= len(body)
                piece = {"body": body[at : at + WRITE], "more_body": not last or message.get("more_body", False)}
                # waits while its reader takes nothing
                await self._send(message | piece)
                self._took(len(piece["body"]))
        except asyncio.CancelledError:
            if not self._is_over or (self._task is not None and self._task.uncancel() > 0):
                raise
        finally:
            self._everyone.ends(self)

    def cut_off(self) -> None:
        """The rest is not sent."""
        if not self._is_over and self._task is not None:
            self._is_over = True
            self._everyone.ends(self)
            self._everyone.gave_up()
            self._task.cancel()

    def _took(self, size: int) -> None:
        if self.waiting:
            self.waiting -= size
            self._everyone.size -= size
            self.since = monotonic()
