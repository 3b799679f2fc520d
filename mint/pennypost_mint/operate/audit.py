"""The books against the Lightning node's own word: every quote's invoice is looked up, and nothing is changed.

    quotes, the latest first ─▶ the node ─▶ received, of all of them ─┐
                             └▶ credited, as the books have it ───────┴▶ difference, which must be 0

It costs one look-up a quote, paid or not: money that came unheard is found among the unpaid ones alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.lightning import Lightning, Progress, Receipt
from pennypost_mint.operate.purchases import EVERY, PAGE, page_on
from pennypost_mint.quotes import MSAT, Quote, quote_on
from pennypost_mint.runtime.database import Database
from pennypost_mint.till import AT_ONCE, GIVE_UP

NAMED = 20
"""Most quotes that are named; the sums are of all."""


@dataclass
class Audit:
    """What the node said of the quotes it was asked about; amounts in sat."""

    asked: int = 0
    settled: int = 0
    """Received for their invoices, as the node has it; less than a quote's amount is in `too_little`."""
    credited: int = 0
    """Received for them, as the books have it: sold or waiting for its buyer."""
    too_little: int = 0
    """Received for quotes that wait for the rest."""
    unknown: int = 0
    """Quotes for which the books have more than the node: it knows of no payment, or of a smaller one."""
    uncredited: int = 0
    """Quotes for which the node received more than the books have."""
    no_answer: int = 0
    odd: list[dict[str, Any]] = field(default_factory=list)
    """Of those two the first so many: `payment_hash`, `credited`, `settled`."""

    @property
    def difference(self) -> int:
        """What the node received and the books do not have: 0."""
        return self.settled - self.credited

    @property
    def faults(self) -> list[str]:
        """What does not agree, as sentences."""
        found: list[str] = []
        if self.unknown:
            found.append(f"{self.unknown} quotes were credited with more than the node says it received")
        if self.uncredited:
            found.append(f"{self.uncredited} quotes received more at the node than was credited (mint reconcile)")
        return found

    def note(self, quote: Quote, receipt: Receipt) -> None:
        """One quote, and what the node says of its invoice."""
        received = receipt.received_msat // MSAT if receipt.progress is Progress.SETTLED else 0
        if received < quote.amount and not quote.amount_paid:
            self.too_little += received
            received = 0
        self.settled += received
        self.credited += quote.amount_paid
        if received == quote.amount_paid:
            return
        if received < quote.amount_paid:
            self.unknown += 1
        else:
            self.uncredited += 1
        if len(self.odd) < NAMED:
            name = {"payment_hash": quote.payment_hash.hex(), "credited": quote.amount_paid, "settled": received}
            self.odd.append(name)

    def as_json(self) -> dict[str, Any]:
        """Its fields and `difference`."""
        return {**vars(self), "difference": self.difference}


async def audit(database: Database, lightning: Lightning, since: int, progress: Callable[[int], None]) -> Audit:
    """Asks the node about every quote made since that Unix time; ends early when it does not answer any more.

    `progress` is told how many it was asked about so far. A quote that is credited meanwhile counts as it is then.
    """
    found = Audit()
    before: Quote | None = None
    silent = 0
    while page := await database.read(page_on, EVERY, before, PAGE):
        before = page[-1]
        wanted = [quote for quote in page if quote.created_at >= since]
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            answered = await asyncio.gather(*(_ask(database, lightning, quote, found) for quote in part))
            progress(found.asked)
            silent = 0 if any(answered) else silent + 1
            if silent == GIVE_UP:
                return found
        if len(wanted) < len(page):
            return found
    return found


async def _ask(database: Database, lightning: Lightning, quote: Quote, found: Audit) -> bool:
    """Whether the node answered."""
    found.asked += 1
    try:
        receipt = await lightning.look_up(quote.payment_hash)
    except LightningUnavailable:
        found.no_answer += 1
        return False
    if receipt.progress is Progress.SETTLED and receipt.received_msat // MSAT != quote.amount_paid:
        # The books go on meanwhile, and were read before the node was asked.
        quote = await database.read(quote_on, quote.id) or quote
    found.note(quote, receipt)
    return True
