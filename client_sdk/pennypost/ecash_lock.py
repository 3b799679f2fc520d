"""Paying for an offer with ecash instead of Lightning: stamps locked to the hash of its key (NUT-14).

    buyer    stamps ─▶ written down ─▶ swapped into proofs locked to H, seller's key, time, our refund key ─▶ letter
             ─▶ the mint shows the preimage when they are spent (NUT-07) ─▶ K;  or the time is over ─▶ refund
    seller   letter ─▶ the lock is exactly the one asked for? ─▶ swapped with K and a signature ─▶ stamps

Seller and buyer are at one mint, which learns K and that the two swaps belong together; K alone opens nothing. For one
hash stamps are locked once: the row is written before the mint is asked, with every secret that a restore needs.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

import msgspec

from pennypost import ledger, orders
from pennypost.exchange import Exchange
from pennypost.mint_client import UNIT, unblind
from pennypost.orders import Output
from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import (
    InvoiceMismatch,
    LockMalformed,
    MintError,
    OfferExpired,
    ProofPending,
    ProofSpent,
    StampMalformed,
    StampUnknownKeyset,
)
from pennypost.protocol.event import Event, event_json, parse_event
from pennypost.protocol.lock import Lock, lock_of, lock_secret
from pennypost.protocol.token import Proof, Token, encode_token, parse_token, resolve_token
from pennypost.protocol.witness import read_witness, sign_inputs, with_preimage

MOST: Final = 100_000
"""Sat of one offer paid so: its token must fit into a letter."""
CLAIM_FOR: Final = 86_400
"""Seconds past the offer's end that the seller has to take the stamps, before the buyer may have them back."""
MARGIN: Final = 600
"""Seconds before a lock's time is over in which the seller no longer takes it: the buyer might be faster."""

State = Literal["begun", "locked", "spent", "refunded"]


@dataclass(frozen=True, slots=True)
class Locked:
    """Stamps locked for one offer: the hash has 32 bytes, `amount` is in sat, `locktime` in Unix seconds."""

    key_hash: bytes
    offer: str
    amount: int
    paid_with: list[Proof] = field(repr=False)
    outputs: list[Output] = field(repr=False)
    locked: list[Proof] = field(repr=False)
    event: Event | None
    locktime: int
    state: State


