"""Reads over HTTP: counted for their source, refused under pressure beyond the floor, bounded at the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from pennypost_mint.runtime.limits import FLOOR_BURST, LITTLE_CPU
from pennypost_postoffice.holds import is_released_on
from pennypost_postoffice.office import Office
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_holds import Sale
from tests.support.relay import plain

READS = ["/v1/headers", "/v1/headers?after=0&wait=1", "/v1/pages/0", "/"]
PAGE = {"origin": "https://client.example"}
FAR = {"x-forwarded-for": "198.51.100.7"}


@pytest_asyncio.fixture
async def http(sqlite_house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sqlite_house.url, headers=PAGE, trust_env=False, timeout=30) as client:
        yield client


def _press(house: House) -> bytes:
    """Our own source took all of what there is."""
    source = house.office.sources.of({"client": ("127.0.0.1", 1), "headers": []})
    house.office.shares.charge(source, None, 100_000_000)
    return source


def _trust(house: House) -> None:
    house.service.load = lambda: house.settings.model_copy(update={"trusted_proxies": "127.0.0.0/8"})
    house.service.reload()


@pytest.mark.parametrize("path", READS)
async def test_a_read_counts_for_its_source(sqlite_house: House, http: httpx.AsyncClient, path: str) -> None:
    """So that what is read over HTTP is missing for the same source's connections, and not for others."""
    shares = sqlite_house.office.shares
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [wrap()])
    before = shares._total
    assert (await http.get(path)).status_code == 200
    assert shares._total > before + 200
    assert len(shares._taken) == 1


@pytest.mark.parametrize("path", READS)
async def test_under_pressure_a_source_over_its_share_has_a_floor(
    sqlite_house: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """429 with Retry-After and its code; another source is served at once, and everybody later."""
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [wrap()])
    _trust(sqlite_house)
    # on clocks that stand: neither does the floor give more meanwhile nor is the pressure forgotten
    monkeypatch.setattr(sqlite_house.office.shares, "_clock", lambda: sqlite_house.office.shares._at)
    monkeypatch.setattr(sqlite_house.office.shares._floor, "_clock", lambda: 0.0)
    sqlite_house.office.shares._floor.take(_press(sqlite_house), FLOOR_BURST - 5)
    answers = [await http.get(path) for _ in range(6)]
    refused = answers.pop()
    assert refused.status_code == 429 and {answer.status_code for answer in answers} == {200}
    assert refused.headers["retry-after"] == "1" and "[rate-limited]" in refused.json()["detail"]
    assert refused.headers["access-control-allow-origin"] == "*"
    assert (await http.get(path, headers=FAR)).status_code == 200
    sqlite_house.office.shares.change(10**12)
    assert (await http.get(path)).status_code == 200


async def test_a_letter_is_slowed_and_never_refused(sqlite_house: House, http: httpx.AsyncClient) -> None:
    house = sqlite_house
    _press(house)
    house.office.shares._floor.take(_press(house), FLOOR_BURST)
    answer = await http.post("/v1/events", json=plain(Author().sign(1)), headers={"x-cashu": house.purse.token()})
    assert answer.status_code == 200 and answer.json()["accepted"]


async def test_a_refused_event_counts(sqlite_house: House, http: httpx.AsyncClient) -> None:
    shares = sqlite_house.office.shares
    for event, status in ((plain(Author().sign(1)), 402), ({"id": "x"}, 400)):
        before = shares._total
        assert (await http.post("/v1/events", json=event)).status_code == status
        assert shares._total > before + 100


