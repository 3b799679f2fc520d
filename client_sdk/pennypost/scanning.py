"""Scanning headers for our letters: in a thread, and on all cores once a scan turns out to be long.

    headers ─▶ Scanning.scan ─▶ a thread with a Scanner a key ─▶ hits            the first LONG headers
                    └─ parts ─▶ worker processes (scan_worker.py) ─▶ hits        from then on, if there is a core for it

Threads gain nothing here: each ECDH hands its result to Python (see protocol/secp.py), so two threads take as long as
one (measured: 47 and 46 µs a header). Processes do. They are started beside the scan, by their own command line, for a
process forked or spawned by multiprocessing would run the caller's program again. The secret goes to them by a pipe
and nothing else; a worker that cannot be started, or fails, is done without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from struct import Struct
from typing import Final

from pennypost.protocol.headers import Header, encode_headers
from pennypost.protocol.stealth import Hit, Scanner

LONG: Final = 8_000
"""Headers of one reading after which more processes are worth their start: some 0.4 s of scanning."""
PART: Final = 500
"""Headers of one part, at least: some 20 ms."""
WORKERS: Final = 8

COUNT: Final = Struct(">I")
"""How a message to or from a worker begins: its length in bytes."""
READY: Final = b"ppscan1\n"
"""A worker's first word."""


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Scanning:
    """Scans for one person, with one or more scan secrets (32 bytes each). Close it."""

    def __init__(self, secrets: Sequence[bytes], spend: bytes, workers: int | None = None) -> None:
        """`workers`: processes at most; by default as many as there are cores, none where there is one."""
        self._secrets, self._spend = secrets, spend
        self._scanners = [Scanner(each, spend) for each in secrets]
        most = cores() if workers is None else workers
        self._most = min(most, WORKERS) if most > 1 and _can_start() else 0
        self._thread = ThreadPoolExecutor(1, "pennypost-scan")
        self._threads: ThreadPoolExecutor | None = None
        self._starting: list[Future[_Worker | None]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._scanned = 0

    async def scan(self, headers: Sequence[Header]) -> list[Hit]:
        """The headers that fit one of the keys, in their order."""
        self._scanned += len(headers)
        if self._most and self._threads is None and self._scanned >= LONG:
            self._threads = ThreadPoolExecutor(self._most, "pennypost-scan")
            self._starting = [self._threads.submit(self._start) for _ in range(self._most)]
        workers = [each.result() for each in self._starting if each.done()]
        able = [worker for worker in workers if worker is not None and not worker.broken]
        if self._threads is None or len(able) < 2 or len(headers) < 2 * PART:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._scan, headers)
        loop, size = asyncio.get_running_loop(), -(-len(headers) // len(able))
        parts = [headers[start : start + size] for start in range(0, len(headers), size)]
        found = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._by, able[n], part) for n, part in enumerate(parts))
        )
        return [hit for hits in found for hit in hits]

    def close(self) -> None:
        """End threads and processes; closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._thread.shutdown(wait=False)
        if self._threads is not None:
            # Whoever waits for an answer of theirs gets none, and ends; its pipes are closed behind it.
            for process in self._processes:
                process.kill()
            for _ in range(self._most):
                self._threads.submit(_reap, self._processes)
            self._threads.shutdown(wait=False)

    def _scan(self, headers: Sequence[Header]) -> list[Hit]:
        hits = [hit for scanner in self._scanners for hit in scanner.scan(headers)]
        return sorted(hits, key=lambda hit: hit.header.seq) if len(self._scanners) > 1 else hits

    def _start(self) -> _Worker | None:
        """A worker that has answered; None where there is none to be had."""
        command = [sys.executable, "-P", "-m", "pennypost.scan_worker"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            # Its own session: an interrupt from the keyboard is ours to handle.
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, start_new_session=True)
        except OSError:
            return None
        self._processes.append(process)
        if self._closed:
            process.kill()
        worker = _Worker(process)
        try:
            if worker.send(self._spend + b"".join(self._secrets)) == READY:
                return worker
        except (OSError, ValueError):
            pass
        process.kill()
        return None

    def _by(self, worker: _Worker, headers: Sequence[Header]) -> list[Hit]:
        """What a worker finds, looked at once more: its word is only which headers to look at."""
        found = worker.scan(headers)
        return self._scan(headers if found is None else [headers[place] for place in found])


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.broken = False

    def send(self, message: bytes) -> bytes:
        """One message and its answer. Raises OSError."""
        write, read = self._process.stdin, self._process.stdout
        assert write is not None and read is not None
        write.write(COUNT.pack(len(message)) + message)
        write.flush()
        start = read.read(COUNT.size)
        if len(start) < COUNT.size:
            raise OSError
        (size,) = COUNT.unpack(start)
        answer = read.read(size)
        if len(answer) < size:
            raise OSError
        return answer

    def scan(self, headers: Sequence[Header]) -> list[int] | None:
        """Places of the headers that fit, rising; None where the process is gone or cannot be told of them."""
        try:
            feed = encode_headers(headers[0].seq, headers)
        except ValueError:
            # Numbers further apart than a record says.
            return None
        try:
            answer = self.send(feed)
        except (OSError, ValueError):
            self.broken = True
            return None
        return [place for (place,) in COUNT.iter_unpack(answer) if place < len(headers)]


def _reap(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Close the pipes of processes that were killed, and take note of their end."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def _can_start() -> bool:
    """Whether the program of this process is a Python that can run another module: not so in a frozen application."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)
