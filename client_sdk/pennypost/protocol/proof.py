"""Proofs and tokens as values, their limits, and what each must be, whichever form it came in (NUT-00).

token_cbor (cashuB) ──┐
                      ├──▶ checked_proof, checked_token ──▶ Token
token (cashuA) ───────┘
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NoReturn

import msgspec

from pennypost.protocol.errors import StampMalformed
from pennypost.protocol.keyset import resolve_id

MAX_TOKEN: Final = 262_144
"""Characters of a serialised token."""
MAX_PROOFS: Final = 256
"""Proofs of a token, unless the caller says otherwise."""
MAX_SECRET: Final = 1_024
"""Bytes of a proof's secret in UTF-8."""
MAX_WITNESS: Final = 1_024
"""Bytes of a proof's witness in UTF-8: seven signatures and a preimage."""
MAX_MINT: Final = 512
"""Bytes of a mint's address."""
MAX_UNIT: Final = 32
"""Bytes of the name of a unit."""
MAX_MEMO: Final = 4_096
"""Bytes of a memo in UTF-8."""
MAX_AMOUNT: Final = 1 << 63
"""The largest power of two in 64 bits."""
MAX_DEPTH: Final = 8
"""Levels inside a field that is not known and skipped."""

_SCALAR: Final = re.compile(r"[0-9a-f]{64}")


class Dleq(msgspec.Struct, frozen=True, omit_defaults=True):
    """Proof that one key signed (NUT-12): `e` and `s`, and in a proof the blinding factor `r`; 64 hex digits each."""

    e: str
    s: str
    r: str | None = None


class Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ecash (NUT-00, Proof): `amount` in the keyset's unit, keyset `id`, `secret`, signature `C` (66 digits)."""

    amount: int
    id: str
    secret: str
    C: str
    witness: str | None = None
    dleq: Dleq | None = None

    def __repr__(self) -> str:
        # Whoever reads the secret in a log could spend it.
        return f"Proof(amount={self.amount}, id={self.id!r})"


class Token(msgspec.Struct, frozen=True):
    """Proofs of one mint. `mint` is its address as written; `proofs` is never empty and has no secret twice."""

    mint: str
    unit: str
    proofs: Sequence[Proof]
    memo: str | None = None

    @property
    def amount(self) -> int:
        """The sum of the proofs, in `unit`."""
        return sum(proof.amount for proof in self.proofs)


def malformed(detail: str = "") -> NoReturn:
    """Raise StampMalformed."""
    raise StampMalformed(detail)


Entry = tuple[int, str, str, str | None, Dleq | None]
"""What a proof holds beside its keyset, which in CBOR may come after it: amount, secret, C, witness, DLEQ."""


def resolved(keyset: str, known_ids: Sequence[str] | None) -> str:
    """The full id of a keyset, or with None for the known ones the id as written. Raises StampUnknownKeyset."""
    if known_ids is None:
        if len(keyset) not in (16, 66):
            malformed("a keyset id has 8 or 33 bytes")
        return keyset
    return keyset if keyset in known_ids else resolve_id(keyset, known_ids)


def checked_proof(
    amount: int | None, secret: str | None, C: str | None, witness: str | None, dleq: Dleq | None
) -> Entry:
    """What a proof holds, once each part is there and can be what it should be. Raises StampMalformed."""
    if amount is None or not 0 < amount <= MAX_AMOUNT or amount & (amount - 1):
        malformed("an amount is a power of two")
    if not secret or "\0" in secret:
        malformed("a secret is text of 1 to 1,024 bytes")
    if C is None or len(C) != 66 or not C.startswith(("02", "03")):
        malformed("a signature is a compressed point")
    return amount, secret, C, witness, dleq


def checked_token(mint: str | None, unit: str | None, proofs: list[Proof] | None, memo: str | None) -> Token:
    """The token, once it has a mint, a unit, and each of its proofs once. Raises StampMalformed."""
    if not mint or unit is None:
        malformed("it names no mint or no unit")
    if not proofs:
        malformed("there are no proofs in it")
    if len(proofs) > 1 and len({proof.secret for proof in proofs}) != len(proofs):
        malformed("a proof is in it twice")
    return Token(mint, unit, proofs, memo)


def checked_dleq(found: dict[str, object]) -> Dleq:
    """The DLEQ proof of the hex values found, of which `r` may be missing. Raises StampMalformed."""
    scalars = {name: value for name, value in found.items() if isinstance(value, str) and _SCALAR.fullmatch(value)}
    if len(scalars) != len(found) or not {"e", "s"} <= scalars.keys():
        malformed("a DLEQ proof has e, s and r of 32 bytes")
    return Dleq(scalars["e"], scalars["s"], scalars.get("r"))


def utf8_length(text: str) -> int:
    """Bytes of a text in UTF-8; more than any limit when it holds half of a surrogate pair and has no such form."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 1 << 62
