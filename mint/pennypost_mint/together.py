"""Requests that come while a transaction is under way share the next one; so do reads.

    run(item) ─▶ waiting ─▶ work(connection, everything that waits) ─▶ an outcome for each
                   ▲                         │
                   └──── LATER, behind all ──┘ it shares a key with one of the batch

There is no timer: alone, a request starts its transaction at once. A round trip to PostgreSQL costs more than a
swap's statements, so this is most of its speed; SQLite saves what each work costs beside its statements.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from pennypost.protocol.errors import Overloaded, PennypostError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST_WAITING = 5_000
"""Past it the answer is Overloaded."""


class Later:
    """Outcome of an item that must wait for the next transaction."""


LATER = Later()

Work = Callable[[Connection, list[Item]], Sequence[Outcome | PennypostError | Later]]

Run = Callable[..., Awaitable[Sequence[Any]]]
"""`Database.write` or `Database.read`."""


class Together(Generic[Item, Outcome]):
    """Runs `work` over batches whose `weight` (rows, say) is at most `most`, one transaction at a time.

    `work` returns an outcome for each item, in order: a result, a PennypostError for its caller, or LATER, which it
    must never say of the first.
    """

    def __init__(self, run: Run, work: Work[Item, Outcome], weight: Callable[[Item], int], most: int) -> None:
        self._run = run
        self._work = work
        self._weight = weight
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, item: Item) -> Outcome:
        """The outcome of `item` after its commit; raises what `work` said, Overloaded or DatabaseUnavailable."""
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._work_off())
        # A caller who goes away does not undo what is under way: the answer can be had again.
        return await answer

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._batch())
        finally:
            self._task = None

    def _batch(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        batch = [self._waiting.popleft()]
        weight = self._weight(batch[0][0])
        while self._waiting and (weight := weight + self._weight(self._waiting[0][0])) <= self._most:
            batch.append(self._waiting.popleft())
        return batch

    async def _commit(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._run(self._work, [item for item, _ in batch])
        except PennypostError as error:
            for _, answer in batch:
                _fail(answer, error)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, who would else wait for ever
            # One of them broke the transaction for all: each alone finds out which.
            if len(batch) == 1:
                _fail(batch[0][1], error)
            else:
                for one in batch:
                    await self._commit([one])
        else:
            for (item, answer), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Later):
                    # Behind the others: whoever sends many that collide holds up nobody else.
                    self._waiting.append((item, answer))
                elif isinstance(outcome, PennypostError):
                    _fail(answer, outcome)
                elif not answer.done():
                    answer.set_result(outcome)


def _fail(answer: asyncio.Future[Outcome], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
