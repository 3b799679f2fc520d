"""COUNT over the wire (NIP-45), its bounds, and gift wraps that only their authenticated receiver may see (NIP-59)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pennypost.protocol.event import Event
from tests.postoffice.house import Author, House, open_house, wrap
from tests.support.relay import Relay, plain

KEY = "a" * 64
PATIENCE = 20


async def ask(relay: Relay, *frame: Any) -> list[Any]:
    """Sends a frame; the next answer that is neither a challenge nor an event."""
    await relay.send(list(frame))
    while True:
        answer = await asyncio.wait_for(relay.frames.get(), PATIENCE)
        if answer[0] not in ("AUTH", "EVENT"):
            return answer


async def authenticate(house: House, relay: Relay, author: Author) -> None:
    """Answers the challenge, which comes first on every connection."""
    name, challenge = await asyncio.wait_for(relay.frames.get(), PATIENCE)
    assert name == "AUTH"
    event = author.sign(22_242, ["relay", house.websocket_url], ["challenge", challenge])
    assert await ask(relay, "AUTH", plain(event)) == ["OK", event.id, True, ""]


async def test_counts(house: House) -> None:
    """What a REQ would find, each event once; a limit plays no part; what is deleted is not counted."""
    author = Author()
    notes = [author.sign(1, ["t", "x"], ["t", "y"]) for _ in range(5)]
    async with house.relay() as relay:
        await house.pay(relay, [*notes, author.sign(7)])
        mine = {"authors": [author.pubkey]}
        for filters, expected in [
            ([mine], 6),
            ([mine | {"kinds": [1]}], 5),
            ([mine | {"#t": ["x", "y"]}], 5),
            ([mine | {"limit": 2}], 6),
            ([mine, {"#t": ["x"]}, {"ids": [notes[0].id, KEY]}], 6),
            ([{"ids": []}], 0),
            ([{"authors": [KEY]}], 0),
        ]:
            assert await ask(relay, "COUNT", "n", *filters) == ["COUNT", "n", {"count": expected}], filters
        assert (await relay.post(author.sign(5, ["e", notes[0].id]))).accepted
        assert await ask(relay, "COUNT", "n", mine | {"kinds": [1]}) == ["COUNT", "n", {"count": 4}]


async def test_wraps_are_counted_as_they_are_served(house: House) -> None:
    """Without a view tag: by `#p` or ids. Nobody counts the letters of an office."""
    receiver = Author().pubkey
    hidden, shown = wrap(receiver, vt=False), wrap(receiver)
    async with house.relay() as relay:
        await house.pay(relay, [hidden, shown])
        for wanted, expected in [
            ({}, 0),
            ({"kinds": [1059]}, 0),
            ({"authors": [hidden.pubkey, shown.pubkey]}, 1),
            ({"kinds": [1059], "#p": [receiver]}, 2),
            ({"ids": [hidden.id]}, 1),
        ]:
            assert await ask(relay, "COUNT", "n", wanted) == ["COUNT", "n", {"count": expected}], wanted


async def test_what_has_expired_is_not_counted(sqlite_house: House) -> None:
    house, author = sqlite_house, Author()
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(1, expires_in=100), author.sign(1)])
        house.pass_time(101)
        assert await ask(relay, "COUNT", "n", {"authors": [author.pubkey]}) == ["COUNT", "n", {"count": 1}]


BAD: list[tuple[str, list[Any]]] = [
    ("no filter", []),
    ("21 filters", [{}] * 21),
    ("null", [None]),
    ("unknown key", [{"search": "x"}]),
    ("ids in upper case", [{"ids": ["A" * 64]}]),
    ("limit -1", [{"limit": -1}]),
]


@pytest.mark.parametrize(("name", "filters"), BAD, ids=[row[0] for row in BAD])
async def test_bad_counts(sqlite_house: House, name: str, filters: list[Any]) -> None:
    async with sqlite_house.relay() as relay:
        kind, query, reason = await ask(relay, "COUNT", "n", *filters)
        assert (kind, query) == ("CLOSED", "n")
        assert reason.startswith("invalid:") and reason.endswith("[filter]")
        assert await ask(relay, "COUNT", "n", {"ids": []}) == ["COUNT", "n", {"count": 0}]


async def test_a_count_over_too_much_is_refused(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at so many rows and no more; a count is never a guess."""
    house, author = sqlite_house, Author()
    house.office.settings = house.office.settings.model_copy(update={"max_count": 10})
    monkeypatch.setattr("pennypost_postoffice.queries.COUNT_STEP", 4)
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(1) for _ in range(10)])
        mine = {"authors": [author.pubkey]}
        assert await ask(relay, "COUNT", "n", mine) == ["COUNT", "n", {"count": 10}]
        await house.pay(relay, [author.sign(1)])
        for filters in ([mine], [{}], [{"kinds": [1]}, {"ids": []}]):
            kind, _, reason = await ask(relay, "COUNT", "n", *filters)
            assert kind == "CLOSED" and reason.startswith("blocked:") and reason.endswith("[query-too-large]")


