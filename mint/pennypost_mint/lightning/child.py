"""A program of its own that answers questions: one JSON object a line, on its stdin and stdout.

    ask ─▶ start it, if it is not there ─▶ line in ─▶ line out, matched by id
           │ too late: it is killed       │ it ends: whoever waits hears so, and the next question starts it again

It gets a clean environment and an empty folder as its working directory and home. What it must know goes in by its
first line, so that no secret stands in its environment or arguments. It ends with us, for its stdin ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.runtime.logs import logger

START_SECONDS = 60.0
"""Longest until it says that it is ready: it may have to import much."""

ANSWER_SECONDS = 20.0
"""Longest for one answer; more than it gives itself, so past it something is wrong with the program."""

LINE = 64 * 1024
"""Bytes of a line."""

WAITING = 64
"""Most questions under way."""

BACK_OFF = (1.0, 60.0)
"""First and longest pause after a start that failed; it doubles in between."""

PASSED_ON = ("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of our environment: how to find libraries and certificates, and the proxies of `_environment`."""

log = logger("lightning")


class Child:
    """`command` run with `first` as its first line; its answers are JSON objects."""

    def __init__(self, command: Sequence[str | os.PathLike[str]], first: Mapping[str, object]) -> None:
        self._command, self._first = command, first
        self._running: _Running | None = None
        self._starting: asyncio.Task[_Running] | None = None
        self._pause, self._not_before = BACK_OFF[0], 0.0

    async def ask(self, order: Mapping[str, object]) -> dict[str, Any]:
        """Its answer. Raises LightningUnavailable when there is none in time, or the answer is that it failed."""
        running = await self._started()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await running.ask(order)
        except TimeoutError:
            log.warning("a Lightning backend does not answer; it is started anew")
            await running.end()
            raise LightningUnavailable from None
        if "error" in answer:
            raise LightningUnavailable
        return answer

    async def close(self) -> None:
        """Ends it; the next question starts it again."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._running is not None:
            await self._running.end()

    async def _started(self) -> _Running:
        if self._running is not None and self._running.alive:
            return self._running
        if self._starting is None:
            if time.monotonic() < self._not_before:
                raise LightningUnavailable
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._is_started)
        starting = self._starting
        try:
            # Several may wait for the same start, and one that gives up does not end it.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise LightningUnavailable from None
            raise

    def _is_started(self, task: asyncio.Task[_Running]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()

    async def _start(self) -> _Running:
        if self._running is not None:
            await self._running.end()
        try:
            self._running = await _Running.start(self._command, self._first)
        except LightningUnavailable:
            log.warning("a Lightning backend does not start", seconds_until_next=round(self._pause))
            self._not_before = time.monotonic() + self._pause * random.uniform(0.8, 1.2)
            self._pause = min(2 * self._pause, BACK_OFF[1])
            raise
        self._pause = BACK_OFF[0]
        return self._running


class _Running:
    """One process, `alive` until its stdout ended."""

    def __init__(self, process: asyncio.subprocess.Process, folder: str) -> None:
        self.alive = True
        self._process, self._folder = process, folder
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str | os.PathLike[str]], first: Mapping[str, object]) -> _Running:
        """A process that has said that it is ready. Raises LightningUnavailable."""
        folder = tempfile.mkdtemp(prefix="pennypost-")
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=_environment(folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=LINE,
            )
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise LightningUnavailable from None
        running = cls(process, folder)
        try:
            async with asyncio.timeout(START_SECONDS):
                await running.write(first)
                await running._ready
        except TimeoutError:
            await running.end()
            raise LightningUnavailable from None
        except BaseException:
            await running.end()
            raise
        return running

    async def ask(self, order: Mapping[str, object]) -> dict[str, Any]:
        if not self.alive or len(self._waiting) >= WAITING:
            raise LightningUnavailable
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self.write({**order, "id": number})
            return await answer
        finally:
            del self._waiting[number]
            # Nobody reads it any more, so it is read here.
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def write(self, line: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise LightningUnavailable from None

    async def end(self) -> None:
        """Kills it, if it is there, and deletes its folder."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._reader.cancel()
        await asyncio.wait({self._reader})
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._take(json.loads(line))
        except ValueError:
            # A line that is too long, or not JSON: it cannot be trusted any more.
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        finally:
            self.alive = False
            for answer in (*self._waiting.values(), self._ready):
                if not answer.done():
                    answer.set_exception(LightningUnavailable())
            # Read once, in case nobody waits for it.
            self._ready.exception()

    def _take(self, answer: Any) -> None:
        if not isinstance(answer, dict):
            raise ValueError
        if answer.get("ready") is True and not self._ready.done():
            self._ready.set_result(None)
            return
        number = answer.get("id")
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def _environment(folder: str) -> dict[str, str]:
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]
    passed_on = {name: os.environ[name] for name in (*PASSED_ON, *proxies) if name in os.environ}
    return passed_on | {"HOME": folder, "LANG": "C.UTF-8"}
