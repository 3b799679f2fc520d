"""Several places read as one: every office of a home, in every mode, its letters or the posts of its channels.

    Inbox of office 1 ─┐
    Inbox of office 2 ─┼─▶ each letter once, as they come        each has its own place in its own feed
    PlainInbox …      ─┘       └─ a place that fails is said and left out, the others go on

A letter that two offices have is one letter: its event is the same. It counts as read at each of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pennypost.nip17 import merged
from pennypost.protocol.errors import PennypostError

if TYPE_CHECKING:
    from pennypost.channels.reader import Post
    from pennypost.mail import Mail

T = TypeVar("T", bound="Mail | Post")


async def together(sources: Sequence[tuple[str, AsyncGenerator[T]]], tell: Callable[[str], None]) -> AsyncGenerator[T]:
    """The letters of all `sources` (the address of an office, and what it has), each once. `tell` is told, in a
    sentence, which office failed.

    Raises the failure of the first where all failed.
    """
    failures: list[PennypostError] = []
    shown: set[str] = set()
    letters = merged(*(_guarded(url, source, failures, tell) for url, source in sources))
    async with aclosing(letters):
        async for mail in letters:
            if mail.id not in shown:
                shown.add(mail.id)
                yield mail
    if failures and len(failures) == len(sources):
        raise failures[0]


async def _guarded(
    url: str, source: AsyncGenerator[T], failures: list[PennypostError], tell: Callable[[str], None]
) -> AsyncGenerator[T]:
    try:
        async with aclosing(source):
            async for mail in source:
                yield replace(mail, office=url)
    except PennypostError as error:
        failures.append(error)
        tell(f"{url}: {error}. Its letters come when it is read again.")
