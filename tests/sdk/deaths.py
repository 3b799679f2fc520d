"""Ways to die in the middle of something, numbered, so that a test can go through all of them.

Each ends the work at a step; the test then opens the same home again, as the next run of a killed program would.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, Literal

from pennypost import AsyncClient, Sandbox
from pennypost.protocol.errors import PennypostError
from pennypost.store import Store
from tests.sdk.meddler import Meddler

Way = Literal["request lost", "answer lost", "killed after a commit"]
WAYS: tuple[Way, ...] = ("request lost", "answer lost", "killed after a commit")
PATIENCE = 0.0
"""Seconds that a letter is tried again by a program about to die."""


class Killed(BaseException):
    """The process is gone."""


def kill_after_commit(monkeypatch: Any, number: int) -> None:
    """No transaction comes after the one with this number."""
    run = Store.run
    commits = 0

    async def counted(
        self: Store, work: Callable[Concatenate[sqlite3.Connection, ...], Any], *args: Any, **kwargs: Any
    ) -> Any:
        nonlocal commits
        commits += 1
        if commits > number + 1:
            raise Killed
        result = await run(self, work, *args, **kwargs)
        if commits > number:
            raise Killed
        return result

    monkeypatch.setattr(Store, "run", counted)


async def dies(
    office: Sandbox,
    home: Path,
    work: Callable[[AsyncClient], Awaitable[object]],
    way: Way,
    step: int,
    monkeypatch: Any,
    **options: Any,
) -> bool:
    """Do `work` in this home and die at a step; False when the work had no such step and was done."""
    meddler = Meddler(office.transport())
    with monkeypatch.context() as patch:
        if way == "request lost":
            meddler.lose_request = step
        elif way == "answer lost":
            meddler.lose_answer = step
        else:
            kill_after_commit(patch, step)
        client = AsyncClient(office, home, transport=meddler, **options)
        try:
            await work(client)
        except (Killed, PennypostError):
            return True
        finally:
            await client.office.close()
            await client._network.close()  # pyright: ignore[reportPrivateUsage]
            await client._store.close()  # pyright: ignore[reportPrivateUsage]
    return False
