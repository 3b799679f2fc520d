"""The same request again gets the same answer (NUT-19), also after a crash or a restart.

    request hash ─▶ claim_on ─┬─ new: spend, sign, commit with the claim
                              └─ seen: rebuild_on ─▶ the signatures stored for its outputs, in their order

Only the hash of method, path and body is stored: neither the request nor the answer. Signatures are kept for
ever (NUT-09), so past the time announced here a wallet restores instead of repeating.
"""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import Connection, delete, select

from pennypost_mint.runtime.sets import delete_in, insert_ignore, select_in
from pennypost_mint.signing import BlindSignature
from pennypost_mint.tables import answers, outputs

TTL = 86_400
"""Seconds a request is recognised when it comes again, at least (announced as nuts.19.ttl)."""

SWEEP = 5_000
"""Most expired hashes deleted in one transaction, so that no swap waits long behind it."""

_OUTPUT_COLUMNS = ("b", "keyset", "amount", "c", "e", "s", "day")

OutputRow = tuple[bytes, int, int, bytes, bytes, bytes, int]
"""A row of `outputs`: B_, the keyset's position, amount, C_, e, s, Unix day."""

SignedOutput = tuple[int, int, BlindSignature]
"""The keyset's position, amount and signature of an output signed earlier."""


def request_hash(method: str, path: str, body: bytes) -> bytes:
    """32 bytes that stand for a request: method, path and payload (NUT-19, Derive & Repeat)."""
    return sha256(f"{method} {path}\n".encode() + body).digest()


def claim_on(connection: Connection, rows: list[tuple[bytes, int]]) -> set[bytes]:
    """Takes these requests, each with its keep_until, for the caller's transaction; the others were answered before.

    A second transaction with one of them waits here until the first has ended. Lock order: first of all.
    """
    return insert_ignore(connection, answers, ("request", "keep_until"), sorted(rows), "request")


def unclaim_on(connection: Connection, requests: list[bytes]) -> None:
    """Gives back requests claimed earlier in this same transaction."""
    delete_in(connection, answers, "request", requests)


def answered_all_on(connection: Connection, requests: list[bytes]) -> set[bytes]:
    """Those of these requests that were answered before."""
    return {row[0] for row in select_in(connection, answers, ("request",), "request", requests)}


def answered_on(connection: Connection, request: bytes) -> bool:
    """Whether this request was answered before."""
    found = connection.execute(select(answers.c.request).where(answers.c.request == request))
    return found.first() is not None


def signatures_on(connection: Connection, bs: list[bytes]) -> dict[bytes, SignedOutput]:
    """What was signed for those of these blinded messages (33 bytes each) that were ever signed."""
    found = select_in(connection, outputs, ("b", "keyset", "amount", "c", "e", "s"), "b", bs)
    return {b: (keyset, amount, BlindSignature(c, e, s)) for b, keyset, amount, c, e, s in found}


def rebuild_on(connection: Connection, bs: list[bytes]) -> list[SignedOutput]:
    """The answer given before: what is stored for each of these outputs, in their order."""
    found = signatures_on(connection, bs)
    return [found[b] for b in bs]


def record_signatures_on(connection: Connection, rows: list[OutputRow]) -> set[bytes]:
    """Stores signatures in the order of B_; returns the B_s stored, the others were signed before.

    A caller whose every output must be new has to roll back when one is missing. Lock order: after `spent`.
    """
    return insert_ignore(connection, outputs, _OUTPUT_COLUMNS, sorted(rows), "b")


def unrecord_on(connection: Connection, bs: list[bytes]) -> None:
    """Takes back signatures stored earlier in this same transaction: nobody has seen them."""
    delete_in(connection, outputs, "b", bs)


def forget_on(connection: Connection, now: int) -> int:
    """Deletes some of the hashes whose time is over; returns how many."""
    columns = answers.c
    old = select(columns.request).where(columns.keep_until < now).limit(SWEEP)
    return connection.execute(delete(answers).where(columns.request.in_(old))).rowcount
