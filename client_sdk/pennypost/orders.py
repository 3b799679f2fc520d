"""The wallet's orders at its mint: functions on a transaction of store.py.

    purchases   unpaid ──▶ paid ──▶ issued

    begin ──▶ operation: its outputs, written before the mint is asked, and its inputs (ledger.py) ──▶ finish, abandon
              kinds: mint (a purchase), swap (our own proofs), receive (proofs out of a token)

An operation is there until its answer is: after a crash the same outputs are asked for again, or restored (NUT-09).
Counters only rise, and before an output is made of them (NUT-13). Amounts are in sat.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pennypost import ledger
from pennypost.protocol import bdhke, nut13
from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.token import Proof

Kind = Literal["mint", "swap", "receive"]


@dataclass(frozen=True, slots=True)
class Keyset:
    """A mint's keyset whose id was checked: keys are 33-byte points by amount, `fee` is in thousandths per input."""

    id: str
    mint: str
    unit: str
    active: bool
    fee: int
    final_expiry: int | None
    keys: dict[int, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Output:
    """A blinded message (33 bytes) with what opens its signature."""

    b: bytes
    keyset: str
    amount: int
    secret: str = field(repr=False)
    r: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """A request to the mint that has no answer yet."""

    id: str
    kind: Kind
    mint: str
    quote: str | None
    outputs: list[Output]
    inputs: list[Proof] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Purchase:
    """Stamps that were ordered: `request` is the BOLT11 to pay until `expiry` (Unix seconds)."""

    mint: str
    quote: str
    amount: int
    request: str
    state: str
    expiry: int
    key: bytes = field(repr=False)
    """The 32-byte secret that the quote is locked to (NUT-20)."""


# Keysets and counters


def keysets_on(connection: sqlite3.Connection, mint: str) -> dict[str, Keyset]:
    """The known keysets of a mint by id."""
    rows = connection.execute(
        "SELECT id, mint, unit, active, fee, final_expiry, keys FROM keysets WHERE mint = ?", (mint,)
    )
    found = [
        Keyset(id, mint, unit, bool(active), fee, final_expiry, _keys(keys))
        for id, mint, unit, active, fee, final_expiry, keys in rows
    ]
    return {each.id: each for each in found}


def _keys(text: bytes) -> dict[int, bytes]:
    return {amount: bytes.fromhex(key) for amount, key in msgspec.json.decode(text, type=dict[int, str]).items()}


def save_keysets_on(connection: sqlite3.Connection, mint: str, keysets: Iterable[Keyset]) -> None:
    """Make these the keysets of the mint; one that is no longer listed stays, inactive."""
    connection.execute("UPDATE keysets SET active = 0 WHERE mint = ?", (mint,))
    connection.executemany(
        "INSERT INTO keysets (id, mint, unit, active, fee, final_expiry, keys) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (mint, id) DO UPDATE SET active = excluded.active, fee = excluded.fee,"
        " final_expiry = excluded.final_expiry",
        [
            (
                each.id,
                each.mint,
                each.unit,
                int(each.active),
                each.fee,
                each.final_expiry,
                msgspec.json.encode({amount: key.hex() for amount, key in each.keys.items()}),
            )
            for each in keysets
        ],
    )


def counter_on(connection: sqlite3.Connection, keyset: str) -> int:
    """The next unused counter of a keyset (NUT-13)."""
    row = connection.execute("SELECT next FROM counters WHERE keyset = ?", (keyset,)).fetchone()
    return row[0] if row else 0


def advance_on(connection: sqlite3.Connection, keyset: str, to: int) -> None:
    """Never use a counter below `to` again."""
    connection.execute(
        "INSERT INTO counters (keyset, next) VALUES (?, ?)"
        " ON CONFLICT (keyset) DO UPDATE SET next = max(next, excluded.next)",
        (keyset, to),
    )


def derived_output(seed: bytes, keyset: str, counter: int, amount: int) -> Output:
    """Output number `counter` of the wallet seed for a keyset (NUT-13)."""
    secret, r = nut13.derive(seed, keyset, counter)
    return Output(bdhke.blind(secret.encode(), r), keyset, amount, secret, r)


def _outputs_on(connection: sqlite3.Connection, seed: bytes, keyset: str, amounts: Sequence[int]) -> list[Output]:
    first = counter_on(connection, keyset)
    advance_on(connection, keyset, first + len(amounts))
    return [derived_output(seed, keyset, first + place, amount) for place, amount in enumerate(amounts)]


# Purchases


def add_purchase_on(connection: sqlite3.Connection, purchase: Purchase, now: int) -> None:
    """Remember an invoice, before anyone is shown it."""
    connection.execute(
        "INSERT INTO purchases (mint, quote, amount, request, state, expiry, key, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            purchase.mint,
            purchase.quote,
            purchase.amount,
            purchase.request,
            purchase.state,
            purchase.expiry,
            purchase.key,
            now,
        ),
    )


