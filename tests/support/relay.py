"""A plain WebSocket to the post office: frames as protocol.md writes them, nothing of our SDK between."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.headers import Header, decode_headers

ANSWER_SECONDS = 70
"""An office whose database is away may hold an answer back for 60 s."""


@dataclass(frozen=True)
class Answer:
    """An OK: `code` is what stands in the brackets at the end of a refusal."""

    accepted: bool
    message: str

    @property
    def code(self) -> str:
        found = re.search(r"\[([a-z-]+)\]$", self.message)
        return found.group(1) if found else ""

    @property
    def duplicate(self) -> bool:
        """Stored already, by an earlier frame."""
        return self.accepted and self.message.startswith("duplicate:")


def letter(*, kind: int = 1059, keep: int = 3_600, size: int = 256, tags: list[list[str]] | None = None) -> Event:
    """An event of a fresh key that looks like a stealth wrap: `vt`, `p` and an expiration `keep` seconds ahead."""
    now = int(time.time())
    marks = [["p", secrets.token_hex(32)], ["vt", secrets.token_hex(4)], ["expiration", str(now + keep)]]
    return sign_event(
        secrets.token_bytes(31).rjust(32, b"\1"),
        created_at=now,
        kind=kind,
        tags=marks if tags is None else tags,
        content=secrets.token_hex(size // 2),
        aux=secrets.token_bytes(32),
    )


def plain(event: Event) -> dict[str, Any]:
    """The event as a JSON object."""
    return {
        "id": event.id,
        "pubkey": event.pubkey,
        "created_at": event.created_at,
        "kind": event.kind,
        "tags": event.tags,
        "content": event.content,
        "sig": event.sig,
    }


class Relay:
    """One connection. Answers to frames of other tasks on the same connection are kept for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[str, list[asyncio.Future[Answer]]] = {}
        self.frames: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def __aenter__(self) -> Relay:
        try:
            self._socket = await connect(self._url, proxy=None, max_size=None, ping_interval=None, open_timeout=60)
        except websockets.InvalidMessage as error:
            # cut off before the handshake was over, as a server that is killed does
            raise ConnectionResetError(str(error)) from None
        self._reader = asyncio.create_task(self._read(self._socket))
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._socket is not None and self._reader is not None
        await self._socket.close()
        await self._reader

    async def _read(self, socket: ClientConnection) -> None:
        lost: Exception = ConnectionResetError("the connection is closed")
        try:
            async for text in socket:
                frame = json.loads(text)
                if frame[0] == "OK" and (waiting := self._answers.get(frame[1])):
                    assert len(frame) == 4, frame
                    answer = waiting.pop(0)
                    if not answer.done():
                        answer.set_result(Answer(frame[2], frame[3]))
                else:
                    self.frames.put_nowait(frame)
        except websockets.ConnectionClosed as error:
            lost = ConnectionResetError(str(error))
        finally:
            for waiting in self._answers.values():
                for answer in waiting:
                    if not answer.done():
                        answer.set_exception(lost)

    async def send(self, frame: list[Any] | str) -> None:
        """One frame, or any text. Raises ConnectionResetError when the connection is gone."""
        assert self._socket is not None
        try:
            await self._socket.send(frame if isinstance(frame, str) else json.dumps(frame))
        except websockets.ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from None

    async def post(self, event: Event, token: str | None = None, options: dict[str, Any] | None = None) -> Answer:
        """Sends an EVENT and waits for its OK. Raises ConnectionResetError when the connection ends before it."""
        frame: list[Any] = ["EVENT", plain(event)]
        if token is not None or options is not None:
            frame.append(token)
        if options is not None:
            frame.append(options)
        return await self._asked(event.id, frame)

    async def release(self, hold: bytes, preimage: Any, identifier: Any) -> Answer:
        """Sends a RELEASE and waits for its OK; bytes are sent as hex."""
        asked = [each.hex() if isinstance(each, bytes) else each for each in (preimage, identifier)]
        return await self._asked(hold.hex(), ["RELEASE", hold.hex(), *asked])

    async def _asked(self, identifier: str, frame: list[Any]) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._answers.setdefault(identifier, [])
        waiting.append(answer)
        try:
            await self.send(frame)
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        finally:
            if answer in waiting:
                waiting.remove(answer)

    async def fetch(self, *filters: dict[str, Any]) -> list[dict[str, Any]]:
        """The stored events of a REQ, up to EOSE; then CLOSE."""
        subscription = secrets.token_hex(8)
        await self.send(["REQ", subscription, *filters])
        found: list[dict[str, Any]] = []
        while True:
            frame = await asyncio.wait_for(self.frames.get(), ANSWER_SECONDS)
            if frame[0] == "EVENT" and frame[1] == subscription:
                found.append(frame[2])
            elif frame[0] == "EOSE" and frame[1] == subscription:
                await self.send(["CLOSE", subscription])
                return found
            else:
                assert frame[0] not in ("CLOSED", "NOTICE"), frame


async def stored(url: str, ids: list[str]) -> set[str]:
    """Which of these event ids the post office can give back."""
    found: set[str] = set()
    async with Relay(url) as relay:
        for start in range(0, len(ids), 50):
            part = ids[start : start + 50]
            found |= {event["id"] for event in await relay.fetch({"ids": part})}
    return found


async def feed(http: httpx.AsyncClient, after: int = 0, wait: int = 0) -> list[Header]:
    """The header feed from `after` on, page by page, until it is empty."""
    read: list[Header] = []
    while True:
        response = await http.get("/v1/headers", params={"after": after, "limit": 1_000, "wait": wait})
        response.raise_for_status()
        _, headers = decode_headers(response.content)
        if not headers:
            return read
        read += headers
        after = headers[-1].seq
