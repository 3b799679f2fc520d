"""What the rest of the program may use of the mint; everything else in here is the mint's own.

    Keyring, Mint, mint_router, Workers, MINT_JOBS        to run it
    LastUse                                               what `restore` must know after a loss
    read_seed, make_seed                                  a seed in its file
    verify_stamp, sign_outputs                            calculations, for worker processes
    spent_on, spend_on, unspend_on                        stamps, in the caller's transaction
    signatures_on, record_signatures_on                   change, in the caller's transaction
    books, purchases, rotation, snapshot                  what `pennypost mint …` does, for the operator's pages

Lock order of every transaction that uses several: answers < spent < outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennypost_mint.answers import OutputRow, SignedOutput, record_signatures_on, signatures_on
from pennypost_mint.keyring import UNIT, Keyring, Keyset
from pennypost_mint.last_use import LastUse
from pennypost_mint.lightning import Lightning
from pennypost_mint.lightning.play import pay_play_invoice
from pennypost_mint.operate import books, purchases, rotation
from pennypost_mint.operate.opening import snapshot
from pennypost_mint.quotes import Quote
from pennypost_mint.seed import make_seed, read_seed
from pennypost_mint.service import Mint
from pennypost_mint.signing import JOBS as MINT_JOBS
from pennypost_mint.signing import BlindSignature, OutputTuple, Secrets, sign_outputs, verify_stamp
from pennypost_mint.spend import SpentProof, spend_on, spent_on, unspend_on
from pennypost_mint.workers import Job, Workers

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = [
    "MINT_JOBS",
    "UNIT",
    "BlindSignature",
    "Job",
    "Keyring",
    "Keyset",
    "LastUse",
    "Lightning",
    "Mint",
    "OutputRow",
    "OutputTuple",
    "Quote",
    "Secrets",
    "SignedOutput",
    "SpentProof",
    "Workers",
    "books",
    "make_seed",
    "mint_router",
    "pay_play_invoice",
    "purchases",
    "read_seed",
    "record_signatures_on",
    "rotation",
    "sign_outputs",
    "signatures_on",
    "snapshot",
    "spend_on",
    "spent_on",
    "unspend_on",
    "verify_stamp",
]


def mint_router(mint: Mint) -> APIRouter:
    """The mint's HTTP routes (FastAPI)."""
    # FastAPI is imported for whoever serves, not for worker processes that load this module.
    from pennypost_mint.routes import mint_router as build

    return build(mint)