class EcashLocks:
    """Locked stamps of one home, at its mint."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._store, self.mint = exchange, exchange.store, exchange.mint

    # The buyer

    async def find(self, key_hash: bytes) -> Locked | None:
        """What is locked for this hash. Asks nobody."""
        return await self._store.run(locked_on, key_hash)

    async def lock(
        self, offer: str, key_hash: bytes, amount: int, seller_key: str, refund_key: str, locktime: int
    ) -> Locked:
        """Lock `amount` sat to the hash, the seller's key and, from `locktime` on, ours (66 hex digits each), once.

        Raises NotEnoughStamps, MintError; after OfficeUnreachable the same call goes on.
        """
        known = await self.find(key_hash)
        if known is None:
            await self._exchange.settle()
            keyset = await self.mint.active(self._exchange.now())
            rule = Lock("HTLC", key_hash.hex(), (seller_key,), locktime=locktime, refund=(refund_key,))
            outputs = [_output(rule, keyset.id, size) for size in ledger.denominations(amount, 0)]

            def take_on(connection: sqlite3.Connection) -> Locked | None:
                proofs = ledger.choose_on(connection, self.mint.url, amount)
                if proofs is None:
                    return None
                now = self._exchange.now()
                ledger.add_token_on(
                    connection, self.mint.url, encode_token(Token(self.mint.url, UNIT, proofs)), proofs, now
                )
                begin_on(connection, key_hash, offer, self.mint.url, amount, proofs, outputs, locktime, now)
                return locked_on(connection, key_hash)

            known = await self._exchange.take(amount, take_on)
        return known if known.state != "begun" else await self._swap(known)

    async def _swap(self, row: Locked) -> Locked:
        """Ask the mint for what was written; its answer of an earlier run where it had given one."""
        try:
            signatures = await self.mint.swap(row.paid_with, row.outputs)
        except ProofPending:
            raise
        except MintError as refusal:
            found = [each for each in await self.mint.restore(row.outputs) if each is not None]
            if [each.amount for each in found] != [each.amount for each in row.outputs]:
                # The stamps stay in the wallet's books as a token that nobody took.
                await self._store.run(forget_on, row.key_hash)
                raise refusal from None
            signatures = found
        keysets = await self.mint.keysets()
        proofs = [
            unblind(keysets[output.keyset], output, signature)
            for output, signature in zip(row.outputs, signatures, strict=True)
        ]
        await self._store.run(keep_on, row, proofs)
        found_row = await self.find(row.key_hash)
        assert found_row is not None
        return found_row

    async def preimage(self, row: Locked) -> bytes | None:
        """K, where the seller has taken the stamps (NUT-07); None while he has not. Raises MintError."""
        return await self._revealed(row.locked, row.key_hash)

    async def _revealed(self, proofs: Sequence[Proof], key_hash: bytes) -> bytes | None:
        for each in await self.mint.looked_up(proofs):
            found = read_witness(each.witness).preimage if each.state == "SPENT" else None
            if found is not None and sha256(found).digest() == key_hash:
                return found
        return None

    async def refund(self, row: Locked, refund_secret: bytes) -> int:
        """Have the stamps back after the locktime: how many sat; 0 where the seller was faster. Raises MintError."""
        signed = sign_inputs(row.locked, refund_secret, secrets.token_bytes(32))
        try:
            back = await self._take(signed)
        except ProofSpent:
            await self._store.run(end_on, row.key_hash, "spent")
            return 0
        await self._store.run(end_on, row.key_hash, "refunded")
        return back

    # The seller

    async def claim(self, text: str, key: bytes, key_hash: bytes, amount: int, lock_key: bytes) -> int:
        """Take the stamps of a token locked to our hash and key (32-byte secret): how many sat came in.

        0 where an earlier run of ours took them. Raises InvoiceMismatch where the lock or the amount is not the one
        asked for, OfferExpired where the buyer could be faster, and what the mint refuses as MintError.
        """
        token = await self._read(text)
        wanted = secp.point(lock_key).hex()
        for proof in token.proofs:
            try:
                rule = lock_of(proof.secret)
            except LockMalformed:
                rule = None
            if rule is None or (rule.kind, rule.data, rule.pubkeys, rule.n_sigs, rule.sig_all) != (
                "HTLC",
                key_hash.hex(),
                (wanted,),
                1,
                False,
            ):
                raise InvoiceMismatch("its stamps are locked in another way")
            if rule.locktime is None or rule.locktime < self._exchange.now() + MARGIN:
                raise OfferExpired
        if sum(proof.amount for proof in token.proofs) < amount:
            raise InvoiceMismatch("it is worth less than the price")
        signed = sign_inputs(with_preimage(token.proofs, key), lock_key, secrets.token_bytes(32))
        try:
            return await self._take(signed)
        except ProofSpent:
            # K was nobody's but ours before these stamps were spent with it.
            if await self._revealed(token.proofs, key_hash) is None:
                raise
            return 0

    async def _read(self, text: str) -> Token:
        token = parse_token(text)
        try:
            found = resolve_token(token, await self.mint.keysets())
        except StampUnknownKeyset:
            found = resolve_token(token, await self.mint.keysets(refresh=True))
        keysets = await self.mint.keysets()
        if found.unit != UNIT or any(keysets[proof.id].unit != UNIT for proof in found.proofs):
            raise StampMalformed
        return found

    async def _take(self, proofs: Sequence[Proof]) -> int:
        await self._exchange.settle()
        async with self._exchange.turn:
            return await self._exchange.swap(proofs, orders.begin_receive_on)


def _output(rule: Lock, keyset: str, amount: int) -> Output:
    secret = lock_secret(rule, secrets.token_bytes(32))
    while not secp.valid_secret(r := secrets.token_bytes(32)):
        pass
    return Output(bdhke.blind(secret.encode(), r), keyset, amount, secret, r)


# Rows


class _Written(msgspec.Struct):
    """An output as it is kept."""

    b: bytes
    keyset: str
    amount: int
    secret: str
    r: bytes


def begin_on(
    connection: sqlite3.Connection,
    key_hash: bytes,
    offer: str,
    mint: str,
    amount: int,
    proofs: Sequence[Proof],
    outputs: Sequence[Output],
    locktime: int,
    now: int,
) -> None:
    """Write what is about to be locked, before the mint is asked; nothing where that was done before."""
    written = [_Written(each.b, each.keyset, each.amount, each.secret, each.r) for each in outputs]
    connection.execute(
        "INSERT INTO ecash_locks (hash, offer, mint, amount, paid_with, outputs, locktime, state, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'begun', ?)",
        (
            key_hash,
            offer,
            mint,
            amount,
            msgspec.json.encode(list(proofs)).decode(),
            msgspec.json.encode(written),
            locktime,
            now,
        ),
    )


def locked_on(connection: sqlite3.Connection, key_hash: bytes) -> Locked | None:
    """What is locked for this hash."""
    row = connection.execute(
        "SELECT hash, offer, amount, paid_with, outputs, locked, event, locktime, state FROM ecash_locks"
        " WHERE hash = ?",
        (key_hash,),
    ).fetchone()
    if row is None:
        return None
    key_hash, offer, amount, paid_with, outputs, locked, event, locktime, state = row
    return Locked(
        key_hash,
        offer,
        amount,
        msgspec.json.decode(paid_with, type=list[Proof]),
        [
            Output(each.b, each.keyset, each.amount, each.secret, each.r)
            for each in msgspec.json.decode(outputs, type=list[_Written])
        ],
        msgspec.json.decode(locked, type=list[Proof]) if locked else [],
        parse_event(event) if event else None,
        locktime,
        state,
    )


def overdue_on(connection: sqlite3.Connection, mint: str, now: int) -> list[Locked]:
    """What was locked at this mint and may be had back."""
    rows = connection.execute(
        "SELECT hash FROM ecash_locks WHERE mint = ? AND state = 'locked' AND locktime < ?", (mint, now)
    ).fetchall()
    return [found for (key_hash,) in rows if (found := locked_on(connection, key_hash))]


def keep_on(connection: sqlite3.Connection, row: Locked, proofs: Sequence[Proof]) -> None:
    """The mint has locked them; the stamps they were made of are gone."""
    connection.execute(
        "UPDATE ecash_locks SET locked = ?, state = 'locked' WHERE hash = ? AND state = 'begun'",
        (msgspec.json.encode(list(proofs)).decode(), row.key_hash),
    )
    ledger.drop_proofs_on(connection, row.paid_with)
    ledger.drop_empty_tokens_on(connection)


def letter_on(connection: sqlite3.Connection, key_hash: bytes, event: Event) -> None:
    """The letter that carries them; the first one stays."""
    connection.execute(
        "UPDATE ecash_locks SET event = coalesce(event, ?) WHERE hash = ?", (event_json(event), key_hash)
    )


def end_on(connection: sqlite3.Connection, key_hash: bytes, state: State) -> None:
    """What became of them."""
    connection.execute("UPDATE ecash_locks SET state = ? WHERE hash = ?", (state, key_hash))


def forget_on(connection: sqlite3.Connection, key_hash: bytes) -> None:
    """Nothing was locked."""
    connection.execute("DELETE FROM ecash_locks WHERE hash = ? AND state = 'begun'", (key_hash,))
