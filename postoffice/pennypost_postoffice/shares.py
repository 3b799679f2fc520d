"""CPU for work that no stamp pays (reads, refusals), over all connections of a process.

    work ─▶ charge(source) ─▶ in total more than PENNYPOST_READ_CPU? ─ no ─▶ nobody waits
                                       └ yes ─▶ whoever took more than an equal share of it waits

Each connection has a share of its own besides (CPU_RATE). While there is CPU to spare no source is held back, however
many connections it has; under pressure those sources wait that took more than the others, and of their connections only
the busy ones. So people behind one address (Tor, a provider's NAT) share one portion only when everybody must, and even
then a reader among them who asks little is served. What was taken is forgotten by half every HALF_LIFE seconds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from pennypost_mint.runtime.limits import LITTLE_CPU, MAX_SOURCES
from pennypost_mint.runtime.sources import Source

HALF_LIFE = 5.0

WAIT = 0.25
"""Seconds until a connection that waits looks again."""

_FORGET = math.log(2) / HALF_LIFE


class Lately:
    """What one connection took lately, in microseconds."""

    __slots__ = ("_at", "_taken")

    def __init__(self) -> None:
        self._taken = self._at = 0.0

    def add(self, microseconds: float, now: float) -> None:
        """More was taken at `now` (seconds of the monotonic clock)."""
        self._taken = self.at(now) + microseconds
        self._at = now

    def at(self, now: float) -> float:
        """What is left of it at `now`."""
        return self._taken * math.exp(-_FORGET * (now - self._at))


class Shares:
    """What each source took lately, in microseconds, of `cores` (seconds of CPU a second) for all of them.

    `clock` gives monotonic seconds.
    """

    def __init__(self, cores: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.change(cores)
        self._total = 0.0
        self._at = clock()
        self._taken: OrderedDict[Source, float] = OrderedDict()
        self.tight = False
        """Whether more is asked than there is; as of the last charge or pause."""

    def change(self, cores: float) -> None:
        """Another rate for all from now on."""
        self._most = cores * 1_000_000 / _FORGET

    def charge(self, source: Source, own: Lately, microseconds: float) -> None:
        """Work was done for a connection of a source."""
        self._forget()
        own.add(microseconds, self._clock())
        self._total += microseconds
        self._taken[source] = self._taken.pop(source, 0.0) + microseconds
        if len(self._taken) > MAX_SOURCES:
            self._taken.popitem(last=False)
        self.tight = self._total > self._most

    def pause(self, source: Source, own: Lately) -> float:
        """Seconds that a connection of this source waits now, 0 when it need not; `own`: what it took itself."""
        self._forget()
        self.tight = self._total > self._most
        if not self.tight or own.at(self._clock()) <= LITTLE_CPU:
            return 0.0
        return WAIT if self._taken.get(source, 0.0) > self._most / max(1, len(self._taken)) else 0.0

    def _forget(self) -> None:
        """Once in WAIT seconds: what little is left of a source is dropped, so that it counts for no share."""
        now = self._clock()
        if now - self._at < WAIT:
            return
        rest = math.exp(-_FORGET * (now - self._at))
        self._at = now
        self._total *= rest
        for source, taken in list(self._taken.items()):
            if taken * rest < LITTLE_CPU:
                del self._taken[source]
            else:
                self._taken[source] = taken * rest
