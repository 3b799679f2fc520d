"""A real nats-server on loopback; its program comes with the dev lock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.guard import Guard
from tests.support.ports import free_port
from tests.support.require import require

START_SECONDS = 60


class Nats:
    """One server on a port of its own; start and stop as often as a test needs."""

    def __init__(self) -> None:
        beside = Path(sys.executable).with_name("nats-server")
        self._program = str(beside) if beside.exists() else shutil.which("nats-server")
        require(self._program, "nats-server is not installed (make dev)")
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        assert self._program is not None
        self._process = subprocess.Popen(
            [self._program, "--addr", "127.0.0.1", "--port", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._guard = Guard("kill", "-KILL", str(self._process.pid))
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("nats-server did not start") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9; safe to repeat."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
