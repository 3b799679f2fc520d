"""What readers cost: REQs by author, receiver and id, reads of the header feed, and delivery to many subscribers."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pennypost.protocol.event import event_json, parse_event, sign_event
from tests.bench.load import Order, Result
from tests.bench.mail import frames, send
from tests.bench.servers import Running
from tests.bench.stamps import buy, tokens, visit

CONNECTIONS, WINDOW = 8, 4
FEED_LIMIT = 1_000
"""Records of one read of the header feed (44 KB)."""


class ReadRun(msgspec.Struct):
    """One load of reads, or one fan-out; `cpu_us` is CPU of all server processes for one of `count` answers."""

    work: str
    stored: int
    count: int
    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float


class Readers:
    """Readers of one server that holds `stored` letters, of which `events` (JSON) are some."""

    def __init__(self, server: Running, home: Path, events: Sequence[bytes], stored: int) -> None:
        self.server, self.home, self.stored = server, home, stored
        self._events = [parse_event(each) for each in events]

    def requests(self, count: int) -> list[ReadRun]:
        """REQs for one stored letter each, by what names it."""
        chosen = [random.choice(self._events) for _ in range(count)]
        return [
            self._req("REQ by author", [{"authors": [event.pubkey]} for event in chosen]),
            self._req("REQ by #p", [{"#p": [_receiver(event.tags)]} for event in chosen]),
            self._req("REQ by id", [{"ids": [event.id]} for event in chosen]),
        ]

    def feed(self, count: int) -> ReadRun:
        """Reads of FEED_LIMIT headers behind random numbers of the first half; only our office has them."""
        last = max(1, self.stored // 2)
        lines = [f"/v1/headers?after={random.randrange(last)}&limit={FEED_LIMIT}".encode() for _ in range(count)]
        return self._run(f"{FEED_LIMIT:,} headers", "get", lines, count, CONNECTIONS)

    def fan(self, subscribers: int, count: int, *, stamped: bool) -> ReadRun:
        """One author's notes, each delivered to every subscriber; the cost of storing them is in it."""
        topic = f"bench{random.randrange(1 << 32):x}"
        notes = [_note(topic, number) for number in range(count)]
        path = self.home / "notes"
        shop = visit(self.server.url) if stamped else None
        frames(notes, tokens(shop, buy(shop, count)) if shop else None, path)
        wanted = json.dumps({"kinds": [1], "#t": [topic]})
        order = Order("fan", self.server.port, str(path), subscribers, window=8, filter=wanted)
        return self._measure(f"fan-out to {subscribers:,}", order, count * subscribers)

    def _req(self, work: str, filters: Sequence[dict[str, object]]) -> ReadRun:
        lines = [json.dumps(wanted, separators=(",", ":")).encode() for wanted in filters]
        return self._run(work, "req", lines, len(lines), CONNECTIONS)

    def _run(self, work: str, protocol: str, lines: Sequence[bytes], count: int, connections: int) -> ReadRun:
        path = self.home / "reads"
        path.write_bytes(b"\n".join(lines))
        return self._measure(work, Order(protocol, self.server.port, str(path), connections, window=WINDOW), count)

    def _measure(self, work: str, order: Order, count: int) -> ReadRun:
        meter = self.server.meter
        meter.wait_idle()
        before = meter.seconds()
        result: Result = send(order)
        meter.wait_idle()
        used = meter.seconds() - before
        Path(order.messages).unlink()
        if result.refused:
            raise RuntimeError(f"{work}: {result.refused}")
        return ReadRun(
            work=work,
            stored=self.stored,
            count=count,
            cpu_us=1e6 * used / count,
            rate=count / (result.ended - result.begun),
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
        )


def _receiver(tags: list[list[str]]) -> str:
    return next(tag[1] for tag in tags if tag[0] == "p")


_AUTHOR = b"\1" * 32


def _note(topic: str, number: int) -> bytes:
    text = f"note {number} of {topic} ".ljust(280, ".")
    return event_json(
        sign_event(
            _AUTHOR, created_at=int(time.time()), kind=1, tags=[["t", topic]], content=text, aux=number.to_bytes(32)
        )
    )
