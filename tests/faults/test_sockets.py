"""Sockets of strangers on a real server: thousands that idle, never read, send a byte now and then, or half a request.

Each costs what is allowed and no more, and everyone else is served all the while. `make crash` opens 10,000.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from pennypost_mint import websocket
from pennypost_mint.runtime.limits import MAX_HEAD, ODD_BURST, ODD_RATE, ODD_REST, PIPELINED
from pennypost_postoffice import http as heads
from pennypost_postoffice import wire
from pennypost_postoffice.pages.assets import PATH, assets
from pennypost_postoffice.serve import allow_files, uvicorn_config
from tests.postoffice import house as houses
from tests.postoffice.house import House, open_house
from tests.support.relay import Relay, letter, plain, stored
from tests.support.server import Server
from tests.support.stamps import MintClient, Stamp

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
IDLE = 10_000 if ROUNDS > 20 else 1_500
CLIENTS = 64
"""Handshakes under way at once."""

SERVED = 30.0
"""Seconds in which what comes at once has come on any machine; floods and the server's bounds last longer."""

LATE = 0.1
"""Seconds by which a `steady` clock goes on at once, at most."""

KIB_A_SOCKET = 40
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _frame(payload: bytes, head: int = 0x81) -> bytes:
    """One masked frame (RFC 6455, 5.2)."""
    mask = secrets.token_bytes(4)
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([head]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


async def _open(port: int, more: bytes = b"", path: bytes = b"/") -> Ends:
    """A WebSocket by hand; at the post office's its challenge is read."""
    ends = await asyncio.open_connection("127.0.0.1", port)
    ends[1].write(HANDSHAKE.replace(b"/", path, 1) + more + b"\r\n")
    assert b"101" in await ends[0].readuntil(b"\r\n\r\n")
    if path == b"/":
        await _read(ends[0])
    return ends


async def _read(reader: asyncio.StreamReader) -> bytes:
    """One short frame from the server."""
    _, size = await reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2))
    return await reader.readexactly(size)


