"""The home: one directory with a person's keys, wallet and unfinished letters.

    home/                0700 when we make it
      identity           the nsec, one line, 0600
      wallet.seed        64 bytes as hex, 0600: every secret of the wallet derives from it (NUT-13)
      pennypost.db       wallet, outbox, place in the feeds, 0600 (see store.py)

A file of ours appears whole or not at all, and is never overwritten. Without a path everything stays in memory.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pennypost.protocol.errors import HomeUnusable

IDENTITY = "identity"
SEED = "wallet.seed"
DATABASE = "pennypost.db"


def default_home() -> Path:
    """`PENNYPOST_HOME`, else the platform's directory for a person's application data."""
    named = os.environ.get("PENNYPOST_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("pennypost", appauthor=False))


class Home:
    """Where one person's secrets and state live; `path=None` keeps them in memory."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self._memory: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Home({str(self.path) if self.path else 'memory'!r})"

    def read(self, name: str) -> str | None:
        """The text of a secret file, stripped, or None when there is none. Raises HomeUnusable."""
        if self.path is None:
            return self._memory.get(name)
        try:
            with open(self.path / name, encoding="ascii") as file:
                return file.read(4096).strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise HomeUnusable(f"{name} cannot be read") from None

    def create(self, name: str, text: str) -> bool:
        """Write a secret file once, 0600 and durable; False when it is already there. Raises HomeUnusable."""
        if self.path is None:
            return self._memory.setdefault(name, text) is text
        self.make()
        target = self.path / name
        draft = self.path / f".{name}.{secrets.token_hex(8)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "w", encoding="ascii") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                if not _put(draft, target):
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
            for each in (DATABASE, IDENTITY, SEED):
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
