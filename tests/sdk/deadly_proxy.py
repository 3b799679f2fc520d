"""A proxy between a program and a real server that kills the program, with SIGKILL, at a chosen message.

Every piece of data from the program is one step. "before": the piece never arrives. "after": it arrives, the server has
answered, and the answer is dropped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import Literal

When = Literal["before", "after"]


class DeadlyProxy:
    """Listens on a port of its own; passes everything on until it is told to kill."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.server_port = 0
        self._lock = threading.Condition()
        self._steps = 0
        self._plan: tuple[int, When] | None = None
        self._victim: int | None = None
        self.killed = False
        threading.Thread(target=self._listen, daemon=True).start()

    def plan(self, step: int, when: When) -> None:
        """Kill at this step of the next program."""
        with self._lock:
            self._steps, self._victim = 0, None
            self._plan = (step, when)

    def victim(self, pid: int) -> None:
        """Whom to kill."""
        with self._lock:
            self._victim, self.killed = pid, False
            self._lock.notify_all()

    def peace(self) -> None:
        """Kill nobody."""
        with self._lock:
            self._plan = self._victim = None
            self._lock.notify_all()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                inward, _ = self._listener.accept()
            except OSError:
                return
            outward = socket.create_connection(("127.0.0.1", self.server_port))
            link = _Link(self, inward, outward)
            threading.Thread(target=link.from_program, daemon=True).start()
            threading.Thread(target=link.from_server, daemon=True).start()

    def due(self, when: When) -> bool:
        with self._lock:
            if when == "before":
                self._steps += 1
            return self._plan == (self._steps - 1, when)

    def kill(self) -> None:
        with self._lock:
            # Whoever started the program may not have come yet to say which process it is.
            self._lock.wait_for(lambda: self._victim is not None or self._plan is None)
            if self._victim is not None and not self.killed:
                self.killed = True
                os.kill(self._victim, signal.SIGKILL)


class _Link:
    def __init__(self, proxy: DeadlyProxy, inward: socket.socket, outward: socket.socket) -> None:
        self._proxy, self._inward, self._outward = proxy, inward, outward
        self._deadly = False

    def from_program(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._inward.recv(1 << 20):
                if self._proxy.due("before"):
                    self._proxy.kill()
                    break
                self._deadly = self._proxy.due("after") or self._deadly
                self._outward.sendall(data)
        self._end()

    def from_server(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._outward.recv(1 << 20):
                if self._deadly:
                    self._proxy.kill()
                    break
                self._inward.sendall(data)
        self._end()

    def _end(self) -> None:
        for each in (self._inward, self._outward):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
