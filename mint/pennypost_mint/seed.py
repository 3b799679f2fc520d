"""The seed in its file: 64 hex digits, or the same sealed with a passphrase.

    passphrase ──▶ sealed (pennypost.protocol) ──▶ one line of JSON

A file is replaced whole or not at all, is on disk before anything is signed with it, and only its owner reads it.
Nothing here says, logs or raises what is in it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from pennypost.protocol import sealed
from pennypost.protocol.errors import ConfigurationError, InvalidPayload, SeedLocked
from pennypost.protocol.sealed import LOG_N, is_sealed

__all__ = ["is_sealed", "make_seed", "read_seed", "read_text", "seal", "unseal", "write_seed"]

SEED_BYTES = 32
NAME = "pennypost_seed"
MOST_BYTES = 4_096
"""Of a seed file: a sealed one has some 300."""


def read_seed(path: Path, passphrase: str) -> bytes | None:
    """The 32 bytes in the file, None where there is no file.

    A sealed file needs its passphrase, and a passphrase a sealed file: whoever sets one believes that it protects.
    Raises SeedLocked, and ConfigurationError for a file that cannot be read or understood.
    """
    text = read_text(path)
    if text is None:
        return None
    if is_sealed(text):
        if not passphrase:
            raise SeedLocked("no passphrase is set")
        return unseal(text, passphrase)
    if passphrase:
        raise SeedLocked("a passphrase is set, but the file is not encrypted (`seed encrypt` does that)")
    return _hex_seed(text)


def make_seed(path: Path, passphrase: str) -> bytes:
    """A new seed in a new file, sealed where a passphrase is given; the one that is there when another was faster.

    Raises SeedLocked, ConfigurationError.
    """
    seed = secrets.token_bytes(SEED_BYTES)
    text = seal(seed, passphrase) if passphrase else seed.hex()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            _place(path, text, os.link)
    except OSError:
        raise ConfigurationError("the seed file cannot be written") from None
    found = read_seed(path, passphrase)
    if found is None:
        raise ConfigurationError("the seed file cannot be read")
    return found


def write_seed(path: Path, text: str) -> None:
    """Replaces the file by this text, sealed or not. Raises ConfigurationError; then it is as it was."""
    try:
        _place(path, text, os.replace)
    except OSError:
        raise ConfigurationError("the seed file cannot be written") from None


def read_text(path: Path) -> str | None:
    """What the seed file holds, None where there is none. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("the seed file cannot be read") from None


def seal(seed: bytes, passphrase: str) -> str:
    """The text of a seed file that opens with the passphrase alone."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    return sealed.seal(seed, passphrase, name=NAME, salt=salt, nonce=nonce, log_n=LOG_N)


def unseal(text: str, passphrase: str) -> bytes:
    """The seed in the text of a sealed file. Raises SeedLocked for a wrong passphrase, ConfigurationError."""
    try:
        seed = sealed.unseal(text, passphrase, name=NAME, size=SEED_BYTES)
    except InvalidPayload:
        raise ConfigurationError("the seed file is no sealed seed of this program") from None
    if seed is None:
        raise SeedLocked("wrong passphrase, or the file is damaged")
    return seed


def _hex_seed(text: str) -> bytes:
    if len(text) != 2 * SEED_BYTES or not set(text) <= set("0123456789abcdef"):
        raise ConfigurationError(f"the seed file does not hold {2 * SEED_BYTES} lower-case hex digits")
    return bytes.fromhex(text)


def _place(path: Path, text: str, move: Any) -> None:
    """Writes a file beside `path` and moves it there: a crash leaves the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(prefix=".seed-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
