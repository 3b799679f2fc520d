"""Swap: proofs in, new signatures out (NUT-03).

    1  check      keysets, units, amounts, balance, locks     no I/O, no curve
    2  calculate  verify proofs and witnesses, sign outputs   worker processes
    3  commit     claim the request, spend, record            one transaction; unique keys decide
    4  answer     the signatures just made, or, of a request answered before, those stored

Each transaction takes its locks in the order answers < spent < outputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import (
    KeysetExpired,
    KeysetInactive,
    OutputInvalid,
    OutputSigned,
    ProofInvalid,
    ProofLocked,
    ProofSpent,
)
from pennypost.protocol.nuts import BlindedMessage, Proof, SwapRequest
from pennypost.protocol.witness import Claim, check_witnesses
from pennypost_mint import answers
from pennypost_mint.answers import OutputRow, SignedOutput
from pennypost_mint.checks import check_balance, check_inputs, check_outputs
from pennypost_mint.keyring import Keyring
from pennypost_mint.runtime.database import Database
from pennypost_mint.signing import BlindSignature, OutputTuple, ProofTuple, Refused, Signed, Work
from pennypost_mint.spend import DAY, SpentProof, spend_on
from pennypost_mint.workers import Workers

CHUNK = 64
"""Proofs and outputs calculated in one piece (some 10 ms): a swap of 1,000 then neither keeps a process from
others for long, nor is kept to one process."""


class Commit(NamedTuple):
    """What the transaction of a swap writes."""

    request: bytes
    keep_until: int
    spent: list[SpentProof]
    outputs: list[OutputRow]
    bs: list[bytes]


async def swap(
    database: Database, keyring: Keyring, workers: Workers, request: SwapRequest, claim: bytes, now: int
) -> list[SignedOutput]:
    """Signatures for the outputs, in order; `claim` is the request's hash, `now` Unix seconds.

    Raises the MintError that NUT-03 names, WorkerFailed, Overloaded or DatabaseUnavailable; then nothing is spent.
    """
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    try:
        inputs = check_inputs(keyring, request.inputs, now)
        outputs = check_outputs(keyring, request.outputs, now)
    except (KeysetInactive, KeysetExpired):
        # Answered before the keyset was rotated out: then the answer is still the same.
        if await database.read(answers.answered_on, claim):
            return await database.read(answers.rebuild_on, bs)
        raise
    check_balance(inputs, outputs)
    unlocking = check_witnesses(request.inputs, request.outputs, now)
    made = await calculate(workers, request.inputs, request.outputs, bs, [each.claim for each in unlocking])
    day = now // DAY
    spent = [
        SpentProof(y, keyset.position, proof.amount, day, each.witness)
        for y, proof, keyset, each in zip(made.ys, request.inputs, inputs.keysets, unlocking, strict=True)
    ]
    signed: list[SignedOutput] = [
        (keyset.position, output.amount, signature)
        for output, keyset, signature in zip(request.outputs, outputs.keysets, made.signatures, strict=True)
    ]
    commit = Commit(claim, now + answers.TTL, spent, output_rows(bs, signed, day), bs)
    return await database.write(_commit_on, commit) or signed


async def calculate(
    workers: Workers,
    proofs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    bs: Sequence[bytes],
    claims: Sequence[Claim | None],
) -> Signed:
    """Ys of the proofs and signatures of the outputs, calculated in pieces; `claims` are those of the proofs.

    Raises ProofInvalid, ProofLocked for a witness that proves too little, OutputInvalid.
    """
    given: list[ProofTuple] = [
        (proof.id, proof.amount, proof.secret, proof.C, claim) for proof, claim in zip(proofs, claims, strict=True)
    ]
    wanted: list[OutputTuple] = [(output.id, output.amount, b) for output, b in zip(outputs, bs, strict=True)]
    pieces: list[Work] = [
        (given[start : start + CHUNK], wanted[start : start + CHUNK])
        for start in range(0, max(len(given), len(wanted)), CHUNK)
    ]
    if len(pieces) == 1:
        results: list[Signed | Refused] = await workers.run("mint.swap", pieces)
    else:
        found = await asyncio.gather(*(workers.run("mint.swap", [piece]) for piece in pieces))
        results = [result for [result] in found]
    ys: list[bytes] = []
    signatures: list[BlindSignature] = []
    for result in results:
        if isinstance(result, Refused):
            raise ProofLocked if result.locked else OutputInvalid if result.proof is None else ProofInvalid
        ys += result.ys
        signatures += result.signatures
    return Signed(ys, signatures)


def output_rows(bs: Sequence[bytes], signed: Sequence[SignedOutput], day: int) -> list[OutputRow]:
    """Rows of `outputs` for signatures just made."""
    return [
        (b, keyset, amount, made.c, made.e, made.s, day) for b, (keyset, amount, made) in zip(bs, signed, strict=True)
    ]


def _commit_on(connection: Connection, commit: Commit) -> list[SignedOutput] | None:
    """None, or the signatures of the same request answered before."""
    if not answers.claim_on(connection, commit.request, commit.keep_until):
        return answers.rebuild_on(connection, commit.bs)
    if len(spend_on(connection, commit.spent)) < len(commit.spent):
        raise ProofSpent
    if len(answers.record_signatures_on(connection, commit.outputs)) < len(commit.outputs):
        raise OutputSigned
    return None
