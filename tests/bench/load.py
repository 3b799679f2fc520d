"""The load: a process of its own that sends prepared messages and takes the time of each answer.

It speaks just enough WebSocket and HTTP/1.1 to cost next to nothing beside a server: frames are masked with zeros, so
they are made once and sent as they are; answers are looked at, not decoded. Loopback only.

    python -m tests.bench.load < order.json        prints one JSON object (see `Result`)
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import cast

import msgspec

ID = re.compile(rb'"id": ?"([0-9a-f]{64})"')
STORED = re.compile(rb'\["(EVENT|EOSE|CLOSED)", ?"([0-9a-z]+)"')
OK = re.compile(rb'\["OK",\s*"([0-9a-f]{64})",\s*(true|false),\s*"((?:[^"\\]|\\.)*)"\]')


class Order(msgspec.Struct):
    """What to send: one message a line of `messages`, at most `window` without an answer on each connection."""

    protocol: str
    """`relay`: EVENT frames, each answered by its OK. `req`: filters, each answered up to its EOSE. `fan`: EVENT frames
    sent by one connection, each delivered to `connections` others. `get`: paths. Else the path of a POST: `/v1/swap`,
    each line a JSON body."""
    port: int
    messages: str
    connections: int
    window: int = 1
    seconds: float = 300.0
    filter: str = ""
    """What each subscriber of a `fan` asks for."""


class Result(msgspec.Struct):
    """What was answered. Times in seconds, latencies in milliseconds, `begun` and `ended` in Unix time."""

    begun: float
    ended: float
    accepted: int
    refused: dict[str, int]
    p50_ms: float
    p99_ms: float
    client_cpu: float


def websocket_frame(text: bytes) -> bytes:
    """A client's text frame whose masking key is zero (RFC 6455, 5.3: any key will do)."""
    length = len(text)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 65_536:
        head = b"\x81\xfe" + length.to_bytes(2)
    else:
        head = b"\x81\xff" + length.to_bytes(8)
    return head + bytes(4) + text


class Load:
    """The messages that wait, the answers that came."""

    def __init__(self, waiting: deque[tuple[bytes, bytes]], connections: int) -> None:
        self.waiting = waiting
        self.expected = len(waiting)
        self.open = connections
        self.latencies: list[float] = []
        self.refused: Counter[str] = Counter()
        self.finished = asyncio.get_running_loop().create_future()

    def answered(self, latency: float, refusal: str | None) -> None:
        self.latencies.append(latency)
        if refusal is not None:
            self.refused[refusal] += 1
        if len(self.latencies) == self.expected and not self.finished.done():
            self.finished.set_result(None)

    def lost(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(why))


