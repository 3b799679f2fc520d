"""The SQLite file of a home: in clear by Python's own module, encrypted whole by SQLCipher.

A file in clear begins with SQLite's own words, an encrypted one with a random salt; so the file itself says which it
is, also between two steps of an encryption (keyring.py), and one in clear is not used with a key.
SQLCipher is an extra: pip install 'pennypost[encrypted]'.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from pennypost.protocol.errors import EncryptionMissing, HomeHalfEncrypted, HomeInUse, HomeUnusable

BUSY: Final = 30.0
"""Seconds to wait for another process that is writing."""
_PLAIN: Final = b"SQLite format 3\0"


def require() -> ModuleType:
    """SQLCipher's module, of the same interface as sqlite3. Raises EncryptionMissing."""
    try:
        from sqlcipher3 import dbapi2  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise EncryptionMissing from None
    return cast("ModuleType", dbapi2)


def is_plain(path: Path) -> bool:
    """Whether this file is a database in clear. An empty file is neither, and becomes what its first writer makes."""
    with open(path, "rb") as file:
        return file.read(len(_PLAIN)) == _PLAIN


def connect(path: Path | None, key: bytes | None) -> tuple[sqlite3.Connection, Any]:
    """A connection without transactions of its own, and the module whose errors it raises; None: in memory.

    With a `key` (32 bytes) the file is encrypted, or new. Raises EncryptionMissing, HomeUnusable, HomeHalfEncrypted for
    one in clear all the same; without a key the errors of sqlite3.
    """
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), sqlite3
    if key is None:
        return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False), sqlite3
    if is_plain(path):
        raise HomeHalfEncrypted(path.name)
    module: Any = require()
    try:
        connection = module.connect(str(path), timeout=BUSY, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    except module.Error:
        raise HomeUnusable("its database cannot be opened") from None
    return cast("sqlite3.Connection", connection), module


def write_ahead(connection: sqlite3.Connection, module: Any) -> None:
    """Have the file keep a write-ahead log, as it does from then on. Raises the errors of `module`."""
    deadline = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except module.OperationalError as error:
            # While another process makes this same new file SQLite does not wait, whatever the connection's timeout.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def copy(path: Path, old: bytes | None, target: Path, new: bytes | None) -> None:
    """A whole copy of the database under another key, on disk when this returns; None: in clear.

    Nobody else may use it meanwhile. Raises HomeInUse, HomeUnusable, EncryptionMissing.
    """
    module: Any = require()
    try:
        connection = module.connect(str(path), timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA cipher_log_level = NONE")
            if old is not None:
                connection.execute(f"PRAGMA key = \"x'{old.hex()}'\"")
            # Its log is brought into the file and removed: none may be left beside the file that takes its place.
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone() != ("delete",):
                raise HomeInUse
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            named = "" if new is None else f"x'{new.hex()}'"
            connection.execute("ATTACH ? AS target KEY ?", (str(target), named))
            connection.execute("SELECT sqlcipher_export('target')").fetchall()
            connection.execute(f"PRAGMA target.user_version = {int(version)}")
            if connection.execute("PRAGMA target.quick_check").fetchall() != [("ok",)]:
                raise HomeUnusable("its database could not be copied whole")
            connection.execute("DETACH target")
        finally:
            connection.close()
    except module.OperationalError as error:
        if "locked" in str(error):
            raise HomeInUse from None
        raise HomeUnusable("its database cannot be read or copied") from None
    except module.Error:
        raise HomeUnusable("its database cannot be read or copied") from None
    with open(target, "rb") as file:
        os.fsync(file.fileno())
