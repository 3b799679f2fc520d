"""What wallets ask of a mint, by the same client of ours and of Nutshell's: quote, mint, swap, checkstate, restore.

buy ▶ prepared bodies ▶ CPU so far ▶ load ▶ wait until the server is idle ▶ CPU again
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import msgspec
import psutil

from tests.bench.load import Order
from tests.bench.mail import send
from tests.bench.servers import Running
from tests.bench.stamps import (
    Bought,
    Shop,
    buy,
    check_bodies,
    mint_bodies,
    quote_bodies,
    restore_bodies,
    swap_bodies,
    visit,
)

QUOTE, MINT, SWAP = "/v1/mint/quote/bolt11", "/v1/mint/bolt11", "/v1/swap"
MIB = 1 << 20

Watching = Callable[[str, int], AbstractContextManager[object]]
"""Surrounds one load: told what is done and how often."""

RESTORED = 1_000
"""Outputs of one restore, which needs as many that were signed."""


class MintRun(msgspec.Struct):
    """One load. `cpu_us` is CPU of all server processes for one request, `rate` is good answers a second."""

    work: str
    clients: int
    requests: int
    failed: int
    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float


class Memory(msgspec.Struct):
    """Resident memory in MiB of the server itself and of all its children, at rest and after `swaps` swaps 1→1."""

    swaps: int
    rest_mib: float
    rest_children_mib: float
    after_mib: float
    after_children_mib: float


class Counts(msgspec.Struct):
    """How many requests of each kind; never fewer than there are clients."""

    quotes: int
    mints: dict[int, int]
    """Requests by outputs of each."""
    swaps: dict[int, int]
    """Requests by inputs, and outputs, of each."""
    checks: int
    restores: int
    part: int
    """Stamps of one purchase."""

    @property
    def works(self) -> list[str]:
        """The names of what is measured, in order."""
        names = [f"swap {size}→{size}" for size in self.swaps] + ["mint quote"] * bool(self.quotes)
        names += [f"mint {size}" for size in self.mints]
        return names + ["checkstate 100"] * bool(self.checks) + [f"restore {RESTORED:,}"] * bool(self.restores)


OURS = Counts(600, {1: 600, 10: 200, 100: 48}, {1: 1_500, 10: 300, 64: 64}, 300, 48, 1_000)
NUTSHELL = Counts(96, {1: 64, 10: 32, 100: 8}, {1: 160, 10: 40, 64: 12}, 64, 8, 60)
"""Fewer, for it needs milliseconds for each stamp, and for each output of one purchase."""
QUICK = Counts(20, {1: 20}, {1: 200, 10: 20}, 20, 2, 500)
QUICK_NUTSHELL = Counts(8, {1: 8}, {1: 60}, 8, 0, 60)


class Counter:
    """One mint under measurement; `watching` surrounds each load."""

    def __init__(self, server: Running, home: Path, part: int, watching: Watching | None = None) -> None:
        self.server = server
        self.shop: Shop = visit(server.url)
        self._path = home / "requests"
        self._part = part
        self._watching = watching or (lambda _work, _count: nullcontext())
        self._spent: list[Bought] = []

    def measure(self, counts: Counts, clients: int) -> Iterator[tuple[str, Callable[[], MintRun]]]:
        """Everything of `counts` with so many clients at once, each with one request under way: name and run."""
        for size, count in counts.swaps.items():
            yield f"swap {size}→{size}", partial(self.swap, max(count, clients), size, clients)
        if counts.quotes:
            yield "mint quote", partial(self._quotes, max(counts.quotes, clients), clients)
        for size, count in counts.mints.items():
            yield f"mint {size}", partial(self._mints, max(count, clients), size, clients)
        if counts.checks:
            yield "checkstate 100", partial(self._checks, max(counts.checks, clients), clients)
        if counts.restores:
            yield f"restore {RESTORED:,}", partial(self._restores, max(counts.restores, clients), clients)

    def _quotes(self, count: int, clients: int) -> MintRun:
        return self.run("mint quote", QUOTE, quote_bodies(count), clients)

    def _mints(self, count: int, size: int, clients: int) -> MintRun:
        return self.run(f"mint {size}", MINT, mint_bodies(self.shop, count, size), clients)

    def _checks(self, count: int, clients: int) -> MintRun:
        return self.run("checkstate 100", "/v1/checkstate", check_bodies(count, 100, self._spent), clients)

    def _restores(self, count: int, clients: int) -> MintRun:
        missing = RESTORED - len(self._spent)
        known = self._spent + (buy(self.shop, missing, self._part) if missing > 0 else [])
        bodies = restore_bodies(self.shop, count, RESTORED, known)
        return self.run(f"restore {RESTORED:,}", "/v1/restore", bodies, clients)

    def swap(self, count: int, size: int, clients: int) -> MintRun:
        """Buys what is needed and swaps it, `size` stamps for as many."""
        bought = buy(self.shop, count * size, self._part)
        run = self.run(f"swap {size}→{size}", SWAP, swap_bodies(self.shop, bought, size), clients)
        self._spent = (bought + self._spent)[: 5 * RESTORED]
        return run

    def run(self, work: str, path: str, bodies: Sequence[bytes], clients: int) -> MintRun:
        """Sends these; RuntimeError when a connection is lost."""
        self._path.write_bytes(b"\n".join(bodies))
        order = Order(protocol=path, port=self.server.port, messages=str(self._path), connections=clients)
        meter = self.server.meter
        meter.wait_idle()
        before = meter.seconds()
        with self._watching(f"{work}, {clients} clients", len(bodies)):
            result = send(order)
            meter.wait_idle()
        used = meter.seconds() - before
        self._path.unlink()
        return MintRun(
            work=work,
            clients=clients,
            requests=len(bodies),
            failed=len(bodies) - result.accepted,
            cpu_us=1e6 * used / len(bodies),
            rate=result.accepted / (result.ended - result.begun),
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
        )

    def memory(self, swaps: int, clients: int, part: int = 20_000) -> tuple[Memory, list[MintRun]]:
        """Resident memory before and after so many swaps 1→1; RuntimeError when one failed."""
        before = self._resident()
        runs: list[MintRun] = []
        for start in range(0, swaps, part):
            runs.append(self.swap(min(part, swaps - start), 1, clients))
            if runs[-1].failed:
                raise RuntimeError(f"{runs[-1].failed} swaps failed")
        return Memory(swaps, *before, *self._resident()), runs

    def _resident(self) -> tuple[float, float]:
        self.server.meter.wait_idle()
        root = psutil.Process(self.server.meter.roots[0])
        children = root.children(recursive=True)
        return root.memory_info().rss / MIB, sum(each.memory_info().rss for each in children) / MIB
