"""Wallets that listen: `/v1/ws` over WebSocket (raw ASGI, NUT-17).

    from the wallet        to the wallet
    subscribe              OK, then the state of everything named, then every change of it
    unsubscribe            OK
    anything else          a JSON-RPC error
    nothing, unsubscribed  closed after a minute

An id of the right form that this mint does not know is accepted, and nothing is told of it until it exists. A `subId`
that is in use is taken over by the new subscription. Everything is bounded (runtime/limits): a wallet that sends too
fast is read more slowly, one that does not read is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from pennypost.protocol.errors import FrameTooLarge, PennypostError, RpcParams, RpcUnparseable, TooManySubscriptions
from pennypost.protocol.subscription import (
    RequestId,
    Subscribe,
    error_answer,
    ok_answer,
    read_command,
    read_request,
)
from pennypost_mint.runtime.limits import (
    KIB,
    MAX_FRAME,
    MAX_SUBSCRIPTIONS,
    MAX_WEBSOCKETS,
    WALLET_FRAMES_BURST,
    WALLET_FRAMES_RATE,
    WALLET_IDLE,
    WALLET_OUTGOING,
    WATCHED_OF_CONNECTION,
    WEBSOCKETS_OF_SOURCE,
    TokenBucket,
)
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.sources import RateLimit, Source, Sources
from pennypost_mint.watch import Subscription, Watch

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CLOSE_DONE = 1000
CLOSE_TRY_LATER = 1013


class Listeners:
    """The ASGI application of `/v1/ws`: all connections of this process."""

    def __init__(self, watch: Watch, limit: RateLimit, sources: Sources, metrics: Metrics) -> None:
        self.watch = watch
        self.limit = limit
        self.metrics = metrics
        self._sources = sources
        self._open = 0
        self._of_source: Counter[Source] = Counter()
        metrics.mint_websockets.set_function(lambda: self._open)
        metrics.mint_watched.set_function(lambda: watch.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection until either side closes."""
        await receive()
        await send({"type": "websocket.accept"})
        source = self._sources.of(scope)
        if self._open >= MAX_WEBSOCKETS or (self.limit.limited and self._of_source[source] >= WEBSOCKETS_OF_SOURCE):
            await send({"type": "websocket.close", "code": CLOSE_TRY_LATER, "reason": "too many connections"})
            return
        self._open += 1
        self._of_source[source] += 1
        try:
            await Listener(self, scope).run(receive, send)
        finally:
            self._open -= 1
            self._of_source[source] -= 1
            if not self._of_source[source]:
                del self._of_source[source]


class Listener:
    """One connection."""

    def __init__(self, listeners: Listeners, scope: Scope) -> None:
        self._listeners = listeners
        self._scope = scope
        self._subscriptions: dict[str, Subscription] = {}
        self._pace = TokenBucket(WALLET_FRAMES_RATE, WALLET_FRAMES_BURST, monotonic)
        self._outgoing: deque[str] = deque()
        self._outgoing_size = 0
        self._more = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[Any] | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Serves until either side closes."""
        self._task = asyncio.current_task()
        writer = asyncio.create_task(self._write(send))
        try:
            await self._read(receive)
            if not self._closed:
                with contextlib.suppress(OSError):
                    await send({"type": "websocket.close", "code": CLOSE_DONE})
        except asyncio.CancelledError:
            if not self._closed:
                raise
        finally:
            self._close()
            writer.cancel()

    async def _read(self, receive: Receive) -> None:
        """Frame after frame, until the wallet leaves or has nothing to listen to."""
        idle_from = monotonic()
        while True:
            patience = None if self._subscriptions else idle_from + WALLET_IDLE - monotonic()
            try:
                async with asyncio.timeout(patience):
                    message = await receive()
            except TimeoutError:
                return
            if message["type"] == "websocket.disconnect":
                self._close()
                return
            if self._subscriptions:
                idle_from = monotonic()
            self._received(message.get("text"))
            if (pause := self._pace.wait(None)) > 0:
                await asyncio.sleep(pause)
            self._pace.take(None)

    def _received(self, text: str | None) -> None:
        """One frame; None for a binary one."""
        identifier: RequestId = None
        try:
            if text is None:
                raise RpcUnparseable
            if len(text) > MAX_FRAME:
                raise FrameTooLarge
            request = read_request(text)
            identifier = request.id
            command = read_command(request)
            if isinstance(command, Subscribe):
                self._listeners.limit.charge(self._scope, "subscribe", 1 + len(text) // KIB)
                self._subscribe(command, request.id)
            else:
                self._unsubscribe(command.name)
                self._send(ok_answer(request.id, command.name))
        except PennypostError as error:
            self._send(error_answer(identifier, error))

    def _subscribe(self, command: Subscribe, identifier: int | str) -> None:
        """Raises TooManySubscriptions; then what was subscribed before is as it was."""
        before = self._subscriptions.get(command.name)
        others = [each for each in self._subscriptions.values() if each is not before]
        if len(others) >= MAX_SUBSCRIPTIONS:
            raise TooManySubscriptions
        subscription = Subscription(command, self._send)
        if sum(len(each.keys) for each in others) + len(subscription.keys) > WATCHED_OF_CONNECTION:
            raise TooManySubscriptions(f"one connection watches at most {WATCHED_OF_CONNECTION:,} quotes and proofs")
        # The first state is told after a look into the database, so the OK is always before it.
        self._listeners.watch.add(subscription)
        if before is not None:
            self._listeners.watch.remove(before)
        self._subscriptions[command.name] = subscription
        self._send(ok_answer(identifier, command.name))

    def _unsubscribe(self, name: str) -> None:
        """Raises RpcParams."""
        subscription = self._subscriptions.pop(name, None)
        if subscription is None:
            raise RpcParams("there is no such subscription")
        self._listeners.watch.remove(subscription)

    def _send(self, text: str) -> None:
        """Queues one frame; a wallet for which WALLET_OUTGOING bytes wait is cut off."""
        if self._closed:
            return
        self._outgoing.append(text)
        self._outgoing_size += len(text)
        if self._outgoing_size > WALLET_OUTGOING and self._task is not None:
            self._listeners.metrics.mint_slow_readers.inc()
            self._close()
            self._task.cancel()
        self._more.set()

    def _close(self) -> None:
        """Forgets everything of this connection."""
        self._closed = True
        self._outgoing.clear()
        for subscription in self._subscriptions.values():
            self._listeners.watch.remove(subscription)
        self._subscriptions.clear()

    async def _write(self, send: Send) -> None:
        outgoing = self._outgoing
        try:
            while True:
                while outgoing:
                    text = outgoing.popleft()
                    self._outgoing_size -= len(text)
                    await send({"type": "websocket.send", "text": text})
                self._more.clear()
                await self._more.wait()
        except OSError:
            # The wallet went away; `receive` says so, too.
            self._close()
