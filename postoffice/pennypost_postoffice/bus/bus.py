"""The bus of one process: what waits is sent in one write, what is heard is handed on, and a lost line is made anew."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from pennypost_mint.runtime.limits import BUS_BYTES
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.metrics import Metrics
from pennypost_postoffice.bus import messages
from pennypost_postoffice.bus.messages import EVENT, FEED, HERE, MARKS, Message, Pieces

HERE_EVERY = 5.0
"""Seconds between two signs of life."""

SILENCE = 3 * HERE_EVERY
"""Seconds without one after which another process counts as gone, and without our own the bus as lost."""

PAUSE = (0.2, 5.0)
"""First and longest pause, in seconds, before a lost bus is tried again."""

log = logger("bus")


class Line(Protocol):
    """What carries the messages. Every method raises ConnectionError when it does not."""

    most: int
    """Bytes of one message."""

    async def open(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        """Connects; from now on `heard` gets every message, also our own, and `lost` is called when that ends."""
        ...

    async def send(self, texts: list[str]) -> None:
        """Sends messages in their order, none of another process between them where they belong together."""
        ...

    async def close(self) -> None:
        """Ends the connection; safe to repeat."""
        ...


class Bus:
    """Messages between the processes of one office. `on_…` are called in the event loop for those of other processes:
    the feed's number, changed marks, an ephemeral event's JSON; `on_turn` whenever the line is there or lost."""

    def __init__(
        self,
        line: Line,
        metrics: Metrics,
        *,
        on_turn: Callable[[], None],
        on_feed: Callable[[int], None],
        on_marks: Callable[[], None],
        on_event: Callable[[bytes], None],
    ) -> None:
        self._line = line
        self._metrics = metrics
        self._on_turn, self._on_feed, self._on_marks, self._on_event = on_turn, on_feed, on_marks, on_event
        self._origin = secrets.token_hex(8)
        self._reached = 0
        self._marks = False
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._here = False
        self._wake = asyncio.Event()
        self._lost = False
        self._pieces = Pieces()
        self._peers: dict[str, float] = {}
        self._echo = 0.0
        self.is_up = False

    @property
    def peers(self) -> int:
        """Other processes that are there."""
        return len(self._peers)

    def reached(self, number: int) -> None:
        """Tells the others that the feed reached this number."""
        self._reached = number
        self._wake.set()

    def marks_changed(self) -> None:
        """Tells the others to read the office's marks again."""
        self._marks = True
        self._wake.set()

    def pass_on(self, body: bytes) -> bool:
        """Sends an ephemeral event to the others; whether there are any, and room for it."""
        if not self.is_up or not self._peers or self._bytes + len(body) > BUS_BYTES:
            return False
        self._events.append(body)
        self._bytes += len(body)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Works until it is cancelled."""
        pause = PAUSE[0]
        while True:
            self._lost = False
            try:
                await self._line.open(self._heard, self._lose)
                self.is_up = True
                pause = PAUSE[0]
                log.info("the bus is there")
                self._on_turn()
                await self._serve()
            except ConnectionError as error:
                log.warning(
                    "the bus is lost, the database is asked instead", kind=type(error.__cause__ or error).__name__
                )
            finally:
                self._down()
                with contextlib.suppress(ConnectionError):
                    await self._line.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE[1])

    def _lose(self) -> None:
        self._lost = True
        self._wake.set()

    def _down(self) -> None:
        if self.is_up:
            self.is_up = False
            self._on_turn()
        self._peers.clear()
        self._pieces = Pieces()
        self._events.clear()
        self._bytes = 0
        self._metrics.office_bus_up.set(0)
        self._metrics.office_bus_peers.set(0)

    async def _serve(self) -> None:
        """Sends what waits, and a sign of life now and then. Raises ConnectionError."""
        self._metrics.office_bus_up.set(1)
        self._echo = monotonic()
        due = 0.0
        while True:
            now = monotonic()
            if self._lost:
                raise ConnectionAbortedError
            if now - self._echo > SILENCE:
                raise ConnectionResetError
            if now >= due or self._here:
                due = now + HERE_EVERY
                self._here = False
                await self._line.send([messages.write(self._origin, HERE)])
                self._forget_silent(now)
            while texts := self._next_texts():
                await self._line.send(texts)
            await self._wait(due - monotonic())

    async def _wait(self, seconds: float) -> None:
        """Until there is something to send, the line is lost, or the time is over."""
        self._wake.clear()
        if self._reached or self._marks or self._events or self._here or self._lost:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()

    def _next_texts(self) -> list[str]:
        """All that waits; of the feed's numbers only the last."""
        texts: list[str] = []
        if self._reached:
            texts.append(messages.write(self._origin, FEED, str(self._reached)))
            self._reached = 0
        if self._marks:
            texts.append(messages.write(self._origin, MARKS))
            self._marks = False
        while self._events:
            body = self._events.popleft()
            self._bytes -= len(body)
            texts += messages.write_event(self._origin, body, self._line.most)
        return texts

    def _heard(self, text: str) -> None:
        message = messages.read(text)
        if message is None:
            return
        if message.origin == self._origin:
            self._echo = monotonic()
            return
        if message.origin not in self._peers and len(self._peers) < messages.ORIGINS:
            # a new one learns of us at once
            self._here = True
            self._wake.set()
        if message.origin in self._peers or len(self._peers) < messages.ORIGINS:
            self._peers[message.origin] = monotonic()
            self._metrics.office_bus_peers.set(len(self._peers))
        self._hand_on(message)

    def _hand_on(self, message: Message) -> None:
        if message.kind == FEED:
            if message.rest.isascii() and message.rest.isdigit() and len(message.rest) < 20:
                self._on_feed(int(message.rest))
        elif message.kind == MARKS:
            self._on_marks()
        elif message.kind == EVENT and (body := self._pieces.add(message)) is not None:
            self._on_event(body)

    def _forget_silent(self, now: float) -> None:
        for origin in [origin for origin, heard in self._peers.items() if now - heard > SILENCE]:
            del self._peers[origin]
        self._metrics.office_bus_peers.set(len(self._peers))
