"""An event loop in a thread of its own, for those who do not run one: the sync face and the sandbox."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

LOOK: Final = 1.0
"""Seconds between two looks whether the loop is still there, while waiting for it."""


class LoopThread:
    """A running event loop; `stop` ends it and its thread."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        # One of ours, because asyncio starts a thread to end its own, and at exit none can be started any more.
        self._executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix=name)
        self.loop.set_default_executor(self._executor)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            while tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(tasks))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self._executor.shutdown()
            self.loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it here; an interrupt here cancels it there."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this client was closed")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from its own loop: use AsyncClient there")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            while not concurrent.futures.wait({future}, LOOK).done:
                if not self._thread.is_alive():
                    raise RuntimeError("this client was closed meanwhile")
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine there without waiting; nothing when the loop has ended."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(work, self.loop)
        else:
            work.close()

    @property
    def running(self) -> bool:
        """Whether it can still be called."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Cancel what still runs and end the thread; stopping twice is harmless."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def finish(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a last coroutine there and stop, without waiting: for whoever was given up without being closed."""

        async def last() -> None:
            try:
                await work
            finally:
                self.loop.stop()

        if self._thread.is_alive():
            self.start(last())
        else:
            work.close()
