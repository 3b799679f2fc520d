"""Processes that do the cryptography, so that the event loop and the database writer never do.

    run(job, items) ─▶ waiting ─▶ socket pair ─▶ process: job(state, items) ─▶ results
                          ▲                          │
                          └──── given back once ◀────┘ it died

There are no timers: a process that becomes free takes its share of everything that waits, so batches
grow with the load and a single request is never delayed. A process that dies is started again, and what
it had in hand goes to the next one, once; a call that kills two processes is answered with an error.

The processes are started by `python -c`, not by `multiprocessing`: a caller's script is then not imported
a second time, and the state (the mint's keys) travels over a private socket, never by command line,
environment or file. They end when the socket closes, however their parent ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import pickle
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pennypost.protocol.errors import Overloaded, WorkerFailed

logger = logging.getLogger(__name__)

Job = Callable[[Any, list[Any]], list[Any]]

PREFETCH = 16
"""A busy process is handed a second batch when at least this many calls wait: it is then never idle while
the event loop is late, and small batches are still joined."""
BATCH_SECONDS = 60
"""A process that answers nothing for so long is killed. The largest batch takes a second or two."""
RESTART_SECONDS = (0.05, 5.0)
"""First and longest pause before a process that died is started again."""
START_SECONDS = 60

_LENGTH = struct.Struct("!I")
_COMMAND = "from pennypost_mint.workers import serve; serve({fd})"


@dataclass(slots=True, eq=False)
class _Call:
    job: int
    items: list[Any]
    answer: asyncio.Future[list[Any]]
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    """In place of a batch: what jobs are given from now on."""

    value: Any


class Workers:
    """A pool of processes that run named jobs over lists of items.

    `jobs` maps a name to a module-level function `job(state, items) -> results`, one result per item; `state`
    is any picklable value, sent to each process once, and again by `update`. With `processes=0` jobs run in the
    caller's thread: for tests and for the sandbox, where a second process costs more than it gains.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        state: Any = None,
        *,
        processes: int = 1,
        max_waiting: int = 20_000,
    ) -> None:
        self._jobs = list(jobs.values())
        self._names = {name: number for number, name in enumerate(jobs)}
        self._state = state
        self._max_waiting = max_waiting
        self._waiting: deque[_Call] = deque()
        self._waiting_items = 0
        self._feeding = False
        self._stopping = False
        self._restarts: set[asyncio.Task[None]] = set()
        self._workers = [_Worker(self) for _ in range(processes)]

    async def start(self) -> None:
        """Start the processes and wait until each can work; raises WorkerFailed when one cannot be started."""
        try:
            await asyncio.gather(*(worker.start() for worker in self._workers))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the processes; calls not answered by now raise Overloaded. May be called twice."""
        self._stopping = True
        for task in list(self._restarts):
            task.cancel()
        for worker in self._workers:
            worker.close()
        while self._waiting:
            self._fail(self._take(), Overloaded("shutting down"))

    async def run(self, job: str, items: list[Any]) -> list[Any]:
        """Results of `job` for `items`, in order.

        Raises Overloaded when more than `max_waiting` items wait, WorkerFailed when the job raised.
        """
        number = self._names[job]
        if not self._workers:
            return self._jobs[number](self._state, items)
        if self._stopping or self._waiting_items + len(items) > self._max_waiting:
            raise Overloaded()
        call = _Call(number, items, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._waiting_items += len(items)
        self._feed_soon()
        return await call.answer

    def update(self, state: Any) -> None:
        """Another state for every process: calls made from now on are calculated with it."""
        self._state = state
        for worker in self._workers:
            worker.update(state)

    @property
    def waiting(self) -> int:
        """Items that no process has taken yet."""
        return self._waiting_items

    @property
    def pids(self) -> list[int]:
        """Process ids of those that can work now."""
        return [worker.process.pid for worker in self._workers if worker.ready and worker.process]

    def _feed_soon(self) -> None:
        # One turn of the loop later, so that what this turn still brings goes into the same batch.
        if not self._feeding:
            self._feeding = True
            asyncio.get_running_loop().call_soon(self._feed)

    def _feed(self) -> None:
        self._feeding = False
        idle = [worker for worker in self._workers if worker.ready and not worker.batches]
        if not idle and len(self._waiting) >= PREFETCH:
            idle = [worker for worker in self._workers if worker.ready and len(worker.batches) == 1]
        for number, worker in enumerate(idle):
            share = -(-len(self._waiting) // (len(idle) - number))
            if batch := self._batch(share):
                worker.send(batch)

    def _batch(self, share: int) -> list[_Call]:
        batch: list[_Call] = []
        while self._waiting and len(batch) < share:
            # What was in hand when a process died goes alone: it may be the cause.
            if self._waiting[0].deaths and batch:
                break
            call = self._take()
            if call.answer.done():
                continue
            batch.append(call)
            if call.deaths:
                break
        return batch

    def _take(self) -> _Call:
        call = self._waiting.popleft()
        self._waiting_items -= len(call.items)
        return call

    def _fail(self, call: _Call, error: Exception) -> None:
        if not call.answer.done():
            call.answer.set_exception(error)

    def _died(self, worker: _Worker, in_hand: list[_Call]) -> None:
        for call in reversed(in_hand):
            call.deaths += 1
            if self._stopping:
                self._fail(call, Overloaded("shutting down"))
            elif call.deaths > 1:
                self._fail(call, WorkerFailed())
            else:
                self._waiting.appendleft(call)
                self._waiting_items += len(call.items)
        if not self._stopping:
            logger.warning("a crypto process ended with %d calls in hand and is started again", len(in_hand))
            task = asyncio.get_running_loop().create_task(self._restart(worker))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def _restart(self, worker: _Worker) -> None:
        pause, longest = RESTART_SECONDS
        while not self._stopping:
            await asyncio.sleep(pause)
            with contextlib.suppress(WorkerFailed):
                await worker.start()
                return
            logger.error("a crypto process could not be started")
            pause = min(2 * pause, longest)


class _Worker(asyncio.Protocol):
    """One process and the parent's end of its socket."""

    def __init__(self, pool: Workers) -> None:
        self.pool = pool
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.batches: deque[list[_Call]] = deque()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._started: asyncio.Future[None] | None = None
        self._limit: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = _spawn(theirs.fileno())
        ours.setblocking(False)
        self._buffer.clear()
        self._started = loop.create_future()
        transport, _ = await loop.create_connection(lambda: self, sock=ours)
        self._transport = transport
        _write(transport, sys.path)
        _write(transport, (self.pool._jobs, self.pool._state))
        try:
            await asyncio.wait_for(self._started, START_SECONDS)
        except TimeoutError:
            transport.abort()
            raise WorkerFailed() from None
        self.ready = True
        self.pool._feed_soon()

    def send(self, batch: list[_Call]) -> None:
        assert self._transport is not None
        self.batches.append(batch)
        _write(self._transport, [(call.job, call.items) for call in batch])
        if len(self.batches) == 1:
            self._watch()

    def update(self, state: Any) -> None:
        # What is read from a socket has its order: batches behind it meet the new state.
        if self._transport is not None:
            _write(self._transport, _State(state))

    def close(self) -> None:
        self.ready = False
        if self._transport is not None:
            self._transport.abort()
        self._reap()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            (length,) = _LENGTH.unpack_from(buffer)
            if len(buffer) < 4 + length:
                return
            message = pickle.loads(memoryview(buffer)[4 : 4 + length])
            del buffer[: 4 + length]
            self._answered(message)

    def connection_lost(self, exc: Exception | None) -> None:
        was_ready, self.ready = self.ready, False
        self._transport = None
        if self._limit:
            self._limit.cancel()
            self._limit = None
        self._reap()
        in_hand = [call for batch in self.batches for call in batch]
        self.batches.clear()
        if self._started and not self._started.done():
            self._started.set_exception(WorkerFailed())
        if was_ready or in_hand:
            self.pool._died(self, in_hand)

    def _answered(self, message: list[Any] | None) -> None:
        if message is None:
            if self._started and not self._started.done():
                self._started.set_result(None)
            return
        batch = self.batches.popleft()
        self._watch()
        # Fed before the callers are woken: the process works while they do.
        self.pool._feed()
        for call, (results, failure) in zip(batch, message, strict=True):
            if failure is not None:
                logger.error("a crypto job failed: %s", failure)
                self.pool._fail(call, WorkerFailed())
            elif not call.answer.done():
                call.answer.set_result(results)

    def _watch(self) -> None:
        if self._limit:
            self._limit.cancel()
            self._limit = None
        if self.batches and self._transport:
            self._limit = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._transport.abort)

    def _reap(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", _COMMAND.format(fd=fd)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[fd])


def _write(transport: asyncio.Transport, message: object) -> None:
    body = pickle.dumps(message, protocol=5)
    transport.write(_LENGTH.pack(len(body)) + body)


def serve(fd: int) -> None:
    """The child's loop: import path, jobs and state, then batches, until the parent closes the socket `fd`."""
    # Ctrl-C and a service manager's SIGTERM reach the whole group; the parent still drains and needs us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=fd) as connection, connection.makefile("rb") as incoming:
        path = _receive(incoming)
        if path is None:
            return
        sys.path[:] = path
        jobs, state = _receive(incoming)
        gc.freeze()
        gc.set_threshold(50_000)
        _send(connection, None)
        while (batch := _receive(incoming)) is not None:
            if isinstance(batch, _State):
                state = batch.value
                continue
            _send(connection, [_work(jobs[number], state, items) for number, items in batch])


def _work(job: Job, state: Any, items: list[Any]) -> tuple[list[Any] | None, str | None]:
    try:
        results = job(state, items)
    except Exception as error:  # noqa: BLE001 - told to the parent, which logs and answers it
        # Names and lines only: an exception's text could hold a key or a secret.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
    return results, None


def _receive(incoming: Any) -> Any:
    head = incoming.read(4)
    if len(head) < 4:
        return None
    body = incoming.read(_LENGTH.unpack(head)[0])
    return pickle.loads(body)


def _send(connection: socket.socket, message: object) -> None:
    body = pickle.dumps(message, protocol=5)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(_LENGTH.pack(len(body)) + body)
