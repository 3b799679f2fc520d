"""A proxy that puts a stamp on every EVENT that passes: so relay programs that know no stamps can be held to ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from tests.support.ports import free_port


@asynccontextmanager
async def stamping(office_port: int, token: Callable[[], str]) -> AsyncIterator[str]:
    """The address `ws://…` of a proxy before the office; clients that sign it in (NIP-42) reach the office by it."""
    port = free_port()

    async def stamped(client: ServerConnection, office: ClientConnection) -> None:
        async for text in client:
            frame = json.loads(text)
            if frame[0] == "EVENT" and len(frame) == 2:
                frame.append(token())
            await office.send(json.dumps(frame))

    async def passed(client: ServerConnection, office: ClientConnection) -> None:
        async for text in office:
            await client.send(text)

    async def pass_on(client: ServerConnection) -> None:
        # The name by which the client knows it, the port where the office is.
        own = f"ws://127.0.0.1:{port}/"
        async with connect(own, host="127.0.0.1", port=office_port, proxy=None, max_size=None) as office:
            both = [asyncio.create_task(way(client, office)) for way in (stamped, passed)]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for way in both:
                way.cancel()
                with suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                    await way

    async with serve(pass_on, "127.0.0.1", port, max_size=None):
        yield f"ws://127.0.0.1:{port}"