async def test_reads_at_the_database_are_bounded(
    sqlite_house: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is slow: 503, Retry-After and the code; who waits for news is not counted."""
    monkeypatch.setattr("pennypost_postoffice.feed.FEED_READS", 3)
    database = sqlite_house.office.database
    gate, real = asyncio.Event(), database.read

    async def slow(work, *arguments):  # type: ignore[no-untyped-def]
        if work.__name__ in ("headers_on", "page_on"):
            await gate.wait()
        return await real(work, *arguments)

    waiting = asyncio.create_task(http.get("/v1/headers", params={"wait": 30}))
    async with asyncio.timeout(10):
        while sqlite_house.office.feed.waiters < 1:
            await asyncio.sleep(0.005)
    monkeypatch.setattr(database, "read", slow)
    reads = [asyncio.create_task(http.get(f"/v1/pages/{number}")) for number in range(3)]
    async with asyncio.timeout(10):
        while sqlite_house.office.feed._reading < 3:
            await asyncio.sleep(0.005)
    for path in ("/v1/pages/9", "/v1/headers?after=7"):
        refused = await http.get(path)
        assert refused.status_code == 503 and "[overloaded]" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
    gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*reads)] == [200] * 3
    assert (await http.get("/v1/pages/9")).status_code == 200
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [wrap()])
    assert len((await waiting).content) == 8 + 44


async def test_quiet_readers_are_never_held_back(sqlite_house: House) -> None:
    """Reads below LITTLE_CPU do not make a source stand out among others."""
    house = sqlite_house
    _press(house)
    other = house.office.sources.of({"client": ("198.51.100.7", 1), "headers": []})
    house.office.shares.charge(other, None, LITTLE_CPU)
    assert all(house.office.shares.admits(other) for _ in range(1_000))


# --- what waits


def _from(address: str) -> dict[str, str]:
    return {"x-forwarded-for": address}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def _waiting(house: House) -> int:
    found = house.service.metrics.registry.get_sample_value("pennypost_office_requests_waiting")
    assert found is not None
    return int(found)


def _assert_overloaded(answer: httpx.Response) -> None:
    assert answer.status_code == 503 and "[overloaded]" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0


async def test_releases_that_wait_are_bounded(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends most gives way, one request for each that comes: 503 with Retry-After. Nobody else does."""
    monkeypatch.setattr("pennypost_postoffice.reads.RELEASES_AT_ONCE", 2)
    monkeypatch.setattr("pennypost_postoffice.reads.RELEASES_WAITING", 3)
    sales, paid = [Sale() for _ in range(6)], Sale()
    async with (
        open_house(tmp_path, address, trusted_proxies="127.0.0.0/8") as house,
        httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=30) as http,
    ):
        async with house.relay() as relay:
            await house.pay(relay, [paid.letter()])
        gate, real = asyncio.Event(), house.office.database.read
        at_the_database: list[bytes] = []

        async def slow(work, *arguments):  # type: ignore[no-untyped-def]
            if work is is_released_on:
                at_the_database.append(arguments[0])
                await gate.wait()
            return await real(work, *arguments)

        monkeypatch.setattr(house.office.database, "read", slow)

        def ask(sale: Sale, source: str) -> asyncio.Task[httpx.Response]:
            body = {"x": sale.x.hex(), "id": sale.id.hex()}
            return asyncio.create_task(http.post(f"/v1/holds/{sale.hold.hex()}", json=body, headers=_from(source)))

        flood: list[asyncio.Task[httpx.Response]] = []
        for count, sale in enumerate(sales, 1):
            flood.append(ask(sale, "198.51.100.7"))
            # one after the other, so that it is known who waits longest
            done = max(0, count - 5)
            await _until(lambda: sum(each.done() for each in flood) == done)  # noqa: B023
            await _until(lambda: len(at_the_database) + _waiting(house) + done == count)  # noqa: B023
        payer = ask(paid, "203.0.113.9")
        await _until(lambda: sum(each.done() for each in flood) == 2)
        assert [each.done() for each in flood] == [False, False, True, True, False, False] and not payer.done()
        gate.set()
        assert (await payer).json()["message"] == "accepted: released 1"
        answers = await asyncio.gather(*flood)
        for number in (2, 3):
            _assert_overloaded(answers[number])
        assert [answers[number].status_code for number in (0, 1, 4, 5)] == [404] * 4
        assert len(at_the_database) == 5
        # afterwards there are as many places as before
        again = await asyncio.gather(*(ask(paid, "203.0.113.9") for _ in range(4)))
        assert {each.json()["message"] for each in again} == {"duplicate: already released"}


async def test_events_that_wait_for_a_full_office_are_bounded(
    sqlite_house: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = sqlite_house
    monkeypatch.setattr("pennypost_postoffice.reads.EVENTS_WAITING", 2)
    monkeypatch.setattr(Office, "is_full", True)
    house.office.room.clear()

    def post() -> asyncio.Task[httpx.Response]:
        token = {"x-cashu": house.purse.token()}
        return asyncio.create_task(http.post("/v1/events", json=plain(Author().sign(1)), headers=token))

    posts = [post() for _ in range(5)]
    await _until(lambda: sum(each.done() for each in posts) == 3)
    refused = [await each for each in posts if each.done()]
    for answer in refused:
        _assert_overloaded(answer)
    monkeypatch.undo()
    house.office.room.set()
    taken = [answer for answer in await asyncio.gather(*posts) if answer not in refused]
    assert [answer.json()["accepted"] for answer in taken] == [True, True]
