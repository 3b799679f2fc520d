"""The servers that are measured: ours on either database, and the two published ones beside it.

Each is a context manager that runs on loopback, with its files in a folder that is deleted afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.cpu import Meter
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.server import Server, clean_environment

PROJECT = Path(__file__).parents[2]
START_SECONDS = 60
UNLIMITED = {"RATE_LIMIT": "0", "READ_CPU": "64"}
"""All load comes from one address, which is what the limits are against; Nutshell's are off, too."""


@dataclass(frozen=True)
class Running:
    """A server under measurement."""

    port: int
    meter: Meter

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of this run alone, below .cache/bench: on a disk, not in memory, since durable writes are measured."""
    base = PROJECT / ".cache" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def office(
    home: Path, cluster: Postgres | None = None, database: str = "", settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """`pennypost up`, mint and post office, on a SQLite file below `home` or on a database of a PostgreSQL cluster, all
    of whose processes are counted. Entered again with the same home it goes on with what is there.
    """
    with Server(home, database_url=database, settings=UNLIMITED | dict(settings or {})) as server:
        yield from _ours(server, [server.pid, *([cluster.pid] if cluster else [])])
        server.stop()


def sqlite_file(home: Path) -> str:
    """Where `office` keeps its SQLite file."""
    return str(home / "data" / "pennypost.sqlite")


def _ours(server: Server, roots: Sequence[int]) -> Iterator[Running]:
    try:
        yield Running(server.port, Meter(roots))
    except BaseException:
        print(server.tail(), file=sys.stderr)
        raise


@contextmanager
def postgresql(programs: Path) -> Iterator[Postgres]:
    """A PostgreSQL of this run's own, with fsync on."""
    cluster = Postgres(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def nostr_relay_program() -> Path | None:
    """The installed relay (`make bench` installs it), or None."""
    found = PROJECT / ".cache" / "bench" / "venv" / "bin" / "nostr-relay"
    return found if found.exists() else None


@contextmanager
def nostr_relay(program: Path, home: Path, *, durable: bool = True) -> Iterator[Running]:
    """nostr-relay in its fastest form: LMDB with its default full sync, its own WebSocket server, one worker, no
    compression, no log line for each event; signatures checked and the validators it ships with.

    `durable=False` turns the sync off, to fill its store in reasonable time; it syncs once for each event otherwise.
    """
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    logs = {"version": 1, "handlers": {"console": {"class": "logging.StreamHandler", "level": "ERROR"}}}
    config = {
        "relay_name": "bench",
        "storage": {
            "class": "nostr_relay.storage.kv.LMDBStorage",
            "path": str(home / "nostr.lmdb"),
            "map_size": 8 << 30,
            "sync": durable,
            "validators": [
                f"nostr_relay.validators.{name}"
                for name in ("is_not_too_large", "is_signed", "is_recent", "is_not_hellthread")
            ],
        },
        "purple": {"host": "127.0.0.1", "port": port, "workers": 1, "disable_compression": True},
        "gunicorn": {"bind": f"127.0.0.1:{port}", "workers": 1},
        "authentication": {"enabled": False},
        "logging": {**logs, "root": {"level": "ERROR", "handlers": ["console"]}},
        "message_timeout": 1800,
        "max_limit": 6000,
    }
    path = home / "config.yaml"
    path.write_text(json.dumps(config))
    with _process([program, "-c", path, "serve", "--use-purple"], home, {}) as pid:
        _until_listening(port)
        yield Running(port, Meter([pid]))


def nutshell_python() -> Path | None:
    """The Python of Nutshell's environment (`make cashu`, or PENNYPOST_CASHU_PYTHON), or None."""
    named = os.environ.get("PENNYPOST_CASHU_PYTHON")
    found = Path(named) if named else PROJECT / ".cache" / "cashu" / "bin" / "python"
    return found if found.exists() else None


@contextmanager
def nutshell(python: Path, home: Path) -> Iterator[Running]:
    """Nutshell's mint on SQLite with a wallet that pays by itself, no fee, no rate limit, no log line a request."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
        "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
        "MINT_DATABASE": str(home / "mint"),
        "MINT_PRIVATE_KEY": secrets.token_hex(32),
        "MINT_LISTEN_HOST": "127.0.0.1",
        "MINT_LISTEN_PORT": str(port),
        "MINT_INPUT_FEE_PPK": "0",
        "MINT_RATE_LIMIT": "FALSE",
        "LOG_LEVEL": "WARNING",
        "CASHU_DIR": str(home),
        "HOME": str(home),
    }
    command = [python, "-m", "cashu.mint", "--port", str(port), "--host", "127.0.0.1"]
    with _process(command, home, settings) as pid:
        _until_answering(f"http://127.0.0.1:{port}/v1/keysets")
        yield Running(port, Meter([pid]))


@contextmanager
def _process(command: Sequence[str | Path], home: Path, settings: Mapping[str, str]) -> Iterator[int]:
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=clean_environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process.pid
    except TimeoutError:
        print((home / "log").read_text(errors="replace")[-4_000:], file=sys.stderr)
        raise
    finally:
        # its own group, made above: nothing of it may stay behind
        for sign, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(process.pid, sign)
                process.wait(seconds)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait()


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not listen") from None
            time.sleep(0.05)


def _until_answering(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.05)
