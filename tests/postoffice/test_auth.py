"""AUTH (NIP-42): whose it is, how many keys a connection has, and what it costs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect

from pennypost_mint.runtime.limits import AUTH_KEYS
from pennypost_postoffice.auth import WINDOW, own_names
from pennypost_postoffice.connection import (
    COST_AUTH,
    COST_FRAME,
    COST_PASSED_ON,
    COST_REFUSED,
    COST_UNPAID,
    Connection,
)
from tests.postoffice.house import Author, House
from tests.support.relay import Relay, plain


async def _challenge(relay: Relay) -> str:
    name, challenge = await relay.frames.get()
    assert name == "AUTH"
    return challenge


async def _auth(relay: Relay, author: Author, *tags: list[str], **changed: Any) -> tuple[bool, str]:
    """Sends an AUTH and waits for its OK; whether it is granted, and the code of a refusal."""
    event = author.sign(changed.pop("kind", 22_242), *tags, **changed)
    await relay.send(["AUTH", plain(event)])
    while (frame := await asyncio.wait_for(relay.frames.get(), 30))[:2] != ["OK", event.id]:
        pass
    return frame[2], frame[3].rpartition("[")[2].rstrip("]")


def _only(house: House) -> Connection:
    (connection,) = house.office._connections
    return connection


async def test_what_does_not_fit(sqlite_house: House) -> None:
    house, author = sqlite_house, Author()
    async with house.relay() as relay:
        challenge = ["challenge", await _challenge(relay)]
        here = ["relay", house.websocket_url]
        now = int(time.time())
        for tags, changed in (
            ([here, challenge], {"kind": 22_243}),
            ([here, challenge], {"at": now - WINDOW - 60}),
            ([here, challenge], {"at": now + WINDOW + 60}),
            ([here, ["challenge", "0" * 32]], {}),
            ([here], {}),
            ([["relay", "wss://elsewhere.example"], challenge], {}),
            ([challenge], {}),
        ):
            assert await _auth(relay, author, *tags, **changed) == (False, "auth-invalid")
        assert _only(house).authenticated == set()
        assert await _auth(relay, author, here, challenge) == (True, "")
        assert _only(house).authenticated == {author.pubkey}


HOSTS = [
    "mallory.example",
    "mallory.example:7777",
    "10.0.0.66",
    "127.0.0.1.mallory.example",
    "localhost.mallory.example",
]


@pytest.mark.parametrize("host", HOSTS)
async def test_what_was_signed_for_another_relay(sqlite_house: House, host: str) -> None:
    """Whoever connects here under his own name cannot use what a client of his signed for him, to our challenge."""
    house, victim = sqlite_house, Author()
    port = house.settings.port
    async with connect(f"ws://{host}/", host="127.0.0.1", port=port, proxy=None, open_timeout=60) as socket:
        assert socket.request is not None and socket.request.headers["Host"] == host
        _, challenge = json.loads(await asyncio.wait_for(socket.recv(), 60))
        signed = victim.sign(22_242, ["relay", f"ws://{host}/"], ["challenge", challenge])
        await socket.send(json.dumps(["AUTH", plain(signed)]))
        answer = json.loads(await asyncio.wait_for(socket.recv(), 60))
        assert answer[:3] == ["OK", signed.id, False] and answer[3].endswith("[auth-invalid]")
        assert _only(house).authenticated == set()


async def test_names_of_the_office(sqlite_house: House) -> None:
    """Its public address, the socket it listens on, and loopback however it is called: a tunnel has another port."""
    port = sqlite_house.settings.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:1234"):
        async with connect(f"ws://{host}/", host="127.0.0.1", port=port, proxy=None, open_timeout=60) as socket:
            _, challenge = json.loads(await asyncio.wait_for(socket.recv(), 60))
            signed = Author().sign(22_242, ["relay", f"ws://{host}"], ["challenge", challenge])
            await socket.send(json.dumps(["AUTH", plain(signed)]))
            assert json.loads(await asyncio.wait_for(socket.recv(), 60))[:3] == ["OK", signed.id, True]


@pytest.mark.parametrize(
    ("address", "origin", "names"),
    [
        (("192.0.2.7", 3338), "office.example", {"192.0.2.7:3338"}),
        (("2001:db8::7", 3338), "[::1]:3338", {"[2001:db8::7]:3338", "[::1]:3338"}),
        (("192.0.2.7", 80), "localhost", {"192.0.2.7", "localhost"}),
        (("/run/office.sock", None), "", set()),
        (None, "127.0.0.1:1", {"127.0.0.1:1"}),
    ],
)
def test_names_that_nobody_makes_up(address: Any, origin: str, names: set[str]) -> None:
    assert own_names(address, origin) == names


async def test_keys_are_bounded_and_each_answer_costs(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sent at once, so that many are verified together; a key that is there already may answer again."""
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_RATE", 1e-9)
    house = sqlite_house
    authors = [Author() for _ in range(AUTH_KEYS + 20)]
    async with house.relay() as relay:
        tags = [["relay", house.websocket_url], ["challenge", await _challenge(relay)]]
        events = [author.sign(22_242, *tags) for author in authors]
        for event in events:
            await relay.send(json.dumps(["AUTH", plain(event)]))
        answers = [await asyncio.wait_for(relay.frames.get(), 30) for _ in events]
        connection = _only(house)
        granted = {answer[1] for answer in answers if answer[2]}
        assert len(granted) == AUTH_KEYS
        assert connection.authenticated == {event.pubkey for event in events if event.id in granted}
        assert all(answer[3].startswith("restricted:") for answer in answers if not answer[2])
        assert all(answer[3].endswith("[auth-keys]") for answer in answers if not answer[2])
        assert connection._spent == AUTH_KEYS * COST_AUTH + 20 * COST_REFUSED
        known = next(author for author in authors if author.pubkey in connection.authenticated)
        assert await _auth(relay, known, *tags) == (True, "")
        stranger = next(author for author in authors if author.pubkey not in connection.authenticated)
        assert await _auth(relay, stranger, *tags) == (False, "auth-keys")


async def test_what_no_stamp_pays_costs(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free events, passed-on ones, repeats and closing; a letter with its stamp does not."""
    monkeypatch.setattr("pennypost_postoffice.connection.CPU_RATE", 1e-9)
    house, author = sqlite_house, Author()
    async with house.relay() as listener, house.relay() as relay:
        await listener.send(["REQ", "live", {"kinds": [20_001]}])
        while (await listener.frames.get())[0] != "EOSE":
            pass
        await _challenge(relay)
        letter, token = Author().sign(1), house.purse.token()
        relays = author.sign(10_050, ["relay", "wss://r.example"])
        connection = next(each for each in house.office._connections if not each.subscriptions)
        for event, stamp, cost in (
            (letter, token, 0),
            (letter, token, COST_REFUSED),
            (relays, None, COST_UNPAID),
            (relays, None, COST_REFUSED),
            (author.sign(20_001), None, COST_PASSED_ON),
        ):
            before = connection._spent
            assert (await relay.post(event, stamp)).accepted
            assert connection._spent - before == cost
        before = connection._spent
        await relay.send(["CLOSE", "nothing"])
        await relay.send(["NEG-CLOSE", "nothing"])
        assert (await relay.post(Author().sign(1))).code == "stamp-required"
        assert connection._spent - before == 2 * COST_FRAME + COST_REFUSED
