"""Negentropy over the wire (NIP-77): sessions, their bounds, and whose ids nobody learns."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.event import Event
from pennypost_mint.runtime.limits import SYNCS
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_connection import Socket, _until
from tests.postoffice.test_queries import authenticate
from tests.protocol.asker import Asker
from tests.support.relay import Relay

PATIENCE = 20
EVERYTHING = "6100000200"
"""The message of who has nothing: tell me all ids."""


async def say(relay: Relay, *frame: Any) -> list[Any]:
    """Sends a frame; the next NEG- message."""
    await relay.send(list(frame))
    while True:
        answer = await asyncio.wait_for(relay.frames.get(), PATIENCE)
        if answer[0].startswith("NEG-"):
            return answer


async def ids_of(relay: Relay, wanted: Any, own: list[Event] | None = None) -> tuple[set[str], set[str]]:
    """Which ids the office has and we do not, and which we have and it does not."""
    asker = Asker([(event.created_at, bytes.fromhex(event.id)) for event in own or []], random.Random(1))
    loop = asyncio.get_running_loop()
    opened = False

    async def ask(message: bytes) -> bytes:
        nonlocal opened
        frame = ["NEG-MSG", "n", message.hex()] if opened else ["NEG-OPEN", "n", wanted, message.hex()]
        opened = True
        kind, name, text = await say(relay, *frame)
        assert (kind, name) == ("NEG-MSG", "n"), text
        return bytes.fromhex(text)

    await asyncio.to_thread(
        asker.reconcile, lambda message: asyncio.run_coroutine_threadsafe(ask(message), loop).result(PATIENCE)
    )
    await relay.send(["NEG-CLOSE", "n"])
    return {each.hex() for each in asker.need}, {each.hex() for each in asker.have}


async def test_who_lacks_what(house: House) -> None:
    author = Author()
    events = [author.sign(1, age=number) for number in range(60)]
    own = [*events[:40], author.sign(1), author.sign(1, age=100)]
    mine = {"authors": [author.pubkey]}
    async with house.relay() as relay:
        await house.pay(relay, events)
        need, have = await ids_of(relay, mine, own)
        assert need == {event.id for event in events[40:]} and have == {event.id for event in own[40:]}
        assert (await relay.post(author.sign(5, ["e", events[50].id]))).accepted
        assert (await ids_of(relay, mine | {"kinds": [1]}))[0] == {event.id for event in events} - {events[50].id}
        newest = sorted(events[:50] + events[51:], key=lambda event: (-event.created_at, event.id))[:7]
        assert (await ids_of(relay, mine | {"kinds": [1], "limit": 7}))[0] == {event.id for event in newest}
    assert house.office.syncs.records == 0


async def test_a_list_of_filters(sqlite_house: House) -> None:
    """As NDK sends it: what any of them finds, each once. As bounded as those of a REQ."""
    alice, bob = Author(), Author()
    ours, theirs = [alice.sign(1, age=number) for number in range(5)], [bob.sign(1, age=number) for number in range(5)]
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [*ours, *theirs])
        both: list[dict[str, Any]] = [
            {"authors": [alice.pubkey]},
            {"authors": [bob.pubkey, alice.pubkey], "kinds": [1]},
        ]
        need, have = await ids_of(relay, both, [ours[0], alice.sign(1)])
        assert need == {event.id for event in (*ours[1:], *theirs)} and len(have) == 1
        for bad in ([], [None], [[{}]], [{}] * 1_000):
            assert (await say(relay, "NEG-OPEN", "n", bad, EVERYTHING))[2].endswith("[filter]"), bad


async def test_whose_ids_nobody_learns(sqlite_house: House) -> None:
    """As of REQ: gift wraps by name, those without a view tag by `#p` or ids; what expired or is held not at all."""
    house, receiver = sqlite_house, Author().pubkey
    hidden, shown, brief = wrap(receiver, vt=False), wrap(receiver), wrap(receiver, expires_in=50)
    held = Author().sign(1, ["hold", "a" * 64])
    async with house.relay() as relay:
        await house.pay(relay, [hidden, shown, brief, held])
        house.pass_time(51)
        for wanted, expected in [
            ({}, set()),
            ({"kinds": [1059]}, set()),
            ({"authors": [event.pubkey for event in (hidden, shown, brief, held)]}, {shown.id}),
            ({"#p": [receiver]}, {hidden.id, shown.id}),
            ({"ids": [hidden.id, brief.id, held.id]}, {hidden.id}),
        ]:
            assert (await ids_of(relay, wanted))[0] == expected, wanted


async def test_private_wraps(tmp_path: Path) -> None:
    bob = Author()
    hidden, shown = wrap(bob.pubkey, vt=False), wrap(bob.pubkey)
    inbox = {"kinds": [1059], "#p": [bob.pubkey]}
    async with open_house(tmp_path, private_wraps=True) as house, house.relay() as relay:
        await house.pay(relay, [hidden, shown])
        kind, name, reason = await say(relay, "NEG-OPEN", "n", inbox, EVERYTHING)
        assert (kind, name) == ("NEG-ERR", "n") and reason.startswith("auth-required:")
        assert (await ids_of(relay, {"#p": [bob.pubkey]}))[0] == {shown.id}
        async with house.relay() as receiver:
            await authenticate(house, receiver, bob)
            assert (await ids_of(receiver, inbox))[0] == {hidden.id, shown.id}


BAD: list[tuple[str, list[Any], str]] = [
    ("unknown key", [{"search": "x"}, EVERYTHING], "filter"),
    ("filter null", [None, EVERYTHING], "filter"),
    ("limit -1", [{"limit": -1}, EVERYTHING], "filter"),
    ("message empty", [{}, ""], "sync"),
    ("message a number", [{}, 1], "sync"),
    ("message no hex", [{}, "xy"], "sync"),
    ("message in upper case", [{}, "61000002FF"], "sync"),
    ("message of half a byte", [{}, "610"], "sync"),
    ("no negentropy", [{}, "70"], "sync"),
    ("message cut short", [{}, "6100"], "sync"),
]


@pytest.mark.parametrize(("name", "frame", "code"), BAD, ids=[row[0] for row in BAD])
async def test_bad_sessions(sqlite_house: House, name: str, frame: list[Any], code: str) -> None:
    """NEG-ERR, nothing is left of the session, and the connection goes on."""
    async with sqlite_house.relay() as relay:
        kind, sync, reason = await say(relay, "NEG-OPEN", "n", *frame)
        assert (kind, sync) == ("NEG-ERR", "n") and reason.endswith(f"[{code}]")
        assert (await say(relay, "NEG-MSG", "n", EVERYTHING))[2].endswith("[sync-closed]")
        assert await say(relay, "NEG-OPEN", "n", {}, EVERYTHING) == ["NEG-MSG", "n", EVERYTHING]


async def test_messages_without_a_session(sqlite_house: House) -> None:
    async with sqlite_house.relay() as relay:
        assert (await say(relay, "NEG-MSG", "n", EVERYTHING))[2].startswith("closed:")
        await relay.send(["NEG-CLOSE", "n"])
        assert await say(relay, "NEG-OPEN", "n", {}, "62") == ["NEG-MSG", "n", "61"]
        assert (await say(relay, "NEG-MSG", "n", "6100000300"))[2].endswith("[sync]")
        assert (await say(relay, "NEG-MSG", "n", EVERYTHING))[2].endswith("[sync-closed]")


async def test_too_many_records(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million ids are not even read: a session stops at its limit, all together at theirs."""
    house, author = sqlite_house, Author()
    house.service.load = lambda: house.settings.model_copy(update={"max_sync": 10, "all_sync": 25})
    house.service.reload()
    monkeypatch.setattr("pennypost_postoffice.syncs.COUNT_STEP", 4)
    mine = {"authors": [author.pubkey]}
    async with house.relay() as relay, house.relay() as other:
        await house.pay(relay, [author.sign(1) for _ in range(10)])
        for name in ("1", "2"):
            assert (await say(relay, "NEG-OPEN", name, mine, EVERYTHING))[0] == "NEG-MSG"
        assert house.office.syncs.records == 20
        assert (await say(other, "NEG-OPEN", "3", mine, EVERYTHING))[0] == "NEG-MSG"
        given_up = await asyncio.wait_for(relay.frames.get(), 20)
        assert given_up[:2] == ["NEG-ERR", "1"] and given_up[2].endswith("[syncs]")
        assert house.office.syncs.records == 20
        assert (await say(relay, "NEG-OPEN", "2", mine, EVERYTHING))[0] == "NEG-MSG"
        await relay.send(["NEG-CLOSE", "2"])
        await _until(lambda: house.office.syncs.records == 10)
        assert (await say(other, "NEG-OPEN", "3", mine, EVERYTHING))[0] == "NEG-MSG"
        assert house.office.syncs.records == 10
        await house.pay(relay, [author.sign(1)])
        answer = await say(other, "NEG-OPEN", "3", mine, EVERYTHING)
        assert answer[0] == "NEG-ERR" and answer[2].startswith("blocked:") and answer[2].endswith("[query-too-large]")
    await _until(lambda: not house.office.syncs.records and not house.office._connections)


