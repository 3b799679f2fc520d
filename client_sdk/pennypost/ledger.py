"""The wallet's books: functions on a transaction of store.py.

    proofs   unspent ──▶ reserved (a letter) ──▶ gone
                │  └───▶ sent (a token) ───────▶ gone
                └──────▶ spending (an operation's inputs, orders.py) ──▶ gone
             exposed: somebody saw them together with something; swapped before they are used
             expired: their keyset's final expiry is over (NUT-02); kept, and used for nothing

Amounts are in sat.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pennypost.protocol.token import Proof

READY: Final = 64
"""Single stamps kept at hand, so that a letter needs no swap."""

MOST_PROOFS: Final = 100
"""Proofs of one token or letter; post offices take no more."""


SWAP_AHEAD: Final = 30 * 86_400
"""Seconds before a retired keyset expires from which on its stamps are swapped for those of the active one."""


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
    expired: int = 0
    """Of keysets whose final expiry is over: worthless."""


def denominations(amount: int, singles: int) -> list[int]:
    """Powers of two that add up to `amount`, rising: at most `singles` ones, the rest as few as can be."""
    ones = min(amount, singles)
    rest = amount - ones
    return [1] * ones + [1 << bit for bit in range(rest.bit_length()) if rest >> bit & 1]


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


def follow_expiry_on(connection: sqlite3.Connection, mint: str, now: int) -> None:
    """Lays aside stamps of expired keysets; those of retired keysets that expire soon are to be swapped (NUT-02)."""
    expiring = connection.execute(
        "SELECT id, final_expiry <= ? FROM keysets WHERE mint = ?"
        " AND (final_expiry <= ? OR (active = 0 AND final_expiry <= ?))",
        (now, mint, now, now + SWAP_AHEAD),
    ).fetchall()
    for keyset, over in expiring:
        states = "('unspent', 'exposed')" if over else "('unspent')"
        connection.execute(
            f"UPDATE proofs SET state = ? WHERE mint = ? AND keyset = ? AND state IN {states}",
            ("expired" if over else "exposed", mint, keyset),
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
        expired=sums.get("expired", 0),
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
