"""What a wallet can ask again: the state of its proofs (NUT-07) and signatures made for it (NUT-09). Reads only."""

from __future__ import annotations

from pennypost.protocol.nuts import (
    BlindedMessage,
    BlindSignature,
    CheckStateAnswer,
    CheckStateRequest,
    ProofState,
    RestoreAnswer,
    RestoreRequest,
    SignatureDleq,
)
from pennypost_mint.answers import SignedOutput, signatures_on
from pennypost_mint.keyring import Keyring
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.glance import SHORT
from pennypost_mint.spend import witnesses_on


async def check_state(database: Database, request: CheckStateRequest) -> CheckStateAnswer:
    """SPENT or UNSPENT of each Y, in order and written as it was asked; a swap is never pending here."""
    ys = request.points()
    wanted = list(dict.fromkeys(ys))
    read = database.read_short if len(wanted) <= SHORT else database.read
    spent = await read(witnesses_on, wanted)
    return CheckStateAnswer(
        [
            ProofState(written, "SPENT", spent[y]) if y in spent else ProofState(written, "UNSPENT")
            for written, y in zip(request.Ys, ys, strict=True)
        ]
    )


async def restore(database: Database, keyring: Keyring, request: RestoreRequest) -> RestoreAnswer:
    """Those of the outputs that were ever signed, with amount and keyset of then, and their signatures, in order."""
    bs = [bytes.fromhex(output.B_) for output in request.outputs]
    found = await database.read(signatures_on, bs)
    known = [
        (output.B_, signature(keyring, found[b])) for output, b in zip(request.outputs, bs, strict=True) if b in found
    ]
    return RestoreAnswer(
        [BlindedMessage(made.amount, made.id, written) for written, made in known], [made for _, made in known]
    )


def signature(keyring: Keyring, signed: SignedOutput) -> BlindSignature:
    """A signature as it goes over the wire (NUT-00, NUT-12)."""
    position, amount, made = signed
    return BlindSignature(amount, keyring.at(position).id, made.c.hex(), SignatureDleq(made.e.hex(), made.s.hex()))
