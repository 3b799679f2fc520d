"""One stamp for a fresh one (NUT-03, one input, one output) at our mint and at Nutshell's, by the same client."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from tests.bench.load import Order
from tests.bench.mail import send
from tests.bench.servers import Running
from tests.bench.stamps import buy, swap_bodies, visit


class SwapRun(msgspec.Struct):
    """One run. `cpu_us` is CPU of all server processes for one swap, `rate` is swaps a second."""

    clients: int
    swaps: int
    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float


def swap(
    server: Running,
    home: Path,
    count: int,
    clients: int,
    part: int,
    watch: AbstractContextManager[object] | None = None,
) -> SwapRun:
    """Buys `count` stamps, `part` at once, and swaps each; `watch` surrounds the swaps alone.

    RuntimeError when one was refused.
    """
    shop = visit(server.url)
    path = home / "swaps"
    path.write_bytes(b"\n".join(swap_bodies(shop, buy(shop, count, part))))
    order = Order(protocol="/v1/swap", port=server.port, messages=str(path), connections=clients)
    server.meter.wait_idle()
    before = server.meter.seconds()
    with watch or nullcontext():
        result = send(order)
        server.meter.wait_idle()
    used = server.meter.seconds() - before
    path.unlink()
    if result.refused:
        raise RuntimeError(f"refused: {result.refused}")
    return SwapRun(
        clients=clients,
        swaps=count,
        cpu_us=1e6 * used / count,
        rate=count / (result.ended - result.begun),
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
    )
