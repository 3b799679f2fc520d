"""What waits for slow readers, over all connections of a process: past a bound the slowest are cut off.

    send ─▶ more than PENNYPOST_MAX_OUTGOING in all? ─ no ─▶ it waits for its reader (connection.py)
                └ yes ─▶ who has let most bytes wait longest is cut off, then the next, until a quarter is free

Each reader has a bound of his own, OUTGOING; this one is for many of them. Above half of it stored events are read only
for who has taken what was sent, and publishing lets the sockets be written to in between. Not counted is what lies in
the sockets themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol


class SlowReader(Protocol):
    """A connection."""

    waiting: int
    """Bytes that wait for it."""

    since: float
    """When it last took something, or what waits began to (seconds of the monotonic clock)."""

    def cut_off(self) -> None:
        """Ends it; nothing waits for it any more."""
        ...


def weight(text: str) -> int:
    """Bytes of memory of a text, at most: Python keeps it at 1 to 4 bytes a character."""
    return len(text) if text.isascii() else 4 * len(text)


class Outgoing:
    """The sum of what waits: `size` is kept by the connections. At most `most` bytes."""

    def __init__(self, readers: Callable[[], Iterable[SlowReader]], most: int) -> None:
        self._readers = readers
        self.most = most
        self.size = 0

    @property
    def is_tight(self) -> bool:
        """Whether more than half of the bound waits."""
        return 2 * self.size > self.most

    def relieve(self) -> None:
        """Cuts off the slowest while the bound is passed, until a quarter is free."""
        now = monotonic()
        behind = [reader for reader in self._readers() if reader.waiting]
        behind.sort(key=lambda reader: reader.waiting * (now - reader.since), reverse=True)
        for reader in behind:
            if 4 * self.size <= 3 * self.most:
                break
            reader.cut_off()
