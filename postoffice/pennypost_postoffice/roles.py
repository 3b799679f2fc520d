"""Which keys a process holds, by its role and by what its database is.

    role                                 keysets in the database    holds
    all, mint                            any                        the mint's keys
    postoffice, beside its mint          there                      the mint's keys: it shares database and seed file
    postoffice, apart from every mint    none                       its own seed alone; PENNYPOST_MINT_URLS is needed

The office's seed is there where stamps of mints elsewhere are taken, or ever were. It is made once: a database that
knows another one refuses to start, for what was earned could not be spent any more.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from pennypost.protocol.errors import ConfigurationError, OfficeSeedLocked, SeedLocked, SeedMismatch
from pennypost_mint.api import Keyring, make_seed, read_seed
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.tables import office_state

TREASURY = "treasury"
"""The row of `office_state` that holds the public key of the office's seed."""


async def open_keys(database: Database, settings: Settings) -> tuple[Keyring, bytes | None]:
    """The keyring of this process, and the seed of what it earns at mints elsewhere where there is one.

    Raises ConfigurationError, SeedMismatch, SeedLocked, OfficeSeedLocked, DatabaseUnavailable.
    """
    apart = settings.role == "postoffice" and not await database.read(_has_keysets)
    if apart and not settings.mints:
        raise ConfigurationError(
            "a post office without a mint's keys needs PENNYPOST_MINT_URLS: the mints whose stamps it takes"
        )
    seed = None
    if settings.role != "mint" and (settings.mints or await database.read(_mark) is not None):
        seed = await open_office_seed(database, settings, make=True)
    if apart and seed is not None:
        return Keyring.without_keysets(seed), seed
    beside = settings.role == "postoffice"
    return await (Keyring.open_existing if beside else Keyring.open)(database, settings), seed


async def open_office_seed(database: Database, settings: Settings, *, make: bool) -> bytes:
    """The 32 bytes that all outputs at mints elsewhere follow from; made, and noted in the database, at the first call.

    Raises SeedMismatch for another seed than the database knows, OfficeSeedLocked, ConfigurationError.
    """
    path, passphrase = settings.office_seed, settings.office_seed_passphrase.get_secret_value()
    known = await database.read(_mark)
    try:
        seed = read_seed(path, passphrase)
    except SeedLocked as error:
        raise OfficeSeedLocked(error.detail) from None
    if seed is None and (known is not None or not make):
        raise SeedMismatch("the file of the office's seed is missing")
    if seed is None:
        seed = make_seed(path, passphrase)
    mark = Keyring.without_keysets(seed).identity.hex()
    if known is None:
        await database.write(_note_mark, mark)
        # read back: another process may have been first
        known = await database.read(_mark)
    if known != mark:
        raise SeedMismatch("this is not the seed that the office's earnings follow from")
    return seed


def _has_keysets(connection: Connection) -> bool:
    return connection.execute(text("SELECT 1 FROM keysets LIMIT 1")).first() is not None


def _mark(connection: Connection) -> str | None:
    return connection.execute(select(office_state.c.value).where(office_state.c.name == TREASURY)).scalar()


def _note_mark(connection: Connection, mark: str) -> None:
    insert_ignore(connection, office_state, ("name", "value"), [(TREASURY, mark)], "name")
