"""A PostgreSQL of the tests' own: initdb in a new folder, an unprivileged user, loopback, fsync on."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from pennypost_migrations import upgrade
from tests.support.guard import Guard
from tests.support.ports import free_port

START_SECONDS = 60
CLEAN = 'kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"; sleep 2; rm -rf "$0"'
"""Run when the test process is gone; $0 is the cluster's folder."""


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`: of the PATH, or Debian's newest; None without them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _unprivileged() -> dict[str, Any]:
    """Arguments for subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """One cluster; `database()` makes a database in it. Start and stop as often as a test needs."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        self._home = Path(tempfile.mkdtemp(prefix="pennypost-postgres-"))
        self._password = secrets.token_hex(16)
        self._as = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = Guard("sh", "-c", CLEAN, str(self._home))
        self._template = ""
        self.port = free_port()
        self._initdb()

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(command, cwd=self._home, env={"LC_ALL": "C.UTF-8"}, capture_output=True, **self._as)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[-2_000:])

    def _initdb(self) -> None:
        password = self._home / "password"
        password.write_text(self._password)
        if self._as:
            for path in (self._home, password):
                os.chown(path, self._as["user"], self._as["group"])
        self._run(
            self._programs / "initdb",
            f"--pgdata={self._home / 'data'}",
            "--username=pennypost",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        )

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "200",
        }
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self._home / "data"),
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                cwd=self._home,
                env={"LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except (OSError, asyncpg.PostgresError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._home / "log").read_text(errors="replace")[-2_000:]) from None
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        """Ends it in order: connections are closed and transactions under way rolled back."""
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(START_SECONDS)
            self._process = None

    def crash(self) -> None:
        """Ends it as a power cut would: what is not in its log on disk is gone, the next start recovers."""
        self.stop(signal.SIGQUIT)

    def freeze(self) -> None:
        """None of its processes does anything; connections stay open."""
        for process in self._family():
            # one may just have ended
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """It goes on; safe to repeat."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _family(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def remove(self) -> None:
        """Ends it and deletes its files."""
        self.stop()
        self._guard.dismiss()
        shutil.rmtree(self._home, ignore_errors=True)

    def execute(self, *statements: str) -> None:
        """Runs statements in the maintenance database."""

        async def run() -> None:
            connection = await asyncpg.connect(self.address("postgres", driver="postgresql"), timeout=10)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def address(self, name: str, driver: str = "postgresql+asyncpg") -> str:
        """The SQLAlchemy address of a database."""
        return f"{driver}://pennypost:{self._password}@127.0.0.1:{self.port}/{name}"

    def empty(self) -> str:
        """Makes an empty database: its address."""
        return self._create()

    def database(self) -> str:
        """Makes a database with the newest schema and nothing in it: its address."""
        if not self._template:
            address = self.empty()
            asyncio.run(upgrade(address))
            self._template = address.rpartition("/")[2]
        return self._create(f"TEMPLATE {self._template}")

    def _create(self, how: str = "") -> str:
        name = f"test_{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name} {how}")
        return self.address(name)

    def database_in(self, folder: Path) -> str:
        """Makes an empty database whose tables lie in an empty folder (a tablespace): its address."""
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        name = f"test_{secrets.token_hex(8)}"
        self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'", f"CREATE DATABASE {name} TABLESPACE {name}")
        return self.address(name)

    def drop(self, address: str) -> None:
        """Drops a database, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {address.rpartition('/')[2]} WITH (FORCE)")
