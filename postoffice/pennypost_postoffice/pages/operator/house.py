"""What the pages work on: this process's database, settings, mint and post office; what is dear is kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.api import Keyring, Mint, books, snapshot
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.marks import NAME

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

T = TypeVar("T")

FRESH = 30.0
"""Seconds that what is dear to find out is shown again, at least."""

PART = 20.0
"""It is found out in at most one part of so many of the time: the books of a large mint take seconds to read."""

ASKING = 3.0
"""Seconds that a page waits for the Lightning node."""


class Kept(Generic[T]):
    """The last result of something dear; of several who ask at once one has it found out."""

    def __init__(self, find: Callable[[], Awaitable[T]]) -> None:
        self._find = find
        self._turn = asyncio.Lock()
        self._found: tuple[T, int] | None = None
        self._until = 0.0

    async def get(self) -> tuple[T, int]:
        """It, and the Unix time it is of."""
        async with self._turn:
            if self._found is None or time.monotonic() >= self._until:
                began = time.monotonic()
                self._found = await self._find(), int(time.time())
                self._until = time.monotonic() + max(FRESH, PART * (time.monotonic() - began))
            return self._found

    def forget(self) -> None:
        """It was changed: found out anew next time."""
        self._until = 0.0


@dataclass
class House:
    """One process. `mint` and `office` are None where it serves none; `keyring` has no keysets apart from a mint."""

    database: Database
    settings: Callable[[], Settings]
    keyring: Keyring
    mint: Mint | None
    office: Office | None
    books: Kept[dict[str, Any]] = field(init=False)
    balance: Kept[int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.books = Kept(self._books)
        self.balance = Kept(self._balance)

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    @property
    def name(self) -> str:
        """The office's, as it says it."""
        marks = self.office.marks if self.office is not None else None
        return (marks or {}).get(NAME, self.settings().name)

    @property
    def play_money(self) -> bool:
        """Whether the stamps sold here are worth nothing."""
        return self.mint is not None and self.mint.lightning.play_money

    async def _books(self) -> dict[str, Any]:
        return books.report(await snapshot(self.database, books.books_on))

    async def _balance(self) -> int | None:
        if self.mint is None:
            return None
        try:
            async with asyncio.timeout(ASKING):
                return await self.mint.lightning.balance()
        except (LightningUnavailable, TimeoutError):
            return None