async def test_a_flood_of_counts_slows_only_its_sender(sqlite_house: House) -> None:
    """All are answered, in their order; at most QUERIES wait here, the rest in the sender's socket."""
    house = sqlite_house
    async with house.relay() as flood, house.relay() as relay:
        for number in range(500):
            await flood.send(["COUNT", str(number), {}])
        await house.pay(relay, [wrap() for _ in range(3)])
        for number in range(500):
            while (answer := await asyncio.wait_for(flood.frames.get(), PATIENCE))[0] == "AUTH":
                pass
            assert answer == ["COUNT", str(number), {"count": 0}]


@pytest_asyncio.fixture
async def private(address: str, tmp_path: Path) -> AsyncIterator[House]:
    """An office that serves gift wraps to their authenticated receiver alone."""
    async with open_house(tmp_path, address, private_wraps=True) as opened:
        yield opened


async def _found(relay: Relay, *filters: dict[str, Any]) -> set[str]:
    await relay.send(["REQ", "s", *filters])
    found: set[str] = set()
    while True:
        frame = await asyncio.wait_for(relay.frames.get(), PATIENCE)
        if frame[0] == "EVENT":
            found.add(frame[2]["id"])
        elif frame[0] in ("EOSE", "CLOSED"):
            assert frame[0] == "EOSE", frame
            await relay.send(["CLOSE", "s"])
            return found


async def test_private_wraps(private: House) -> None:
    """Stored, counted, live and on pages: only to whom they are addressed, and only after AUTH."""
    bob, eve = Author(), Author()
    hidden, shown = wrap(bob.pubkey, vt=False), wrap(bob.pubkey)
    inbox = {"kinds": [1059], "#p": [bob.pubkey]}
    async with private.relay() as relay:
        await private.pay(relay, [hidden, shown])
    async with private.relay() as relay:
        for kind in ("REQ", "COUNT"):
            for filters in ([inbox], [{"ids": []}, inbox], [inbox | {"kinds": [1, 1059]}]):
                answer = await ask(relay, kind, "s", *filters)
                assert answer[:2] == ["CLOSED", "s"]
                assert answer[2].startswith("auth-required:") and answer[2].endswith("[auth]")
        for wanted, expected in [({"#p": [bob.pubkey]}, {shown.id}), ({"ids": [hidden.id, shown.id]}, {shown.id})]:
            assert await _found(relay, wanted) == expected
            assert await ask(relay, "COUNT", "s", wanted) == ["COUNT", "s", {"count": len(expected)}]
        assert await _found(relay, inbox | {"authors": [shown.pubkey, hidden.pubkey]}) == {shown.id}
    async with private.relay() as relay:
        await authenticate(private, relay, eve)
        for kind in ("REQ", "COUNT"):
            answer = await ask(relay, kind, "s", inbox)
            assert answer[0] == "CLOSED" and answer[2].startswith("restricted:")
        assert await _found(relay, {"ids": [hidden.id]}) == set()
    async with private.relay() as relay:
        await authenticate(private, relay, bob)
        assert await _found(relay, inbox) == {hidden.id, shown.id}
        assert await ask(relay, "COUNT", "s", inbox) == ["COUNT", "s", {"count": 2}]
        both = {"kinds": [1059], "#p": [bob.pubkey, eve.pubkey]}
        assert await _found(relay, both) == {hidden.id, shown.id}
    assert hidden.id.encode() not in await private.office.feed.page(0)
    assert shown.id.encode() in await private.office.feed.page(0)


async def _hears(relay: Relay, events: list[Event]) -> list[str]:
    """What a subscription hears of these events, the last of which everyone hears."""
    heard: list[str] = []
    while events[-1].id not in heard:
        frame = await asyncio.wait_for(relay.frames.get(), PATIENCE)
        if frame[0] == "EVENT":
            heard.append(frame[2]["id"])
    return heard


async def test_private_wraps_live(private: House) -> None:
    bob, eve = Author(), Author()
    events = [wrap(bob.pubkey, vt=False), wrap(bob.pubkey), Author().sign(1, ["p", bob.pubkey])]
    async with private.relay() as sender, private.relay() as stranger, private.relay() as receiver:
        await authenticate(private, stranger, eve)
        await authenticate(private, receiver, bob)
        for relay in (stranger, receiver):
            assert await ask(relay, "REQ", "s", {"#p": [bob.pubkey]}) == ["EOSE", "s"]
        await private.pay(sender, events)
        assert await _hears(stranger, events) == [events[1].id, events[2].id]
        assert await _hears(receiver, events) == [event.id for event in events]


async def test_wraps_are_public_unless_the_operator_says_otherwise(sqlite_house: House) -> None:
    """The default: who knows the receiver's key finds his mail, as on most relays."""
    house, bob = sqlite_house, Author()
    hidden = wrap(bob.pubkey, vt=False)
    async with house.relay() as relay:
        await house.pay(relay, [hidden])
        assert await _found(relay, {"kinds": [1059], "#p": [bob.pubkey]}) == {hidden.id}
