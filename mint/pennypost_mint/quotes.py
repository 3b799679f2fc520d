"""Mint quotes as a table of states. Everything that moves a quote is in this file.

    UNPAID ──paid in full──▶ PAID ──all issued──▶ ISSUED
      │                      ▲  ▲                   │
      └─cannot be paid─▶ LAPSED─┘└── paid more ─────┘

A quote remembers how much was received and how much was issued against it; what may still be minted is the
difference, whatever its state. A payment is credited as the total its invoice has received, never as a sum of
notices, so hearing of it twice, late, or from two sides changes nothing. A total below the quote's amount waits.
LAPSED is ours alone (wallets see UNPAID): the node said that the invoice can no longer be paid, so it is no
longer asked about; a payment that arrives nevertheless is credited.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from sqlalchemy import ARRAY, Connection, and_, any_, bindparam, func, select, update

from pennypost_mint.runtime.sets import insert_rows, select_in, update_rows
from pennypost_mint.tables import mint_quotes

MSAT = 1_000


class State(StrEnum):
    """Where a quote stands."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    ISSUED = "ISSUED"
    LAPSED = "LAPSED"


MOVES: dict[State, frozenset[State]] = {
    State.UNPAID: frozenset({State.PAID, State.LAPSED}),
    State.LAPSED: frozenset({State.PAID}),
    State.PAID: frozenset({State.PAID, State.ISSUED}),
    State.ISSUED: frozenset({State.PAID}),
}
"""From each state the states it may move to; the statements below are guarded by it."""


class Quote(NamedTuple):
    """A row of `mint_quotes`; amounts in the quote's unit, times in Unix seconds, pubkey 66 hex digits or None."""

    id: str
    unit: str
    amount: int
    request: str
    payment_hash: bytes
    pubkey: str | None
    state: str
    amount_paid: int
    amount_issued: int
    created_at: int
    expiry: int
    updated_at: int

    @property
    def wire_state(self) -> Literal["UNPAID", "PAID", "ISSUED"]:
        """As wallets know it (NUT-23, Mint Quote)."""
        match self.state:
            case State.PAID:
                return "PAID"
            case State.ISSUED:
                return "ISSUED"
            case _:
                return "UNPAID"

    @property
    def mintable(self) -> int:
        """What may still be issued."""
        return self.amount_paid - self.amount_issued


_c = mint_quotes.c
_all = select(*(mint_quotes.c[name] for name in Quote._fields))
_held: Any = _all.where(_c.id == any_(bindparam("wanted", type_=ARRAY(_c.id.type)))).order_by(_c.id).with_for_update()


def _from(target: State) -> Any:
    return _c.state.in_([source for source, targets in MOVES.items() if target in targets])


def add_all_on(connection: Connection, quotes: Iterable[Quote]) -> None:
    """Stores new quotes."""
    insert_rows(connection, mint_quotes, Quote._fields, sorted(quotes))


def quote_on(connection: Connection, quote_id: str) -> Quote | None:
    """The quote with this id."""
    found = connection.execute(_all.where(_c.id == quote_id)).first()
    return Quote(*found) if found else None


def quotes_on(connection: Connection, ids: Iterable[str]) -> list[Quote]:
    """Those of these quotes that exist, in no order."""
    return [Quote(*row) for row in select_in(connection, mint_quotes, Quote._fields, "id", ids)]


def quote_of_on(connection: Connection, payment_hash: bytes) -> str | None:
    """The id of the quote whose invoice has this payment hash (32 bytes)."""
    return connection.execute(select(_c.id).where(_c.payment_hash == payment_hash)).scalar()


def count_open_on(connection: Connection, now: int, most: int) -> int:
    """Invoices that can still be paid and are not; counted up to `most`."""
    waiting = select(_c.id).where(_c.state == State.UNPAID, _c.expiry > now).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(waiting)).scalar_one()


def open_quotes_on(connection: Connection, after: tuple[int, str], limit: int) -> list[Quote]:
    """Quotes whose invoice may still be paid, oldest first, from (created_at, id) on."""
    later = (_c.created_at > after[0]) | and_(_c.created_at == after[0], _c.id > after[1])
    found = connection.execute(_all.where(_c.state == State.UNPAID, later).order_by(_c.created_at, _c.id).limit(limit))
    return [Quote(*row) for row in found]


def credit_on(connection: Connection, payment_hash: bytes, received_msat: int, now: int) -> int:
    """Credits what this invoice has received in all; returns how much more that is than was known (sat).

    0 for an invoice that is not ours, for less than the quote's amount, and for what was credited already.
    """
    received = received_msat // MSAT
    found = connection.execute(
        select(_c.id, _c.amount_paid).where(_c.payment_hash == payment_hash, _c.amount <= received)
    ).first()
    if found is None or received <= found.amount_paid:
        return 0
    # amount_paid is compared again: on PostgreSQL another worker may have heard of the payment at the same time.
    moved = connection.execute(
        update(mint_quotes)
        .where(_c.id == found.id, _c.amount_paid == found.amount_paid, _from(State.PAID))
        .values(state=State.PAID, amount_paid=received, updated_at=now)
    )
    return received - found.amount_paid if moved.rowcount else 0


def credited(quote: Quote, received_msat: int) -> Quote:
    """A quote that is not stored yet, after its invoice has received so much; less than its amount waits."""
    received = received_msat // MSAT
    if received < quote.amount or State.PAID not in MOVES[State(quote.state)]:
        return quote
    return quote._replace(state=State.PAID, amount_paid=received)


def hold_on(connection: Connection, ids: Iterable[str]) -> dict[str, Quote]:
    """Those of these quotes that exist, by id, locked in its order: nobody else moves them before this commit."""
    named = sorted(set(ids))
    if connection.dialect.name == "sqlite":  # one writer
        found = quotes_on(connection, named)
    else:
        found = [Quote(*row) for row in connection.execute(_held, {"wanted": named})]
    return {quote.id: quote for quote in found}


def issued(quote: Quote, amount: int, now: int) -> Quote | None:
    """The quote after `amount` of what may still be issued was taken; None when it is more than that."""
    total = quote.amount_issued + amount
    target = State.ISSUED if total == quote.amount_paid else State.PAID
    if total > quote.amount_paid or target not in MOVES[State(quote.state)]:
        return None
    return quote._replace(amount_issued=total, state=target, updated_at=now)


def issue_all_on(connection: Connection, moved: Iterable[Quote]) -> None:
    """Stores what `issued` made of quotes that are held."""
    rows = [(quote.id, str(quote.state), quote.amount_issued, quote.updated_at) for quote in moved]
    update_rows(connection, mint_quotes, "id", ("state", "amount_issued", "updated_at"), sorted(rows))


def lapse_on(connection: Connection, quote_id: str, now: int) -> bool:
    """The invoice can no longer be paid; False when it was paid meanwhile."""
    moved = connection.execute(
        update(mint_quotes).where(_c.id == quote_id, _from(State.LAPSED)).values(state=State.LAPSED, updated_at=now)
    )
    return bool(moved.rowcount)