def open_purchases_on(connection: sqlite3.Connection, mint: str) -> list[Purchase]:
    """Purchases whose stamps were not had yet, the latest first."""
    rows = connection.execute(
        "SELECT mint, quote, amount, request, state, expiry, key FROM purchases"
        " WHERE mint = ? AND state <> 'issued' ORDER BY created_at DESC, quote",
        (mint,),
    )
    return [Purchase(*row) for row in rows]


def purchase_on(connection: sqlite3.Connection, mint: str, quote: str) -> Purchase:
    """One purchase, whatever its state."""
    row = connection.execute(
        "SELECT mint, quote, amount, request, state, expiry, key FROM purchases WHERE mint = ? AND quote = ?",
        (mint, quote),
    ).fetchone()
    return Purchase(*row)


def set_purchase_on(connection: sqlite3.Connection, mint: str, quote: str, state: str) -> None:
    """Note how a purchase stands; one that is issued stays so."""
    connection.execute(
        "UPDATE purchases SET state = ? WHERE mint = ? AND quote = ? AND state <> 'issued'", (state, mint, quote)
    )


# Operations


def begin_mint_on(
    connection: sqlite3.Connection, seed: bytes, purchase: Purchase, keyset: str, amounts: Sequence[int], now: int
) -> Operation | None:
    """Outputs for a paid purchase; those of an earlier try where there are any, None where its stamps are had."""
    row = connection.execute(
        "SELECT state FROM purchases WHERE mint = ? AND quote = ?", (purchase.mint, purchase.quote)
    ).fetchone()
    if row is None or row[0] == "issued":
        return None
    row = connection.execute(
        "SELECT id FROM operations WHERE mint = ? AND quote = ?", (purchase.mint, purchase.quote)
    ).fetchone()
    if row is not None:
        return operation_on(connection, row[0])
    outputs = _outputs_on(connection, seed, keyset, amounts)
    return _begin_on(connection, "mint", purchase.mint, purchase.quote, outputs, [], now)


def begin_swap_on(
    connection: sqlite3.Connection,
    seed: bytes,
    mint: str,
    inputs: Sequence[Proof],
    keyset: str,
    amounts: Sequence[int],
    now: int,
) -> Operation | None:
    """Swap proofs of ours; None where another process has taken one of them meanwhile."""
    taken = connection.execute(
        "SELECT count(*) FROM proofs"
        " WHERE state IN ('unspent', 'exposed') AND secret IN (SELECT value FROM json_each(?))",
        (_secrets(inputs),),
    ).fetchone()[0]
    if taken != len(inputs):
        return None
    outputs = _outputs_on(connection, seed, keyset, amounts)
    return _begin_on(connection, "swap", mint, None, outputs, inputs, now)