async def test_the_source_that_holds_most_gives_up(sqlite_house: House) -> None:
    """One address takes all records with many sessions: another one's begins, and that address gets its own no more."""
    house, author = sqlite_house, Author()
    house.office.syncs.most = 25
    mine = {"authors": [author.pubkey]}
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(1) for _ in range(10)])
    many, few = Socket(house, "192.0.2.1"), Socket(house, "192.0.2.2")
    for socket in (many, few):
        assert (await socket.next())[0] == "AUTH"
    for name in ("1", "2"):
        many.send("NEG-OPEN", name, mine, EVERYTHING)
        assert (await many.next())[0] == "NEG-MSG"
    many.send("NEG-MSG", "1", EVERYTHING)
    assert (await many.next())[0] == "NEG-MSG"
    few.send("NEG-OPEN", "x", mine, EVERYTHING)
    assert (await few.next())[0] == "NEG-MSG"
    assert (await many.next())[:2] == ["NEG-ERR", "2"]
    for name in ("3", "4", "5"):
        many.send("NEG-OPEN", name, mine, EVERYTHING)
        assert sorted([(await many.next())[0], (await many.next())[0]]) == ["NEG-ERR", "NEG-MSG"]
    few.send("NEG-MSG", "x", EVERYTHING)
    assert (await few.next())[:2] == ["NEG-MSG", "x"]
    house.office.syncs.most = 5
    few.send("NEG-OPEN", "y", mine, EVERYTHING)
    assert (await few.next())[:2] == ["NEG-ERR", "x"]
    alone = await few.next()
    assert alone[:2] == ["NEG-ERR", "y"] and alone[2].endswith("[syncs]")
    for socket in (many, few):
        await socket.leave()
    assert (house.office.syncs.records, house.office.syncs._sessions_of) == (0, {})


