"""Quotes and what is minted against them (NUT-04, NUT-20, NUT-23).

    request_quote   an invoice for exactly the amount ─▶ a quote with 128 random bits for an id, in one transaction with
                    the row of a node whose book is here, and paid if the node says so at once (play money)
    check_quote     the quote, after asking the node when it is unpaid
    mint            1  the quote and whether this request was answered   one read for all that wait
                    2  the quote's signature, its money, the outputs     checks
                    3  sign                                              worker processes
                    4  claim the request, record, take from the quote    one transaction for all that wait

What a quote has received and what was issued against it are counted, so it can be minted in parts. A request
that is refused leaves the quote as it was. Locks in the order answers < quotes < outputs, each sorted.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import (
    AmountInvalid,
    OutputSigned,
    PennypostError,
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
from pennypost_mint.invoices import OpenInvoices
from pennypost_mint.keyring import UNIT, Keyring
from pennypost_mint.lightning import Entry, Lightning
from pennypost_mint.quotes import Quote, State
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_rows
from pennypost_mint.spend import DAY
from pennypost_mint.swap import MOST_ROWS, calculate, output_rows
from pennypost_mint.till import Till
from pennypost_mint.together import LATER, Later, Together
from pennypost_mint.workers import Workers

QUOTE_BYTES = 16
"""128 random bits: an id is all that an unlocked quote needs to be minted, so it must not be guessed."""

_QUOTE = re.compile(r"[0-9a-f]{32}")
"""What does not look so was never given out, and is not shown to the database: PostgreSQL refuses some texts."""


class Look(NamedTuple):
    """What a request asks about: quotes by id, and whether it was answered before; `request` is its hash."""

    quotes: tuple[str, ...]
    request: bytes = b""


class New(NamedTuple):
    """A quote that was made now, and what its node writes into a book of its own."""

    quote: Quote
    entry: Entry | None


class Looked(NamedTuple):
    """Those of the quotes that exist, and whether the request was answered before."""

    quotes: dict[str, Quote]
    answered: bool


class Commit(NamedTuple):
    """What the transaction of a mint request writes; `taken`: quotes and amounts."""

    request: bytes
    keep_until: int
    taken: list[tuple[str, int]]
    outputs: list[OutputRow]
    bs: list[bytes]
    now: int

    @property
    def rows(self) -> int:
        """How many rows it writes."""
        return 1 + len(self.taken) + len(self.outputs)


Before = list[SignedOutput]
"""Signatures stored when the same request was answered before; empty for one that is answered now."""


class Counter:
    """Where requests about quotes share reads and transactions with those that come at the same time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.looks: Together[Look, Looked] = Together(database.read, look_on, lambda look: len(look.quotes), MOST_ROWS)
        self.adds: Together[New, None] = Together(database.write, add_on, lambda _new: 2, MOST_ROWS)
        self.commits: Together[Commit, Before] = Together(
            database.write, commit_on, lambda commit: commit.rows, MOST_ROWS
        )


def is_quote_id(text: str) -> bool:
    """Whether this may be the id of a quote of this mint."""
    return _QUOTE.fullmatch(text) is not None


async def request_quote(
    counter: Counter,
    lightning: Lightning,
    invoices: OpenInvoices,
    request: QuoteRequest,
    *,
    most: int,
    expiry_seconds: int,
    now: int,
) -> Quote:
    """A new quote with its invoice; `most` sat at once.

    Raises UnitUnknown, AmountInvalid, TooManyInvoices, LightningUnavailable, DatabaseUnavailable.
    """
    if request.unit != UNIT:
        raise UnitUnknown
    if request.amount > most:
        raise AmountInvalid
    await invoices.take()
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
    quote = quotes.credited(quote, invoice.received_msat)
    await counter.adds.run(New(quote, invoice.entry))
    return quote


async def check_quote(counter: Counter, till: Till, quote_id: str) -> Quote:
    """The quote as it is now. Raises QuoteUnknown."""
    [quote], _ = await known(counter, [quote_id])
    return await till.refresh(quote)


