"""Quotes as a table of states: every payment is credited once and always."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from sqlalchemy import Connection

from pennypost_mint import quotes
from pennypost_mint.quotes import MOVES, Quote, State
from pennypost_mint.runtime.database import Database
from tests.mint.desk import Desk

NOW = 1_700_000_000


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def database(shared_desk: Desk) -> Database:
    return shared_desk.database


async def add(database: Database, state: State, *, amount: int = 10, paid: int = 0, issued: int = 0) -> Quote:
    quote = Quote(
        id=secrets.token_hex(16),
        unit="sat",
        amount=amount,
        request="lnbcrt…",
        payment_hash=secrets.token_bytes(32),
        pubkey=None,
        state=state,
        amount_paid=paid,
        amount_issued=issued,
        created_at=NOW,
        expiry=NOW + 60,
        updated_at=NOW,
    )
    await database.write(quotes.add_all_on, [quote])
    return quote


async def now_is(database: Database, quote: Quote) -> tuple[str, int, int]:
    found = await database.read(quotes.quote_on, quote.id)
    assert found is not None
    return found.state, found.amount_paid, found.amount_issued


# state before, (paid, issued), received in all (msat) ─▶ credited, state after, paid
CREDITS = [
    ("in full", State.UNPAID, (0, 0), 10_000, 10, State.PAID, 10),
    ("too little", State.UNPAID, (0, 0), 9_999, 0, State.UNPAID, 0),
    ("too much", State.UNPAID, (0, 0), 12_345, 12, State.PAID, 12),
    ("after it lapsed", State.LAPSED, (0, 0), 10_000, 10, State.PAID, 10),
    ("too little after it lapsed", State.LAPSED, (0, 0), 5_000, 0, State.LAPSED, 0),
    ("heard of twice", State.PAID, (10, 0), 10_000, 0, State.PAID, 10),
    ("heard of again after issue", State.ISSUED, (10, 10), 10_000, 0, State.ISSUED, 10),
    ("more after issue", State.ISSUED, (10, 10), 15_000, 5, State.PAID, 15),
    ("more while paid", State.PAID, (10, 4), 11_000, 1, State.PAID, 11),
    ("less than known", State.PAID, (12, 0), 10_000, 0, State.PAID, 12),
    ("nothing", State.UNPAID, (0, 0), 0, 0, State.UNPAID, 0),
]


@pytest.mark.parametrize(
    ("state", "before", "received", "credited", "after", "paid"),
    [row[1:] for row in CREDITS],
    ids=[r[0] for r in CREDITS],
)
async def test_credit(
    database: Database,
    state: State,
    before: tuple[int, int],
    received: int,
    credited: int,
    after: State,
    paid: int,
) -> None:
    quote = await add(database, state, paid=before[0], issued=before[1])
    assert await database.write(quotes.credit_on, quote.payment_hash, received, NOW) == credited
    assert await database.write(quotes.credit_on, quote.payment_hash, received, NOW) == 0
    assert await now_is(database, quote) == (after, paid, before[1])


@pytest.mark.parametrize("received", (0, 999, 9_999, 10_000, 12_345))
async def test_what_was_received_before_a_quote_is_stored_counts_as_if_it_came_later(
    database: Database, received: int
) -> None:
    quote = await add(database, State.UNPAID)
    await database.write(quotes.credit_on, quote.payment_hash, received, NOW)
    assert await database.read(quotes.quote_on, quote.id) == quotes.credited(quote, received)


async def test_a_payment_of_an_invoice_that_is_not_ours(database: Database) -> None:
    assert await database.write(quotes.credit_on, bytes(32), 10_000, NOW) == 0


async def test_a_payment_heard_of_from_all_sides_at_once_is_credited_once(database: Database) -> None:
    quote = await add(database, State.UNPAID)
    credits = await asyncio.gather(
        *(database.write(quotes.credit_on, quote.payment_hash, 10_000, NOW) for _ in range(20))
    )
    assert sum(credits) == 10
    assert await now_is(database, quote) == (State.PAID, 10, 0)


# state before, (paid, issued), amount ─▶ issued?, state after
ISSUES = [
    ("all", State.PAID, (10, 0), 10, True, State.ISSUED),
    ("a part", State.PAID, (10, 0), 4, True, State.PAID),
    ("the rest", State.PAID, (10, 4), 6, True, State.ISSUED),
    ("too much", State.PAID, (10, 4), 7, False, State.PAID),
    ("of an unpaid one", State.UNPAID, (0, 0), 1, False, State.UNPAID),
    ("of a lapsed one", State.LAPSED, (0, 0), 1, False, State.LAPSED),
    ("of an issued one", State.ISSUED, (10, 10), 1, False, State.ISSUED),
]


@pytest.mark.parametrize(
    ("state", "before", "amount", "issued", "after"), [row[1:] for row in ISSUES], ids=[row[0] for row in ISSUES]
)
async def test_issue(
    database: Database, state: State, before: tuple[int, int], amount: int, issued: bool, after: State
) -> None:
    quote = await add(database, state, paid=before[0], issued=before[1])

    def issue(connection: Connection) -> bool:
        moved = quotes.issued(quotes.hold_on(connection, [quote.id, "absent"])[quote.id], amount, NOW)
        quotes.issue_all_on(connection, [moved] if moved else [])
        return moved is not None

    assert await database.write(issue) is issued
    assert await now_is(database, quote) == (after, before[0], before[1] + amount * issued)


@pytest.mark.parametrize("state", list(State))
async def test_only_what_was_never_paid_lapses(database: Database, state: State) -> None:
    paid = {State.PAID: (10, 0), State.ISSUED: (10, 10)}.get(state, (0, 0))
    quote = await add(database, state, paid=paid[0], issued=paid[1])
    assert await database.write(quotes.lapse_on, quote.id, NOW) is (state is State.UNPAID)
    assert (await now_is(database, quote))[0] == (State.LAPSED if state is State.UNPAID else state)


async def test_a_lapsed_quote_is_unpaid_to_wallets(database: Database) -> None:
    states = {state: (await add(database, state)).wire_state for state in State}
    assert states == {
        State.UNPAID: "UNPAID",
        State.LAPSED: "UNPAID",
        State.PAID: "PAID",
        State.ISSUED: "ISSUED",
    }


async def test_open_quotes_come_in_pages_oldest_first(database: Database) -> None:
    made = [await add(database, State.UNPAID) for _ in range(5)]
    for state in (State.PAID, State.ISSUED, State.LAPSED):
        await add(database, state)
    seen: list[Quote] = []
    after = (0, "")
    while page := await database.read(quotes.open_quotes_on, after, 2):
        seen += page
        after = (page[-1].created_at, page[-1].id)
    assert {quote.state for quote in seen} == {State.UNPAID}
    assert seen == sorted(seen, key=lambda quote: quote.id)
    assert set(made) <= set(seen)


async def test_every_state_has_its_moves_and_none_is_a_dead_end() -> None:
    assert set(MOVES) == set(State)
    assert all(targets for targets in MOVES.values())
    assert State.UNPAID not in {target for targets in MOVES.values() for target in targets}
