"""The wallet's books: sizes, choice of stamps, and what each transition leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost import ledger, orders
from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.token import Proof
from pennypost.store import MIGRATIONS

MINT = "https://mint.example"
KEYSET = "01" + "ab" * 32


def books() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    for step in MIGRATIONS:
        connection.executescript(step)
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = books()
    yield made
    made.close()


def proofs(*amounts: int) -> list[Proof]:
    return [Proof(amount, KEYSET, f"{place}-{amount}", "02" + "11" * 32) for place, amount in enumerate(amounts)]


@given(st.integers(1, 10_000_000), st.integers(0, 100))
def test_denominations(amount: int, singles: int) -> None:
    sizes = ledger.denominations(amount, singles)
    assert sum(sizes) == amount and sizes == sorted(sizes)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert sizes.count(1) <= singles + 1 and len(sizes) <= singles + 24


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 1, 1, 2, 4, 8, 64]), max_size=12), st.integers(1, 70))
def test_the_choice_is_exact_whenever_one_exists(sizes: list[int], amount: int) -> None:
    connection = books()
    ledger.add_proofs_on(connection, MINT, proofs(*sizes), "unspent")
    reachable = {0}
    for size in sizes:
        reachable |= {size + each for each in reachable}
    chosen = ledger.choose_on(connection, MINT, amount)
    if amount in reachable:
        assert chosen is not None and sum(each.amount for each in chosen) == amount
        assert len({each.secret for each in chosen}) == len(chosen)
    else:
        assert chosen is None
    connection.close()


def test_only_unspent_stamps_of_this_mint_are_chosen(connection: sqlite3.Connection) -> None:
    first, second, third, other = proofs(1, 2, 4, 8)
    for each, state in ((first, "exposed"), (second, "unspent"), (third, "sent")):
        ledger.add_proofs_on(connection, MINT, [each], state)
    ledger.add_proofs_on(connection, "https://other.example", [other], "unspent")
    assert ledger.choose_on(connection, MINT, 2) == [second]
    assert [ledger.choose_on(connection, MINT, amount) for amount in (1, 4, 8)] == [None] * 3


def test_more_proofs_than_an_office_takes_are_not_chosen(connection: sqlite3.Connection) -> None:
    ledger.add_proofs_on(connection, MINT, proofs(*[1] * 150), "unspent")
    assert len(ledger.choose_on(connection, MINT, 100) or []) == 100
    assert ledger.choose_on(connection, MINT, 101) is None


def test_a_swap_and_its_end(connection: sqlite3.Connection) -> None:
    seed, mine = bytes(64), proofs(4, 4)
    ledger.add_proofs_on(connection, MINT, mine, "unspent")
    operation = orders.begin_swap_on(connection, seed, MINT, mine, KEYSET, [1, 1, 2, 4], 7)
    assert operation is not None
    assert ledger.balance_on(connection, MINT) == ledger.Balance(in_flight=8)
    assert orders.begin_swap_on(connection, seed, MINT, mine, KEYSET, [8], 7) is None
    assert orders.open_operations_on(connection, MINT) == [operation]
    assert orders.counter_on(connection, KEYSET) == 4
    made = [Proof(each.amount, KEYSET, each.secret, "02" + "22" * 32) for each in operation.outputs]
    for _ in range(2):
        orders.finish_on(connection, operation, made)
        assert ledger.balance_on(connection, MINT) == ledger.Balance(stamps=8)
    orders.abandon_on(connection, operation)
    assert ledger.balance_on(connection, MINT) == ledger.Balance(stamps=8)
    assert connection.execute("SELECT count(*) FROM outputs").fetchone() == (0,)


def test_an_abandoned_swap_gives_back_what_is_not_spent(connection: sqlite3.Connection) -> None:
    mine = proofs(4, 2)
    ledger.add_proofs_on(connection, MINT, mine, "unspent")
    operation = orders.begin_swap_on(connection, bytes(64), MINT, mine, KEYSET, [6], 7)
    assert operation is not None
    orders.abandon_on(connection, operation, mine[:1])
    assert ledger.proofs_on(connection, MINT, "exposed") == mine[1:]
    assert orders.counter_on(connection, KEYSET) == 1


def test_an_abandoned_token_leaves_nothing(connection: sqlite3.Connection) -> None:
    operation = orders.begin_receive_on(connection, bytes(64), MINT, proofs(4, 2), KEYSET, [6], 7)
    assert ledger.balance_on(connection, MINT) == ledger.Balance()
    with pytest.raises(InvalidInput):
        orders.begin_receive_on(connection, bytes(64), MINT, proofs(4, 2), KEYSET, [6], 7)
    orders.abandon_on(connection, operation)
    assert connection.execute("SELECT count(*) FROM proofs").fetchone() == (0,)


def test_a_purchase_is_issued_once(connection: sqlite3.Connection) -> None:
    purchase = orders.Purchase(MINT, "quote", 3, "lnbc", "unpaid", 9, bytes(32))
    orders.add_purchase_on(connection, purchase, 7)
    assert orders.open_purchases_on(connection, MINT) == [purchase]
    operation = orders.begin_mint_on(connection, bytes(64), purchase, KEYSET, [1, 1, 1], 7)
    assert operation is not None
    assert orders.begin_mint_on(connection, bytes(64), purchase, KEYSET, [1, 2], 8) == operation
    orders.finish_on(connection, operation, [])
    assert orders.begin_mint_on(connection, bytes(64), purchase, KEYSET, [1, 2], 8) is None
    orders.set_purchase_on(connection, MINT, "quote", "unpaid")
    assert orders.purchase_on(connection, MINT, "quote").state == "issued"
    assert orders.open_purchases_on(connection, MINT) == []


def test_text_shows_no_secret() -> None:
    output = orders.derived_output(bytes(64), KEYSET, 0, 1)
    purchase = orders.Purchase(MINT, "quote", 3, "lnbc", "unpaid", 9, b"\x77" * 32)
    assert output.secret not in repr(output) and repr(output.r) not in repr(output)
    assert repr(purchase.key) not in repr(purchase)


@pytest.mark.parametrize(
    ("active", "expires_in", "unspent", "exposed"),
    [
        (1, None, "unspent", "exposed"),
        (0, None, "unspent", "exposed"),
        (1, 60, "unspent", "exposed"),
        (0, ledger.SWAP_AHEAD, "exposed", "exposed"),
        (0, ledger.SWAP_AHEAD + 1, "unspent", "exposed"),
        (1, 0, "expired", "expired"),
        (0, -1, "expired", "expired"),
    ],
)
def test_stamps_follow_the_expiry_of_their_keyset(
    connection: sqlite3.Connection, active: int, expires_in: int | None, unspent: str, exposed: str
) -> None:
    now = 1_800_000_000
    expiry = None if expires_in is None else now + expires_in
    keyset = orders.Keyset(KEYSET, MINT, "sat", bool(active), 0, expiry, {})
    orders.save_keysets_on(connection, MINT, [keyset])
    given = proofs(1, 2, 4)
    for proof, state in zip(given, ("unspent", "exposed", "sent"), strict=True):
        ledger.add_proofs_on(connection, MINT, [proof], state)
    ledger.follow_expiry_on(connection, "https://elsewhere.example", now)
    ledger.follow_expiry_on(connection, MINT, now)
    found = [ledger.proofs_on(connection, MINT, state) for state in (unspent, exposed, "sent")]
    assert all(proof in listed for proof, listed in zip(given, found, strict=True))
    assert ledger.balance_on(connection, MINT).expired == (3 if unspent == "expired" else 0)
