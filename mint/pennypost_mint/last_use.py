"""When this mint last took or made a stamp, noted in the data folder: `restore` knows by it a backup that is too old.

    commit ─▶ note (memory) ─▶ run: once in a while, a file replaced whole ─▶ last_use (for `restore`)

The database cannot tell: it is the one that was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

from pennypost_mint.runtime.logs import logger

EVERY = 2.0
"""Seconds between two writings: what a kill -9 can take from the note."""

NAME = "mint.last-use"

log = logger("mint")


class LastUse:
    """Keeps the note of one process; several in one folder keep the latest."""

    def __init__(self, folder: Path, mint: str) -> None:
        """`mint` is the id of its first keyset, by which a backup is known to be of the same mint."""
        self._folder = folder
        self._mint = mint
        self._at: float | None = None

    def note(self) -> None:
        """A transaction that took or made stamps was committed."""
        self._at = time.time()

    async def run(self) -> None:
        """Writes until it is cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(EVERY)
                await asyncio.to_thread(self._write)
        finally:
            self._write()

    def _write(self) -> None:
        at, self._at = self._at, None
        if at is None:
            return
        try:
            if at > (last_use(self._folder, self._mint) or 0):
                self._place(json.dumps({"mint": self._mint, "at": at}))
        except OSError:
            # Stamps are taken all the same: it is the operator's folder, and he is told.
            self._at = self._at or at
            log.error("the time of the last stamp cannot be written into the data folder")

    def _place(self, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._folder / f".{NAME}-{os.getpid()}"
        try:
            with temporary.open("w", encoding="ascii") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._folder / NAME)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def last_use(folder: Path, mint: str) -> float | None:
    """When a mint of this folder last took or made a stamp (Unix seconds); None where nothing is known of it."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="ascii"))
        return float(found["at"]) if found["mint"] == mint else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("the note of the last stamp in the data folder cannot be read")
        return None
