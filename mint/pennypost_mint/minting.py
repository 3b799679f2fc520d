"""Quotes and what is minted against them (NUT-04, NUT-20, NUT-23).

    request_quote   an invoice for exactly the amount ─▶ a quote with 128 random bits for an id
    check_quote     the quote, after asking the node when it is unpaid
    mint            1  the quote and whether this request was answered   read
                    2  the quote's signature, its money, the outputs     checks
                    3  sign                                              worker processes
                    4  claim the request, take from the quote, record    one transaction

What a quote has received and what was issued against it are counted, so it can be minted in parts. A request
that is refused leaves the quote as it was. Locks in the order answers < quotes, by id < outputs.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import (
    AmountInvalid,
    OutputSigned,
    QuoteIssued,
    QuoteSignature,
    QuoteUnknown,
    QuoteUnpaid,
    Unbalanced,
    UnitMismatch,
    UnitUnknown,
)
from pennypost.protocol.nuts import MintRequest, QuoteRequest, quote_hashes
from pennypost_mint import answers, quotes
from pennypost_mint.answers import OutputRow, SignedOutput
from pennypost_mint.checks import check_outputs
from pennypost_mint.keyring import UNIT, Keyring
from pennypost_mint.lightning import Lightning
from pennypost_mint.quotes import Quote, State
from pennypost_mint.runtime.database import Database
from pennypost_mint.spend import DAY
from pennypost_mint.swap import calculate, output_rows
from pennypost_mint.till import Till
from pennypost_mint.workers import Workers

QUOTE_BYTES = 16
"""128 random bits: an id is all that an unlocked quote needs to be minted, so it must not be guessed."""

_QUOTE = re.compile(r"[0-9a-f]{32}")
"""What does not look so was never given out, and is not shown to the database: PostgreSQL refuses some texts."""


class Commit(NamedTuple):
    """What the transaction of a mint request writes; `taken`: quotes and amounts, ordered by quote."""

    request: bytes
    keep_until: int
    taken: list[tuple[str, int]]
    outputs: list[OutputRow]
    bs: list[bytes]
    now: int


def is_quote_id(text: str) -> bool:
    """Whether this may be the id of a quote of this mint."""
    return _QUOTE.fullmatch(text) is not None


async def request_quote(
    database: Database,
    lightning: Lightning,
    request: QuoteRequest,
    *,
    most: int,
    expiry_seconds: int,
    now: int,
) -> Quote:
    """A new quote with its invoice; `most` sat at once. Raises UnitUnknown, AmountInvalid, LightningUnavailable."""
    if request.unit != UNIT:
        raise UnitUnknown
    if request.amount > most:
        raise AmountInvalid
    memo = request.description or f"{request.amount} stamps"
    invoice = await lightning.create_invoice(request.amount, memo, expiry_seconds)
    quote = Quote(
        id=secrets.token_hex(QUOTE_BYTES),
        unit=request.unit,
        amount=request.amount,
        request=invoice.request,
        payment_hash=invoice.payment_hash,
        pubkey=request.pubkey,
        state=State.UNPAID,
        amount_paid=0,
        amount_issued=0,
        created_at=now,
        expiry=invoice.expiry,
        updated_at=now,
    )
    await database.write(quotes.add_on, quote)
    return quote


async def check_quote(database: Database, till: Till, quote_id: str) -> Quote:
    """The quote as it is now. Raises QuoteUnknown."""
    if not is_quote_id(quote_id):
        raise QuoteUnknown
    quote = await database.read(quotes.quote_on, quote_id)
    if quote is None:
        raise QuoteUnknown
    return await till.refresh(quote)


async def mint(
    database: Database,
    keyring: Keyring,
    workers: Workers,
    till: Till,
    request: MintRequest,
    claim: bytes,
    now: int,
) -> tuple[list[SignedOutput], bool]:
    """Signatures for the outputs, in order, and whether they were made now; `claim` is the request's hash.

    Raises the MintError that NUT-04 and NUT-20 name, WorkerFailed, Overloaded or DatabaseUnavailable; then nothing
    was issued.
    """
    if not is_quote_id(request.quote):
        raise QuoteUnknown
    quote, answered = await database.read(_look_on, request.quote, claim)
    if quote is None:
        raise QuoteUnknown
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    if answered:
        return await database.read(answers.rebuild_on, bs), False
    await _check_signature(workers, quote, request)
    quote = await till.refresh(quote)
    if not quote.amount_paid:
        raise QuoteUnpaid
    outputs = check_outputs(keyring, request.outputs, now)
    if outputs.unit != quote.unit:
        raise UnitMismatch
    check_money(quote, outputs.total)
    made = await calculate(workers, (), request.outputs, bs, ())
    day = now // DAY
    signed: list[SignedOutput] = [
        (keyset.position, output.amount, signature)
        for output, keyset, signature in zip(request.outputs, outputs.keysets, made.signatures, strict=True)
    ]
    rows = output_rows(bs, signed, day)
    commit = Commit(claim, now + answers.TTL, [(quote.id, outputs.total)], rows, bs, now)
    before = await database.write(commit_on, commit)
    return (signed, True) if before is None else (before, False)


async def _check_signature(workers: Workers, quote: Quote, request: MintRequest) -> None:
    """Raises QuoteSignature unless the key of a locked quote signed these outputs (NUT-20)."""
    if quote.pubkey is None:
        return
    if request.signature is None:
        raise QuoteSignature
    item = (
        bytes.fromhex(quote.pubkey)[1:],
        quote_hashes(request.quote, request.outputs),
        bytes.fromhex(request.signature),
    )
    [good] = await workers.run("mint.check_signature", [item])
    if not good:
        raise QuoteSignature


def check_money(quote: Quote, amount: int) -> None:
    """Raises QuoteUnpaid, QuoteIssued or Unbalanced when `amount` cannot be issued against the quote."""
    if not quote.amount_paid:
        raise QuoteUnpaid
    if not quote.mintable:
        raise QuoteIssued
    if amount > quote.mintable:
        raise Unbalanced


def _look_on(connection: Connection, quote_id: str, claim: bytes) -> tuple[Quote | None, bool]:
    return quotes.quote_on(connection, quote_id), answers.answered_on(connection, claim)


def commit_on(connection: Connection, commit: Commit) -> list[SignedOutput] | None:
    """None, or the signatures of the same request answered before. Raises what NUT-04 names; then roll back."""
    if not answers.claim_on(connection, commit.request, commit.keep_until):
        return answers.rebuild_on(connection, commit.bs)
    for quote_id, amount in commit.taken:
        if not quotes.issue_on(connection, quote_id, amount, commit.now):
            # Another request took the money between our look and now.
            quote = quotes.quote_on(connection, quote_id)
            if quote is None:
                raise QuoteUnknown
            check_money(quote, amount)
            raise QuoteIssued
    if len(answers.record_signatures_on(connection, commit.outputs)) < len(commit.outputs):
        raise OutputSigned
    return None
