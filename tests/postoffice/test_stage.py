"""The stages of an event's path as metrics tell them: how many at once, how long they wait, who reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from pennypost_postoffice.post import Post
from pennypost_postoffice.stage import Stage
from tests.postoffice.house import House, wrap


def _values(house: House) -> dict[str, float]:
    """Samples without labels, by name without `pennypost_office_`."""
    lines = [
        line.split(" ")
        for line in house.office.metrics.text().decode().splitlines()
        if line[:1] != "#" and "{" not in line
    ]
    return {name.removeprefix("pennypost_office_"): float(value) for name, value in lines}


class Line:
    """A stage whose batches and waits are written down, on a clock that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.now = 0.0
        self.batches: list[list[Any]] = []
        self.waits: list[float] = []
        self.during: dict[int, Callable[[], object]] = {}
        """What happens while that batch is under way."""
        monkeypatch.setattr("pennypost_postoffice.stage.monotonic", lambda: self.now)
        self.stage = Stage(self._work, self._failed, most=most, waited=self.waits.append)

    async def _work(self, batch: list[Post]) -> None:
        self.batches.append(batch)
        self.now += 10
        self.during.pop(len(self.batches), lambda: None)()

    def _failed(self, batch: list[Post], error: Exception) -> None:
        raise error

    def put(self, count: int) -> list[Any]:
        posts: list[Any] = [SimpleNamespace(body=b"") for _ in range(count)]
        for post in posts:
            self.stage.put(post)
        return posts

    async def run(self, batches: int) -> None:
        task = asyncio.create_task(self.stage.run())
        async with asyncio.timeout(10):
            while len(self.batches) < batches:
                await asyncio.sleep(0)
        task.cancel()


async def test_the_first_of_an_empty_line_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch, most=100)
    line.put(1)
    line.now = 3.0
    line.put(4)
    await line.run(1)
    assert ([len(batch) for batch in line.batches], line.waits) == ([5], [3.0])


async def test_one_behind_others_is_timed_until_its_own_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch, most=2)
    line.put(5)
    line.now = 1.0
    # At 11 s, with three left: the next is behind them, and its batch is the second from here.
    line.during[1] = lambda: line.put(1)
    await line.run(3)
    assert ([len(batch) for batch in line.batches], line.waits) == ([2, 2, 2], [1.0, 10.0])


async def test_what_goes_again_is_not_timed_again_but_makes_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(monkeypatch, most=2)
    first = line.put(2)

    def again() -> None:
        line.put(1)
        line.stage.put_back(first)

    line.during[1] = again
    await line.run(3)
    assert ([len(batch) for batch in line.batches], line.waits) == ([2, 2, 1], [0.0, 10.0])


async def test_letters_are_in_the_metrics_of_both_stages(sqlite_house: House) -> None:
    house = sqlite_house
    before = _values(house)
    async with house.relay() as relay:
        await house.pay(relay, [wrap() for _ in range(3)])
    after = _values(house)
    grown = {name: after[name] - before[name] for name in after}
    assert (grown["verify_events_sum"], grown["verify_events_count"]) == (3, 3)
    assert (grown["verify_wait_seconds_count"], grown["commit_wait_seconds_count"]) == (3, 3)
    assert 0 < grown["commit_wait_seconds_sum"] < 60 and 0 < grown["verify_wait_seconds_sum"] < 60


async def test_reads_under_way_are_counted(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house = sqlite_house
    database, go = house.office.database, asyncio.Event()
    read = database.read

    async def slowly(*what: Any) -> Any:
        await go.wait()
        return await read(*what)

    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        monkeypatch.setattr(database, "read", slowly)
        asked = [asyncio.create_task(http.get(path)) for path in ("/v1/pages/0", "/v1/headers", "/v1/pages/1")]
        async with asyncio.timeout(10):
            while _values(house)["reads"] != 3:
                await asyncio.sleep(0.01)
        go.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert _values(house)["reads"] == 0
