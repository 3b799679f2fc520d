"""What no stamp pays, over all of a process: CPU of reads and refusals, and events that need no stamp (free.py).

    work ─▶ charge(source) ─▶ in total more than there is? ─ no ─▶ nobody is held back
                                       └ yes ─▶ whoever took more than an equal share: a connection waits (pause),
                                                a request of its own is refused (admits)

Each connection has a share of its own besides (CPU_RATE). While there is some to spare no source is held back, however
many connections it has; under pressure those sources are that took more than the others, and of their connections only
the busy ones. So people behind one address (Tor, a provider's NAT) share one portion only when everybody must, and even
then a reader among them who asks little is served. Over HTTP nobody knows who behind an address asks: such a source has
then as much as one modest reader needs (`floor`). What was taken is forgotten by half every HALF_LIFE seconds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from pennypost_mint.runtime.limits import MAX_SOURCES, TokenBucket
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
    """What each source took lately of `rate` units a second for all of them; a unit is a microsecond, or an event.

    Who took at most `little` is never held back. `floor`: requests that a source over its share may send each second,
    and at once. `clock` gives monotonic seconds.
    """

    def __init__(self, rate: float, little: float, floor: tuple[float, float], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._little = little
        self._floor = TokenBucket(*floor, clock, MAX_SOURCES)
        self.change(rate)
        self._total = 0.0
        self._at = clock()
        self._taken: OrderedDict[Source, float] = OrderedDict()
        self.tight = False
        """Whether more is asked than there is; as of the last charge or pause."""

    def change(self, rate: float) -> None:
        """Another rate for all from now on."""
        self._most = rate / _FORGET

    def charge(self, source: Source, own: Lately | None, units: float) -> None:
        """A source took something; `own`: what its connection took, where there is one."""
        self._forget()
        if own is not None:
            own.add(units, self._clock())
        self._total += units
        self._taken[source] = self._taken.pop(source, 0.0) + units
        if len(self._taken) > MAX_SOURCES:
            self._taken.popitem(last=False)
        self.tight = self._total > self._most

    def pause(self, source: Source, own: Lately) -> float:
        """Seconds that a connection of this source waits now, 0 when it need not; `own`: what it took itself."""
        return WAIT if self._is_over(source) and own.at(self._clock()) > self._little else 0.0

    def admits(self, source: Source) -> bool:
        """Whether a request that nothing could slow down is served: not beyond the floor of a source over its share."""
        return not self._is_over(source) or self._floor.take(source)

    def _is_over(self, source: Source) -> bool:
        self._forget()
        self.tight = self._total > self._most
        return self.tight and self._taken.get(source, 0.0) > self._most / max(1, len(self._taken))

    def _forget(self) -> None:
        """Once in WAIT seconds: what little is left of a source is dropped, so that it counts for no share."""
        now = self._clock()
        if now - self._at < WAIT:
            return
        rest = math.exp(-_FORGET * (now - self._at))
        self._at = now
        self._total *= rest
        for source, taken in list(self._taken.items()):
            if taken * rest < self._little:
                del self._taken[source]
            else:
                self._taken[source] = taken * rest
