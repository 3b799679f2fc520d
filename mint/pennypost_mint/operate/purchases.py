"""Quotes as the operator sees them: listed in pages, and looked up at the node and credited.

    reconcile    every open quote ─▶ the node ─▶ settled: credited once · can no longer be paid: LAPSED · else: waits

A running server does the same every minute (`till.py`); both may, for what is credited is the invoice's total.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, and_, or_, select

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import InvalidInvoice, LightningUnavailable, QuoteUnknown
from pennypost_mint.lightning import Progress
from pennypost_mint.quotes import Quote, State, quote_of_on, quote_on
from pennypost_mint.runtime.database import Database
from pennypost_mint.tables import mint_quotes
from pennypost_mint.till import AT_ONCE, GIVE_UP, Till

PAGE = 1_000
"""Most quotes of one page."""

Became = Literal["credited", "lapsed", "waiting", "too little", "nothing new", "no answer"]

_c = mint_quotes.c
_all = select(*(_c[name] for name in Quote._fields))


class Looked(NamedTuple):
    """What became of one quote; `credited` in sat."""

    quote: Quote
    became: Became
    credited: int = 0


def described(quote: Quote) -> dict[str, Any]:
    """A quote as commands show it. Whoever has the id of an unlocked paid one can have its stamps."""
    return quote._asdict() | {"payment_hash": quote.payment_hash.hex()}


def page_on(connection: Connection, states: Sequence[str], before: Quote | None, limit: int) -> list[Quote]:
    """Quotes in these states, the latest first; `before`: those made earlier than this one."""
    wanted = _all.where(_c.state.in_(states))
    if before is not None:
        earlier = and_(_c.created_at == before.created_at, _c.id < before.id)
        wanted = wanted.where(or_(_c.created_at < before.created_at, earlier))
    found = connection.execute(wanted.order_by(_c.created_at.desc(), _c.id.desc()).limit(limit))
    return [Quote(*row) for row in found]


async def find(database: Database, text: str) -> Quote:
    """The quote with this id (32 hex digits), payment hash (64) or BOLT11 invoice. Raises QuoteUnknown."""
    written = text.strip().lower()
    quote_id: str | None = written if re.fullmatch(r"[0-9a-f]{32}", written) else None
    if quote_id is None:
        quote_id = await database.read(quote_of_on, _payment_hash(written))
    quote = await database.read(quote_on, quote_id) if quote_id is not None else None
    if quote is None:
        raise QuoteUnknown
    return quote


def _payment_hash(written: str) -> bytes:
    if re.fullmatch(r"[0-9a-f]{64}", written):
        return bytes.fromhex(written)
    try:
        return parse_invoice(written.removeprefix("lightning:")).payment_hash
    except InvalidInvoice:
        raise QuoteUnknown from None


async def look(till: Till, quote: Quote) -> Looked:
    """Asks the node about one quote, and credits what it received."""
    try:
        receipt, credited = await till.settle(quote)
    except LightningUnavailable:
        return Looked(quote, "no answer")
    if credited:
        return Looked(quote, "credited", credited)
    if quote.amount_paid:
        return Looked(quote, "nothing new")
    if receipt.progress is Progress.SETTLED:
        return Looked(quote, "too little")
    return Looked(quote, "lapsed" if receipt.progress is Progress.LOST else "waiting")


async def reconcile(
    database: Database, till: Till, states: Sequence[str], progress: Callable[[int], None]
) -> AsyncIterator[Looked]:
    """Looks up every quote in these states, the latest first; ends early when the node does not answer.

    `progress` is told how many were looked up so far.
    """
    before: Quote | None = None
    done = silent = 0
    while page := await database.read(page_on, states, before, PAGE):
        before = page[-1]
        for start in range(0, len(page), AT_ONCE):
            part = await asyncio.gather(*(look(till, quote) for quote in page[start : start + AT_ONCE]))
            for each in part:
                yield each
            done += len(part)
            progress(done)
            silent = 0 if any(each.became != "no answer" for each in part) else silent + 1
            if silent == GIVE_UP:
                return


OPEN = (State.UNPAID,)
UNPAID = (State.UNPAID, State.LAPSED)
EVERY = tuple(State)