def begin_receive_on(
    connection: sqlite3.Connection,
    seed: bytes,
    mint: str,
    inputs: Sequence[Proof],
    keyset: str,
    amounts: Sequence[int],
    now: int,
) -> Operation:
    """Take proofs out of a token. A token made here may come back; what is in the wallet already may not."""
    states = [
        row[0]
        for row in connection.execute(
            "SELECT state FROM proofs WHERE secret IN (SELECT value FROM json_each(?))", (_secrets(inputs),)
        )
    ]
    if any(state != "sent" for state in states):
        raise InvalidInput("these stamps are in this wallet already")
    own = len(states) == len(inputs)
    connection.executemany(
        "INSERT INTO proofs (secret, mint, keyset, amount, c, state) VALUES (?, ?, ?, ?, ?, 'spending')"
        " ON CONFLICT (secret) DO NOTHING",
        [(each.secret, mint, each.id, each.amount, each.C) for each in inputs],
    )
    outputs = _outputs_on(connection, seed, keyset, amounts)
    return _begin_on(connection, "swap" if own else "receive", mint, None, outputs, inputs, now)


def _begin_on(
    connection: sqlite3.Connection,
    kind: Kind,
    mint: str,
    quote: str | None,
    outputs: list[Output],
    inputs: Sequence[Proof],
    now: int,
) -> Operation:
    id = secrets.token_hex(16)
    connection.execute(
        "INSERT INTO operations (id, kind, mint, quote, created_at) VALUES (?, ?, ?, ?, ?)",
        (id, kind, mint, quote, now),
    )
    connection.executemany(
        "INSERT INTO outputs (b, operation, position, keyset, amount, secret, r) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(each.b, id, place, each.keyset, each.amount, each.secret, each.r) for place, each in enumerate(outputs)],
    )
    ledger.hold_on(connection, inputs, "spending", id)
    ledger.drop_empty_tokens_on(connection)
    return Operation(id, kind, mint, quote, outputs, list(inputs))


def open_operations_on(connection: sqlite3.Connection, mint: str) -> list[Operation]:
    """Operations without an answer, the oldest first."""
    rows = connection.execute("SELECT id FROM operations WHERE mint = ? ORDER BY created_at, id", (mint,)).fetchall()
    return [found for (id,) in rows if (found := operation_on(connection, id))]


def operation_on(connection: sqlite3.Connection, id: str) -> Operation | None:
    """An open operation with its outputs in order, or None when it has its answer."""
    row = connection.execute("SELECT kind, mint, quote FROM operations WHERE id = ?", (id,)).fetchone()
    if row is None:
        return None
    outputs = connection.execute(
        "SELECT b, keyset, amount, secret, r FROM outputs WHERE operation = ? ORDER BY position", (id,)
    )
    kind, mint, quote = row
    return Operation(id, kind, mint, quote, [Output(*each) for each in outputs], ledger.held_on(connection, id))


def finish_on(connection: sqlite3.Connection, operation: Operation, proofs: Sequence[Proof]) -> None:
    """The answer is there: its proofs come in, its inputs go. A second answer (another process's) changes nothing."""
    if connection.execute("DELETE FROM operations WHERE id = ?", (operation.id,)).rowcount == 0:
        return
    connection.execute("DELETE FROM proofs WHERE holder = ?", (operation.id,))
    ledger.add_proofs_on(connection, operation.mint, proofs, "unspent")
    if operation.quote is not None:
        set_purchase_on(connection, operation.mint, operation.quote, "issued")


def abandon_on(connection: sqlite3.Connection, operation: Operation, spent: Iterable[Proof] = ()) -> None:
    """The mint will never sign these outputs: give the inputs back, without those that it says are spent."""
    if connection.execute("DELETE FROM operations WHERE id = ?", (operation.id,)).rowcount == 0:
        return
    ledger.drop_proofs_on(connection, spent)
    if operation.kind == "receive":
        connection.execute("DELETE FROM proofs WHERE holder = ?", (operation.id,))
    else:
        ledger.release_on(connection, operation.id)


def _secrets(proofs: Sequence[Proof]) -> str:
    return msgspec.json.encode([each.secret for each in proofs]).decode()
