"""A real server process: `pennypost up` on a free port, with files of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from tests.support.guard import Guard
from tests.support.ports import free_port

READY_SECONDS = 60
STOP_SECONDS = 30


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of ours and without proxies, and `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PENNYPOST_") and not name.lower().endswith("_proxy")
    }
    return kept | more


class Server:
    """One `pennypost up`. The port stays the same when it is started again.

    `program` is the command before `up` (the `pennypost` script of this environment unless given), `arguments`
    follow it, `settings` are environment variables without their `PENNYPOST_`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str = "",
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        program: Sequence[str | Path] = (),
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/"
        self.log = folder / f"server-{self.port}.log"
        self._command = [*(program or [Path(sys.executable).with_name("pennypost")]), "up", *arguments]
        values = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port), "PLAY_SETTLE_AFTER": "0"}
        values |= {"DATABASE_URL": database_url} | dict(settings or {})
        self.environment = clean_environment(
            **{f"PENNYPOST_{name}": value for name, value in values.items() if value}, PYTHONUNBUFFERED="1"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """The process id of `pennypost up` itself."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until `/readyz` answers 200; raises RuntimeError with the end of its log."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Starts it without waiting."""
        assert self._process is None, "already started"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = self.spawn()
        self._guard = Guard("kill", "-KILL", "--", f"-{self._process.pid}")

    def spawn(self) -> subprocess.Popen[bytes]:
        """The process, as the head of a session of its own."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Waits until `/readyz` answers 200; raises RuntimeError when the process ends or the time is over."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    code = self._process.returncode
                    self._gone()
                    raise RuntimeError(f"the server ended with {code}:\n{self.tail()}")
                try:
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.02)
        tail = self.tail()
        self.end()
        raise RuntimeError(f"the server was not ready after {seconds} s:\n{tail}")

    def kill(self) -> None:
        """kill -9 of `pennypost up` alone. Its children must end by themselves: RuntimeError if they do not."""
        assert self._process is not None
        children = _children(self.pid)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        self._gone()
        deadline = time.monotonic() + STOP_SECONDS
        while alive := [child for child in children if _runs(child)]:
            if time.monotonic() > deadline:
                for child in alive:
                    child.kill()
                raise RuntimeError(f"{len(alive)} child processes outlived a kill -9 of their parent")
            time.sleep(0.005)

    def stop(self) -> int:
        """SIGTERM, then waits: the exit code. RuntimeError when it does not end in time."""
        assert self._process is not None
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self.end()
            raise RuntimeError(f"the server did not stop in {STOP_SECONDS} s:\n{tail}") from None
        self._gone()
        return code

    def end(self) -> None:
        """Whatever its state: nothing of it runs afterwards."""
        if self._process is None:
            return
        family = _children(self.pid)
        self._process.kill()
        self._process.wait()
        self._gone()
        for child in family:
            if child.is_running():
                child.kill()

    def _gone(self) -> None:
        self._process = None
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    def tail(self, characters: int = 4_000) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _runs(process: psutil.Process) -> bool:
    """One that has ended may wait long for whoever adopted it to take note."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
