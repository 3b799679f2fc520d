"""What work that no stamp pays costs: CPU µs each, beside the constants by which the office charges for it.

    python -m tests.bench.costs          some twenty seconds; the table of docs/reference/performance.md

All processes of the server count (loop, crypto, on SQLite the writer), the client does not. A constant is right within
half and twice the figure: it shares CPU out, it does not bill.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pennypost.protocol.event import Event, event_json, sign_event
from pennypost.protocol.hold import hold_tag
from pennypost_postoffice import connection, queries, reads
from tests.bench.load import Order
from tests.bench.mail import send
from tests.bench.servers import Running, folder, office
from tests.support.relay import Relay

COUNT = 1_000
CONNECTIONS = 8
AUTHS = 12
"""Keys of one connection; it takes 16."""
STORED = 2_000
POLLS, ROUNDS = 200, 4
SETTINGS = {
    **dict.fromkeys(("FREE_RATE", "ALL_FREE_RATE", "EPHEMERAL_RATE", "ALL_EPHEMERAL_RATE"), "100000"),
    **dict.fromkeys(("UNPRICED_RATE", "ALL_UNPRICED_RATE"), "100000"),
    "READ_CPU": "64",
}


Ask = Callable[[Relay, int], Awaitable[object]]


class Charge(NamedTuple):
    """The constant by which the office charges for some work, and its value in microseconds."""

    constant: str
    value: float


CHARGED = {
    "CLOSE": Charge("connection.COST_FRAME", connection.COST_FRAME),
    "AUTH by a new key": Charge("connection.COST_AUTH", connection.COST_AUTH),
    "free event, stored": Charge("connection.COST_UNPAID", connection.COST_UNPAID),
    "the same again": Charge("connection.COST_REFUSED", connection.COST_REFUSED),
    "ephemeral event, nobody listens": Charge("connection.COST_REFUSED", connection.COST_REFUSED),
    "release of nothing": Charge("connection.COST_RELEASE", connection.COST_RELEASE),
    "REQ that finds nothing": Charge("queries.COST_FILTER", queries.COST_FILTER),
    "COUNT, a row": Charge("queries.COST_COUNTED", queries.COST_COUNTED),
    "GET / (NIP-11)": Charge("reads.COST_PAGE", reads.COST_PAGE),
    "GET /v1/headers, nothing new": Charge("reads.COST_READ", reads.COST_READ),
    "its 1,000 headers, a KiB": Charge("reads.COST_HEADERS", reads.COST_HEADERS),
    "GET /v1/pages, 64 letters of 0.6 KiB": Charge("reads.COST_READ, COST_KIB", reads.COST_READ + 38 * reads.COST_KIB),
    "long poll, a second": Charge("reads.COST_WAIT", reads.COST_WAIT),
    "POST /v1/events, stored before": Charge("reads.COST_UNPAID", reads.COST_UNPAID),
}


def _sign(kind: int, tags: list[list[str]] | None = None, secret: bytes | None = None) -> Event:
    return sign_event(
        secret or secrets.token_bytes(31).rjust(32, b"\1"),
        created_at=int(time.time()),
        kind=kind,
        tags=tags or [],
        content=secrets.token_hex(64),
        aux=secrets.token_bytes(32),
    )


class Costs:
    """Measures one office."""

    def __init__(self, server: Running, home: Path) -> None:
        self._server, self._home = server, home

    def _measure(self, count: int, work: Callable[[], object]) -> float:
        meter = self._server.meter
        meter.wait_idle()
        before = meter.seconds()
        work()
        meter.wait_idle()
        return 1e6 * (meter.seconds() - before) / count

    def load(self, protocol: str, lines: Sequence[bytes], connections: int = CONNECTIONS) -> float:
        """Messages of `tests.bench.load`, 4 under way on each connection."""
        path = self._home / "lines"
        path.write_bytes(b"\n".join(lines))
        order = Order(protocol, self._server.port, str(path), connections, window=4)
        return self._measure(len(lines), lambda: send(order))

    def events(self, events: Sequence[Event]) -> float:
        """EVENT frames without a stamp."""
        return self.load("relay", [b'["EVENT",' + event_json(event) + b"]" for event in events])

    def frames(
        self, count: int, ask: Callable[[Relay, int], Awaitable[object]], connections: int = CONNECTIONS
    ) -> float:
        """`count` of what `ask` sends on each of some connections that are open."""

        async def run() -> float:
            relays = [Relay(self._server.url.replace("http", "ws")) for _ in range(connections)]
            for relay in relays:
                await relay.__aenter__()

            async def all_of(relay: Relay) -> None:
                for number in range(count):
                    await ask(relay, number)

            async def everybody() -> None:
                await asyncio.gather(*map(all_of, relays))

            meter = self._server.meter
            await asyncio.to_thread(meter.wait_idle)
            before = meter.seconds()
            await everybody()
            await asyncio.to_thread(meter.wait_idle)
            used = meter.seconds() - before
            for relay in relays:
                await relay.__aexit__()
            return 1e6 * used / (count * connections)

        return asyncio.run(run())


async def _closes(relay: Relay, number: int) -> None:
    """A hundred CLOSEs of nothing, and one frame that is answered."""
    for _ in range(100):
        await relay.send(["CLOSE", str(number)])
    await relay.send("ping")
    while (await relay.frames.get())[0] != "NOTICE":
        pass


async def _auth(relay: Relay, number: int) -> None:
    if number == 0:
        frame = await relay.frames.get()
        assert frame[0] == "AUTH"
        relay.challenge = frame[1]  # type: ignore[attr-defined]
    event = _sign(22_242, [["relay", relay._url], ["challenge", relay.challenge]])  # type: ignore[attr-defined]
    await relay.send(["AUTH", json.loads(event_json(event))])
    while (frame := await relay.frames.get())[0] != "OK":
        pass
    assert frame[2], frame


async def _release(relay: Relay, _number: int) -> None:
    x, identifier = secrets.token_bytes(32), secrets.token_bytes(32)
    answer = await relay.release(hold_tag(sha256(x).digest(), identifier), x, identifier)
    assert answer.code == "hold-unknown", answer


async def _count(relay: Relay, number: int) -> None:
    await relay.send(["COUNT", str(number), {"kinds": [10_002]}])
    while (await relay.frames.get())[0] != "COUNT":
        pass


def measure(server: Running, home: Path) -> dict[str, float]:
    """CPU µs of each row of CHARGED; the office's letters cost nothing, so that the feed is filled without stamps."""
    costs, found = Costs(server, home), dict[str, float]()
    found["CLOSE"] = costs.frames(20, _closes) / 101
    found["AUTH by a new key"] = costs.frames(AUTHS, _auth, 40)
    free = [_sign(10_002) for _ in range(STORED)]
    found["free event, stored"] = costs.events(free)
    found["the same again"] = costs.events(free[:COUNT])
    found["ephemeral event, nobody listens"] = costs.events([_sign(20_001) for _ in range(COUNT)])
    found["release of nothing"] = costs.frames(100, _release)
    found["REQ that finds nothing"] = _req(costs)
    found["COUNT, a row"] = costs.frames(10, _count, 4) / STORED
    costs.events([_sign(1059, [["p", secrets.token_hex(32)], ["vt", secrets.token_hex(4)]]) for _ in range(STORED)])
    last = b"/v1/headers?after=%d" % (100 * STORED)
    found["GET / (NIP-11)"] = costs.load("get", [b"/"] * COUNT)
    empty = found["GET /v1/headers, nothing new"] = costs.load("get", [last] * COUNT)
    thousand = [b"/v1/headers?after=%d&limit=1000" % random.randrange(STORED) for _ in range(COUNT)]
    found["its 1,000 headers, a KiB"] = (costs.load("get", thousand) - empty) / 43
    # the free events have the first numbers
    pages = [b"/v1/pages/%d" % random.randrange(STORED // 64 + 1, STORED // 32 - 1) for _ in range(COUNT)]
    found["GET /v1/pages, 64 letters of 0.6 KiB"] = costs.load("get", pages)
    found["long poll, a second"] = costs.load("get", [last + b"&wait=1"] * (ROUNDS * POLLS), POLLS)
    again = [event_json(event) for event in free[:COUNT]]
    found["POST /v1/events, stored before"] = costs.load("/v1/events", again)
    return found


def _req(costs: Costs) -> float:
    return costs.load("req", [json.dumps({"ids": [secrets.token_hex(32)]}).encode() for _ in range(COUNT)])


def main() -> None:
    """Prints the table."""
    with folder() as home:
        prices = home / "prices.toml"
        prices.write_text("[[rule]]\nbase = 0\n")
        with office(home, settings=SETTINGS | {"PRICE_FILE": str(prices)}) as server:
            found = measure(server, home)
    print("| work | CPU µs | charged | by |\n|---|--:|--:|---|")
    for work, (constant, value) in CHARGED.items():
        print(f"| {work} | {found[work]:,.0f} | {value:,.0f} | `{constant}` |")


if __name__ == "__main__":
    main()
