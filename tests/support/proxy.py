"""A small reverse proxy with one fault, in front of a real server: what operators set up wrong."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from typing import Literal
from urllib.parse import urlsplit

from tests.support.ports import free_port

Fault = Literal[
    "none",
    "no upgrade",
    "buffers",
    "caches",
    "compresses",
    "redirects",
    "answers alone",
    "cuts off",
    "small bodies",
    "own error pages",
    "drops headers",
    "another time",
]


class Proxy:
    """Passes HTTP/1.1 and WebSockets on to `target`, but for its `fault`. Use it with `async with`."""

    def __init__(self, target: str = "", *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.target, self.fault, self._tls = target, "none", tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        upgrade = any(line.lower().startswith("upgrade:") for line in lines)
        if self.fault == "redirects":
            writer.write(b"HTTP/1.1 301 X\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n")
            return await writer.drain()
        if self.fault == "answers alone":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<html>Welcome!\n")
            return await writer.drain()
        if self.fault == "small bodies" and any(_length(each) > 8_192 for each in lines):
            writer.write(b"HTTP/1.1 413 X\r\nconnection: close\r\ncontent-length: 16\r\n\r\n<html>Too large\n")
            await writer.drain()
            while await reader.read(65_536):
                pass
            return None
        if not upgrade or self.fault == "no upgrade":
            lines = [
                each for each in lines if not each.lower().startswith(("connection:", "upgrade:", "sec-websocket"))
            ]
            lines.append("connection: close")
            upgrade = False
        where = urlsplit(self.target)
        theirs, ours = await asyncio.open_connection(where.hostname, where.port)
        sending: asyncio.Task[None] | None = None
        try:
            ours.write("\r\n".join([first, *lines, "", ""]).encode())
            sending = asyncio.create_task(_pump(reader, ours))
            head = (await theirs.readuntil(b"\r\n\r\n")).decode()
            if self.fault == "caches":
                head = head.replace("\r\n", "\r\nage: 300\r\n", 1)
            if self.fault == "compresses":
                head = head.replace("\r\n", "\r\ncontent-encoding: gzip\r\n", 1)
            if self.fault == "own error pages" and head.startswith("HTTP/1.1 4"):
                writer.write(f"{head.splitlines()[0]}\r\nconnection: close\r\ncontent-length: 15\r\n\r\n".encode())
                writer.write(b"<html>Sorry...\n")
                await writer.drain()
                return None
            if self.fault == "drops headers":
                head = re.sub(r"x-cashu: .*\r\n", "", head)
            if self.fault == "another time":
                head = re.sub(r"date: .*\r\n", "date: Sat, 21 Nov 2020 12:00:00 GMT\r\n", head)
            writer.write(head.encode())
            if self.fault == "cuts off" and upgrade:
                return await writer.drain()
            if self.fault == "buffers" and upgrade:
                await writer.drain()
                return await sending
            await asyncio.gather(sending, _pump(theirs, writer))
        finally:
            if sending is not None:
                sending.cancel()
            ours.transport.abort()


def _length(line: str) -> int:
    name, _, value = line.partition(":")
    return int(value) if name.lower() == "content-length" else 0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65_536):
        writer.write(part)
        await writer.drain()
    writer.write_eof() if writer.can_write_eof() else writer.close()
