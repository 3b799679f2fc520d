"""The header feed: bytes of the wire contract, the same for everyone; waiting readers; pages; what expired is gone."""

from __future__ import annotations

import asyncio
import struct

import httpx
import pytest

from pennypost.protocol.errors import FeedFull
from pennypost.protocol.event import Event
from pennypost.protocol.headers import decode_headers
from pennypost_mint.runtime.limits import FEED_PAGE, FEED_WAIT, PAGE
from tests.postoffice.house import Author, House, wrap
from tests.support.relay import plain


def _http(house: House) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=30)


def _record(event: Event, offset: int) -> bytes:
    (vt,) = [tag[1] for tag in event.tags if tag[0] == "vt"]
    return struct.pack(">I", offset) + bytes.fromhex(event.pubkey) + bytes.fromhex(vt) + bytes([0, 1, 0, 0])


async def test_bytes(house: House) -> None:
    """8 bytes of start, then 44 a wrap with `vt`; other events take numbers and show nothing."""
    one, two = wrap(), wrap()
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, [one, Author().sign(1), wrap(vt=False), two])
        answer = await http.get("/v1/headers")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.content == struct.pack(">Q", 1) + _record(one, 0) + _record(two, 3)
        behind = await http.get("/v1/headers", params={"after": 1})
        assert behind.content == struct.pack(">Q", 4) + _record(two, 0)
        assert (await http.get("/v1/headers", params={"after": 0, "limit": 1})).content == answer.content[:52]
        assert (await http.get("/v1/headers", params={"after": 4})).content == struct.pack(">Q", 4)
        assert (await http.get("/v1/headers", params={"limit": 10**9})).content == answer.content


async def test_entity_tags(house: House) -> None:
    """Who has the bytes gets 304; other bytes, another tag."""
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, [wrap()])
        for path in ("/v1/headers", "/v1/pages/0"):
            first = await http.get(path)
            tag = {"if-none-match": first.headers["etag"]}
            assert (await http.get(path, headers=tag)).status_code == 304
            await house.pay(relay, [wrap()])
            assert (await http.get(path, headers=tag)).status_code == 200


async def test_entity_tags_end_with_what_they_stood_for(house: House) -> None:
    """Who kept the bytes is not told that they are good once something of them is deleted, or its time is over."""
    receiver = Author()
    doomed, soon, kept = wrap(receiver.pubkey), wrap(expires_in=600), wrap()
    paths = ("/v1/headers", "/v1/pages/0")
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, [doomed, soon, kept])

        async def asked(tags: list[dict[str, str]]) -> list[httpx.Response]:
            return [await http.get(path, headers=tag) for path, tag in zip(paths, tags, strict=True)]

        def tags_of(answers: list[httpx.Response]) -> list[dict[str, str]]:
            return [{"if-none-match": answer.headers["etag"]} for answer in answers]

        everything = tags_of(await asked([{}, {}]))
        assert [answer.status_code for answer in await asked(everything)] == [304, 304]
        assert (await relay.post(receiver.sign(5, ["e", doomed.id]))).accepted
        without = await asked(everything)
        assert [answer.status_code for answer in without] == [200, 200]
        assert bytes.fromhex(doomed.pubkey) not in without[0].content
        assert without[1].json() == [plain(soon), plain(kept)]
        assert [answer.status_code for answer in await asked(tags_of(without))] == [304, 304]
        # before any sweep
        house.pass_time(700)
        later = await asked(tags_of(without))
        assert [answer.status_code for answer in later] == [200, 200]
        assert bytes.fromhex(soon.pubkey) not in later[0].content
        assert later[1].json() == [plain(kept)]
        await house.office.retention.sweep()
        assert [answer.status_code for answer in await asked(tags_of(later))] == [304, 304]
        assert [answer.status_code for answer in await asked(everything)] == [200, 200]


