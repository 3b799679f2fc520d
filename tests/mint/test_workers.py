"""The processes that do the cryptography: order, batches, failures, deaths, limits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.errors import Overloaded, WorkerFailed
from pennypost_mint.workers import Workers


def double(state: int, items: list[Any]) -> list[Any]:
    return [item * state for item in items]


def who(state: int, items: list[Any]) -> list[Any]:
    return [os.getpid() for _ in items]


def fail(state: int, items: list[Any]) -> list[Any]:
    raise ValueError("secret 0123")


def die_when_told(state: int, items: list[Any]) -> list[Any]:
    for path in items:
        if os.path.exists(path):
            os.unlink(path)
            os.kill(os.getpid(), signal.SIGKILL)
    return ["alive"] * len(items)


def die(state: int, items: list[Any]) -> list[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return items


def nap(state: int, items: list[Any]) -> list[Any]:
    for seconds in items:
        time.sleep(seconds)
    return items


def wait_at(state: int, items: list[Any]) -> list[Any]:
    """Until somebody writes into these named pipes."""
    return [Path(pipe).read_text() for pipe in items]


async def until(condition: Callable[[], bool], pause: float = 0.01) -> None:
    async with asyncio.timeout(30):
        for _ in iter(condition, True):
            await asyncio.sleep(pause)


JOBS = {
    "double": double,
    "who": who,
    "fail": fail,
    "die": die,
    "die_when_told": die_when_told,
    "nap": nap,
    "wait_at": wait_at,
}


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    pool = Workers(JOBS, 2, processes=2)
    await pool.start()
    yield pool
    await pool.stop()


async def test_results_come_back_in_order_to_whom_they_belong(workers: Workers) -> None:
    answers = await asyncio.gather(*(workers.run("double", [n, n + 1]) for n in range(500)))
    assert answers == [[2 * n, 2 * n + 2] for n in range(500)]
    assert workers.waiting == 0


async def test_two_processes_share_the_work_and_neither_is_ours(workers: Workers) -> None:
    pids = {pid for [pid] in await asyncio.gather(*(workers.run("who", [None]) for _ in range(64)))}
    assert pids == set(workers.pids)
    assert os.getpid() not in pids


async def test_a_job_that_raises_fails_alone_and_tells_nothing(workers: Workers, caplog: Any) -> None:
    bad, good = await asyncio.gather(workers.run("fail", [1]), workers.run("double", [b"ab"]), return_exceptions=True)
    assert isinstance(bad, WorkerFailed)
    assert "0123" not in str(bad) + caplog.text
    assert good == [b"abab"]


async def test_a_killed_process_is_replaced_and_its_work_done_again(workers: Workers, tmp_path: Any) -> None:
    switch = tmp_path / "die"
    switch.touch()
    before = set(workers.pids)
    answers = await asyncio.gather(
        workers.run("die_when_told", [str(switch)]), *(workers.run("double", [n]) for n in range(100))
    )
    assert answers == [["alive"], *([2 * n] for n in range(100))]
    await until(lambda: len(workers.pids) == 2)
    assert len(set(workers.pids) - before) == 1


async def test_killed_from_outside_while_idle(workers: Workers) -> None:
    before = set(workers.pids)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert await workers.run("double", [21]) == [42]
    await until(lambda: len(set(workers.pids) - before) == 2)
    assert not before & set(workers.pids)


async def test_what_kills_two_processes_is_answered_with_an_error(workers: Workers) -> None:
    bad, *good = await asyncio.gather(
        workers.run("die", [1]), *(workers.run("double", [n]) for n in range(20)), return_exceptions=True
    )
    assert isinstance(bad, WorkerFailed)
    assert good == [[2 * n] for n in range(20)]


async def test_ctrl_c_and_sigterm_do_not_end_a_process_that_its_parent_needs(workers: Workers) -> None:
    before = sorted(workers.pids)
    for pid in before:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert await workers.run("double", [1]) == [2]
    assert sorted(workers.pids) == before


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    pool = Workers(JOBS, 2, processes=1, max_waiting=3)
    await pool.start()
    try:
        os.mkfifo(gate := tmp_path / "gate")
        first = asyncio.ensure_future(pool.run("wait_at", [str(gate)]))
        await asyncio.sleep(0)
        await until(lambda: pool.waiting == 0, 0)
        rest = [asyncio.ensure_future(pool.run("double", [n])) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await pool.run("double", [9])
        await asyncio.to_thread(gate.write_text, "go on")
        assert await asyncio.gather(*rest) == [[0], [2], [4]]
        assert await first == ["go on"]
    finally:
        await pool.stop()


async def test_stopping_answers_everybody() -> None:
    pool = Workers(JOBS, 2, processes=1)
    await pool.start()
    calls = [asyncio.ensure_future(pool.run("nap", [30])) for _ in range(3)]
    await asyncio.sleep(0.05)
    await pool.stop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Overloaded] * 3
    with pytest.raises(Overloaded):
        await pool.run("double", [1])
    await pool.stop()


async def test_a_cancelled_caller_costs_nothing() -> None:
    pool = Workers(JOBS, 2, processes=1)
    await pool.start()
    try:
        busy = asyncio.ensure_future(pool.run("nap", [0.1]))
        await asyncio.sleep(0)
        given_up = asyncio.ensure_future(pool.run("nap", [30]))
        await asyncio.sleep(0)
        given_up.cancel()
        await busy
        assert await pool.run("double", [1]) == [2]
    finally:
        await pool.stop()


async def test_a_message_larger_than_the_socket_buffer(workers: Workers) -> None:
    blob = bytes(range(256)) * 8_000
    [answer] = await workers.run("double", [blob])
    assert answer == blob * 2


async def test_without_processes_the_caller_works() -> None:
    pool = Workers(JOBS, 3, processes=0)
    await pool.start()
    assert await pool.run("who", [None]) == [os.getpid()]
    assert await pool.run("double", [1, 2]) == [3, 6]
    await pool.stop()


async def test_another_state_holds_for_every_later_call_and_for_processes_started_again() -> None:
    pool = Workers(JOBS, 2, processes=2)
    await pool.start()
    try:
        before = asyncio.ensure_future(pool.run("double", [10]))
        await asyncio.sleep(0)
        pool.update(3)
        results = await asyncio.gather(*(pool.run("double", [10]) for _ in range(40)))
        assert set(map(tuple, results)) == {(30,)}
        assert await before in ([20], [30])
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        assert await pool.run("double", [10]) == [30]
    finally:
        await pool.stop()


async def test_another_state_without_processes() -> None:
    pool = Workers(JOBS, 2, processes=0)
    pool.update(5)
    assert await pool.run("double", [2]) == [10]
