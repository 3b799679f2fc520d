"""The home: one directory with a person's keys, wallet and unfinished letters.

    home/                0700 when we make it
      identity           the nsec, one line, 0600
      wallet.seed        64 bytes as hex, 0600: every secret of the wallet derives from it (NUT-13)
      wallet.link        the Lightning wallet's link, where one was kept here, 0600
      pennypost.db       wallet, outbox, sessions, place in the feeds, 0600 (see store.py)
      keyring            of an encrypted home: the key of all of them, sealed by a passphrase, 0600 (see keyring.py)

A file of ours appears whole or not at all, and only keyring.py replaces one. Without a path everything stays in memory.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pennypost.protocol.errors import HomeHalfEncrypted, HomeInUse, HomeLocked, HomeUnusable, PassphraseUnusable

IDENTITY = "identity"
SEED = "wallet.seed"
LINK = "wallet.link"
DATABASE = "pennypost.db"
RING = "keyring"
SECRETS: Final = (IDENTITY, SEED, LINK)
"""Files that are encrypted in an encrypted home."""
MOST_BYTES: Final = 16 * 1024
_DRAFT: Final = re.compile(
    rf"\.(?:{'|'.join(map(re.escape, (*SECRETS, RING, DATABASE)))})\.[0-9a-f]{{16}}(?:-journal|-wal|-shm)?"
)


def default_home() -> Path:
    """`PENNYPOST_HOME`, else the platform's directory for a person's application data."""
    named = os.environ.get("PENNYPOST_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("pennypost", appauthor=False))


def passphrase_of_environment() -> str | None:
    """`PENNYPOST_PASSPHRASE`, or what is in the file that `PENNYPOST_PASSPHRASE_FILE` names; None without either.

    Raises PassphraseUnusable.
    """
    given = os.environ.get("PENNYPOST_PASSPHRASE")
    file = os.environ.get("PENNYPOST_PASSPHRASE_FILE")
    return given or (read_passphrase(file) if file else None)


def read_passphrase(file: str | os.PathLike[str]) -> str:
    """The passphrase in a file, without the white space around it. Raises PassphraseUnusable."""
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read(MOST_BYTES).strip()
    except (OSError, UnicodeDecodeError):
        raise PassphraseUnusable("its file cannot be read") from None


class Home:
    """Where one person's secrets and state live; `path=None` keeps them in memory."""

    def __init__(
        self, path: str | os.PathLike[str] | None, passphrase: str | Callable[[], str | None] | None = None
    ) -> None:
        """`passphrase` opens an encrypted home: the text, or what is called for it when it is first needed.

        Without one it is that of the environment (`passphrase_of_environment`).
        """
        self.path = None if path is None else Path(path)
        self._passphrase = passphrase or passphrase_of_environment
        self._memory: dict[str, str] = {}
        self._key: bytes | None = None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Home({str(self.path) if self.path else 'memory'!r})"

    @property
    def encrypted(self) -> bool:
        """Whether it needs a passphrase."""
        return self.path is not None and (self.path / RING).exists()

    def key(self) -> bytes | None:
        """The key of an encrypted home, None of one in clear. Raises HomeLocked, HomeUnusable, PassphraseUnusable."""
        with self._opening:
            text = self.text(RING) if self.path is not None else None
            if text is None:
                return None
            if self._key is None:
                from pennypost import keyring

                given = self._passphrase if isinstance(self._passphrase, str) else self._passphrase()
                if not given:
                    raise HomeLocked("no passphrase is set")
                self._key = keyring.open_ring(text, given)
            return self._key

    def read(self, name: str) -> str | None:
        """The text of a secret file, stripped and in clear, or None when there is none.

        Raises HomeLocked, HomeUnusable, PassphraseUnusable, HomeHalfEncrypted for one in clear in an encrypted home.
        """
        if self.path is None:
            return self._memory.get(name)
        text = self.text(name)
        if text is None:
            return None
        from pennypost import keyring

        if not keyring.is_sealed_file(text):
            if self.encrypted:
                raise HomeHalfEncrypted(name)
            return text
        key = self.key()
        if key is None:
            raise HomeUnusable(f"{name} is encrypted, and the key ring is gone")
        return keyring.open_file(key, name, text)

    def left_in_clear(self) -> list[str]:
        """Names of the files in clear of an encrypted home; none of any other. Raises HomeUnusable."""
        if self.path is None or not self.encrypted:
            return []
        from pennypost import database, keyring

        held = {name: self.text(name) for name in SECRETS}
        found = [name for name, text in held.items() if text is not None and not keyring.is_sealed_file(text)]
        try:
            plain = (self.path / DATABASE).exists() and database.is_plain(self.path / DATABASE)
        except OSError:
            raise HomeUnusable("its database cannot be opened") from None
        return [*found, DATABASE] if plain else found

    def text(self, name: str) -> str | None:
        """What is in a file, stripped, or None when there is none. Raises HomeUnusable."""
        if self.path is None:
            return self._memory.get(name)
        try:
            with open(self.path / name, encoding="ascii") as file:
                return file.read(MOST_BYTES).strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise HomeUnusable(f"{name} cannot be read") from None

    def create(self, name: str, text: str) -> bool:
        """Write a secret file once, 0600 and durable, encrypted where the home is; False when it is already there.

        Raises HomeLocked, HomeUnusable, PassphraseUnusable.
        """
        if self.path is None:
            return self._memory.setdefault(name, text) is text
        self.make()
        descriptor = self.hold()
        try:
            key = self.key()
            if key is not None:
                from pennypost import keyring

                text = keyring.seal_file(key, name, text)
            return self._write(name, text, _put)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one. Raises HomeUnusable."""
        if self.path is None:
            return self._memory.pop(name, None) is not None
        try:
            (self.path / name).unlink()
            self._sync()
        except FileNotFoundError:
            return False
        except OSError:
            raise HomeUnusable(f"{name} cannot be removed") from None
        return True

    # For keyring.py, which alone replaces what is there

    def replace(self, name: str, text: str) -> None:
        """Put a file in the place of the one that is there, whole and durable. Raises HomeUnusable."""
        self._write(name, text, _replace)

    def place(self, draft: Path, name: str) -> None:
        """Give a finished draft the name of the file that it replaces. Raises HomeUnusable."""
        assert self.path is not None
        try:
            os.replace(draft, self.path / name)
            self._sync()
        except OSError:
            raise HomeUnusable(f"{name} cannot be written") from None

    def draft(self, name: str) -> Path:
        """An empty file beside `name`, 0600. Raises HomeUnusable."""
        assert self.path is not None
        path = self.path / f".{name}.{secrets.token_hex(8)}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            raise HomeUnusable(f"{name} cannot be written") from None
        return path

    def sweep(self) -> None:
        """Remove drafts that somebody who was killed has left; for whoever is alone here. Raises HomeUnusable."""
        try:
            drafts = self._drafts()
            for draft in drafts:
                draft.unlink()
            if drafts:
                self._sync()
        except OSError:
            raise HomeUnusable("it cannot be written to") from None

    def tidy(self) -> None:
        """`sweep` where there is something to sweep and nobody else uses this home; else a later run does it.

        A draft of who was killed while decrypting is in clear. Raises HomeUnusable.
        """
        try:
            if not self._drafts():
                return
            descriptor = self.hold(alone=True)
        except (OSError, HomeUnusable):
            # In use, or without locks: whose the drafts are is not known.
            return
        try:
            self.sweep()
        finally:
            os.close(descriptor)

    def _drafts(self) -> list[Path]:
        assert self.path is not None
        return [each for each in self.path.iterdir() if _DRAFT.fullmatch(each.name)]

    @contextmanager
    def alone(self) -> Generator[None]:
        """While nobody else uses this home. Raises HomeInUse, HomeUnusable where there is no such home."""
        if self.path is None or not self.path.is_dir():
            raise HomeUnusable("there is nothing in it")
        descriptor = self.hold(alone=True)
        try:
            yield
        finally:
            os.close(descriptor)

    def hold(self, *, alone: bool = False) -> int:
        """Use this home until the descriptor is closed, as others may, or `alone`. Raises HomeInUse, HomeUnusable."""
        assert self.path is not None
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            raise HomeUnusable("it cannot be opened") from None
        try:
            _lock(descriptor, alone=alone)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _write(self, name: str, text: str, move: Callable[[Path, Path], bool]) -> bool:
        assert self.path is not None
        draft = self.draft(name)
        try:
            try:
                with open(draft, "w", encoding="ascii") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                if not move(draft, self.path / name):
                    return False
            finally:
                draft.unlink(missing_ok=True)
            self._sync()
        except OSError:
            raise HomeUnusable(f"{name} cannot be written") from None
        return True

    def make(self) -> None:
        """Make the directory (0700) when it is absent. Raises HomeUnusable."""
        if self.path is None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            raise HomeUnusable("it cannot be made") from None

    def database(self) -> Path | None:
        """The path of the SQLite file, made empty with mode 0600 when absent (SQLite would use the umask)."""
        if self.path is None:
            return None
        self.make()
        path = self.path / DATABASE
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            for each in (DATABASE, RING, *SECRETS):
                file = self.path / each
                if file.exists() and file.stat().st_mode & 0o077:
                    file.chmod(0o600)
        except OSError:
            raise HomeUnusable("its database cannot be opened") from None
        return path

    def _sync(self) -> None:
        assert self.path is not None
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put(draft: Path, target: Path) -> bool:
    """Give a finished file its name, unless there is one of that name."""
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links.
        if target.exists():
            return False
        draft.rename(target)
    return True


def _replace(draft: Path, target: Path) -> bool:
    os.replace(draft, target)
    return True


def _lock(descriptor: int, *, alone: bool) -> None:
    """Lock a directory against being encrypted, or decrypted, by another process meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BlockingIOError:
        raise HomeInUse from None
    except OSError:
        if alone:
            raise HomeUnusable("it cannot be locked: it lies on a file system without locks") from None