async def test_pages(house: House) -> None:
    """64 consecutive numbers, in their order; the same wraps as the feed."""
    events = [wrap() for _ in range(PAGE + 3)]
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, events)
        first = await http.get("/v1/pages/0")
        assert first.headers["content-type"] == "application/json"
        assert first.json() == [plain(event) for event in events[: PAGE - 1]]
        assert (await http.get("/v1/pages/1")).json() == [plain(event) for event in events[PAGE - 1 :]]
        assert (await http.get("/v1/pages/2")).json() == []


BAD = ["-1", "", "x", "1.0", "1e3", "1_000", "+1", " 1", "١", "9" * 17, str(2**53), "0x1", "\x00"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("value", BAD)
async def test_bad_numbers(shared_house: House, value: str) -> None:
    async with _http(shared_house) as http:
        for name in ("after", "limit", "wait"):
            assert (await http.get("/v1/headers", params={name: value})).status_code == 400
        if value:
            assert (await http.get(f"/v1/pages/{value}" if value != "\x00" else "/v1/pages/%00")).status_code == 400


async def test_waiting(house: House) -> None:
    """A reader at the end is answered by the next wrap, or when his time is over; readers share one look."""
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, [wrap()])
        params = {"after": 1, "wait": FEED_WAIT}
        waiting = [asyncio.create_task(http.get("/v1/headers", params=params)) for _ in range(20)]
        while house.office.feed.waiters < 20:
            await asyncio.sleep(0.005)
        event = wrap()
        await house.pay(relay, [Author().sign(1), event])
        # `_http` gives up before their time is over
        answers = await asyncio.gather(*waiting)
        assert {answer.content for answer in answers} == {struct.pack(">Q", 3) + _record(event, 0)}
        assert house.office.feed.waiters == 0
        empty = await http.get("/v1/headers", params={"after": 3, "wait": 1})
        assert empty.content == struct.pack(">Q", 3)


async def test_waiters_are_bounded(sqlite_house: House) -> None:
    """Past the bound the one who waits longest is told so at once; what is there is given to everyone."""
    house = sqlite_house
    house.office.settings = house.settings.model_copy(update={"max_waiters": 2})
    async with _http(house) as http, house.relay() as relay:
        waiting: list[asyncio.Task[httpx.Response]] = []
        for number in (1, 2):
            waiting.append(asyncio.create_task(http.get("/v1/headers", params={"wait": 30})))
            while house.office.feed.waiters < number:
                await asyncio.sleep(0.005)
        waiting.append(asyncio.create_task(http.get("/v1/headers", params={"wait": 30})))
        refused = await waiting.pop(0)
        assert refused.status_code == 503 and "[feed-full]" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert (await http.get("/v1/headers")).content == struct.pack(">Q", 0)
        event = wrap()
        await house.pay(relay, [event])
        assert {(await task).content for task in waiting} == {struct.pack(">Q", 1) + _record(event, 0)}
        assert (await http.get("/v1/headers", params={"wait": 30})).status_code == 200
        assert house.office.feed.waiters == 0


async def test_who_has_few_waits_beside_who_has_many(sqlite_house: House) -> None:
    """One address takes all places: another one's readers wait all the same, and are not the next to go."""
    feed, house = sqlite_house.office.feed, sqlite_house
    house.office.settings = house.settings.model_copy(update={"max_waiters": 4})
    many = [asyncio.create_task(feed.headers(0, 10, 60, source=b"many")) for _ in range(4)]
    while feed.waiters < 4:
        await asyncio.sleep(0.005)
    few = asyncio.create_task(feed.headers(0, 10, 60, source=b"few"))
    many += [asyncio.create_task(feed.headers(0, 10, 60, source=b"many")) for _ in range(5)]
    async with asyncio.timeout(50):
        while sum(task.done() for task in many) < 6:
            await asyncio.sleep(0.005)
    assert not few.done() and feed.waiters == 4
    assert all(isinstance(task.exception(), FeedFull) for task in many if task.done())
    async with house.relay() as relay:
        await house.pay(relay, [wrap()])
    assert len(await few) > 8 and feed.waiters == 0
    await asyncio.gather(*many, return_exceptions=True)


