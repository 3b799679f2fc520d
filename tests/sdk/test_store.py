"""Transactions of the state file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pennypost import database
from pennypost.home import Home
from pennypost.orders import advance_on, counter_on
from pennypost.protocol.errors import HomeUnusable
from pennypost.store import MIGRATIONS, Store


async def test_what_raises_writes_nothing(tmp_path: Path) -> None:
    store = Store(Home(tmp_path))

    def fail_on(connection: sqlite3.Connection) -> None:
        advance_on(connection, "k", 7)
        raise ValueError

    with pytest.raises(ValueError):
        await store.run(fail_on)
    assert await store.run(counter_on, "k") == 0
    await store.close()


async def test_state_is_there_after_closing(tmp_path: Path) -> None:
    store = Store(Home(tmp_path))
    await store.run(advance_on, "k", 7)
    await store.run(advance_on, "k", 3)
    await store.close()
    await store.close()
    again = Store(Home(tmp_path))
    assert await again.run(counter_on, "k") == 7
    await again.close()


async def test_full_sync_and_wal(tmp_path: Path) -> None:
    store = Store(Home(tmp_path))

    def pragmas_on(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store.run(pragmas_on) == ["wal", 2, 1, 1]
    await store.close()


async def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "bob"))
    await store.close()
    assert not (tmp_path / "bob").exists()


async def test_two_processes_take_turns(tmp_path: Path) -> None:
    stores = [Store(Home(tmp_path)) for _ in range(2)]

    def count_on(connection: sqlite3.Connection) -> None:
        advance_on(connection, "k", counter_on(connection, "k") + 1)

    await asyncio.gather(*(each.run(count_on) for _ in range(50) for each in stores))
    assert await stores[0].run(counter_on, "k") == 100
    for each in stores:
        await each.close()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_new_file_that_another_process_is_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    home, key = Home(tmp_path), bytes(32) if encrypted else None
    monkeypatch.setattr(Store, "_key", lambda _: key)
    path = home.database()
    assert path is not None
    other, _ = database.connect(path, key)
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        other.execute("ROLLBACK")

    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
    store = Store(home)
    await store.run(advance_on, "k", 7)
    assert await store.run(counter_on, "k") == 7 and len(waits) == 1
    await store.close()
    other.close()


async def test_a_locked_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY", 0.05)
    store = Store(Home(tmp_path))
    await store.run(advance_on, "k", 1)
    other = sqlite3.connect(tmp_path / "pennypost.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HomeUnusable):
        await store.run(advance_on, "k", 2)
    other.execute("ROLLBACK")
    other.close()
    await store.run(advance_on, "k", 3)
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = Home(tmp_path).database()
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    store = Store(Home(tmp_path))
    with pytest.raises(HomeUnusable):
        await store.run(counter_on, "k")
    await store.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "pennypost.db").write_bytes(b"not a database at all" * 100)
    store = Store(Home(tmp_path))
    with pytest.raises(HomeUnusable):
        await store.run(counter_on, "k")
    await store.close()
