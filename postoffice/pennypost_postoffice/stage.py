"""A stage of the path: whatever waits is taken at once, so batches grow with the load and nobody waits for a timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from pennypost_postoffice.post import Post

Work = Callable[[list[Post]], Awaitable[None]]
Failed = Callable[[list[Post], Exception], None]
Waited = Callable[[float], None]


class Stage:
    """Calls `work` with batches of at most `most` events and `most_bytes` of bodies, `at_once` batches side by side.

    `work` must answer or pass on every event of its batch; when it raises, `failed` answers them, and the stage goes
    on, for without it nobody is answered any more. The queue needs no bound of its own: every event in it
    counts in `Office.in_flight`, which stops the sockets.

    `waited` is told how many seconds an event waited for its batch: one event at a time is timed, so that the others
    cost nothing, and the next when that one's batch is taken.
    """

    def __init__(
        self,
        work: Work,
        failed: Failed,
        *,
        most: int,
        most_bytes: int = 1 << 62,
        at_once: int = 1,
        waited: Waited | None = None,
    ) -> None:
        self._work, self._failed = work, failed
        self._most, self._most_bytes, self._at_once = most, most_bytes, at_once
        self._waited = waited
        self._timed: float | None = None
        self._before = 0
        self._queue: deque[Post] = deque()
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Events that no batch has taken yet."""
        return len(self._queue)

    def put(self, post: Post) -> None:
        """Adds an event behind those that wait."""
        if self._timed is None:
            self._timed, self._before = monotonic(), len(self._queue)
        self._queue.append(post)
        self._wake.set()

    def put_back(self, posts: Sequence[Post]) -> None:
        """Adds events before those that wait, in their order; they are not timed again."""
        self._before += len(posts)
        self._queue.extendleft(reversed(posts))
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                while not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                if self._at_once == 1:
                    await self._do(self._take())
                    continue
                if len(running) >= self._at_once:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._do(self._take()))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()

    async def _do(self, batch: list[Post]) -> None:
        try:
            await self._work(batch)
        except Exception as error:  # noqa: BLE001  (nothing is hidden: it is logged, and everyone concerned is told)
            self._failed(batch, error)

    def _take(self) -> list[Post]:
        batch = self._next()
        self._before -= len(batch)
        if self._timed is not None and self._before < 0:
            if self._waited is not None:
                self._waited(monotonic() - self._timed)
            self._timed = None
        return batch

    def _next(self) -> list[Post]:
        queue = self._queue
        if len(queue) <= self._most and self._most_bytes > 1 << 60:
            batch = list(queue)
            queue.clear()
            return batch
        batch, size = [], 0
        while queue and len(batch) < self._most and (not batch or size + len(queue[0].body) <= self._most_bytes):
            post = queue.popleft()
            size += len(post.body)
            batch.append(post)
        return batch
