"""Stamps given away without Lightning, booked apart from what is sold.

    reference ─▶ secrets and blinding factors, from the seed ─▶ outputs signed and recorded ─▶ token
                                                                   one transaction

Everything follows from the seed, the reference and the row, so a command that was cut off is run again with the same
reference and gives the same token: nothing is lost, nothing is given twice.
"""

from __future__ import annotations

import re
import time

from sqlalchemy import Connection, select

from pennypost.protocol import bdhke
from pennypost.protocol.errors import AmountInvalid, InvalidInput, MintingDisabled, OutputSigned, ReferenceTaken
from pennypost.protocol.token import Proof, Token, encode_token
from pennypost_mint import answers
from pennypost_mint.answers import OutputRow
from pennypost_mint.keyring import UNIT, Keyring, Keyset
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.signing import sign_outputs
from pennypost_mint.spend import DAY
from pennypost_mint.tables import promotions

_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Promotion:
    """The secrets of one promotion: `amount` sat of a keyset, in as few proofs as can be."""

    def __init__(self, keyring: Keyring, keyset: Keyset, reference: str, amount: int) -> None:
        self._keyset = keyset
        purpose = f"promotion/{reference}/{keyset.id}"
        self._made = [
            (size, keyring.derive(f"{purpose}/{size}/secret").hex(), keyring.derive(f"{purpose}/{size}/blinding"))
            for size in sorted(keyset.keys)
            if amount & size
        ]

    def rows(self, day: int) -> list[OutputRow]:
        """Rows of `outputs`, signed on this Unix day."""
        keyset = self._keyset
        bs = [bdhke.blind(secret.encode(), r) for _, secret, r in self._made]
        wanted = [(keyset.id, size, b) for (size, _, _), b in zip(self._made, bs, strict=True)]
        signed = sign_outputs({keyset.id: keyset.secrets}, wanted)
        return [
            (b, keyset.position, size, made.c, made.e, made.s, day)
            for (_, size, b), made in zip(wanted, signed, strict=True)
        ]

    def token(self, mint: str) -> str:
        """The cashuB token that any wallet receives; `mint` is the address in it."""
        keyset = self._keyset
        proofs = [
            Proof(size, keyset.id, secret, bdhke.sign(keyset.secrets[size], bdhke.hash_to_curve(secret.encode())).hex())
            for size, secret, _ in self._made
        ]
        return encode_token(Token(mint, UNIT, proofs, None))


async def issue(database: Database, settings: Settings, amount: int, reference: str) -> tuple[str, bool]:
    """A token of `amount` sat, and whether it was made now; with a reference used before, that token again.

    Raises AmountInvalid past PENNYPOST_MAX_MINT, InvalidInput, ReferenceTaken for another amount, MintingDisabled
    after the sunset, SeedMismatch, SeedLocked.
    """
    if not 0 < amount <= settings.max_mint:
        raise AmountInvalid(f"1 to {settings.max_mint} stamps at once")
    if _REFERENCE.fullmatch(reference) is None:
        raise InvalidInput("a reference has 1 to 64 letters, digits, dots, dashes or underlines")
    keyring = await Keyring.open_existing(database, settings)
    before = await database.read(_promotion_on, reference)
    if before is None:
        if keyring.sunset is not None:
            raise MintingDisabled
        now = int(time.time())
        keyset = keyring.active()
        rows = Promotion(keyring, keyset, reference, amount).rows(now // DAY)
        before = await database.write(_issue_on, (reference, keyset.position, amount, now), rows)
        fresh = before == (keyset.position, amount, now)
    else:
        fresh = False
    position, booked, _ = before
    if booked != amount:
        raise ReferenceTaken
    return Promotion(keyring, keyring.at(position), reference, amount).token(settings.url), fresh


def _promotion_on(connection: Connection, reference: str) -> tuple[int, int, int] | None:
    columns = promotions.c
    found = connection.execute(
        select(columns.keyset, columns.amount, columns.created_at).where(columns.reference == reference)
    ).first()
    return (found[0], found[1], found[2]) if found else None


def _issue_on(connection: Connection, row: tuple[str, int, int, int], outputs: list[OutputRow]) -> tuple[int, int, int]:
    """What is booked under the reference: this, or what another process booked before."""
    columns = ("reference", "keyset", "amount", "created_at")
    if not insert_ignore(connection, promotions, columns, [row], "reference"):
        found = _promotion_on(connection, row[0])
        assert found is not None
        return found
    if len(answers.record_signatures_on(connection, outputs)) < len(outputs):
        raise OutputSigned
    return row[1], row[2], row[3]
