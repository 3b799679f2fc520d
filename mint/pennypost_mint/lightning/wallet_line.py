"""A connection to a wallet over a relay: requests out, answers and notices of payments in (NIP-47, NIP-01, NIP-42).

    open:   connect ▶ the wallet's info event (how it encrypts) ▶ subscribe to what it writes to us
    ask:    EVENT 23194 ▶ relay ▶ wallet        ◀ EVENT 23195, matched by the id of the request
    payments:                                   ◀ EVENT 23197 or 23196

One relay at a time, the next when it fails or when the wallet stays silent there. It opens when it is used and again
after it broke, with a pause that doubles. A relay is a stranger: what the wallet did not sign is dropped, frames are
bounded, and one that sends only what nobody asked for is left.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from pennypost.protocol import frames
from pennypost.protocol.errors import (
    InvalidInput,
    LightningUnavailable,
)
from pennypost.protocol.nip47 import (
    Transaction,
    WalletInfo,
    WalletLink,
    WalletResponse,
    WalletSession,
)
from pennypost.protocol.nip47_line import (
    ANSWERS,
    INFO,
    NONSENSE,
    Answer,
    Leave,
    LineState,
    Ready,
    Received,
    Send,
    Step,
    Unanswered,
)

OPEN_SECONDS = 10.0
"""Longest for each of: the connection, the info event, the subscription."""

ANSWER_SECONDS = 15.0
"""Longest a wallet may take to answer."""

STALE_SECONDS = 120
"""A wallet that sees a request so long after it was made ignores it; more than ANSWER_SECONDS, for clocks differ."""

FRAME_LIMIT = 256 * 1024
"""Bytes of a frame; wallets write up to 64 KiB (NIP-47, Metadata)."""

WAITING = 64
"""Most requests under way."""

UNREAD = 1_000
"""Most notices of payments that wait to be read; what is more is found by look-ups."""

SILENT = 3
"""Requests in a row without an answer before another relay is tried."""

PING = 20.0
"""Seconds between two pings, and for the answer to one: so long a dead connection is believed."""

BACK_OFF = (1.0, 60.0)
"""First and longest pause after a relay could not be reached; it doubles in between."""


class WalletLine:
    """The wallet of one link, at whichever of its relays it is found."""

    def __init__(self, link: WalletLink) -> None:
        self._session = WalletSession(link)
        self._relays = link.relays
        self._relay = 0
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None
        self._pause = BACK_OFF[0]
        self._not_before = 0.0
        self._silent = 0

    async def info(self) -> WalletInfo | None:
        """What the wallet says it can do; None when its relay does not have its word. Raises LightningUnavailable."""
        return (await self._opened()).info

    async def ask(self, method: str, params: Mapping[str, object]) -> WalletResponse:
        """One request and its answer, which may be a refusal. Raises LightningUnavailable, also after a while."""
        connection = await self._opened()
        try:
            response = await connection.ask(method, params)
        except TimeoutError:
            self._silent += 1
            if self._silent >= SILENT:
                self._silent = 0
                await connection.close()
            raise LightningUnavailable from None
        self._silent = 0
        return response

    async def payments(self) -> AsyncIterator[Transaction]:
        """Payments as the wallet tells of them; raises LightningUnavailable when the connection breaks."""
        connection = await self._opened()
        queue: asyncio.Queue[Transaction | None] = asyncio.Queue(UNREAD)
        connection.listeners.add(queue)
        try:
            while connection.alive and (found := await queue.get()) is not None:
                yield found
        finally:
            connection.listeners.discard(queue)
        raise LightningUnavailable

    async def close(self) -> None:
        """Ends the connection; the next use opens another."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._connection is not None:
            await self._connection.close()

    async def _opened(self) -> _Connection:
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._opening is None:
            if time.monotonic() < self._not_before:
                raise LightningUnavailable
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._is_opened)
        opening = self._opening
        try:
            # Several may wait for the same opening, and one that gives up does not end it.
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled():
                raise LightningUnavailable from None
            raise

    def _is_opened(self, task: asyncio.Task[_Connection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()

    async def _open(self) -> _Connection:
        if self._connection is not None:
            await self._connection.close()
            self._relay += 1
        url = self._relays[self._relay % len(self._relays)]
        try:
            self._connection = await _Connection.open(self._session, url)
        except LightningUnavailable:
            self._relay += 1
            self._not_before = time.monotonic() + self._pause * random.uniform(0.8, 1.2)
            self._pause = min(2 * self._pause, BACK_OFF[1])
            raise
        self._pause = BACK_OFF[0]
        return self._connection


class _Connection:
    """One WebSocket. `alive` until it broke; then everybody who waits has been told."""

    def __init__(self, session: WalletSession, url: str, socket: ClientConnection) -> None:
        self.alive = True
        self.listeners: set[asyncio.Queue[Transaction | None]] = set()
        self._state, self._socket = LineState(session, url), socket
        self._waiting: dict[str, asyncio.Future[WalletResponse]] = {}
        self._ready = {name: asyncio.Event() for name in (INFO, ANSWERS)}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, session: WalletSession, url: str) -> _Connection:
        """A connection whose subscriptions the relay has taken. Raises LightningUnavailable."""
        try:
            socket = await connect(
                url,
                proxy=None if _is_loopback(url) else True,
                open_timeout=OPEN_SECONDS,
                max_size=FRAME_LIMIT,
                max_queue=64,
                compression=None,
                close_timeout=2,
                ping_interval=PING,
                ping_timeout=PING,
                user_agent_header="pennypost",
            )
        except (InvalidHandshake, InvalidURI, TimeoutError, OSError, EOFError):
            raise LightningUnavailable from None
        connection = cls(session, url, socket)
        try:
            for name, ready in connection._ready.items():
                await connection._send(connection._state.subscribe(name))
                async with asyncio.timeout(OPEN_SECONDS):
                    await ready.wait()
                if not connection.alive:
                    raise LightningUnavailable
        except TimeoutError:
            await connection.close()
            raise LightningUnavailable from None
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def info(self) -> WalletInfo | None:
        """The wallet's own word, where its relay has it."""
        return self._state.info

    async def ask(self, method: str, params: Mapping[str, object]) -> WalletResponse:
        """Raises LightningUnavailable, TimeoutError when the wallet does not answer."""
        if self._state.waiting >= WAITING:
            raise LightningUnavailable
        now, nonce, aux = int(time.time()), secrets.token_bytes(32), secrets.token_bytes(32)
        event = self._state.request(method, params, now=now, expires_at=now + STALE_SECONDS, nonce=nonce, aux=aux)
        answer: asyncio.Future[WalletResponse] = asyncio.get_running_loop().create_future()
        self._waiting[event.id] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(frames.event_frame(event))
                return await answer
        finally:
            self._state.forget(event.id)
            del self._waiting[event.id]
            # Nobody reads it any more, so it is read here.
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def close(self) -> None:
        """Ends it; whoever waits hears so."""
        self._reader.cancel()
        await asyncio.wait({self._reader})
        await self._socket.close()

    async def _send(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except ConnectionClosed:
            raise LightningUnavailable from None

    async def _read(self) -> None:
        try:
            while self._state.nonsense < NONSENSE:
                text = await self._socket.recv()
                self._state.nonsense += 1
                try:
                    message = frames.parse_relay_frame(text)
                    for step in self._state.take(message, now=int(time.time()), aux=secrets.token_bytes(32)):
                        await self._follow(step)
                except InvalidInput:
                    continue
        except (ConnectionClosed, LightningUnavailable):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.alive = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LightningUnavailable())
        for queue in self.listeners:
            _offer(queue, None)
        for ready in self._ready.values():
            ready.set()

    async def _follow(self, step: Step) -> None:
        match step:
            case Send(frame):
                await self._send(frame)
            case Ready(name):
                self._ready[name].set()
            case Answer(request, response):
                if not (answer := self._waiting[request]).done():
                    answer.set_result(response)
            case Unanswered(request):
                if not (answer := self._waiting[request]).done():
                    answer.set_exception(LightningUnavailable())
            case Received(payment):
                for queue in self.listeners:
                    _offer(queue, payment)
            case Leave():
                raise LightningUnavailable


def _offer(queue: asyncio.Queue[Transaction | None], found: Transaction | None) -> None:
    """Puts it in; a queue that is full loses its oldest."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(found)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
