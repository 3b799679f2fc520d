"""The mint's keys: all of them follow from one seed, which lives in a file and nowhere else.

    seed file ─▶ HMAC(seed, position, unit, amount) = k ─▶ K = k·G ─▶ keyset id ─▶ row of `keysets`

The database knows ids, never keys. At a start every row's id is derived again; a seed that gives another id
refuses to start, since proofs signed under the old one could no longer be verified.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from pennypost.protocol import secp
from pennypost.protocol.errors import ConfigurationError, KeysetUnknown, SeedMismatch
from pennypost.protocol.keyset import keyset_id_v2
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.signing import Secrets
from pennypost_mint.tables import keysets

UNIT = "sat"
"""Wallets fail on units they do not know; a stamp is a proof of 1 sat."""

AMOUNTS: tuple[int, ...] = tuple(1 << exponent for exponent in range(32))
"""1 to 2^31 sat. A thousand proofs of the largest fit a signed 64-bit integer 4 million times over, no purchase
(`PENNYPOST_MAX_MINT`) needs a larger one, and half the keys of the usual 64 is half of what each wallet fetches."""

INPUT_FEE_PPK = 0
"""With any fee a stamp of 1 sat would be worth nothing (NUT-02, Fees)."""

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Keyset:
    """One keyset: `position` is its number at this mint, `keys` its 33-byte points by amount."""

    position: int
    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    keys: dict[int, bytes] = field(repr=False)
    secrets: dict[int, bytes] = field(repr=False)

    def expired(self, now: float) -> bool:
        """Whether proofs of this keyset can no longer be used (NUT-02, Keyset Final Expiry)."""
        return self.final_expiry is not None and now >= self.final_expiry


class Keyring:
    """All keysets of the mint, in the order they were made, and the mint's own public key."""

    def __init__(self, made: Sequence[Keyset], identity: bytes) -> None:
        self.keysets: tuple[Keyset, ...] = tuple(made)
        self.identity = identity
        self._by_id = {keyset.id: keyset for keyset in made}
        self._by_position = {keyset.position: keyset for keyset in made}

    @classmethod
    async def open(cls, database: Database, settings: Settings) -> Keyring:
        """Keysets of this mint; at the first start makes the seed file (mode 0600) and the first keyset.

        Raises SeedMismatch when the seed is not, or no longer, the one these keysets were made with, and
        ConfigurationError when its file cannot be read, written or understood.
        """
        return await open_keyring(database, settings.seed_file, int(time.time()))

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keysets, active or not."""
        return tuple(self._by_id)

    def get(self, keyset_id: str) -> Keyset:
        """The keyset with this full id; raises KeysetUnknown."""
        keyset = self._by_id.get(keyset_id)
        if keyset is None:
            raise KeysetUnknown
        return keyset

    def at(self, position: int) -> Keyset:
        """The keyset of a row of `spent` or `outputs`."""
        return self._by_position[position]

    def active(self, unit: str = UNIT) -> Keyset:
        """The keyset that signs for this unit, the newest if several are active; raises KeysetUnknown."""
        for keyset in reversed(self.keysets):
            if keyset.active and keyset.unit == unit:
                return keyset
        raise KeysetUnknown

    def secrets(self) -> Secrets:
        """The secret keys of all keysets, for the processes that sign and verify; picklable. Never log it."""
        return {keyset.id: keyset.secrets for keyset in self.keysets}


def derive_secret(seed: bytes, purpose: str) -> bytes:
    """A 32-byte secret key for a purpose: HMAC-SHA256 under the seed, the next counter when it is no key."""
    for counter in range(256):
        secret = hmac.digest(seed, f"pennypost/mint/v1/{purpose}/{counter}".encode(), "sha256")
        if secp.valid_secret(secret):
            return secret
    raise AssertionError("256 hashes in a row outside the curve order")


def derive_keyset(
    seed: bytes, position: int, unit: str, *, active: bool, input_fee_ppk: int, final_expiry: int | None
) -> Keyset:
    """The keyset at a position: keys from the seed, id from the keys (NUT-02, Keyset ID V2)."""
    private = {amount: derive_secret(seed, f"keyset/{position}/{unit}/{amount}") for amount in AMOUNTS}
    public = {amount: secp.point(secret) for amount, secret in private.items()}
    keyset_id = keyset_id_v2(public, unit, input_fee_ppk, final_expiry)
    return Keyset(position, keyset_id, unit, active, input_fee_ppk, final_expiry, public, private)


async def open_keyring(db: Database, seed_file: Path, now: int) -> Keyring:
    """`Keyring.open` for a seed file and a time (Unix seconds)."""
    rows = await db.read(_load)
    seed = _read_seed(seed_file)
    if seed is None:
        if rows:
            raise SeedMismatch("its file is missing")
        seed = _make_seed(seed_file)
    if not rows:
        first = derive_keyset(seed, 0, UNIT, active=True, input_fee_ppk=INPUT_FEE_PPK, final_expiry=None)
        await db.write(_add, first, now)
        # Read back: another process may have been first, with this seed or with another.
        rows = await db.read(_load)
    made = [
        derive_keyset(seed, position, unit, active=active, input_fee_ppk=fee, final_expiry=expiry)
        for position, _, unit, active, fee, expiry in rows
    ]
    if any(keyset.id != row[1] for keyset, row in zip(made, rows, strict=True)):
        raise SeedMismatch
    return Keyring(made, secp.point(derive_secret(seed, "identity")))


Row = tuple[int, str, str, bool, int, int | None]


def _load(connection: Connection) -> list[Row]:
    columns = keysets.c
    found = connection.execute(
        select(
            columns.position,
            columns.id,
            columns.unit,
            columns.active,
            columns.input_fee_ppk,
            columns.final_expiry,
        ).order_by(columns.position)
    )
    return [(row[0], row[1], row[2], row[3], row[4], row[5]) for row in found]


def _add(connection: Connection, keyset: Keyset, now: int) -> None:
    columns = ("position", "id", "unit", "active", "input_fee_ppk", "final_expiry", "created_at")
    row = (keyset.position, keyset.id, keyset.unit, keyset.active, keyset.input_fee_ppk, keyset.final_expiry, now)
    insert_ignore(connection, keysets, columns, [row], "position")


def _read_seed(path: Path) -> bytes | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the mint's seed file cannot be read") from None
    if len(text) != 2 * SEED_BYTES or not set(text) <= set("0123456789abcdef"):
        raise ConfigurationError(f"the mint's seed file does not hold {2 * SEED_BYTES} lower-case hex digits")
    return bytes.fromhex(text)


def _make_seed(path: Path) -> bytes:
    """Writes a new seed so that the file is either absent or whole, and on disk before any key is used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(prefix=".seed-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(SEED_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        raise ConfigurationError("the mint's seed file cannot be written") from None
    seed = _read_seed(path)
    if seed is None:
        raise ConfigurationError("the mint's seed file cannot be read")
    return seed
