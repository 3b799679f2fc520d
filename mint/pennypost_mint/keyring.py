"""The mint's keys: all of them follow from one seed, which lives in a file and nowhere else.

    seed file ─▶ HMAC(seed, position, unit, amount) = k ─▶ K = k·G ─▶ keyset id ─▶ row of `keysets`
                                                                                       │
    Keyring of every process ◀── follow: twice a second, and when an id is not known ──┘

The database knows ids, never keys. At a start every row's id is derived again; a seed that gives another id
refuses to start, since proofs signed under the old one could no longer be verified. What another process rotated is
derived here from the same seed, so a rotation needs no restart (docs/explanation/decisions/0011-rotation.md).
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pennypost.protocol import secp
from pennypost.protocol.errors import KeysetUnknown, MintNotStarted, PennypostError, SeedMismatch
from pennypost.protocol.keyset import keyset_id_v1, keyset_id_v2
from pennypost_mint import keysets
from pennypost_mint.keysets import KeysetRow, Standing
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.seed import make_seed, read_seed
from pennypost_mint.signing import Secrets

UNIT = "sat"
"""Wallets fail on units they do not know; a stamp is a proof of 1 sat."""

AMOUNTS: tuple[int, ...] = tuple(1 << exponent for exponent in range(32))
"""1 to 2^31 sat. A thousand proofs of the largest fit a signed 64-bit integer 4 million times over, no purchase
(`PENNYPOST_MAX_MINT`) needs a larger one, and half the keys of the usual 64 is half of what each wallet fetches."""

INPUT_FEE_PPK = 0
"""With any fee a stamp of 1 sat would be worth nothing (NUT-02, Fees)."""

EVERY = 0.5
"""Seconds between two looks at what other processes rotated."""

log = logger("keyring")


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
    """All keysets of the mint, in the order they were made, and the mint's own public key.

    `keysets` is another tuple after each change. `sunset`: since when nothing is sold any more (Unix seconds).
    """

    def __init__(self, made: Sequence[Keyset], identity: bytes, *, sunset: int | None = None) -> None:
        self.identity = identity
        self.before_change: list[Callable[[Secrets], None]] = []
        """Told the new secrets before a keyset that needs them is known here: worker processes come first."""
        self._database: Database | None = None
        self._seed = b""
        self._standing: Standing | None = None
        self._turn = asyncio.Lock()
        self._asked = self._looked = 0
        self._take(made, sunset)

    @classmethod
    async def open(cls, database: Database, settings: Settings) -> Keyring:
        """Keysets of this mint; at the first start makes the seed file (mode 0600) and the first keyset.

        Raises SeedMismatch when the seed is not, or no longer, the one these keysets were made with, SeedLocked for a
        passphrase that is missing or wrong, and ConfigurationError when the file cannot be read, written or understood.
        """
        return await cls._open(database, settings, first_start=True)

    @classmethod
    async def open_existing(cls, database: Database, settings: Settings) -> Keyring:
        """`open` for commands beside a mint: raises MintNotStarted where there is none."""
        return await cls._open(database, settings, first_start=False)

    @classmethod
    async def _open(cls, database: Database, settings: Settings, *, first_start: bool) -> Keyring:
        path, passphrase = settings.seed_file, settings.mint_seed_passphrase.get_secret_value()
        standing = await database.read(keysets.standing_on)
        if not standing.keysets and not first_start:
            raise MintNotStarted
        seed = read_seed(path, passphrase)
        if seed is None:
            if standing.keysets:
                raise SeedMismatch("its file is missing")
            seed = make_seed(path, passphrase)
        if not standing.keysets:
            first = derive_keyset(seed, 0, UNIT, active=True, version=settings.keyset_version)
            await database.write(keysets.add_on, row_of(first, int(time.time())))
            # Read back: another process may have been first, with this seed or with another.
            standing = await database.read(keysets.standing_on)
        keyring = cls(
            [_derived(seed, row) for row in standing.keysets],
            secp.point(derive_secret(seed, "identity")),
            sunset=standing.sunset,
        )
        keyring._database, keyring._seed, keyring._standing = database, seed, standing
        return keyring

    @classmethod
    def without_keysets(cls, seed: bytes) -> Keyring:
        """An identity alone, of a post office that has no mint's keys; `seed` is its own (32 bytes)."""
        keyring = cls((), secp.point(derive_secret(seed, "identity")))
        keyring._seed = seed
        return keyring

    async def refresh(self) -> bool:
        """Takes over what the database has now; whether that was news.

        Callers share looks: each waits for one that began after it asked. Raises DatabaseUnavailable, and SeedMismatch
        for a keyset of another seed; then the ring is as it was.
        """
        if self._database is None:
            return False
        before = self.keysets
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._looked < mine:
                covered = self._asked
                self._follow(await self._database.read(keysets.standing_on))
                self._looked = covered
        return self.keysets is not before

    async def follow(self) -> None:
        """Keeps it as the database has it until it is cancelled; what goes wrong is said once, until it is over."""
        said = ""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.refresh()
                wrong = ""
            except PennypostError as error:
                wrong = error.code
            except Exception as error:  # noqa: BLE001 - logged; who rotates relies on every process to follow
                wrong = type(error).__name__
            if wrong and wrong != said:
                log.error("keysets could not be looked at", why=wrong)
            said = wrong

    def rotated(self, final_expiry: int | None, version: int) -> Keyset:
        """The keyset that would come next (not stored): active, of our unit; `final_expiry` in Unix seconds."""
        position = self.keysets[-1].position + 1
        return derive_keyset(self._seed, position, UNIT, active=True, final_expiry=final_expiry, version=version)

    def derive(self, purpose: str) -> bytes:
        """A 32-byte secret of this mint for a purpose. Never log it."""
        return derive_secret(self._seed, purpose)

    def _follow(self, standing: Standing) -> None:
        if standing == self._standing:
            return
        known = {keyset.position: keyset for keyset in self.keysets}
        made = [
            replace(known[row.position], active=row.active)
            if row.position in known and known[row.position].id == row.id
            else _derived(self._seed, row)
            for row in standing.keysets
        ]
        secrets = {keyset.id: keyset.secrets for keyset in made}
        if secrets.keys() != self._by_id.keys():
            for tell in self.before_change:
                tell(secrets)
        self._standing = standing
        self._take(made, standing.sunset)
        log.info("keysets changed", keysets=len(made), selling=standing.sunset is None)

    def _take(self, made: Sequence[Keyset], sunset: int | None) -> None:
        self.keysets: tuple[Keyset, ...] = tuple(made)
        self.sunset = sunset
        self._by_id = {keyset.id: keyset for keyset in made}
        self._by_position = {keyset.position: keyset for keyset in made}

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
        """The keyset of a row of `spent` or `outputs`; raises KeysetUnknown for one that was made a moment ago."""
        keyset = self._by_position.get(position)
        if keyset is None:
            raise KeysetUnknown
        return keyset

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
    seed: bytes,
    position: int,
    unit: str,
    *,
    active: bool,
    input_fee_ppk: int = INPUT_FEE_PPK,
    final_expiry: int | None = None,
    version: int = 2,
) -> Keyset:
    """The keyset at a position: keys from the seed, id of version 1 or 2 from the keys (NUT-02, Keyset ID)."""
    private = {amount: derive_secret(seed, f"keyset/{position}/{unit}/{amount}") for amount in AMOUNTS}
    public = {amount: secp.point(secret) for amount, secret in private.items()}
    keyset_id = keyset_id_v1(public) if version == 1 else keyset_id_v2(public, unit, input_fee_ppk, final_expiry)
    return Keyset(position, keyset_id, unit, active, input_fee_ppk, final_expiry, public, private)


def row_of(keyset: Keyset, now: int) -> KeysetRow:
    """How a keyset made now (Unix seconds) is stored."""
    return KeysetRow(
        keyset.position, keyset.id, keyset.unit, keyset.active, keyset.input_fee_ppk, keyset.final_expiry, now
    )


def check_seed(seed: bytes, rows: Sequence[KeysetRow]) -> None:
    """Raises SeedMismatch unless these keysets were made with this seed."""
    for row in rows:
        _derived(seed, row)


def _derived(seed: bytes, row: KeysetRow) -> Keyset:
    """The keyset of a row, in the version its id has. Raises SeedMismatch."""
    keyset = derive_keyset(
        seed,
        row.position,
        row.unit,
        active=row.active,
        input_fee_ppk=row.input_fee_ppk,
        final_expiry=row.final_expiry,
        version=1 if row.id.startswith("00") else 2,
    )
    if keyset.id != row.id:
        raise SeedMismatch
    return keyset
