"""Somebody between the SDK and a real office: changes answers, loses them, or never delivers what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pennypost.protocol.errors import OfficeUnreachable
from pennypost.transport import BODY_LIMIT, FRAME_LIMIT, TIMEOUT, Response, Transport, WebSocket

Change = Callable[[Any], Any]


class Meddler:
    """A transport around another one."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.asked: list[str] = []
        """Method and path of every request, and each frame's label, in order."""
        self.answers: dict[str, Callable[[Response], Response]] = {}
        """By the beginning of a path: what becomes of the answer."""
        self.frames: Callable[[str], list[str]] = lambda text: [text]
        """What becomes of each frame of the office."""
        self.lose_request: int | None = None
        """Number of the request, frames included, that never arrives."""
        self.lose_answer: int | None = None
        """Number of the request whose answer is lost, with everything after it."""

    def change(self, path: str, change: Change) -> None:
        """Change the decoded JSON of answers from this path."""

        def changed(answer: Response) -> Response:
            if answer.status != 200:
                return answer
            return replace(answer, body=msgspec.json.encode(change(msgspec.json.decode(answer.body))))

        self.answers[path] = changed

    def replace(self, path: str, body: bytes, status: int = 200) -> None:
        """Answer this path with these bytes."""
        self.answers[path] = lambda answer: Response(status, body)

    def honest(self) -> None:
        """Meddle no more."""
        self.answers.clear()
        self.lose_answer = self.lose_request = None
        self.frames = lambda text: [text]

    def begin(self, what: str) -> int:
        number = len(self.asked)
        self.asked.append(what)
        lost = self.lose_request is not None and number >= self.lose_request
        if lost or (self.lose_answer is not None and number > self.lose_answer):
            raise OfficeUnreachable
        return number

    def end(self, number: int) -> None:
        if self.lose_answer is not None and number >= self.lose_answer:
            raise OfficeUnreachable

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
        path = "/" + url.split("/", 3)[3]
        number = self.begin(f"{method} {path}")
        answer = await self.inner.request(method, url, headers=headers, body=body, limit=limit, timeout=timeout)
        self.end(number)
        for beginning, change in self.answers.items():
            if path == beginning or (beginning != "/" and path.startswith(beginning)):
                return change(answer)
        return answer

    async def websocket(self, url: str, *, limit: int = FRAME_LIMIT, timeout: float = TIMEOUT) -> WebSocket:
        number = self.begin("WEBSOCKET")
        socket = await self.inner.websocket(url, limit=limit, timeout=timeout)
        self.end(number)
        return _Socket(self, socket)

    async def close(self) -> None:
        await self.inner.close()


class _Socket:
    def __init__(self, meddler: Meddler, inner: WebSocket) -> None:
        self._meddler, self._inner = meddler, inner
        self._waiting: list[str] = []
        self._lost = False

    async def send(self, text: str) -> None:
        number = self._meddler.begin(text[2:7].strip('",'))
        await self._inner.send(text)
        self._lost = self._meddler.lose_answer is not None and number >= self._meddler.lose_answer

    async def receive(self) -> str | bytes:
        while not self._waiting:
            text = str(await self._inner.receive())
            if self._lost and text.startswith('["OK"'):
                # The office has the letter and says so; nobody here hears of it.
                raise OfficeUnreachable
            self._waiting += self._meddler.frames(text)
        return self._waiting.pop(0)

    async def close(self) -> None:
        await self._inner.close()
