"""A post office in this process: HTTP and WebSocket to an ASGI application, through memory alone.

    client's loop ── AsgiTransport ──▶ office's loop (a thread of its own) ── app(scope, receive, send)

Both sides run their real code; only the sockets are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pennypost.protocol.errors import OfficeMisbehaves, OfficeUnreachable
from pennypost.threads import LOOK
from pennypost.transport import BODY_LIMIT, FRAME_LIMIT, TIMEOUT, Response, WebSocket

T = TypeVar("T")
Message = MutableMapping[str, Any]
Scope = dict[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

QUEUE = 64
"""Messages that wait in each direction of a WebSocket; past it the sender waits, as with a socket."""


class AsgiTransport:
    """Speaks to one application, and refuses every address but its own."""

    def __init__(self, app: App, url: str, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the one that the application runs on; it must be running while the transport is used."""
        self._app, self._url, self._loop = app, url, loop

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
        scope = self._scope("http", url, headers or {}) | {"method": method}
        try:
            async with asyncio.timeout(timeout):
                return await self.there(_exchange(self._app, scope, body, limit))
        except TimeoutError:
            raise OfficeUnreachable from None

    async def websocket(self, url: str, *, limit: int = FRAME_LIMIT, timeout: float = TIMEOUT) -> WebSocket:
        """As Transport.websocket."""
        socket = _Socket(self._app, self._scope("websocket", url, {}) | {"subprotocols": []}, limit)
        try:
            async with asyncio.timeout(timeout):
                await self.there(socket.open())
        except TimeoutError:
            raise OfficeUnreachable from None
        return _AsgiWebSocket(self, socket)

    async def close(self) -> None:
        """Nothing to give back: the sandbox owns the loop."""

    async def there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the application's loop. Raises OfficeUnreachable when that loop is gone."""
        if not self._loop.is_running():
            work.close()
            raise OfficeUnreachable("the sandbox was closed")
        if asyncio.get_running_loop() is self._loop:
            return await work
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        try:
            while not (await asyncio.wait({future}, timeout=LOOK))[0]:
                if not self._loop.is_running():
                    raise OfficeUnreachable("the sandbox was closed")
            return future.result()
        finally:
            future.cancel()

    def _scope(self, kind: str, url: str, headers: Mapping[str, str]) -> Scope:
        if url != self._url and not url.startswith(self._url + "/"):
            raise OfficeUnreachable("the sandbox knows no other address")
        parts = urlsplit(url)
        scheme = parts.scheme if kind == "http" else "ws" + parts.scheme.removeprefix("http")
        named = {"host": parts.netloc, "user-agent": "pennypost", **headers}
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": scheme,
            "path": parts.path or "/",
            "raw_path": (parts.path or "/").encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 1),
            "server": (parts.hostname, parts.port or 80),
            "state": {},
        }


async def _exchange(app: App, scope: Scope, body: bytes, limit: int) -> Response:
    request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    content, status = bytearray(), 500
    found: dict[str, str] = {}
    done = asyncio.Event()

    async def receive() -> Message:
        if request:
            return request.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            found.update({name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]})
        elif message["type"] == "http.response.body" and not done.is_set():
            content.extend(message.get("body", b""))
            if len(content) > limit or not message.get("more_body", False):
                done.set()

    # As on a network, the answer is there before the application has ended, and whether or not it ends well.
    work = asyncio.ensure_future(app(scope, receive, send))
    answered = asyncio.create_task(done.wait())
    try:
        await asyncio.wait({work, answered}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        work.cancel()
        raise
    finally:
        answered.cancel()
    if not done.is_set():
        raise OfficeUnreachable from work.exception()
    if len(content) > limit:
        raise OfficeMisbehaves("its answer is too large")
    return Response(status, bytes(content), found)


class _Socket:
    """The office's end: everything here runs on the office's loop."""

    def __init__(self, app: App, scope: Scope, limit: int) -> None:
        self._app, self._scope, self._limit = app, scope, limit
        self._to_app: asyncio.Queue[Message] = asyncio.Queue(QUEUE)
        self._from_app: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUE)
        self._opened: asyncio.Future[bool] | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._opened = asyncio.get_running_loop().create_future()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run())
        if not await self._opened:
            raise OfficeUnreachable("the connection was refused")

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._send)
        except OSError:
            # The reader has left.
            pass
        finally:
            self._end()

    async def _send(self, message: Message) -> None:
        assert self._opened is not None
        match message["type"]:
            case "websocket.accept":
                self._opened.set_result(True)
            case "websocket.send":
                await self._room.acquire()
                if self._closed:
                    # What a server raises when the other side has left (ASGI, Disconnected client).
                    raise OSError
                self._from_app.put_nowait(message["text"] if message.get("text") is not None else message["bytes"])
            case "websocket.close":
                self._end()
            case _:
                pass

    def _end(self) -> None:
        self._closed = True
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(False)
        self._from_app.put_nowait(None)

    async def send(self, text: str) -> None:
        if self._closed:
            raise OfficeUnreachable("the connection was closed")
        await self._to_app.put({"type": "websocket.receive", "text": text, "bytes": None})

    async def receive(self) -> str | bytes:
        found = await self._from_app.get()
        if found is None:
            self._from_app.put_nowait(None)
            raise OfficeUnreachable("the connection was closed")
        self._room.release()
        if len(found) > self._limit:
            raise OfficeMisbehaves("its message is too large")
        return found

    async def close(self) -> None:
        if self._task is None:
            return
        if not self._closed:
            self._closed = True
            if not self._to_app.full():
                self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1000, "reason": ""})
        # The application may be waiting in `_send` for a reader that has gone.
        for _ in range(QUEUE):
            self._room.release()
        _, late = await asyncio.wait({self._task}, timeout=2)
        for task in late:
            task.cancel()
        self._task = None


class _AsgiWebSocket:
    """The client's end: it only carries calls to the office's loop."""

    def __init__(self, transport: AsgiTransport, socket: _Socket) -> None:
        self._transport, self._socket = transport, socket

    async def send(self, text: str) -> None:
        await self._transport.there(self._socket.send(text))

    async def receive(self) -> str | bytes:
        return await self._transport.there(self._socket.receive())

    async def close(self) -> None:
        try:
            await self._transport.there(self._socket.close())
        except OfficeUnreachable:
            return
