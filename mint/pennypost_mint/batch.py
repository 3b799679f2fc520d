"""Several quotes in one request (NUT-29): checked together, minted together or not at all.

check_quotes   the quotes, after asking the node about those that are unpaid
mint_batch     1  the quotes and whether this request was answered   one read, as in `minting`
               2  what each gives, their signatures, the outputs     checks
               3  sign                                               worker processes
               4  claim the request, take from each quote, record    one transaction, that of `minting`
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pennypost.protocol.errors import QuoteSignature, Unbalanced, UnitMismatch
from pennypost.protocol.nuts import BatchCheckRequest, BatchMintRequest, batch_hashes
from pennypost_mint import answers
from pennypost_mint.answers import SignedOutput
from pennypost_mint.checks import check_outputs
from pennypost_mint.keyring import Keyring
from pennypost_mint.minting import Commit, Counter, check_money, known
from pennypost_mint.quotes import Quote
from pennypost_mint.spend import DAY
from pennypost_mint.swap import calculate, output_rows
from pennypost_mint.till import Till
from pennypost_mint.workers import Workers


async def check_quotes(counter: Counter, till: Till, request: BatchCheckRequest) -> list[Quote]:
    """The quotes as they are now, in the order asked. Raises QuoteUnknown when one of them does not exist."""
    found, _ = await known(counter, request.quotes)
    return list(await asyncio.gather(*(till.refresh(quote) for quote in found)))


async def mint_batch(
    counter: Counter,
    keyring: Keyring,
    workers: Workers,
    till: Till,
    request: BatchMintRequest,
    claim: bytes,
    now: int,
) -> tuple[list[SignedOutput], bool]:
    """Signatures for the outputs, in order, and whether they were made now; `claim` is the request's hash.

    Raises the MintError that NUT-29, NUT-20 and NUT-04 name, WorkerFailed, Overloaded or DatabaseUnavailable; then
    nothing was issued against any of the quotes.
    """
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    found, answered = await known(counter, request.quotes, claim)
    if answered:
        return await counter.database.read(answers.rebuild_on, bs), False
    found = await asyncio.gather(*(till.refresh(quote) for quote in found))
    outputs = check_outputs(keyring, request.outputs, now)
    if any(quote.unit != outputs.unit for quote in found):
        raise UnitMismatch
    amounts = _amounts(found, request.quote_amounts)
    if sum(amounts) != outputs.total:
        raise Unbalanced
    # After the money: hashing so many outputs for so many quotes is for those who paid.
    await _check_signatures(workers, found, request)
    made = await calculate(workers, (), request.outputs, bs, ())
    signed: list[SignedOutput] = [
        (keyset.position, output.amount, signature)
        for output, keyset, signature in zip(request.outputs, outputs.keysets, made.signatures, strict=True)
    ]
    taken = sorted(zip(request.quotes, amounts, strict=True))
    commit = Commit(claim, now + answers.TTL, taken, output_rows(bs, signed, now // DAY), bs, now)
    before = await counter.commits.run(commit)
    return (before, False) if before else (signed, True)


def _amounts(found: Sequence[Quote], wanted: Sequence[int] | None) -> list[int]:
    """What is taken from each quote: what was asked, else what it was made for or what is left of that.

    Raises QuoteUnpaid, QuoteIssued or Unbalanced when a quote does not have it.
    """
    amounts = wanted or [min(quote.amount, quote.mintable) for quote in found]
    for quote, amount in zip(found, amounts, strict=True):
        check_money(quote, amount)
    return list(amounts)


async def _check_signatures(workers: Workers, found: Sequence[Quote], request: BatchMintRequest) -> None:
    """Raises QuoteSignature unless the keys of all locked quotes signed all outputs, and nobody else did (NUT-29)."""
    signatures = request.signatures or [None] * len(found)
    if any((quote.pubkey is None) != (signature is None) for quote, signature in zip(found, signatures, strict=True)):
        raise QuoteSignature
    locked = [quote for quote in found if quote.pubkey is not None]
    if not locked:
        return
    keys = [bytes.fromhex(quote.pubkey)[1:] for quote in locked if quote.pubkey is not None]
    hashes = batch_hashes([quote.id for quote in locked], request.outputs)
    given = [bytes.fromhex(signature) for signature in signatures if signature is not None]
    if not all(await workers.run("mint.check_signature", list(zip(keys, hashes, given, strict=True)))):
        raise QuoteSignature
