"""The wallet's books: functions on a transaction of store.py.

    proofs      unspent ──▶ reserved (a letter) ──▶ gone                    exposed: somebody saw them together with
       ▲           │  └───▶ sent (a token)      ──▶ gone                    something; swapped before they are used
       │           └──────▶ spending (an operation's inputs) ──▶ gone
       └── finish ◀── operation: its outputs, written before the mint is asked, and its inputs
                      kinds: mint (a purchase), swap (our own proofs), receive (proofs out of a token)

    purchases   unpaid ──▶ paid ──▶ issued

An operation is there until its answer is: after a crash the same outputs are asked for again, or restored (NUT-09).
Amounts are in sat.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from pennypost.protocol import bdhke, nut13
from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.token import Proof

READY: Final = 64
"""Single stamps kept at hand, so that a letter needs no swap."""

MOST_PROOFS: Final = 100
"""Proofs of one token or letter; post offices take no more."""

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
    inputs: list[Proof]


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


@dataclass(frozen=True, slots=True)
class Balance:
    """Stamps by where they are, in sat."""

    stamps: int = 0
    """Ready to use."""
    reserved: int = 0
    """On letters that have no answer yet."""
    in_tokens: int = 0
    """In tokens made here that nobody was seen to take."""
    in_flight: int = 0
    """In a swap that has no answer yet."""


def denominations(amount: int, singles: int) -> list[int]:
    """Powers of two that add up to `amount`, rising: at most `singles` ones, the rest as few as can be."""
    ones = min(amount, singles)
    rest = amount - ones
    return [1] * ones + [1 << bit for bit in range(rest.bit_length()) if rest >> bit & 1]


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
        f"SELECT count(*) FROM proofs WHERE state IN ('unspent', 'exposed') AND secret IN ({_marks(inputs)})",
        [each.secret for each in inputs],
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
            f"SELECT state FROM proofs WHERE secret IN ({_marks(inputs)})", [each.secret for each in inputs]
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
    hold_on(connection, inputs, "spending", id)
    drop_empty_tokens_on(connection)
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
    return Operation(id, kind, mint, quote, [Output(*each) for each in outputs], held_on(connection, id))


def finish_on(connection: sqlite3.Connection, operation: Operation, proofs: Sequence[Proof]) -> None:
    """The answer is there: its proofs come in, its inputs go. A second answer (another process's) changes nothing."""
    if connection.execute("DELETE FROM operations WHERE id = ?", (operation.id,)).rowcount == 0:
        return
    connection.execute("DELETE FROM proofs WHERE holder = ?", (operation.id,))
    add_proofs_on(connection, operation.mint, proofs, "unspent")
    if operation.quote is not None:
        set_purchase_on(connection, operation.mint, operation.quote, "issued")


def abandon_on(connection: sqlite3.Connection, operation: Operation, spent: Iterable[Proof] = ()) -> None:
    """The mint will never sign these outputs: give the inputs back, without those that it says are spent."""
    if connection.execute("DELETE FROM operations WHERE id = ?", (operation.id,)).rowcount == 0:
        return
    drop_proofs_on(connection, spent)
    if operation.kind == "receive":
        connection.execute("DELETE FROM proofs WHERE holder = ?", (operation.id,))
    else:
        release_on(connection, operation.id)


# Proofs


def add_proofs_on(connection: sqlite3.Connection, mint: str, proofs: Sequence[Proof], state: str) -> int:
    """Put proofs into the wallet: how many sat it did not have."""
    return sum(
        each.amount
        for each in proofs
        if connection.execute(
            "INSERT INTO proofs (secret, mint, keyset, amount, c, state) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (secret) DO NOTHING",
            (each.secret, mint, each.id, each.amount, each.C, state),
        ).rowcount
    )


def drop_proofs_on(connection: sqlite3.Connection, proofs: Iterable[Proof]) -> None:
    """Forget proofs that are spent."""
    connection.executemany("DELETE FROM proofs WHERE secret = ?", [(each.secret,) for each in proofs])


def drop_unused_on(connection: sqlite3.Connection, proofs: Iterable[Proof]) -> int:
    """Forget proofs that the mint calls spent although nothing here has used them: how many sat."""
    return sum(
        each.amount
        for each in proofs
        if connection.execute(
            "DELETE FROM proofs WHERE secret = ? AND state IN ('unspent', 'exposed')", (each.secret,)
        ).rowcount
    )


def expose_on(connection: sqlite3.Connection, proofs: Iterable[Proof]) -> None:
    """Unspent proofs that were shown together: to be swapped before they are used."""
    connection.executemany(
        "UPDATE proofs SET state = 'exposed' WHERE secret = ? AND state = 'unspent'",
        [(each.secret,) for each in proofs],
    )


def hold_on(
    connection: sqlite3.Connection,
    proofs: Iterable[Proof],
    state: Literal["reserved", "sent", "spending"],
    holder: str,
) -> None:
    """Reserve proofs for a letter (its event id), put them into a token or an operation (its id)."""
    connection.executemany(
        "UPDATE proofs SET state = ?, holder = ? WHERE secret = ?", [(state, holder, each.secret) for each in proofs]
    )


def release_on(connection: sqlite3.Connection, holder: str) -> None:
    """Give back what a letter or an operation held. It was shown to somebody, so it is exposed."""
    connection.execute("UPDATE proofs SET state = 'exposed', holder = NULL WHERE holder = ?", (holder,))


def settle_holder_on(connection: sqlite3.Connection, holder: str, spent: Iterable[Proof]) -> None:
    """Forget the spent proofs of a letter, and give back the others."""
    drop_proofs_on(connection, spent)
    release_on(connection, holder)


def held_on(connection: sqlite3.Connection, holder: str) -> list[Proof]:
    """The proofs of a letter, a token or an operation."""
    rows = connection.execute("SELECT amount, keyset, secret, c FROM proofs WHERE holder = ?", (holder,))
    return [Proof(*row) for row in rows]


def proofs_on(connection: sqlite3.Connection, mint: str, state: str, limit: int = -1) -> list[Proof]:
    """Proofs in one state, the largest first."""
    rows = connection.execute(
        "SELECT amount, keyset, secret, c FROM proofs WHERE mint = ? AND state = ? ORDER BY amount DESC LIMIT ?",
        (mint, state, limit),
    )
    return [Proof(*row) for row in rows]


def choose_on(connection: sqlite3.Connection, mint: str, amount: int) -> list[Proof] | None:
    """Unspent proofs worth exactly `amount`, as few as can be; None where a swap must come first.

    Taking the largest that fits is exact for powers of two: each divides the next.
    """
    counts = connection.execute(
        "SELECT amount, count(*) FROM proofs WHERE mint = ? AND state = 'unspent' AND amount <= ?"
        " GROUP BY amount ORDER BY amount DESC",
        (mint, amount),
    ).fetchall()
    chosen: list[Proof] = []
    for size, count in counts:
        wanted = min(count, amount // size)
        if wanted:
            rows = connection.execute(
                "SELECT amount, keyset, secret, c FROM proofs"
                " WHERE mint = ? AND state = 'unspent' AND amount = ? LIMIT ?",
                (mint, size, min(wanted, MOST_PROOFS + 1)),
            )
            chosen += [Proof(*row) for row in rows]
            amount -= size * wanted
        if len(chosen) > MOST_PROOFS:
            return None
    return None if amount else chosen


def balance_on(connection: sqlite3.Connection, mint: str) -> Balance:
    """What the wallet has of one mint."""
    rows = connection.execute("SELECT state, sum(amount) FROM proofs WHERE mint = ? GROUP BY state", (mint,))
    sums: dict[str, int] = dict(rows.fetchall())
    (incoming,) = connection.execute(
        "SELECT coalesce(sum(p.amount), 0) FROM proofs p JOIN operations o ON o.id = p.holder"
        " WHERE o.mint = ? AND o.kind = 'receive'",
        (mint,),
    ).fetchone()
    return Balance(
        stamps=sums.get("unspent", 0) + sums.get("exposed", 0),
        reserved=sums.get("reserved", 0),
        in_tokens=sums.get("sent", 0),
        in_flight=sums.get("spending", 0) - incoming,
    )


# Tokens


def add_token_on(connection: sqlite3.Connection, mint: str, token: str, proofs: Sequence[Proof], now: int) -> None:
    """Remember a token that is about to be handed out, so that a crash on the way does not lose it."""
    id = secrets.token_hex(16)
    connection.execute(
        "INSERT INTO tokens (id, mint, token, amount, created_at) VALUES (?, ?, ?, ?, ?)",
        (id, mint, token, sum(each.amount for each in proofs), now),
    )
    hold_on(connection, proofs, "sent", id)


def tokens_on(connection: sqlite3.Connection, mint: str) -> list[tuple[str, str, int]]:
    """Id, text and amount of the tokens made here that nobody was seen to take."""
    return connection.execute(
        "SELECT id, token, amount FROM tokens WHERE mint = ? ORDER BY created_at", (mint,)
    ).fetchall()


def drop_empty_tokens_on(connection: sqlite3.Connection) -> None:
    """Forget tokens none of whose proofs are left."""
    connection.execute("DELETE FROM tokens WHERE NOT EXISTS (SELECT 1 FROM proofs WHERE proofs.holder = tokens.id)")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
