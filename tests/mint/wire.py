"""One wallet at `/v1/ws` without a network: the ASGI messages themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pennypost_mint.api import Mint

SECONDS = 30


class Wire:
    """What a wallet sends, and what it is sent, decoded. While `stalled` it takes nothing."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.Event()
        self._reading.set()
        self._count = 0
        self._inbox.put_nowait({"type": "websocket.connect"})

    async def receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def send(self, message: dict[str, Any]) -> None:
        await self._reading.wait()
        if message["type"] == "websocket.send":
            self.frames.put_nowait(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed.set_result(message["code"])

    def stall(self) -> None:
        self._reading.clear()

    def go_on(self) -> None:
        self._reading.set()

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    def write(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def write_binary(self, data: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "bytes": data})

    def request(self, method: str, **params: Any) -> int:
        """Sends a request; its id."""
        self._count += 1
        self.write(json.dumps({"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}))
        return self._count

    async def next(self) -> Any:
        """The next frame from the mint."""
        return await asyncio.wait_for(self.frames.get(), SECONDS)

    async def subscribe(self, kind: str, filters: Sequence[str], name: str = "sub") -> None:
        """Subscribes; the next frame must be the OK."""
        identifier = self.request("subscribe", kind=kind, subId=name, filters=list(filters))
        assert await self.next() == {
            "jsonrpc": "2.0",
            "result": {"status": "OK", "subId": name},
            "id": identifier,
        }

    async def told(self, name: str = "sub") -> Any:
        """The payload of the next frame, which must be a notification of this subscription."""
        frame = await self.next()
        assert (frame["jsonrpc"], frame["method"], frame["params"]["subId"]) == ("2.0", "subscribe", name), frame
        return frame["params"]["payload"]

    async def refused(self, code: int) -> Any:
        """The message of the next frame, which must be an error with this code."""
        frame = await self.next()
        assert frame["error"]["code"] == code, frame
        return frame["error"]["message"]


@asynccontextmanager
async def wire_to(mint: Mint, peer: str = "198.51.100.1") -> AsyncIterator[Wire]:
    """Connected until the block ends."""
    wire = Wire()
    scope = {"type": "websocket", "path": "/v1/ws", "client": (peer, 50_000), "headers": []}
    task = asyncio.create_task(mint.websocket(scope, wire.receive, wire.send))
    task.add_done_callback(lambda _: wire.closed.done() or wire.closed.set_result(None))
    try:
        yield wire
    finally:
        wire.leave()
        wire.go_on()
        async with asyncio.timeout(SECONDS):
            await task
