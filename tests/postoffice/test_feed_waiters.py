"""Ten thousand readers wait for the header feed on one box: a server process, a socket each, one letter for all."""

from __future__ import annotations

import asyncio
import re
import resource
import struct
import time
from collections.abc import Callable

import httpx
import psutil

from tests.support.relay import Relay, letter
from tests.support.require import require
from tests.support.server import Server
from tests.support.stamps import MintClient

READERS = 10_000
SPARE = 500
"""Files that the two processes need beside the readers' sockets."""

OPENING = 50
"""Sockets opened at once."""

Reader = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _open(port: int) -> Reader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/headers?after=0&wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n")
    return reader, writer


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, float]:
    """Status line and body of one response, and when it came."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    return head.partition(b"\r\n")[0] + b"\n" + body, time.monotonic()


async def _waiting(http: httpx.AsyncClient) -> int:
    found = re.search(r"^pennypost_office_feed_waiters (\S+)", (await http.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def test_ten_thousand_readers(
    serve: Callable[..., Server], record_property: Callable[[str, object], None]
) -> None:
    """All get the same bytes, soon; a letter posted meanwhile is answered soon too; memory goes back to its use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 20
    require(most >= READERS + SPARE, f"no {READERS + SPARE} open files are allowed here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, READERS + SPARE), hard))
    server = serve()
    process = psutil.Process(server.pid)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http:
        async with MintClient(server.url) as mint:
            stamps = await mint.buy(2)
        before = process.memory_info().rss
        readers: list[Reader] = []
        began = time.monotonic()
        while len(readers) < READERS:
            readers += await asyncio.gather(*(_open(server.port) for _ in range(OPENING)))
        async with asyncio.timeout(60):
            while await _waiting(http) < READERS:
                await asyncio.sleep(0.1)
        opened = time.monotonic() - began
        each = (process.memory_info().rss - before) / READERS
        answers = [asyncio.ensure_future(_answer(reader)) for reader, _ in readers]
        event = letter()
        async with Relay(server.websocket_url) as relay:
            posted = time.monotonic()
            assert (await relay.post(event, stamps[0].token)).accepted
            stored = time.monotonic()
            second = asyncio.create_task(relay.post(letter(), stamps[1].token))
            found = await asyncio.gather(*answers)
            assert (await second).accepted
        times = sorted(when - stored for _, when in found)
        start = b"HTTP/1.1 200 OK\n" + struct.pack(">Q", 1) + struct.pack(">I", 0) + bytes.fromhex(event.pubkey)
        assert all(body.startswith(start) for body, _ in found)
        assert await _waiting(http) == 0
        for _, writer in readers:
            writer.close()
        figures = {
            "readers": READERS,
            "opened in s": round(opened, 2),
            "bytes each": round(each),
            "letter stored in s": round(stored - posted, 3),
            "half woken in s": round(times[len(times) // 2], 2),
            "last woken in s": round(times[-1], 2),
        }
        print(figures)
        for name, value in figures.items():
            record_property(name, value)
        assert each < 64 * 1024
        assert times[-1] < 30
