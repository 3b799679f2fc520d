"""Events a second, and what each costs: stamped ones at our office, unstamped ones at nostr-relay.

One run: CPU so far ▶ load ▶ wait until the server is idle ▶ CPU again ▶ read everything back. nostr-relay says OK
before it stores, so only events that were read back count, and the time runs until the server is idle.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import httpx
import msgspec
from websockets.sync.client import ClientConnection, connect

from pennypost.protocol.headers import decode_headers
from tests.bench.load import Order, Result
from tests.bench.servers import Running
from tests.bench.stamps import buy, tokens, visit

ID = re.compile(rb'"id":"([0-9a-f]{64})"')
AUTHOR = re.compile(rb'"pubkey":"([0-9a-f]{64})"')
REQ_IDS = 200
SAMPLE = 100
FEED_PAGE = 5_000


class MailRun(msgspec.Struct):
    """One run. `cpu_us` is CPU of all server processes for one event, `rate` is events a second until idle."""

    connections: int
    window: int
    events: int
    stored_before: int
    cpu_us: float
    rate: float
    ok_rate: float
    p50_ms: float
    p99_ms: float
    client_us: float
    ratio: float = 0.0
    """CPU of the pure cryptography ÷ `cpu_us`; 0 where it does not apply."""


def send(order: Order) -> Result:
    """Runs the load in a process of its own; RuntimeError when it does not get all its answers."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        timeout=order.seconds + 60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stdout.decode(errors='replace')[-1_000:]}")
    return msgspec.json.decode(done.stdout, type=Result)


def frames(events: Sequence[bytes], stamps: Sequence[bytes] | None, path: Path) -> str:
    """Writes one EVENT frame a line to `path`."""
    with path.open("wb") as file:
        if stamps is None:
            file.writelines(b'["EVENT",' + event + b"]\n" for event in events)
        else:
            file.writelines(
                b'["EVENT",' + event + b',"' + stamp + b'"]\n' for event, stamp in zip(events, stamps, strict=True)
            )
    return str(path)


class Mailbox:
    """A server to post to, with what it holds so far: `stored` events, if they are not posted here. `durable`: its OK
    means stored, and it has our header feed.
    """

    def __init__(
        self, server: Running, home: Path, *, stamped: bool = True, durable: bool = True, stored: int = 0
    ) -> None:
        self.server = server
        self.home = home
        self.stamped = stamped
        self.durable = durable
        self.stored = self._seq = stored

    def post(
        self,
        events: Sequence[bytes],
        connections: int,
        window: int,
        watch: AbstractContextManager[object] | None = None,
    ) -> MailRun:
        """Posts all events and reads them back; `watch` surrounds the load alone.

        RuntimeError when an event was refused or is not there.
        """
        stamps = None
        if self.stamped:
            shop = visit(self.server.url)
            stamps = tokens(shop, buy(shop, len(events)))
        path = self.home / "frames"
        order = Order(
            protocol="relay",
            port=self.server.port,
            messages=frames(events, stamps, path),
            connections=connections,
            window=window,
        )
        meter = self.server.meter
        meter.wait_idle()
        before = meter.seconds()
        with watch or nullcontext():
            result = send(order)
            idle_at = max(result.ended, meter.wait_idle(order.seconds))
        path.unlink()
        if result.refused:
            raise RuntimeError(f"refused: {result.refused}")
        used = meter.seconds() - before
        while missing := self._missing(events):
            # Our OK means stored. nostr-relay's does not, and it may wait for its disk, not for a processor.
            if self.durable or time.time() > result.ended + order.seconds:
                raise RuntimeError(f"{missing} of {len(events)} events cannot be read back")
            idle_at = meter.wait_idle()
            used = meter.seconds() - before
        run = MailRun(
            connections=connections,
            window=window,
            events=len(events),
            stored_before=self.stored,
            cpu_us=1e6 * used / len(events),
            rate=len(events) / (idle_at - result.begun),
            ok_rate=len(events) / (result.ended - result.begun),
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            client_us=1e6 * result.client_cpu / len(events),
        )
        self.stored += len(events)
        return run

    def _missing(self, events: Sequence[bytes]) -> int:
        """How many cannot be read back: all are looked for in our header feed and a sample by REQ, or all by REQ."""
        ids = [match[1].decode() for event in events if (match := ID.search(event))]
        if self.durable:
            authors = {match[1].decode() for event in events if (match := AUTHOR.search(event))}
            if missing := len(authors - self._feed()):
                return missing
            ids = random.sample(ids, min(SAMPLE, len(ids)))
        with connect(f"ws://127.0.0.1:{self.server.port}/", proxy=None, max_size=None, compression=None) as socket:
            found = {each for start in range(0, len(ids), REQ_IDS) for each in _fetch(socket, ids[start:][:REQ_IDS])}
        return len(ids) - len(found)

    def _feed(self) -> set[str]:
        """Authors of all headers since those of the last event before."""
        found: set[str] = set()
        with httpx.Client(base_url=self.server.url, trust_env=False, timeout=60) as http:
            while True:
                response = http.get("/v1/headers", params={"after": self._seq, "limit": FEED_PAGE})
                response.raise_for_status()
                _, headers = decode_headers(response.content)
                if not headers:
                    return found
                found |= {header.pubkey.hex() for header in headers}
                self._seq = headers[-1].seq


def _fetch(socket: ClientConnection, ids: Sequence[str]) -> set[str]:
    socket.send(json.dumps(["REQ", "back", {"ids": ids}]))
    found: set[str] = set()
    while True:
        frame = json.loads(socket.recv(timeout=60))
        if frame[0] == "EVENT" and frame[1] == "back":
            found.add(frame[2]["id"])
        elif frame[0] == "EOSE":
            socket.send('["CLOSE","back"]')
            return found
        elif frame[0] in ("CLOSED", "NOTICE"):
            raise RuntimeError(f"REQ was answered {frame}")
