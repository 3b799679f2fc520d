"""CPU time of whole server processes: every child, its crypto processes, all of PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import psutil

TICK = 0.25
"""Seconds between two looks at a server that should have nothing left to do."""
QUIET = 0.004
"""CPU seconds within a TICK at which a server counts as idle: timers of a server that waits need less than half."""


class Meter:
    """Counts user and system seconds of the process trees below `roots`.

    What children used that have ended is in their parent's account, so a process that comes and goes in between
    (a PostgreSQL connection, a replaced crypto process) is counted too.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self.roots = tuple(roots)

    def processes(self) -> list[psutil.Process]:
        """All that run now."""
        found: list[psutil.Process] = []
        for pid in self.roots:
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
        return found

    def seconds(self) -> float:
        """CPU seconds used so far."""
        return sum(self.by_process().values())

    def by_process(self) -> dict[int, float]:
        """CPU seconds used so far, by process id."""
        used: dict[int, float] = {}
        for process in self.processes():
            try:
                used[process.pid] = sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return used

    def wait_idle(self, limit: float = 120.0) -> float:
        """Waits until the server does nothing: the Unix time at which it was last busy, or of the call."""
        busy_until = time.time()
        deadline = busy_until + limit
        before = self._activity()
        quiet = 0
        while quiet < 2:
            if time.time() > deadline:
                raise TimeoutError(f"the server was still busy after {limit} s")
            time.sleep(TICK)
            now = self._activity()
            if now - before > QUIET:
                busy_until, quiet = time.time(), 0
            else:
                quiet += 1
            before = now
        return busy_until

    def _activity(self) -> float:
        """CPU seconds of all threads that live, finer than the 0.01 s of the account where Linux shows them."""
        total = 0.0
        for process in self.processes():
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                try:
                    total += int(file.read_text().split()[0]) / 1e9
                except OSError:  # a thread that has just ended
                    continue
        return total or self.seconds()
