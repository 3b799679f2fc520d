"""Places of which there are only so many, connections and readers that wait: no source keeps the others out.

    take ─▶ one left? ─ yes ─▶ taken
                └ no ─▶ of the source that has most, the one idle longest gives way ─▶ taken

Nobody is refused, and while there are places no source is counted, so people behind one address (Tor, a provider's NAT)
may have as many as they need. When there are none left sources come to have equal numbers. Where all come from one
address, behind an onion service, those go that have been idle longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from pennypost_mint.runtime.sources import Source

LOOKS = 16
"""Places looked at for one that is idle."""


class Holder(Protocol):
    """Who has a place."""

    source: Source

    used: bool
    """Set by whoever does something; taken back when it would have been his turn to go."""

    def give_way(self) -> None:
        """Called once his place is another's."""
        ...


H = TypeVar("H", bound=Holder)


class Places(Generic[H]):
    """Who has a place, by source. Taking and leaving cost the same however many there are."""

    def __init__(self) -> None:
        self._of: dict[Source, dict[H, None]] = {}
        self._having: dict[int, dict[Source, None]] = {}
        self._most = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[H]:
        for holders in self._of.values():
            yield from holders

    def take(self, holder: H, places: int) -> None:
        """Takes one of so many `places` (at least 1), which another gives up when there is none left."""
        if self._count >= places:
            other = self._idle_longest(self._source_of_most(holder.source))
            self.leave(other)
            other.give_way()
        holders = self._of.setdefault(holder.source, {})
        holders[holder] = None
        self._count += 1
        self._has(holder.source, len(holders) - 1, len(holders))

    def leave(self, holder: H) -> None:
        """Gives a place back; nothing happens where there is none any more."""
        holders = self._of.get(holder.source, {})
        if holder not in holders:
            return
        del holders[holder]
        if not holders:
            del self._of[holder.source]
        self._count -= 1
        self._has(holder.source, len(holders) + 1, len(holders))

    def _has(self, source: Source, before: int, now: int) -> None:
        if before:
            del self._having[before][source]
            if not self._having[before]:
                del self._having[before]
        if now:
            self._having.setdefault(now, {})[source] = None
        # by one at a time, so the next lower number is there where the highest is gone
        if now > self._most or self._most not in self._having:
            self._most = now

    def _source_of_most(self, asking: Source) -> Source:
        having = self._having[self._most]
        return asking if asking in having else next(iter(having))

    def _idle_longest(self, source: Source) -> H:
        """Who used his place goes to the end of the queue once; then the first one goes whatever he did."""
        holders = self._of[source]
        for _ in range(LOOKS):
            first = next(iter(holders))
            if not first.used:
                return first
            first.used = False
            del holders[first]
            holders[first] = None
        return next(iter(holders))
