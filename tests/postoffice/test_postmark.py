"""Postmarks: signed by the key the office publishes, the same for ever, before the OK, and over HTTP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.errors import Overloaded, WorkerFailed
from pennypost.protocol.event import Event
from pennypost.protocol.postmark import is_genuine, read_postmark
from pennypost_mint.runtime.database import Database
from pennypost_postoffice.postmark import statements_on
from tests.postoffice.house import Author, House, open_house, wrap
from tests.support.relay import Answer, Relay, plain

ASKS = {"postmark": True}


async def posted(relay: Relay, event: Event, token: str | None, options: Any) -> tuple[Answer, list[list[Any]]]:
    """The answer, and the frames of this event that came before it."""
    while not relay.frames.empty():
        relay.frames.get_nowait()
    answer = await relay.post(event, token, options)
    frames: list[list[Any]] = []
    while not relay.frames.empty():
        frames.append(relay.frames.get_nowait())
    return answer, [frame for frame in frames if frame[0] in ("POSTMARK", "CHANGE")]


async def identity(house: House) -> str:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        return (await http.get("/", headers={"accept": "application/nostr+json"})).json()["self"]


async def test_postmark(house: House) -> None:
    """What it says is true, who signs is who the relay information names, and it comes before the OK."""
    event = wrap(expires_in=3_600)
    began = int(time.time())
    async with house.relay() as relay:
        answer, frames = await posted(relay, event, house.purse.token(house.purse.proof(4)), ASKS)
        assert answer.accepted
        ((label, identifier, given),) = frames
        assert (label, identifier) == ("POSTMARK", event.id)
        postmark = read_postmark(given)
        assert is_genuine(postmark, event.id)
        assert postmark.office == await identity(house)
        assert began <= postmark.stored_at <= time.time()
        assert answer.message == f"accepted: until {postmark.keep_until}"
        assert postmark.sat == 4
        again, repeated = await posted(relay, event, None, ASKS)
        assert again.duplicate and repeated == frames
        assert (await posted(relay, event, None, None))[1] == []


async def test_with_change(house: House) -> None:
    """CHANGE and POSTMARK, then the OK; what came back was not paid. A repeat: the same of both."""
    event, r = wrap(), (7).to_bytes(32)
    blanks = [
        {"id": house.purse.keyring.active().id, "B_": bdhke.blind(bytes([number]) * 32, r).hex()} for number in (1, 2)
    ]
    options = ASKS | {"change": blanks}
    async with house.relay() as relay:
        _, frames = await posted(relay, event, house.purse.token(house.purse.proof(4)), options)
        assert [frame[0] for frame in frames] == ["CHANGE", "POSTMARK"]
        assert sum(signature["amount"] for signature in frames[0][2]) == 3
        assert read_postmark(frames[1][2]).sat == 1
        again, repeated = await posted(relay, event, None, options)
        assert again.accepted and repeated[1] == frames[1]


async def test_only_who_asks_at_once_has_one(house: House) -> None:
    """Nobody can have rows written for events that are there already."""
    event = wrap()
    async with house.relay() as relay:
        await house.pay(relay, [event])
        answer, frames = await posted(relay, event, house.purse.token(), ASKS)
        assert answer.duplicate and frames == []
        for asked in (False, None):
            options = {"postmark": asked} if asked is not None else {}
            assert (await posted(relay, wrap(), house.purse.token(), options))[1] == []
        assert await house.office.database.read(statements_on, [bytes.fromhex(event.id)]) == {}


async def test_of_a_free_event(house: House) -> None:
    async with house.relay() as relay:
        event = Author().sign(10_002)
        answer, frames = await posted(relay, event, None, ASKS)
        assert answer.accepted and read_postmark(frames[0][2]).sat == 0


@pytest.mark.parametrize("asked", [1, 0, "true", [], {}, 1.5])
async def test_what_is_neither_true_nor_false(sqlite_house: House, asked: Any) -> None:
    house, proof = sqlite_house, sqlite_house.purse.proof()
    async with house.relay() as relay:
        answer, frames = await posted(relay, wrap(), house.purse.token(proof), {"postmark": asked})
        assert (answer.accepted, answer.code, frames) == (False, "invalid-input", [])
    assert await house.spent(proof) == [False]


async def test_over_a_restart(address: str, tmp_path: Path) -> None:
    """The same key, and the same postmark."""
    event = wrap()
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        _, first = await posted(relay, event, house.purse.token(), ASKS)
        key = await identity(house)
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        assert await identity(house) == key
        answer, second = await posted(relay, event, None, ASKS)
    assert answer.duplicate and second == first


async def test_http(house: House) -> None:
    """In the JSON answer, for who sends the frame; the same for a repeat, also on a connection."""
    event, r = wrap(), (9).to_bytes(32)
    blank = {"id": house.purse.keyring.active().id, "B_": bdhke.blind(b"3" * 32, r).hex()}
    token = house.purse.token(house.purse.proof(2))
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        asked = ["EVENT", plain(event), token, ASKS | {"change": [blank]}]
        answer = (await http.post("/v1/events", json=asked)).json()
        assert answer["accepted"] and is_genuine(read_postmark(answer["postmark"]), event.id)
        assert [signature["amount"] for signature in answer["change"]] == [1]
        asked[2] = None
        again = (await http.post("/v1/events", json=asked)).json()
        assert again["message"].startswith("duplicate:")
        assert (again["postmark"], again["change"]) == (answer["postmark"], answer["change"])
        header = {"x-cashu": house.purse.token()}
        other = await http.post("/v1/events", json=["EVENT", plain(wrap()), None, ASKS], headers=header)
        assert "postmark" in other.json() and "change" not in other.json()
        for body in (["REQ", "x", {}], ["EVENT"], [], ["EVENT", plain(event), None, None, None]):
            assert (await http.post("/v1/events", json=body)).status_code == 400
    async with house.relay() as relay:
        assert (await posted(relay, event, None, ASKS))[1] == [["POSTMARK", event.id, answer["postmark"]]]


async def test_many_at_once(house: House) -> None:
    events = [wrap() for _ in range(60)]
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event, house.purse.token(), ASKS) for event in events))
        assert all(answer.accepted for answer in answers)
        marks: dict[str, Any] = {}
        while not relay.frames.empty():
            frame = relay.frames.get_nowait()
            if frame[0] == "POSTMARK":
                marks[frame[1]] = frame[2]
        assert set(marks) == {event.id for event in events}
        assert all(is_genuine(read_postmark(mark), identifier) for identifier, mark in marks.items())


async def test_busy_and_broken_workers(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too busy: the postmark comes later. Broken: the OK comes without it, for the event is stored."""
    house = sqlite_house
    genuine, failures = house.office.workers.run, [Overloaded(), Overloaded()]

    async def run(job: str, items: list[Any]) -> list[Any]:
        if job == "office.sign_postmarks" and failures:
            raise failures.pop()
        return await genuine(job, items)

    monkeypatch.setattr(house.office.workers, "run", run)
    monkeypatch.setattr("pennypost_postoffice.postmark.PAUSE", 0.01)
    async with house.relay() as relay:
        assert [frame[0] for frame in (await posted(relay, wrap(), house.purse.token(), ASKS))[1]] == ["POSTMARK"]
        failures.append(WorkerFailed())  # type: ignore[arg-type]
        answer, frames = await posted(relay, wrap(), house.purse.token(), ASKS)
        assert answer.accepted and frames == []


async def test_statements_end_with_their_events(house: House) -> None:
    """By expiry and by deletion."""
    author = Author()
    over, deleted = wrap(expires_in=600), author.sign(1)
    database: Database = house.office.database
    ids = [bytes.fromhex(event.id) for event in (over, deleted)]
    async with house.relay() as relay:
        for event in (over, deleted):
            await posted(relay, event, house.purse.token(), ASKS)
        assert set(await database.read(statements_on, ids)) == set(ids)
        assert (await relay.post(author.sign(5, ["e", deleted.id]))).accepted
        assert set(await database.read(statements_on, ids)) == {ids[0]}
        house.pass_time(700)
        await house.office.retention.sweep()
        assert await database.read(statements_on, ids) == {}
