"""What is sent again ends in OK:true and one spent stamp: after a lost OK, a reconnect, a restart, a failure."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.errors import DatabaseUnavailable
from tests.postoffice.house import House, open_house, wrap
from tests.support.relay import Relay, plain


async def lose(house: House, text: str) -> None:
    """Sends a frame and goes away before anything is answered."""
    async with house.relay() as relay:
        await relay.send(text)


async def stored(house: House, identifier: str) -> bool:
    async with house.relay() as relay:
        return len(await relay.fetch({"ids": [identifier]})) == 1


async def test_a_lost_ok(house: House) -> None:
    """The event is stored all the same; every further copy is a duplicate, on this connection and on others."""
    event, proof = wrap(), house.purse.proof()
    token = house.purse.token(proof)
    await lose(house, json.dumps(["EVENT", plain(event), token]))
    async with asyncio.timeout(20):
        while not await stored(house, event.id):
            await asyncio.sleep(0.02)
    async with house.relay() as one, house.relay() as two:
        answers = [await relay.post(event, token) for relay in (one, two, one)]
    assert [answer.message for answer in answers] == ["duplicate: already stored"] * 3
    assert await house.spent(proof) == [True]


async def test_over_a_restart(address: str, tmp_path: Path) -> None:
    """The same frame, its change and its postmark, before and after."""
    event, blank = wrap(), bdhke.blind(secrets.token_bytes(32), secrets.token_bytes(32)).hex()
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        proof = house.purse.proof(4)
        token = house.purse.token(proof)
        options = {"postmark": True, "change": [{"id": house.purse.keyring.active().id, "B_": blank}]}
        first = await relay.post(event, token, options)
        frames = [frame for frame in await drained(relay) if frame[0] in ("CHANGE", "POSTMARK")]
        assert first.accepted and not first.duplicate and len(frames) == 2
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        for repeated in (token, None, house.purse.token(), "cashuB", 7):
            again = await relay.post(event, repeated, options)  # type: ignore[arg-type]
            assert again.duplicate
            assert [frame for frame in await drained(relay) if frame[0] in ("CHANGE", "POSTMARK")] == frames
        assert (await relay.post(wrap(), house.purse.token(proof))).code == "stamp-spent"
        assert await house.spent(proof) == [True]


async def drained(relay: Relay) -> list[list[Any]]:
    found: list[list[Any]] = []
    while not relay.frames.empty():
        found.append(relay.frames.get_nowait())
    return found


async def test_two_connections_and_http_at_once(house: House) -> None:
    """One frame on every way at once: one is "accepted", the others "duplicate", one stamp is spent."""
    event, proof, other = wrap(), house.purse.proof(), house.purse.proof()
    token = house.purse.token(proof)

    async def by_http(chosen: str) -> str:
        async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
            answer = await http.post("/v1/events", json=plain(event), headers={"x-cashu": chosen})
            return answer.json()["message"]

    async with house.relay() as one, house.relay() as two:
        answers = await asyncio.gather(
            one.post(event, token), two.post(event, token), one.post(event, token), by_http(token), by_http(token)
        )
        messages = sorted(answer if isinstance(answer, str) else answer.message for answer in answers)
        assert messages[0].startswith("accepted: until") and messages[1:] == ["duplicate: already stored"] * 4
        assert (await two.post(event, house.purse.token(other))).duplicate
    assert await house.spent(proof, other) == [True, False]


async def test_one_stamp_on_many_events_everywhere(house: House) -> None:
    """On connections and over HTTP: one is stored, each of the others is told why and can be sent with another."""
    proof = house.purse.proof()
    token = house.purse.token(proof)
    events = [wrap() for _ in range(8)]

    async def by_http(number: int) -> bool:
        async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
            answer = await http.post("/v1/events", json=plain(events[number]), headers={"x-cashu": token})
            return answer.json()["accepted"]

    async with house.relay() as one, house.relay() as two:
        relays = [one, two]
        answers = await asyncio.gather(
            *(relays[number % 2].post(events[number], token) for number in range(6)), by_http(6), by_http(7)
        )
        accepted = [answer if isinstance(answer, bool) else answer.accepted for answer in answers]
        assert sum(accepted) == 1
        for event, was in zip(events, accepted, strict=True):
            answer = await one.post(event, token if was else house.purse.token())
            assert answer.accepted and answer.duplicate == was


async def test_held_back_while_our_fault_passes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that got any OK never repeats: so there is none until the database is back, and then it is OK:true."""
    genuine, failures = house.office.database.write, 5

    async def write(work: Any, *args: Any) -> Any:
        nonlocal failures
        if failures and work.__name__ == "commit_on":
            failures -= 1
            raise DatabaseUnavailable
        return await genuine(work, *args)

    monkeypatch.setattr(house.office.database, "write", write)
    event, proof = wrap(), house.purse.proof()
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event, house.purse.token(proof)) for _ in range(3)))
    assert failures == 0
    assert sorted(answer.duplicate for answer in answers) == [False, True, True]
    assert all(answer.accepted for answer in answers)
    assert await house.spent(proof) == [True]


async def test_after_a_while_the_answer_is_an_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the stamp is as it was, and the same frame is good when the database is back; so over HTTP, with 503."""
    monkeypatch.setattr("pennypost_postoffice.office.HELD_BACK", 0.5)
    monkeypatch.setattr("pennypost_postoffice.office.OVERDUE_EVERY", 0.1)
    genuine, away = house.office.database.write, True

    async def write(work: Any, *args: Any) -> Any:
        if away and work.__name__ == "commit_on":
            raise DatabaseUnavailable
        return await genuine(work, *args)

    monkeypatch.setattr(house.office.database, "write", write)
    events = [wrap(), wrap()]
    proofs = [house.purse.proof(), house.purse.proof()]
    tokens = [house.purse.token(proof) for proof in proofs]
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        answer = await relay.post(events[0], tokens[0])
        assert (answer.accepted, answer.code) == (False, "overloaded") and answer.message.startswith("error:")
        refused = await http.post("/v1/events", json=plain(events[1]), headers={"x-cashu": tokens[1]})
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert await house.spent(*proofs) == [False, False]
        away = False
        # a database that was away is asked again within a second
        monkeypatch.setattr("pennypost_postoffice.office.HELD_BACK", 60)
        for event, token in zip(events, tokens, strict=True):
            assert (await relay.post(event, token)).accepted
        assert await house.spent(*proofs) == [True, True]
