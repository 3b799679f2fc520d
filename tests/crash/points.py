"""Numbered points at which a server may die: between any two of its steps, from the request to the answer.

    request ▶ calculation asked ▶ calculation done ▶ each statement ▶ COMMIT ▶ after it ▶ answer's head ▶ its body

A request with the header `x-die-at: N` starts counting; the process kills itself (SIGKILL) at the Nth point from there,
whichever task or thread comes to it. What was passed is written to a file, so that a test knows the points by name.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from pennypost_mint.api import Workers
from pennypost_mint.lightning import play
from pennypost_postoffice.app import Service
from pennypost_postoffice.foreign.line import Line

ARM = b"x-die-at"
NEVER = 1_000_000_000


class Points:
    """The count of one process. While it is not armed, nothing is counted."""

    def __init__(self, passed: Path) -> None:
        self._passed = passed
        self._left = 0
        self._lock = threading.Lock()
        self._file: int | None = None

    def arm(self, number: int) -> None:
        """Dies at the point with this number; 0 calls it off."""
        with self._lock:
            self._left = number
            if self._file is not None:
                os.close(self._file)
            self._file = os.open(self._passed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if number else None

    def pass_by(self, name: str) -> None:
        """One point."""
        with self._lock:
            if not self._left or self._file is None:
                return
            self._left -= 1
            os.write(self._file, f"{name}\n".encode())
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def _short(statement: str) -> str:
    return " ".join(statement.split())[:60]


def install(passed: Path) -> None:
    """Puts the points into this process; call once, before the server is opened."""
    points = Points(passed)

    @event.listens_for(Engine, "connect")
    def trace(raw: Any, _record: Any) -> None:
        if isinstance(raw, sqlite3.Connection):
            raw.set_trace_callback(lambda statement: points.pass_by(_short(statement)))

    @event.listens_for(Engine, "before_cursor_execute")
    def before(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if connection.dialect.name != "sqlite":
            points.pass_by(_short(statement))

    commit = DefaultDialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        points.pass_by("before COMMIT")
        commit(self, connection)
        points.pass_by("after COMMIT")

    DefaultDialect.do_commit = do_commit
    run = Workers.run

    async def calculated(self: Workers, job: str, items: list[Any]) -> list[Any]:
        points.pass_by(f"{job} asked")
        results = await run(self, job, items)
        points.pass_by(f"{job} done")
        return results

    Workers.run = calculated
    ask = Line._send

    async def asked(self: Line, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        points.pass_by(f"before {method} {path} elsewhere")
        answer = await ask(self, method, path, body)
        points.pass_by(f"after {method} {path} elsewhere")
        return answer

    Line._send = asked
    asgi = Service.asgi

    async def armed(self: Service, scope: Any, receive: Any, send: Any) -> None:
        for name, value in scope.get("headers", ()):
            if name == ARM:
                points.arm(int(value))
        points.pass_by(f"request {scope.get('path')}")

        async def sent(message: Any) -> None:
            points.pass_by(f"before {message['type']}")
            await send(message)
            points.pass_by(f"after {message['type']}")

        await asgi(self, scope, receive, sent if scope["type"] == "http" else send)

    Service.asgi = armed
    # the play node's looks into its book would come between the steps of a request
    play.TICK = 3_600
