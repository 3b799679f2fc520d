"""A server for tests that kill it hundreds of times."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.foreign import PROJECT
from tests.support.server import Server, clean_environment


class Forker:
    """The process that the servers are forks of."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forker"],
            cwd=PROJECT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, order: dict[str, Any]) -> Forked:
        """Starts one server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Forked(int(self._process.stdout.readline()))

    def end(self) -> None:
        """Ends it; servers that run go on."""
        self._process.communicate(timeout=30)


class Forked:
    """A grandchild with the part of subprocess.Popen that `Server` uses; how it ended is not known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            self._ended()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("server", timeout or 0)
            self._ended()
        return 0

    def send_signal(self, sign: int) -> None:
        """Nothing once it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, sign)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _ended(self) -> None:
        self.returncode = 0
        os.close(self._descriptor)


class Killable(Server):
    """A server that a request can kill at a numbered point (`points.py`), or anyone at any time."""

    def __init__(self, folder: Path, forker: Forker, *, numbered: bool = True, **options: Any) -> None:
        super().__init__(folder, **options)
        self._forker = forker
        self._points = folder / "points" if numbered else None
        self._clock = folder / "clock"

    def spawn(self) -> Any:
        return self._forker.fork(
            {
                "environment": self.environment,
                "folder": str(self.folder),
                "log": str(self.log),
                "points": str(self._points or ""),
                "clock": str(self._clock),
            }
        )

    @property
    def passed(self) -> list[str]:
        """The names of the points passed since it was last armed; the last one is where it died."""
        assert self._points is not None
        return self._points.read_text().splitlines()

    def put_clock(self, seconds: int) -> None:
        """Its clock goes wrong by so much; 0 puts it right."""
        # whole or not at all: the server may be reading
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._clock)

    @property
    def is_dead(self) -> bool:
        """Whether it is gone, by whatever hand."""
        return self._process is None or self._process.poll() is not None

    def bury(self) -> None:
        """Takes note that it has died; waits for it. Its children end by themselves."""
        assert self._process is not None
        self._process.wait(30)
        self._gone()

    def strike(self) -> None:
        """kill -9; `bury` it afterwards."""
        assert self._process is not None
        self._process.kill()