async def known(counter: Counter, ids: Sequence[str], request: bytes = b"") -> tuple[list[Quote], bool]:
    """These quotes, in this order, and whether the request was answered. Raises QuoteUnknown unless all exist."""
    if not all(is_quote_id(each) for each in ids):
        raise QuoteUnknown
    looked = await counter.looks.run(Look(tuple(ids), request))
    try:
        return [looked.quotes[each] for each in ids], looked.answered
    except KeyError:
        raise QuoteUnknown from None


async def mint(
    counter: Counter,
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
    [quote], answered = await known(counter, [request.quote], claim)
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    if answered:
        return await counter.database.read(answers.rebuild_on, bs), False
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
    before = await counter.commits.run(commit)
    return (before, False) if before else (signed, True)


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


def add_on(connection: Connection, made: list[New]) -> list[None]:
    """Stores new quotes and what their node, the same for all, writes of them."""
    entries = [new.entry for new in made if new.entry is not None]
    if entries:
        insert_rows(connection, entries[0].table, entries[0].columns, sorted(entry.row for entry in entries))
    quotes.add_all_on(connection, [new.quote for new in made])
    return [None] * len(made)


def look_on(connection: Connection, looks: list[Look]) -> list[Looked | PennypostError | Later]:
    """What requests ask about, in one look."""
    wanted = {each for look in looks for each in look.quotes}
    found = {quote.id: quote for quote in quotes.quotes_on(connection, wanted)}
    answered = answers.answered_all_on(connection, [look.request for look in looks if look.request])
    return [
        Looked({each: found[each] for each in look.quotes if each in found}, look.request in answered) for look in looks
    ]


def commit_on(connection: Connection, commits: list[Commit]) -> list[Before | PennypostError | Later]:
    """Commits mint requests in one transaction; of those that share a request, a quote or an output all but the first
    given wait. One that is refused gives back what it took, and those beside it are not harmed.
    """
    outcomes: dict[bytes, Before | PennypostError] = {}
    planned = _without_overlaps(commits)
    claimed = answers.claim_on(connection, [(commit.request, commit.keep_until) for commit in planned])
    repeated = [commit for commit in planned if commit.request not in claimed]
    stored = answers.signatures_on(connection, [b for commit in repeated for b in commit.bs])
    for commit in repeated:
        outcomes[commit.request] = [stored[b] for b in commit.bs]

    left = [commit for commit in planned if commit.request in claimed]
    held = quotes.hold_on(connection, [quote for commit in left for quote, _ in commit.taken])
    moved: dict[bytes, list[Quote]] = {}
    for commit in left:
        try:
            moved[commit.request] = _take(held, commit)
        except PennypostError as error:
            # Another request took the money between our look and now.
            outcomes[commit.request] = error

    paid = [commit for commit in left if commit.request in moved]
    recorded = answers.record_signatures_on(connection, [row for commit in paid for row in commit.outputs])
    lost = [commit for commit in paid if not recorded.issuperset(commit.bs)]
    answers.unrecord_on(connection, [b for commit in lost for b in commit.bs if b in recorded])
    for commit in lost:
        outcomes[commit.request] = OutputSigned()
        del moved[commit.request]
    answers.unclaim_on(connection, [commit.request for commit in left if commit.request not in moved])
    quotes.issue_all_on(connection, [quote for each in moved.values() for quote in each])

    done: dict[int, Before] = {id(commit): [] for commit in left if commit.request in moved}
    return [done[id(commit)] if id(commit) in done else outcomes.get(commit.request, LATER) for commit in commits]


def _take(held: dict[str, Quote], commit: Commit) -> list[Quote]:
    """The quotes after this commit. Raises QuoteUnknown and what `check_money` raises."""
    moved: list[Quote] = []
    for quote_id, amount in commit.taken:
        quote = held.get(quote_id)
        if quote is None:
            raise QuoteUnknown
        check_money(quote, amount)
        after = quotes.issued(quote, amount, commit.now)
        if after is None:
            raise QuoteIssued
        moved.append(after)
    return moved


def _without_overlaps(commits: list[Commit]) -> list[Commit]:
    """Those that share no request, quote or output with one before them."""
    seen: set[bytes | str] = set()
    planned: list[Commit] = []
    for commit in commits:
        keys = {commit.request, *commit.bs, *(quote for quote, _ in commit.taken)}
        if seen.isdisjoint(keys):
            planned.append(commit)
        seen |= keys
    return planned