async def _closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends it."""
    try:
        async with asyncio.timeout(SERVED):
            while await reader.read(65_536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def _neighbour(url: str, websocket_url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Somebody else; calling it posts a letter and returns how long that took, seconds."""
    async with MintClient(url) as mint, Relay(websocket_url) as relay:
        stamps = await mint.buy(20)

        async def post() -> float:
            began = time.monotonic()
            answer = await relay.post(letter(), stamps.pop().token)
            assert answer.accepted, answer
            return time.monotonic() - began

        yield post


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thousands_of_idle_sockets(
    serve: Callable[..., Server], record_property: Callable[[str, object], None]
) -> None:
    """They cost memory alone, and a bounded amount; everyone is served."""
    allow_files()
    server = serve()
    process = psutil.Process(server.pid)
    opened: list[Ends] = []
    async with _neighbour(server.url, server.websocket_url) as post:
        await post()
        before = process.memory_info().rss

        async def connect(count: int) -> None:
            for _ in range(count):
                opened.append(await _open(server.port))

        await asyncio.gather(*(connect(IDLE // CLIENTS) for _ in range(CLIENTS)))
        kib = (process.memory_info().rss - before) / 1_024 / len(opened)
        assert await post() < SERVED
        for reader, writer in opened[:: len(opened) // 50]:
            writer.write(_frame(b"ping"))
            assert (await _read(reader)).startswith(b'["NOTICE"')
        for _, writer in opened:
            writer.transport.abort()
        assert await post() < SERVED
    record_property("KiB a socket", kib)
    print(f"\n{len(opened)} idle sockets, {kib:.1f} KiB each")
    assert kib < KIB_A_SOCKET


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Its patience with requests is short."""
    monkeypatch.setattr(heads, "REQUEST_SECONDS", 0.5)
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture
async def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock, but where the machine did something else for a while nobody is late by more than LATE."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    seen = told = clock()

    def time() -> float:
        nonlocal seen, told
        now = clock()
        told, seen = told + min(now - seen, LATE), now
        return told

    monkeypatch.setattr(loop, "time", time)


HALVES: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("half a line", b"POST /v1/sw"),
    ("half a head", b"POST /v1/swap HTTP/1.1\r\nHost: x\r\n"),
    ("half a handshake", HANDSHAKE),
    ("half a trailer", b"POST /v1/swap HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a"),
    ("half a body", b"POST /v1/swap HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"),
    ("half a chunk", b"POST /v1/swap HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nx"),
    (
        "half a second request",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/swap HTTP/1.1\r\nHost: x\r\n",
    ),
]


@pytest.mark.parametrize(("name", "sent"), HALVES, ids=[row[0] for row in HALVES])
async def test_half_a_request(house: House, name: str, sent: bytes) -> None:
    """Its socket is taken back when the time is over, and not before a slow but whole request is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    writer.write(sent)
    assert await _closed(reader)
    writer.close()
    async with house.relay() as relay:
        await house.pay(relay, [letter()])


async def test_a_byte_now_and_then(house: House) -> None:
    """Sending something all the time does not help."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)

    async def drip() -> None:
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 1_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    assert await _closed(reader)
    dripping.cancel()
    writer.close()


ANSWERS = 60
LARGEST = max(assets(), key=lambda name: len(assets()[name].body))
ASKED = f"GET {PATH}{LARGEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * ANSWERS
"""More than the system keeps for a client."""


async def test_answers_that_nobody_takes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "TAKE_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(ASKED)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(SERVED):
            while True:
                writer.write(b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
    writer.close()
    async with house.relay() as relay:
        await house.pay(relay, [letter()])
    assert reader.at_eof() or reader.exception() is not None


@pytest.mark.parametrize("path", ["/v1/events", f"/v1/holds/{'0' * 64}", "/v1/swap"])
async def test_who_leaves_in_the_middle_of_a_request(house: House, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """It is no fault of ours, and fills no log."""
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        async with house.relay() as relay:
            await house.pay(relay, [letter()])
        writer.transport.abort()
    async with house.relay() as relay:
        await house.pay(relay, [letter()])
    assert "Exception in ASGI application" not in caplog.text


async def test_very_many_requests_at_once(house: House) -> None:
    """Some are answered in turn; with hundreds the connection ends, before each has taken its memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
    answered = b""
    try:
        async with asyncio.timeout(SERVED):
            while part := await reader.read(1 << 20):
                answered += part
    except ConnectionError:
        pass
    assert answered.count(b"HTTP/1.1 200 ") <= PIPELINED + 1
    writer.close()


async def test_answers_that_are_taken_slowly(house: House, steady: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, as long as something is taken."""
    monkeypatch.setattr(heads, "TAKE_SECONDS", 0.3)
    monkeypatch.setattr(heads, "TAKE_BYTES", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    writer.write(ASKED)
    answers = 0
    while answers < ANSWERS:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SERVED)
        assert head.startswith(b"HTTP/1.1 200 ")
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length.partition(b":")[2]))
        answers += 1
        await asyncio.sleep(0.005)
    writer.close()


CHUNKED = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: list[tuple[str, bytes, bytes]] = [
    ("one header", b"GET / HTTP/1.1\r\nX: ", b"a" * 1_000),
    ("the address", b"GET /", b"a" * 1_000),
    ("many headers", b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 200),
    ("one trailer", CHUNKED + b"0\r\nX: ", b"a" * 1_000),
    ("many trailers", CHUNKED + b"0\r\n", b"X: a\r\n" * 200),
    ("many trailers behind a body", CHUNKED + b"1\r\n \r\n0\r\n", b"X: a\r\n" * 200),
    ("what is said of a chunk", CHUNKED + b"1;", b"a" * 1_000),
]


async def test_an_endless_head(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off at MAX_HEAD bytes, long before its time is over."""
    monkeypatch.setattr(heads, "REQUEST_SECONDS", 60)
    for name, begin, line in ENDLESS:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
        writer.write(begin)
        sent = 0
        try:
            while sent < 8 * MAX_HEAD:
                writer.write(line)
                await writer.drain()
                sent += len(line)
        except ConnectionError:
            pass
        assert await _closed(reader), name
        writer.close()


async def test_a_trailer_is_no_header(house: House) -> None:
    """It comes when a proxy has looked at the head already: neither a stamp nor an address is taken from it."""
    event, proof = letter(), house.purse.proof()
    body = json.dumps(plain(event)).encode()
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    trailers = f"X-Cashu: {house.purse.token(proof)}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    writer.write(CHUNKED + chunk + b"0\r\n" + trailers)
    assert b" 402 " in await reader.readuntil(b"\r\n")
    writer.close()
    assert await house.spent(proof) == [False]


SMUGGLED: list[tuple[str, bytes]] = [
    ("a length and chunks", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunks and a length", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n"),
    ("two lengths", b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n{}"),
    ("the same length twice", b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    ("two lengths in one", b"Content-Length: 2, 2\r\n\r\n{}"),
    ("a length with a sign", b"Content-Length: +2\r\n\r\n{}"),
    ("a length in hex", b"Content-Length: 0x2\r\n\r\n{}"),
    ("a length past 2^64", b"Content-Length: 18446744073709551618\r\n\r\n{}"),
    ("chunked twice", b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("an encoding that is not chunked", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("a header on two lines", b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}"),
    ("a bare line feed", b"X: a\nContent-Length: 2\r\n\r\n{}"),
    ("a bare carriage return", b"X: a\rContent-Length: 2\r\n\r\n{}"),
    ("NUL in a header", b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    ("a chunk size with a sign", b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n"),
    ("a chunk size in 0x", b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"),
    ("a chunk size past 2^64", b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"),
    ("a chunk longer than its size", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"),
]
"""Requests whose end two servers could see in different places (RFC 9112, section 11.2)."""


async def test_a_request_with_two_ends(house: House) -> None:
    """At most one answer, a refusal, and the connection ends: what follows is never read as a request of its own."""
    for name, rest in SMUGGLED:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
        writer.write(b"POST /v1/swap HTTP/1.1\r\nHost: x\r\n" + rest + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(SERVED):
            answered = await reader.read()
        assert answered.count(b"HTTP/1.1 ") <= 1 and b'{"ok":true}' not in answered, name
        assert answered.split(b" ")[1:2] in ([], [b"400"]), name
        writer.close()


async def test_a_slow_whole_request_is_served(house: House, steady: None) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.settings.port)
    for part in (b"GET /healthz HT", b"TP/1.1\r\nHost:", b" x\r\n\r\n"):
        writer.write(part)
        await asyncio.sleep(0.05)
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_websocket_is_not_hurried(house: House) -> None:
    """The limit is for requests: a connection may idle, and send a frame byte by byte."""
    reader, writer = await _open(house.settings.port)
    event = letter()
    frame = _frame(json.dumps(["EVENT", plain(event)]).encode())
    writer.write(frame[:9])
    await asyncio.sleep(1)
    for byte in frame[9:]:
        writer.write(bytes([byte]))
        await writer.drain()
    answer = json.loads(await _read(reader))
    assert answer[:3] == ["OK", event.id, False] and answer[3].endswith("[stamp-required]")
    writer.close()


async def test_a_silent_peer_is_let_go(tmp_path: Path, steady: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-open: it answers no ping. One that answers stays, however idle."""

    def brisk(service: Any, settings: Any) -> uvicorn.Config:
        config = uvicorn_config(service, settings)
        config.ws_ping_interval, config.ws_ping_timeout = 0.1, 0.3
        return config

    monkeypatch.setattr(houses, "uvicorn_config", brisk)
    async with open_house(tmp_path) as house, house.relay() as idle:
        reader, writer = await _open(house.settings.port)
        assert await _closed(reader)
        writer.close()
        await house.pay(idle, [letter()])


async def test_a_compression_bomb(house: House) -> None:
    """Compression is not offered; frames that claim it anyway end the connection unread."""
    bomb = zlib.compress(b"\0" * 10_000_000)[2:-4]
    reader, writer = await _open(house.settings.port, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    writer.write(_frame(bomb[:60_000], head=0xC1))
    assert await _closed(reader)
    writer.close()
    async with house.relay() as relay:
        await house.pay(relay, [letter()])


@pytest.mark.parametrize("path", [b"/", b"/v1/ws"])
async def test_floods_of_pings(house: House, path: bytes) -> None:
    """Control frames are answered by the protocol, ODD_BURST at once and ODD_RATE a second; everyone else is served."""
    reader, writer = await _open(house.settings.port, path=path)
    began = time.monotonic()
    answered = 0

    async def count() -> None:
        nonlocal answered
        while data := await reader.read(65_536):
            answered += len(data)

    counting = asyncio.create_task(count())
    pings = _frame(b"x" * 100, head=0x89) * 40_000
    async with house.relay() as relay:
        writer.write(pings)
        await house.pay(relay, [letter()])
        assert time.monotonic() - began < SERVED
    while answered < 102 * ODD_BURST:
        await asyncio.sleep(0.01)
    # one rest may just have ended
    assert answered <= 102 * (ODD_BURST + ODD_RATE * (time.monotonic() - began + ODD_REST))
    writer.transport.abort()
    await asyncio.gather(counting, return_exceptions=True)


async def test_a_wallet_that_sends_too_much_is_not_read_ahead(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends waits with it and not here, however often reading rests."""
    monkeypatch.setattr(wire, "ODD_BURST", 1)
    monkeypatch.setattr(wire, "ODD_REST", 0.0)
    monkeypatch.setattr(websocket, "WALLET_FRAMES_BURST", 5)
    monkeypatch.setattr(websocket, "WALLET_FRAMES_RATE", 0.001)
    _, writer = await _open(house.settings.port, path=b"/v1/ws")
    writer.write(_frame(b"x" * 8_000) * 3_000)
    left = -1
    while (now := writer.transport.get_write_buffer_size()) != left:
        left = now
        await asyncio.sleep(0.3)
    assert left > 0
    writer.transport.abort()
    async with house.relay() as relay:
        await house.pay(relay, [letter()])


async def test_pings_of_one_who_never_reads(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers do not pile up here: what he does not take is left out, and the last ping is answered when he reads."""
    monkeypatch.setattr(wire, "ODD_BURST", 1_000_000)
    pings = 12_000
    reader, writer = await _open(house.settings.port)
    # what the system keeps for him is no memory of ours
    (connection,) = house.office._connections
    assert connection._wire is not None
    for transport in (writer.transport, connection._wire.abort.__self__.transport):  # type: ignore[attr-defined]
        for size in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, size, 1 << 17)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    for number in range(1, pings + 1):
        writer.write(_frame(b"%0125d" % number, head=0x89))
        if number % 1_000 == 0:
            await writer.drain()
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    numbers = [int(await _read(reader))]
    async with asyncio.timeout(SERVED):
        while numbers[-1] != pings:
            numbers.append(int(await _read(reader)))
    assert numbers == sorted(numbers) and len(numbers) < pings
    writer.close()


async def test_connecting_over_and_over(house: House) -> None:
    """Handshakes that are dropped at once leave nothing behind."""
    for _ in range(300):
        _, writer = await _open(house.settings.port)
        writer.transport.abort()
    async with house.relay() as relay, asyncio.timeout(SERVED):
        await house.pay(relay, [letter()])
        while len(house.office._connections) > 1:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)


async def test_a_stamp_on_a_free_event(house: House) -> None:
    """It is not taken."""
    stamp = Stamp(house.url, house.purse.proof())
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        event = letter(kind=10_050, tags=[["relay", house.websocket_url]])
        assert (await relay.post(event, stamp.token)).accepted
        assert await stored(house.websocket_url, [event.id]) == {event.id}
        answer = await http.post("/v1/checkstate", json={"Ys": [stamp.y.hex()]})
        assert answer.json()["states"][0]["state"] == "UNSPENT"
