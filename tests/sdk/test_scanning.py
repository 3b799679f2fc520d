"""Long scans: the same hits in the same order by one thread, by processes, and when processes die."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from pennypost import scanning
from pennypost.protocol import secp
from pennypost.protocol.headers import Header, encode_headers
from pennypost.protocol.stealth import Address, Hit, derive
from pennypost.scan_worker import LIMIT
from pennypost.scanning import COUNT, READY, Scanning, _Worker

OWN, SCAN = b"\1" * 32, b"\2" * 32
SPEND = secp.xonly(OWN)
OURS = (3, 10, 499, 700, 1_199)


def headers(start: int = 0) -> list[Header]:
    """1,200 headers: ours for the npub, one of them (700) for the scan key, others' and one that is no key."""
    made: list[Header] = []
    for number in range(1_200):
        once = secrets.token_bytes(32)
        tag = secrets.token_bytes(4)
        if number in OURS:
            tag = derive(once, Address(SPEND, secp.xonly(SCAN) if number == 700 else SPEND))[1]
        key = b"\xff" * 32 if number == 5 else secp.xonly(once)
        made.append(Header(start + 2 * number, key, tag, 0, 0))
    return made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scan counts as long."""
    monkeypatch.setattr(scanning, "LONG", 0)


@pytest.fixture
def two() -> Iterator[Scanning]:
    made = Scanning([OWN, SCAN], SPEND, workers=2)
    yield made
    made.close()
    made.close()


def places(hits: list[Hit]) -> list[int]:
    return [hit.header.seq // 2 for hit in hits]


async def started(scan: Scanning) -> list[_Worker]:
    """The workers, once they have answered."""
    await scan.scan([])
    workers = [await asyncio.wrap_future(each) for each in scan._starting]
    assert all(worker is not None for worker in workers)
    return [worker for worker in workers if worker is not None]


async def test_processes_find_what_one_finds(soon: None, two: Scanning) -> None:
    feed, one = headers(), Scanning([OWN, SCAN], SPEND, workers=1)
    expected = await one.scan(feed)
    one.close()
    assert places(expected) == list(OURS) and not one._starting
    workers = await started(two)
    assert len(workers) == 2
    for _ in range(3):
        assert await two.scan(feed) == expected


async def test_a_short_scan_starts_nothing(two: Scanning) -> None:
    assert places(await two.scan(headers())) == list(OURS)
    assert two._threads is None and not two._starting


async def test_scanning_goes_on_while_they_start(soon: None, two: Scanning) -> None:
    assert places(await two.scan(headers())) == list(OURS)


@pytest.mark.parametrize("how_many", [1, 2])
async def test_a_worker_that_dies_loses_nothing(soon: None, two: Scanning, how_many: int) -> None:
    workers, feed = await started(two), headers()
    for worker in workers[:how_many]:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    for _ in range(2):
        assert places(await two.scan(feed)) == list(OURS)
    assert [worker.broken for worker in workers] == [True] * how_many + [False] * (2 - how_many)


async def test_where_none_can_be_started(soon: None, two: Scanning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    await two.scan([])
    assert [await asyncio.wrap_future(each) for each in two._starting] == [None, None]
    assert places(await two.scan(headers())) == list(OURS)


async def test_where_another_program_is_started(soon: None, two: Scanning, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.executable` of a Python inside another program is that program."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    await two.scan([])
    assert [await asyncio.wrap_future(each) for each in two._starting] == [None, None]


def test_a_frozen_application_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    made = Scanning([OWN], SPEND, workers=4)
    assert made._most == 0
    made.close()


async def test_a_program_that_never_answers_holds_up_nothing(
    soon: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(silent))
    made = Scanning([OWN], SPEND, workers=2)
    await made.scan([])
    assert places(await made.scan(headers())) == [number for number in OURS if number != 700]
    made.close()
    assert [await asyncio.wait_for(asyncio.wrap_future(each), 20) for each in made._starting] == [None, None]


async def test_they_end_with_the_scan(soon: None) -> None:
    made = Scanning([OWN], SPEND, workers=2)
    workers = await started(made)
    made.close()
    for worker in workers:
        assert worker._process.wait(20) != 0


async def test_the_secret_is_in_no_command_line(soon: None, two: Scanning) -> None:
    for worker in await started(two):
        arguments = [str(each) for each in worker._process.args]  # type: ignore[union-attr]
        assert not any(secret.hex() in each for each in arguments for secret in (OWN, SCAN))


@pytest.mark.parametrize("message", [b"", COUNT.pack(LIMIT + 1), COUNT.pack(64) + b"x" * 10])
def test_a_worker_ends_with_its_input(message: bytes) -> None:
    command = [sys.executable, "-P", "-m", "pennypost.scan_worker"]
    done = subprocess.run(command, input=message, capture_output=True, timeout=60, check=False)
    assert READY not in done.stdout or done.returncode == 0


async def test_numbers_far_apart_are_scanned_here(soon: None, two: Scanning) -> None:
    """A record's number is 32 bits beside the start; a feed that leaps further is scanned without the workers."""
    await started(two)
    feed = headers()
    far = [*feed[:-1], structs.replace(feed[-1], seq=2**40)]
    with pytest.raises(ValueError):
        encode_headers(0, far)
    found = await two.scan(far)
    assert [hit.header.seq for hit in found] == [6, 20, 998, 1_400, 2**40]
