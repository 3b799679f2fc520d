"""Letters that a price rule asks nothing for, `base = 0` or work instead of a stamp: they have a quota of their own.

    sweep ─▶ measuring ─▶ how many there are (retention.unpriced_on) ─▶ measured ─┐
    commit ─▶ stored ────────────────────────────────────────────────────────────┴▶ full? ─▶ refused: `quota-full`

What was taken is kept until its time, as its sender was told, so here the newest are refused where the quota of free
kinds takes the oldest. Each process counts what it stored since its last sweep, so several pass the quota by as much as
they store between two. What is stored while the database is asked counts twice until the next sweep rather than not at
all.
"""

from __future__ import annotations

from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.settings import Settings


class Unpriced:
    """How much of the quota is taken."""

    def __init__(self, metrics: Metrics) -> None:
        self._rows = self._bytes = 0
        self._new_rows = self._new_bytes = 0
        metrics.office_unpriced_letters.set_function(lambda: self._rows)
        metrics.office_unpriced_bytes.set_function(lambda: self._bytes)

    def measuring(self) -> None:
        """The database is asked now."""
        self._new_rows = self._new_bytes = 0

    def measured(self, rows: int, size: int) -> None:
        """So many there are, of so many bytes, beside what was stored since `measuring`."""
        self._rows, self._bytes = rows + self._new_rows, size + self._new_bytes

    def stored(self, size: int) -> None:
        """One more."""
        self._rows += 1
        self._bytes += size
        self._new_rows += 1
        self._new_bytes += size

    def is_full(self, settings: Settings) -> bool:
        """Whether more are refused."""
        return self._rows >= settings.unpriced_rows or self._bytes >= settings.unpriced_bytes