async def test_too_many_sessions(sqlite_house: House) -> None:
    async with sqlite_house.relay() as relay:
        for number in range(SYNCS):
            assert (await say(relay, "NEG-OPEN", str(number), {}, EVERYTHING))[0] == "NEG-MSG"
        answer = await say(relay, "NEG-OPEN", "more", {}, EVERYTHING)
        assert answer[2].startswith("rate-limited:") and answer[2].endswith("[syncs]")
        assert (await say(relay, "NEG-OPEN", "0", {}, EVERYTHING))[0] == "NEG-MSG"


async def test_a_silent_session_ends(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house, author = sqlite_house, Author()
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(1)])
        assert (await say(relay, "NEG-OPEN", "n", {"authors": [author.pubkey]}, EVERYTHING))[0] == "NEG-MSG"
        # from here on, answered in time or not, it is silent behind this message
        monkeypatch.setattr("pennypost_postoffice.syncs.SYNC_IDLE", 0.2)
        await relay.send(["NEG-MSG", "n", EVERYTHING])
        while (frame := await asyncio.wait_for(relay.frames.get(), PATIENCE))[0] != "NEG-ERR":
            pass
        assert frame[1] == "n" and frame[2].startswith("closed:")
        assert house.office.syncs.records == 0


async def test_opening_over_and_over(sqlite_house: House) -> None:
    """A flood of sessions under one name: one is left, letters go on."""
    house = sqlite_house
    async with house.relay() as flood, house.relay() as relay:
        for _ in range(300):
            await flood.send(["NEG-OPEN", "n", {}, EVERYTHING])
        await house.pay(relay, [wrap() for _ in range(3)])
        assert (await say(flood, "NEG-OPEN", "last", {}, EVERYTHING))[0] == "NEG-MSG"
