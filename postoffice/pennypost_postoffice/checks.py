"""What worker processes calculate for the post office: nothing of database or web is imported here."""

from __future__ import annotations

from pennypost.protocol import secp
from pennypost.protocol.postmark import Postmark, sign_postmark
from pennypost_mint.api import BlindSignature, Job, Secrets, sign_outputs, verify_stamp

Proof = tuple[str, int, str, str]
"""Keyset id, amount (sat), secret, C (66 hex digits)."""

Check = tuple[bytes, bytes, bytes, list[Proof], list[tuple[str, int, bytes]]]
"""For a worker: pubkey (32 bytes), id (32), signature (64), proofs, outputs to sign (keyset id, amount, B_)."""

Checked = tuple[list[bytes], list[BlindSignature]] | int
"""Ys and signatures, or which of the two below is wrong."""

BAD_SIGNATURE = 0
BAD_STAMP = 1


def check_posts(secrets: Secrets, items: list[Check]) -> list[Checked]:
    """Job: event signature, then stamps, then change; the cheapest way to be refused comes first."""
    return [_check(secrets, *item) for item in items]


def _check(
    secrets: Secrets,
    pubkey: bytes,
    identifier: bytes,
    signature: bytes,
    proofs: list[Proof],
    outputs: list[tuple[str, int, bytes]],
) -> Checked:
    if not secp.schnorr_verify(pubkey, identifier, signature):
        return BAD_SIGNATURE
    ys: list[bytes] = []
    for keyset_id, amount, secret, c in proofs:
        y = verify_stamp(secrets, keyset_id, amount, secret, c)
        if y is None:
            return BAD_STAMP
        ys.append(y)
    return ys, sign_outputs(secrets, outputs) if outputs else []


def sign_postmarks(_secrets: Secrets, items: list[tuple[bytes, bytes, int, int, int]]) -> list[Postmark]:
    """Job: for each of (the office's secret key, event id, stored_at, sat, keep_until) its postmark."""
    return [sign_postmark(secret, event, stored_at, until, sat) for secret, event, stored_at, sat, until in items]


OFFICE_JOBS: dict[str, Job] = {"office.check_posts": check_posts, "office.sign_postmarks": sign_postmarks}
"""What the post office asks of `Workers`, beside the mint's own jobs."""
