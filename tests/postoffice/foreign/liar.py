"""A mint that misbehaves: an HTTP server before a real one, which does what it is told and answers what it likes.

office ─▶ Liar ─ as the behaviour of the path says ─▶ the real mint
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from pennypost.protocol import bdhke
from tests.support.ports import free_port

Answer = tuple[int, bytes, dict[str, str]]
Behaviour = Callable[["Request"], Awaitable[Answer | None]]
"""The answer to a request; None closes the connection without one."""


class Request:
    """One request, and the way to the real mint."""

    def __init__(self, liar: Liar, method: str, path: str, body: bytes) -> None:
        self.method, self.path, self.body = method, path, body
        self._liar = liar

    @property
    def astray(self) -> str:
        """Where a redirect leads: nobody may ask there."""
        return f"{self._liar.url}/astray"

    async def honest(self) -> Answer:
        """What the real mint answers."""
        answer = await self._liar.http.request(
            self.method, self._liar.real + self.path, content=self.body, headers={"content-type": "application/json"}
        )
        return answer.status_code, answer.content, {}


class Liar:
    """Use it in `async with`. `behaviours` go by path, and each is for the next requests: (how many, what)."""

    def __init__(self, real: str) -> None:
        self.real = real
        self.http = httpx.AsyncClient(trust_env=False, timeout=30)
        self.asked: Counter[str] = Counter()
        self.bodies: dict[str, list[bytes]] = {}
        self.heads: list[str] = []
        self._behaviours: dict[str, tuple[int, Behaviour]] = {}
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        # below the ephemeral range: nobody's outgoing connection takes it while it is down
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Liar:
        await self.up()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.down()
        await self.http.aclose()

    async def up(self) -> None:
        """Listens, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def down(self) -> None:
        """Nobody is there; whoever is connected is cut off."""
        if self._server is not None:
            self._server.close()
            for task in list(self._handlers):
                task.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)
            self._server = None

    def lie(self, path: str, behaviour: Behaviour, times: int = 1_000_000) -> None:
        """The next `times` requests to a path are answered so."""
        self._behaviours[path] = (times, behaviour)

    def repent(self) -> None:
        """From now on it is honest."""
        self._behaviours.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0].partition(":")[2])) if lengths else b""
        self.asked[path] += 1
        self.heads.append(head)
        self.bodies.setdefault(path, []).append(body)
        request = Request(self, method, path, body)
        times, behaviour = self._behaviours.get(path, (0, None))
        if behaviour is not None and times > 0:
            self._behaviours[path] = (times - 1, behaviour)
            answer = await behaviour(request)
        else:
            answer = await request.honest()
        if answer is None:
            return
        status, content, headers = answer
        lines = [f"HTTP/1.1 {status} X", "connection: close", "content-type: application/json"]
        if "transfer-encoding" not in headers:
            lines.append(f"content-length: {len(content)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
        await writer.drain()


# Before the mint has seen it


async def hang_up(request: Request) -> Answer | None:
    return None


async def trouble(request: Request) -> Answer | None:
    return 500, b"Internal Server Error", {}


async def busy(request: Request) -> Answer | None:
    return 429, b"slow down", {}


async def nonsense(request: Request) -> Answer | None:
    return 200, b'{"signatures": "none', {}


async def no_signatures(request: Request) -> Answer | None:
    return 200, b'{"signatures": []}', {}


async def elsewhere(request: Request) -> Answer | None:
    return 307, b"", {"location": request.astray}


async def endless(request: Request) -> Answer | None:
    return 200, b'{"signatures": [' + b" " * (2 * 1024 * 1024) + b"]}", {}


async def compressed(request: Request) -> Answer | None:
    return 200, b"\x1f\x8b" + b"\0" * 64, {"content-encoding": "gzip"}


async def deep(request: Request) -> Answer | None:
    return 200, b"[" * 100_000, {}


async def spent(request: Request) -> Answer | None:
    return 400, b'{"detail": "already spent", "code": 11001}', {}


async def pending(request: Request) -> Answer | None:
    return 400, b'{"detail": "pending", "code": 11002}', {}


async def strange(request: Request) -> Answer | None:
    return 400, b'{"detail": "no", "code": 77777}', {}


async def never(request: Request) -> Answer | None:
    await asyncio.sleep(3_600)
    return None


# After the mint has done it


async def swallow(request: Request) -> Answer | None:
    await request.honest()
    return None


async def late(request: Request) -> Answer | None:
    answer = await request.honest()
    await asyncio.sleep(3_600)
    return answer


async def gateway(request: Request) -> Answer | None:
    await request.honest()
    return 502, b"<html>Bad Gateway</html>", {}


def _changed(change: Callable[[dict[str, Any]], None]) -> Behaviour:
    async def lying(request: Request) -> Answer | None:
        status, content, headers = await request.honest()
        if status != 200:
            return status, content, headers
        found = json.loads(content)
        for signature in found["signatures"]:
            change(signature)
        return 200, json.dumps(found).encode(), {}

    return lying


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda signature: signature.update(values)


no_dleq = _changed(lambda signature: signature.pop("dleq"))
wrong_point = _changed(_set(C_=bdhke.hash_to_curve(b"nobody signed this").hex()))
wrong_proof = _changed(lambda signature: signature["dleq"].update(e="11" * 32))
more_sat = _changed(_set(amount=2))
no_sat = _changed(_set(amount=0))
other_keyset = _changed(_set(id="00" + "ab" * 7))
not_a_point = _changed(_set(C_="02" + "ff" * 32))

UNSEEN: dict[str, Behaviour] = {
    "hangs up": hang_up,
    "500": trouble,
    "429": busy,
    "garbage": nonsense,
    "no signatures": no_signatures,
    "redirect": elsewhere,
    "endless body": endless,
    "compressed": compressed,
    "deep JSON": deep,
    "says pending": pending,
    "never answers": never,
}
"""Ways to fail before anything is done."""

DONE: dict[str, Behaviour] = {
    "does it and hangs up": swallow,
    "does it and answers too late": late,
    "does it, the gateway says 502": gateway,
    "no DLEQ": no_dleq,
    "another point": wrong_point,
    "a wrong DLEQ": wrong_proof,
    "more sat": more_sat,
    "no sat": no_sat,
    "another keyset": other_keyset,
    "no point": not_a_point,
}
"""Ways to do it and not say so."""
