"""What worker processes calculate for the mint: verify proofs and witnesses, sign outputs, check a quote's signature.

    swap(state, [(proofs, outputs), …])  ─▶ [Signed | Refused, …]

Pure functions over plain tuples, so that they cross a pipe cheaply; `state` is `Keyring.secrets()`. Nothing of
database or web is imported here: it would be loaded into each process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import InvalidKey
from pennypost.protocol.witness import Claim, proved
from pennypost_mint.workers import Job

Secrets = dict[str, dict[int, bytes]]
"""Keyset id to amount to 32-byte secret key: what a process needs to sign and to verify (`Keyring.secrets`)."""

ProofTuple = tuple[str, int, str, str, Claim | None]
"""Keyset id, amount, secret, C (66 lower-case hex digits), what its witness must prove."""

OutputTuple = tuple[str, int, bytes]
"""Keyset id, amount, B_ (33 bytes)."""


class BlindSignature(NamedTuple):
    """C_ (33 bytes) and its DLEQ proof e, s (32 bytes each)."""

    c: bytes
    e: bytes
    s: bytes


class Signed(NamedTuple):
    """Y of each proof and the signature of each output, in order."""

    ys: list[bytes]
    signatures: list[BlindSignature]


class Refused(NamedTuple):
    """The proof, or the output, at this index is not valid; `locked`: the proof is, its witness is not."""

    proof: int | None
    output: int | None
    locked: bool = False


Work = tuple[list[ProofTuple], list[OutputTuple]]


def verify_stamp(secrets: Secrets, keyset_id: str, amount: int, secret: str, C: str) -> bytes | None:
    """Y (33 bytes) of a proof that this mint signed, else None; in constant time as to the key.

    `C` is the proof's as it came, 66 lower-case hex digits; whatever it is, nothing is raised.
    """
    key = secrets.get(keyset_id, {}).get(amount)
    if key is None:
        return None
    try:
        message, signature = secret.encode(), bytes.fromhex(C)
    except ValueError:
        return None
    return bdhke.verified_y(key, message, signature)


def sign_outputs(secrets: Secrets, outputs: list[OutputTuple]) -> list[BlindSignature]:
    """Blind signatures with DLEQ proofs (NUT-12); deterministic. Raises InvalidKey when a B_ is no point."""
    return [_sign(secrets[keyset_id][amount], b) for keyset_id, amount, b in outputs]


def _sign(key: bytes, b: bytes) -> BlindSignature:
    return BlindSignature(*bdhke.sign_with_dleq(key, _public(key), b))


@lru_cache(maxsize=4096)
def _public(key: bytes) -> bytes:
    return secp.point(key)


def swap(secrets: Secrets, items: list[Work]) -> list[Signed | Refused]:
    """Job: verifies all proofs and their witnesses, then signs all outputs, of each item."""
    return [_swap(secrets, proofs, outputs) for proofs, outputs in items]


def _swap(secrets: Secrets, proofs: list[ProofTuple], outputs: list[OutputTuple]) -> Signed | Refused:
    ys: list[bytes] = []
    for index, (keyset_id, amount, secret, C, claim) in enumerate(proofs):
        y = verify_stamp(secrets, keyset_id, amount, secret, C)
        if y is None:
            return Refused(index, None)
        if claim is not None and not proved(claim):
            return Refused(index, None, locked=True)
        ys.append(y)
    signatures: list[BlindSignature] = []
    for index, (keyset_id, amount, b) in enumerate(outputs):
        try:
            signatures.append(_sign(secrets[keyset_id][amount], b))
        except InvalidKey:
            return Refused(None, index)
    return Signed(ys, signatures)


def check_signature(_secrets: Secrets, items: list[tuple[bytes, list[bytes], bytes]]) -> list[bool]:
    """Job: whether a 64-byte signature by a 32-byte public key is good for any of the 32-byte hashes (NUT-20)."""
    return [any(secp.schnorr_verify(pub, each, signature) for each in hashes) for pub, hashes, signature in items]


JOBS: dict[str, Job] = {"mint.swap": swap, "mint.check_signature": check_signature}
"""What the mint asks of `Workers`; the post office adds its own beside them."""
