"""Swap: proofs in, new signatures out (NUT-03).

    1  check      keysets, units, amounts, balance, locks     no I/O, no curve
    2  calculate  verify proofs and witnesses, sign outputs   worker processes
    3  commit     claim the request, spend, record            one transaction for all that wait
    4  answer     the signatures just made, or, of a request answered before, those stored

Unique keys decide every race. A transaction takes its locks in the order answers < spent < outputs, each sorted;
a swap that lost one of its keys gives back the others within it, and those beside it are not harmed.
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
    PennypostError,
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
from pennypost_mint.spend import DAY, SpentProof, spend_on, unspend_on
from pennypost_mint.together import LATER, Later, Together
from pennypost_mint.workers import Workers

CHUNK = 64
"""Proofs and outputs calculated in one piece (some 10 ms): a swap of 1,000 then neither keeps a process from
others for long, nor is kept to one process."""

MOST_ROWS = 512
"""Rows of one transaction: some 100 swaps of 1 for 1, or one of any size."""


class Commit(NamedTuple):
    """What a swap writes."""

    request: bytes
    keep_until: int
    spent: list[SpentProof]
    outputs: list[OutputRow]
    bs: list[bytes]

    @property
    def rows(self) -> int:
        """How many rows it writes."""
        return 1 + len(self.spent) + len(self.outputs)


Before = list[SignedOutput]
"""Signatures stored when the same request was answered before; empty for a swap that is done now."""

Committer = Together[Commit, Before]


def committer(database: Database) -> Committer:
    """Where swaps are committed, together with those that come at the same time."""
    return Together(database.write, commit_on, lambda commit: commit.rows, MOST_ROWS)


async def swap(
    database: Database,
    commits: Committer,
    keyring: Keyring,
    workers: Workers,
    request: SwapRequest,
    claim: bytes,
    now: int,
) -> tuple[list[SignedOutput], list[bytes]]:
    """Signatures for the outputs, in order, and the Ys spent now, none when the request was answered before.

    `claim` is the request's hash, `now` Unix seconds.

    Raises the MintError that NUT-03 names, WorkerFailed, Overloaded or DatabaseUnavailable; then nothing is spent.
    """
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    try:
        inputs = check_inputs(keyring, request.inputs, now)
        outputs = check_outputs(keyring, request.outputs, now)
    except (KeysetInactive, KeysetExpired):
        # Answered before the keyset was rotated out: then the answer is still the same.
        if await database.read(answers.answered_on, claim):
            return await database.read(answers.rebuild_on, bs), []
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
    before = await commits.run(commit)
    return (before, []) if before else (signed, made.ys)


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


def commit_on(connection: Connection, commits: list[Commit]) -> list[Before | PennypostError | Later]:
    """Commits swaps in one transaction; of those that share a key the first one given has it.

    The same request has the same outcome. One that shares a key with a swap that gave it back waits.
    """
    outcomes: dict[bytes, Before | PennypostError] = {}
    planned = _without_overlaps(commits)
    claimed = answers.claim_on(connection, [(commit.request, commit.keep_until) for commit in planned])
    repeated = [commit for commit in planned if commit.request not in claimed]
    stored = answers.signatures_on(connection, [b for commit in repeated for b in commit.bs])
    for commit in repeated:
        outcomes[commit.request] = [stored[b] for b in commit.bs]

    left = [commit for commit in planned if commit.request in claimed]
    spent = spend_on(connection, [row for commit in left for row in commit.spent])
    gone = {row.y for commit in left for row in commit.spent} - spent
    lost = [commit for commit in left if any(row.y in gone for row in commit.spent)]
    outcomes |= {commit.request: ProofSpent() for commit in lost}
    _give_back(connection, lost, spent)

    left = [commit for commit in left if commit.request not in outcomes]
    recorded = answers.record_signatures_on(connection, [row for commit in left for row in commit.outputs])
    signed = {b for commit in left for b in commit.bs} - recorded
    lost = [commit for commit in left if any(b in signed for b in commit.bs)]
    outcomes |= {commit.request: OutputSigned() for commit in lost}
    answers.unrecord_on(connection, [b for commit in lost for b in commit.bs if b in recorded])
    _give_back(connection, lost, spent)

    done = repeated + [commit for commit in left if commit.request not in outcomes]
    for commit in done:
        outcomes.setdefault(commit.request, [])
        gone.update(row.y for row in commit.spent)
        signed.update(commit.bs)
    return [_outcome(commit, outcomes, gone, signed) for commit in commits]


def _outcome(
    commit: Commit, outcomes: dict[bytes, Before | PennypostError], gone: set[bytes], signed: set[bytes]
) -> Before | PennypostError | Later:
    if commit.request in outcomes:
        return outcomes[commit.request]
    if any(row.y in gone for row in commit.spent):
        return ProofSpent()
    if not signed.isdisjoint(commit.bs):
        return OutputSigned()
    return LATER


def _without_overlaps(commits: list[Commit]) -> list[Commit]:
    """Those that share no request, proof or output with one before them."""
    seen: set[bytes] = set()
    planned: list[Commit] = []
    for commit in commits:
        keys = {commit.request, *commit.bs, *(row.y for row in commit.spent)}
        if seen.isdisjoint(keys):
            planned.append(commit)
        seen |= keys
    return planned


def _give_back(connection: Connection, lost: list[Commit], spent: set[bytes]) -> None:
    """Undoes what swaps that are refused took in this transaction."""
    if lost:
        unspend_on(connection, [row.y for commit in lost for row in commit.spent if row.y in spent])
        answers.unclaim_on(connection, [commit.request for commit in lost])
