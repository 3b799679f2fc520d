"""The network transport against servers that misbehave, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pennypost.protocol.errors import OfficeMisbehaves, OfficeUnreachable, PennypostError
from pennypost.transport import NetworkTransport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: bytes | Serve) -> AsyncIterator[str]:
    """A server whose answer is these bytes, whatever it is asked."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        while tasks:
            await asyncio.sleep(0)


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        await writer.drain()


async def one_byte_at_a_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


ANSWERS: dict[str, tuple[bytes | Serve, type[PennypostError]]] = {
    "a redirect": (http(b"", "Location: http://127.0.0.1:1/", status="302 Found"), OfficeMisbehaves),
    "compressed unasked": (http(gzip.compress(b"\0" * 10_000_000), "Content-Encoding: gzip"), OfficeMisbehaves),
    "too large": (http(b"x" * 2_000), OfficeMisbehaves),
    "without end": (endless, OfficeMisbehaves),
    "one byte at a time": (one_byte_at_a_time, OfficeUnreachable),
    "silence": (silence, OfficeUnreachable),
    "cut short": (http(b"x" * 100)[:-50], OfficeUnreachable),
    "no HTTP": (b"220 smtp ready\r\n", OfficeUnreachable),
    "nothing": (b"", OfficeUnreachable),
}


@pytest.mark.parametrize("row", ANSWERS)
async def test_http(row: str) -> None:
    answer, error = ANSWERS[row]
    transport = NetworkTransport()
    # Of the others nothing may be a matter of time: being late is an error of its own.
    timeout = 0.5 if answer in (one_byte_at_a_time, silence) else 20
    async with serving(answer) as url:
        with pytest.raises(error):
            await transport.request("GET", url, limit=1_000, timeout=timeout)
    await transport.close()


async def test_an_answer() -> None:
    transport = NetworkTransport()
    async with serving(http(b"hello", "X-Thing: Yes", status="404 Not Found")) as url:
        answer = await transport.request("GET", url)
    assert (answer.status, answer.body, answer.headers["x-thing"]) == (404, b"hello", "Yes")
    await transport.close()
    await transport.close()


async def test_what_is_told_about_us() -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(b""))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    transport = NetworkTransport()
    await transport.request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    lines = (await asked.get()).decode().split("\r\n")[1:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["user-agent"] == "pennypost" and headers["accept-encoding"] == "identity"
    assert set(headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent"}
    server.close()
    await transport.close()


async def test_nobody_there() -> None:
    transport = NetworkTransport()
    with pytest.raises(OfficeUnreachable):
        await transport.request("GET", "http://127.0.0.1:1")
    with pytest.raises(OfficeUnreachable):
        await transport.websocket("http://127.0.0.1:1")
    await transport.close()


async def test_proxies_are_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    transport = NetworkTransport()
    async with serving(http(b"direct")) as url:
        assert (await transport.request("GET", url)).body == b"direct"
    await transport.close()


@asynccontextmanager
async def websocket(frames: bytes, *, handshake: bool = True) -> AsyncIterator[str]:
    """A WebSocket server that sends these bytes after the handshake."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        magic = key.split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic).digest()) if handshake else b"wrong"
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + frames
        )
        await writer.drain()
        await reader.read(1_000)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_websocket() -> None:
    transport = NetworkTransport()
    async with websocket(b"\x81\x05hello") as url:
        socket = await transport.websocket(url)
        assert await socket.receive() == "hello"
        await socket.close()
        await socket.close()
        with pytest.raises(OfficeUnreachable):
            await socket.receive()
        with pytest.raises(OfficeUnreachable):
            await socket.send("x")
    await transport.close()


FRAMES: dict[str, tuple[bytes, type[PennypostError]]] = {
    "too large": (b"\x81\x7f" + (10**9).to_bytes(8), OfficeMisbehaves),
    "too large in parts": ((b"\x01\x7d" + b"x" * 125) + (b"\x00\x7d" + b"x" * 125) * 20, OfficeMisbehaves),
    "reserved bits": (b"\xf1\x00", OfficeUnreachable),
    "masked": (b"\x81\x81\0\0\0\0x", OfficeUnreachable),
    "not UTF-8": (b"\x81\x01\xff", OfficeUnreachable),
    "a close": (b"\x88\x02\x03\xe8", OfficeUnreachable),
}


@pytest.mark.parametrize("row", FRAMES)
async def test_websocket_frames(row: str) -> None:
    frames, error = FRAMES[row]
    transport = NetworkTransport()
    async with websocket(frames) as url:
        socket = await transport.websocket(url, limit=1_000)
        with pytest.raises(error):
            await asyncio.wait_for(socket.receive(), 20)
        await socket.close()
    await transport.close()


async def test_websocket_handshakes() -> None:
    transport = NetworkTransport()
    async with websocket(b"", handshake=False) as url:
        with pytest.raises(OfficeUnreachable):
            await transport.websocket(url)
    for answer in (http(b"", status="404 Not Found"), http(b"", "Location: http://127.0.0.1:1/", status="302 Found")):
        async with serving(answer) as url:
            with pytest.raises(OfficeUnreachable):
                await transport.websocket(url)
    async with serving(silence) as url:
        with pytest.raises(OfficeUnreachable):
            await transport.websocket(url, timeout=0.3)
    await transport.close()


async def test_a_proxy_that_needs_more_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    transport = NetworkTransport()
    with pytest.raises(OfficeUnreachable) as found:
        await transport.request("GET", "https://post.example")
    assert "socks" in found.value.detail
    with pytest.raises(OfficeUnreachable):
        await transport.websocket("https://post.example")
    await transport.close()


@pytest.mark.parametrize("host", ["xn--.onion", "xn--a.onion", "a..onion", "%00.onion", "a" * 80 + ".onion", "[v1.a]"])
async def test_names_that_are_none_lead_nowhere(host: str) -> None:
    """A stranger names them: in a Lightning address, in a notice."""
    network = NetworkTransport()
    with pytest.raises(OfficeUnreachable):
        await network.request("GET", f"https://{host}/")
    with pytest.raises(OfficeUnreachable):
        await network.websocket(f"https://{host}")
    await network.close()
