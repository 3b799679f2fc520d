"""Rates of events that need no stamp: stored ones that are free, all deletions, and ephemeral ones.

    event ─▶ its connection's bucket ─▶ all of this process together send too many? ─ no ─▶ taken
                    └ empty: refused        └ yes ─▶ sources that sent most have a connection's bucket each (shares.py)

Over HTTP an event is a request of its own and has no connection's bucket: only when it is tight is it counted. So a
thousand connections from one address send no more than one when it is tight, and many people behind one address
(Tor, a provider's NAT) are not counted together as long as there is room.
"""

from __future__ import annotations

from collections.abc import Callable

from pennypost.protocol.errors import TooMany
from pennypost_mint.runtime.limits import TokenBucket
from pennypost_postoffice.post import Sender
from pennypost_postoffice.shares import Shares

LITTLE = 0.5
"""Events of a source that are as good as forgotten."""


class FreeRate:
    """Allows `rate` events a second of one connection, `seconds` times as many at once, and `total` a second of all."""

    def __init__(self, rate: float, seconds: float, total: float, clock: Callable[[], float]) -> None:
        allowed = (rate, max(1.0, seconds * rate))
        self._bucket = TokenBucket(*allowed, clock)
        self._shares = Shares(total, LITTLE, allowed, clock)

    def take(self, sender: Sender) -> None:
        """One more event. Raises TooMany; a refusal costs nothing."""
        key = sender.rate_key
        if key is not None and self._bucket.wait(key) > 0:
            raise TooMany
        if not self._shares.admits(sender.source) or (key is not None and not self._bucket.take(key)):
            raise TooMany
        self._shares.charge(sender.source, None, 1.0)