async def test_no_places_to_wait(sqlite_house: House) -> None:
    sqlite_house.office.settings = sqlite_house.settings.model_copy(update={"max_waiters": 0})
    with pytest.raises(FeedFull):
        await sqlite_house.office.feed.headers(0, 10, 60)


async def test_who_goes_away_waits_no_more(sqlite_house: House) -> None:
    """A closed connection gives its place free at once, not when its time is over."""
    house = sqlite_house
    host = house.url.removeprefix("http://")
    for _ in range(3):
        sockets = [await asyncio.open_connection(*host.split(":")) for _ in range(10)]
        for _, writer in sockets:
            writer.write(f"GET /v1/headers?wait=60 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        async with asyncio.timeout(50):
            while house.office.feed.waiters < 10:
                await asyncio.sleep(0.005)
            for _, writer in sockets:
                writer.close()
            while house.office.feed.waiters:
                await asyncio.sleep(0.005)


async def test_more_than_are_woken_at_once(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Woken in slices, by two events shortly after each other: nobody is forgotten, and nothing is missed."""
    monkeypatch.setattr("pennypost_postoffice.feed.WAKE", 3)
    feed, house = sqlite_house.office.feed, sqlite_house
    async with house.relay() as relay:
        waiting = [asyncio.create_task(feed.headers(0, 10 + number % 2, 60)) for number in range(50)]
        while feed.waiters < 50:
            await asyncio.sleep(0.005)
        first, second = wrap(), wrap()
        await house.pay(relay, [first])
        late = asyncio.create_task(feed.headers(1, 10, 60))
        await house.pay(relay, [second])
        async with asyncio.timeout(50):
            answers = await asyncio.gather(*waiting)
            assert await late == struct.pack(">Q", 2) + _record(second, 0)
        assert all(answer.startswith(struct.pack(">Q", 1) + _record(first, 0)) for answer in answers)


async def test_deleted_and_expired_are_gone(house: House) -> None:
    receiver = Author()
    gone, soon, kept = wrap(receiver.pubkey), wrap(expires_in=600), wrap()
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, [gone, soon, kept])
        assert (await relay.post(receiver.sign(5, ["e", gone.id]))).accepted
        house.pass_time(700)
        _, headers = decode_headers((await http.get("/v1/headers")).content)
        assert [(header.seq, header.pubkey.hex()) for header in headers] == [(3, kept.pubkey)]
        assert (await http.get("/v1/pages/0")).json() == [plain(kept)]


async def test_the_feed_is_read_in_parts(house: House) -> None:
    """By its last number each: nothing twice, nothing missed."""
    events = [wrap() for _ in range(30)]
    found: list[str] = []
    async with house.relay() as relay, _http(house) as http:
        await house.pay(relay, events)
        after = 0
        while True:
            _, headers = decode_headers((await http.get(f"/v1/headers?after={after}&limit=7")).content)
            if not headers:
                break
            found += [header.pubkey.hex() for header in headers]
            after = headers[-1].seq
    assert found == [event.pubkey for event in events]
    assert len(found) < FEED_PAGE


async def test_information_document(sqlite_house: House) -> None:
    """NIP-11 with both forms of the fee and a JSON content type; a browser gets a page, whoever asks for it text."""
    house = sqlite_house
    async with _http(house) as http:
        answer = await http.get("/", headers={"accept": "application/nostr+json"})
        assert answer.headers["content-type"] == "application/nostr+json"
        assert answer.headers["access-control-allow-origin"] == "*"
        document = answer.json()
        assert document["limitation"]["payment_required"] is True
        assert document["fees"]["publication"][0]["amount"] == 1
        assert document["fees"]["publication"][0]["method"]["Cashu"]["mints"] == [house.url]
        assert document["fees"]["stamp"][0]["mints"] == [house.url]
        assert document["self"] == house.office.keyring.identity.hex()[2:]
        assert {1, 9, 11, 40, 42} <= set(document["supported_nips"])
        for kind in ("text/html", "text/plain"):
            page = await http.get("/", headers={"accept": kind})
            assert page.headers["content-type"].startswith(kind) and house.url in page.text
