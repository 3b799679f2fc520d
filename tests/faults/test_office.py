"""A post office whose database is gone, full, read-only or slow: letters wait, or come back with a good stamp."""

from __future__ import annotations

import asyncio

import pytest

from pennypost.protocol.event import Event
from pennypost_postoffice import office as offices
from tests.faults.conftest import Scene
from tests.faults.ways import SLOW, Crashed, FileMoved
from tests.postoffice.house import wrap
from tests.support.relay import Answer, Relay, stored
from tests.support.stamps import Stamp

CONNECTIONS = 5
LETTERS = 30
SIZE = 20_000
"""Characters of a letter: it needs pages of its own."""

Posted = list[tuple[Event, Stamp]]


def _letters(scene: Scene) -> Posted:
    return [(wrap(content="x" * SIZE), Stamp(scene.house.url, scene.house.purse.proof())) for _ in range(LETTERS)]


def _post(relays: list[Relay], letters: Posted) -> list[asyncio.Task[Answer]]:
    return [
        asyncio.create_task(relays[number % len(relays)].post(event, stamp.token))
        for number, (event, stamp) in enumerate(letters)
    ]


async def _all_stored(scene: Scene, letters: Posted) -> None:
    assert await stored(scene.house.websocket_url, [event.id for event, _ in letters]) == {
        event.id for event, _ in letters
    }
    assert set(await scene.mint.states([stamp for _, stamp in letters])) == {"SPENT"}


async def _connected(scene: Scene, relays: list[Relay]) -> None:
    """Each connection lives: its next letter is stored."""
    for relay in relays:
        await scene.house.pay(relay, [wrap()])


@pytest.fixture
async def relays(scene: Scene):
    opened = [scene.house.relay() for _ in range(CONNECTIONS)]
    for relay in opened:
        await relay.__aenter__()
    yield opened
    for relay in opened:
        await relay.__aexit__()


async def test_letters_wait_and_are_stored(scene: Scene, relays: list[Relay]) -> None:
    """Nobody is answered while it lasts; afterwards everybody is, on the same connection, with OK:true."""
    letters = _letters(scene)
    await scene.house.pay(relays[0], [wrap()])
    await scene.fault.begin()
    try:
        tasks = _post(relays, letters)
        done, _ = await asyncio.wait(tasks, timeout=1)
        assert not done
        await relays[0].send(["REQ", "look", {"ids": [letters[0][0].id]}])
        while (frame := await asyncio.wait_for(relays[0].frames.get(), 45))[0] == "AUTH":
            pass
        assert frame[:2] == (["EOSE", "look"] if scene.fault.reads else ["CLOSED", "look"])
    finally:
        await scene.fault.end()
    answers = await asyncio.gather(*tasks)
    assert [answer for answer in answers if not answer.accepted] == []
    await _all_stored(scene, letters)
    await _connected(scene, relays)


@pytest.mark.parametrize("fault", [FileMoved, Crashed], indirect=True, ids=lambda kind: kind.__name__)
async def test_what_waits_too_long_keeps_its_stamp(
    scene: Scene, relays: list[Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`error: …` and the stamp untouched; the same frame afterwards is stored with it."""
    monkeypatch.setattr(offices, "HELD_BACK", 0.3)
    letters = _letters(scene)
    await scene.fault.begin()
    try:
        answers = await asyncio.gather(*_post(relays, letters))
    finally:
        await scene.fault.end()
    assert {(answer.accepted, answer.code) for answer in answers} == {(False, "overloaded")}
    assert all(answer.message.startswith("error:") for answer in answers)
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while (await scene.http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
    assert set(await scene.mint.states([stamp for _, stamp in letters])) == {"UNSPENT"}
    answers = await asyncio.gather(*_post(relays, letters))
    assert all(answer.accepted and not answer.duplicate for answer in answers)
    await _all_stored(scene, letters)


@pytest.mark.parametrize("fault", SLOW, indirect=True, ids=lambda kind: kind.__name__)
async def test_slow_is_not_away(scene: Scene, relays: list[Relay]) -> None:
    """Everyone waits, nobody is refused."""
    letters = _letters(scene)
    await scene.fault.begin()
    answers = await asyncio.gather(*_post(relays, letters))
    await scene.fault.end()
    assert all(answer.accepted for answer in answers)
    await _all_stored(scene, letters)
    await _connected(scene, relays)
