"""What must hold of inputs and outputs before any calculation: keysets, units, amounts (NUT-02, NUT-03).

The request was read by `protocol.nuts`, which refused what needs no knowledge of this mint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pennypost.protocol.errors import (
    AmountInvalid,
    KeysetExpired,
    KeysetInactive,
    MixedUnits,
    ProofInvalid,
    Unbalanced,
    UnitMismatch,
)
from pennypost.protocol.nuts import BlindedMessage, Proof
from pennypost_mint.keyring import Keyring, Keyset

PPK = 1_000


class Side(NamedTuple):
    """One side of a request: its unit, its sum, and the keyset of each item."""

    unit: str
    total: int
    keysets: list[Keyset]


def check_inputs(keyring: Keyring, proofs: Sequence[Proof], now: float) -> Side:
    """Proofs that this mint can have signed, of one unit, still usable.

    Raises KeysetUnknown, KeysetExpired, ProofInvalid for an amount without a key, MixedUnits.
    """
    keysets = [keyring.get(proof.id) for proof in proofs]
    for proof, keyset in zip(proofs, keysets, strict=True):
        if keyset.expired(now):
            raise KeysetExpired
        if proof.amount not in keyset.keys:
            raise ProofInvalid
    return Side(_one_unit(keysets), sum(proof.amount for proof in proofs), keysets)


def check_outputs(keyring: Keyring, outputs: Sequence[BlindedMessage], now: float) -> Side:
    """Outputs of one unit for keysets that sign.

    Raises KeysetUnknown, KeysetExpired, KeysetInactive, AmountInvalid for an amount without a key, MixedUnits.
    """
    keysets = [keyring.get(output.id) for output in outputs]
    for output, keyset in zip(outputs, keysets, strict=True):
        if keyset.expired(now):
            raise KeysetExpired
        if not keyset.active:
            raise KeysetInactive
        if output.amount not in keyset.keys:
            raise AmountInvalid
    return Side(_one_unit(keysets), sum(output.amount for output in outputs), keysets)


def check_balance(inputs: Side, outputs: Side) -> None:
    """Inputs less their fee are the outputs, in one unit. Raises UnitMismatch, Unbalanced."""
    if inputs.unit != outputs.unit:
        raise UnitMismatch
    if inputs.total - fee(inputs.keysets) != outputs.total:
        raise Unbalanced


def fee(keysets: Iterable[Keyset]) -> int:
    """The fee of inputs of these keysets, rounded up (NUT-02, Fees)."""
    return -(-sum(keyset.input_fee_ppk for keyset in keysets) // PPK)


def _one_unit(keysets: Sequence[Keyset]) -> str:
    unit = keysets[0].unit
    if any(keyset.unit != unit for keyset in keysets):
        raise MixedUnits
    return unit