class Relay(asyncio.Protocol):
    """One WebSocket. It starts sending when `go` is called, after its handshake."""

    def __init__(self, load: Load, order: Order) -> None:
        self.load, self.window = load, order.window
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent: dict[bytes, float] = {}
        self.buffer = b""
        self.upgraded = self.started = False
        self.host = f"127.0.0.1:{order.port}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16))
        self.transport.write(
            b"GET / HTTP/1.1\r\nHost: " + self.host + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost("the server closed a connection")

    def go(self) -> None:
        self.started = True
        self.fill()

    def fill(self) -> None:
        """Sends until the window is full."""
        if not self.started:
            return
        frames: list[bytes] = []
        now = time.perf_counter()
        while self.load.waiting and len(self.sent) < self.window:
            name, frame = self.load.waiting.popleft()
            self.sent[name] = now
            frames.append(frame)
        if frames:
            self.transport.writelines(frames)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        if not self.upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self.load.lost(buffer[:end].decode(errors="replace"))
                return
            self.upgraded, buffer = True, buffer[end + 4 :]
            self.connected()
        now = time.perf_counter()
        start, size = 0, len(buffer)
        while size - start >= 2:
            head, length = 2, buffer[start + 1]
            if length == 126:
                head, length = 4, int.from_bytes(buffer[start + 2 : start + 4])
            elif length == 127:
                head, length = 10, int.from_bytes(buffer[start + 2 : start + 10])
            if size - start < head + length:
                break
            payload = buffer[start + head : start + head + length]
            self.message(buffer[start] & 0x0F, payload, now)
            start += head + length
        self.buffer = buffer[start:]
        self.fill()

    def connected(self) -> None:
        """After the handshake."""
        self.ready.set_result(None)

    def message(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 9:
            self.transport.write(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)
            return
        if opcode == 8:
            self.load.lost(f"the server ended the connection: {payload[2:].decode(errors='replace')}")
            return
        self.text(payload, now)

    def text(self, payload: bytes, now: float) -> None:
        """One frame of the server."""
        found = OK.fullmatch(payload)
        if found is None or (begun := self.sent.pop(found[1], None)) is None:
            if payload.startswith((b'["OK"', b'["NOTICE"')):
                self.load.lost(payload.decode(errors="replace"))
            return
        accepted = found[2] == b"true" and not found[3].startswith(b"duplicate")
        self.load.answered(now - begun, None if accepted else found[3].decode())


class Reading(Relay):
    """REQs of one WebSocket, each named by a number of its own and closed after its EOSE."""

    def __init__(self, load: Load, order: Order) -> None:
        super().__init__(load, order)
        self.found: set[bytes] = set()

    def text(self, payload: bytes, now: float) -> None:
        """An EVENT, EOSE or CLOSED of one of them."""
        match = STORED.match(payload)
        if match is None or match[2] not in self.sent:
            return
        if match[1] == b"EVENT":
            self.found.add(match[2])
            return
        begun = self.sent.pop(match[2])
        self.transport.write(websocket_frame(b'["CLOSE","' + match[2] + b'"]'))
        self.load.answered(now - begun, None if match[2] in self.found else "nothing found")
        self.found.discard(match[2])


class Publisher(Relay):
    """Sends events; that they were taken is not what is counted."""

    def __init__(self, load: Load, order: Order) -> None:
        super().__init__(load, order)
        self.begun: dict[bytes, float] = {}

    def text(self, payload: bytes, now: float) -> None:
        """An OK."""
        found = OK.fullmatch(payload)
        if found is not None and found[1] in self.sent:
            self.begun[found[1]] = self.sent.pop(found[1])
            if found[2] != b"true":
                self.load.lost(found[3].decode())

    def sent_at(self, name: bytes) -> float | None:
        """When an event was sent, by its id."""
        return self.sent.get(name) or self.begun.get(name)


class Subscriber(Relay):
    """Waits for what a publisher sends; ready after the EOSE of what was there before."""

    def __init__(self, load: Load, order: Order, publisher: Publisher) -> None:
        super().__init__(load, order)
        self.publisher = publisher
        self.request = websocket_frame(b'["REQ","fan",' + order.filter.encode() + b"]")

    def connected(self) -> None:
        """Subscribes."""
        self.transport.write(self.request)

    def go(self) -> None:
        """It only listens."""

    def text(self, payload: bytes, now: float) -> None:
        """What is delivered."""
        if payload.startswith(b'["EOSE"') and not self.ready.done():
            self.ready.set_result(None)
        elif payload.startswith(b'["EVENT"') and (found := ID.search(payload)):
            begun = self.publisher.sent_at(found[1])
            if begun is not None:
                self.load.answered(now - begun, None)


class Post(asyncio.Protocol):
    """One kept-alive HTTP connection: a request, its answer, the next request."""

    def __init__(self, load: Load, order: Order) -> None:
        self.load = load
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parts: list[bytes] = []
        self.missing = 0
        self.status = b""
        self.begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost("the server closed a connection")

    def go(self) -> None:
        if self.load.waiting:
            self.begun = time.perf_counter()
            self.transport.write(self.load.waiting.popleft()[1])

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        if self.missing:
            self.missing -= len(data)
        else:
            head = b"".join(self.parts)
            end = head.find(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head[:end]) if end >= 0 else None
            if found is None:
                return
            self.missing = end + 4 + int(found[1]) - len(head)
        if self.missing:
            return
        answer, self.parts = b"".join(self.parts), []
        fine = answer.startswith(b"HTTP/1.1 200")
        refusal = None if fine else answer.partition(b"\r\n\r\n")[2].decode(errors="replace")
        self.load.answered(time.perf_counter() - self.begun, refusal)
        self.go()


def prepare(order: Order) -> deque[tuple[bytes, bytes]]:
    """(event id, bytes to send) of each line."""
    lines = Path(order.messages).read_bytes().splitlines()
    if order.protocol in ("relay", "fan"):
        return deque((match[1] if (match := ID.search(line)) else b"", websocket_frame(line)) for line in lines)
    if order.protocol == "req":
        frames = (b'["REQ","%d",%s]' % each for each in enumerate(lines))
        return deque((b"%d" % number, websocket_frame(frame)) for number, frame in enumerate(frames))
    host = f"Host: 127.0.0.1:{order.port}\r\n"
    if order.protocol == "get":
        return deque((b"", f"GET {line.decode()} HTTP/1.1\r\n{host}\r\n".encode()) for line in lines)
    head = f"POST {order.protocol} HTTP/1.1\r\n{host}Content-Type: application/json\r\n"
    return deque((b"", f"{head}Content-Length: {len(line)}\r\n\r\n".encode() + line) for line in lines)


def crew(load: Load, order: Order) -> list[Relay | Post]:
    """The connections of a load."""
    kinds: dict[str, type[Relay | Post]] = {"relay": Relay, "req": Reading}
    if order.protocol != "fan":
        return [kinds.get(order.protocol, Post)(load, order) for _ in range(order.connections)]
    load.expected *= order.connections
    publisher = Publisher(load, order)
    return [publisher, *(Subscriber(load, order, publisher) for _ in range(order.connections))]


async def run(order: Order) -> Result:
    """Sends everything; raises ConnectionError when an answer is not one, TimeoutError when it takes too long."""
    loop = asyncio.get_running_loop()
    load = Load(prepare(order), order.connections)
    opened: list[tuple[asyncio.BaseTransport, Relay | Post]] = []
    for each in crew(load, order):
        opened.append(await loop.create_connection(lambda each=each: each, "127.0.0.1", order.port))
    await asyncio.wait_for(asyncio.gather(*(connection.ready for _, connection in opened)), 60)
    used, begun = time.process_time(), time.time()
    for _, connection in opened:
        connection.go()
    await asyncio.wait_for(load.finished, order.seconds)
    ended, used = time.time(), time.process_time() - used
    for transport, _ in opened:
        transport.close()
    times = sorted(load.latencies)
    return Result(
        begun=begun,
        ended=ended,
        accepted=load.expected - load.refused.total(),
        refused=dict(load.refused.most_common(5)),
        p50_ms=1_000 * times[len(times) // 2],
        p99_ms=1_000 * times[len(times) * 99 // 100],
        client_cpu=used,
    )


def main() -> None:
    import uvloop

    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            print(msgspec.json.encode(runner.run(run(order))).decode())
        except (ConnectionError, TimeoutError) as error:
            print(json.dumps({"failed": f"{type(error).__name__}: {error}"}))
            sys.exit(1)


if __name__ == "__main__":
    main()
