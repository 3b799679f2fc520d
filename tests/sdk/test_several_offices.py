"""Several post offices: a letter goes to each with a stamp of its mint, comes once, and none that is away stops it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Client, Mail, Sandbox
from pennypost.client import KEEP
from pennypost.ledger import Balance
from pennypost.letters import note_of
from pennypost.outbox import Letter, write_letter_on
from pennypost.protocol.errors import InvalidInput, NotEnoughStamps, OfficeUnreachable, PriceTooHigh
from pennypost.protocol.event import Event
from pennypost.protocol.headers import encode_headers
from pennypost.transport import Response, Transport
from tests.sdk.deaths import Killed, kill_after_commit
from tests.sdk.test_purse import Roads

Make = Callable[..., AsyncClient]
MOST_STEPS = 60


class Closed(Roads):
    """Roads of which some are closed."""

    def __init__(self, office: Sandbox) -> None:
        super().__init__(office)
        self.closed: set[str] = set()

    def _road(self, url: str) -> Transport:
        if any(url.startswith(each) for each in self.closed):
            raise OfficeUnreachable
        return super()._road(url)


@pytest.fixture
async def make(office: Sandbox, other: str) -> AsyncIterator[Make]:
    """`make(home)` is a client of both offices; `offices=` names others."""
    async with AsyncExitStack() as stack:

        def made(home: Path, *offices: str, **options: Any) -> AsyncClient:
            roads = Closed(office)
            client = AsyncClient(offices or (office.url, other), home, transport=roads, **options)
            stack.push_async_callback(client.close)
            return client

        yield made


async def stamped(client: AsyncClient, *amounts: int) -> AsyncClient:
    for office, amount in zip(client.offices, amounts, strict=True):
        if amount:
            await (await client.purse.at(office.url)).buy(amount)
    return client


def letter_of(sender: AsyncClient, receiver: AsyncClient) -> Event:
    """A letter with the text x."""
    return sender._desk.letter(receiver.identity.pub, "x", keep=KEEP).event


async def close(client: AsyncClient, *offices: str) -> None:
    """These offices do not answer any more; all others do."""
    roads = client._transport
    assert isinstance(roads, Closed)
    roads.closed = set(offices)
    for each in client.offices:
        await each.close()


async def read(client: AsyncClient, **options: Any) -> list[Mail]:
    return [mail async for mail in client.inbox(**options)]


async def texts(client: AsyncClient, **options: Any) -> list[str]:
    return sorted(mail.text for mail in await read(client, **options))


async def test_a_letter_goes_to_each_with_a_stamp_of_its_mint(
    make: Make, office: Sandbox, other: str, tmp_path: Path
) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 2, 3), make(tmp_path / "bob")
    dry = await alice.send(bob.npub, "x", dry_run=True)
    assert (dry.code, dry.stamps) == ("dry-run", 2)
    assert [(each.office, each.stamps) for each in dry.relays] == [(office.url, 1), (other, 1)]
    receipt = await alice.send(bob.npub, "x")
    assert (receipt.accepted, receipt.code, receipt.stamps) == (True, "accepted", 2)
    assert [(each.office, each.accepted, each.stamps) for each in receipt.relays] == [
        (office.url, True, 1),
        (other, True, 1),
    ]
    assert all(each.reason.startswith("accepted: ") for each in receipt.relays)
    assert await alice.purse.balances() == {office.url: Balance(1), other: Balance(2)}
    for place, url in enumerate((office.url, other)):
        assert await texts(make(tmp_path / "bob", url), again=True) == ["x"], place


async def test_it_comes_once_and_each_office_has_its_place(
    make: Make, office: Sandbox, other: str, tmp_path: Path
) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 9, 9), make(tmp_path / "bob")
    here = make(tmp_path / "alice", office.url)
    there = make(tmp_path / "alice", other)
    await alice.send(bob.npub, "both")
    await here.send(bob.npub, "here")
    await there.send(bob.npub, "there")
    found = await read(bob)
    assert sorted((mail.text, mail.office) for mail in found if mail.text != "both") == [
        ("here", office.url),
        ("there", other),
    ]
    assert [mail.text for mail in found].count("both") == 1 and len(found) == 3
    assert await texts(bob) == await texts(make(tmp_path / "bob")) == []
    assert await texts(bob, again=True) == ["both", "here", "there"]
    await there.send(bob.npub, "later")
    assert await texts(bob) == ["later"]


@pytest.mark.parametrize("mode", ["nip17", "both"])
async def test_other_programs_mail_too(make: Make, tmp_path: Path, mode: Any) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 3, 3), make(tmp_path / "bob")
    await alice.send(bob.npub, "plain", mode="nip17")
    await alice.send(bob.npub, "stealth")
    assert await texts(bob, mode=mode) == ["plain"] + ["stealth"] * (mode == "both")


async def test_one_that_is_away_gets_it_later(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    told: list[str] = []
    alice, bob = await stamped(make(tmp_path / "alice", notice=told.append), 5, 5), make(tmp_path / "bob")
    for away, arrives in ((other, office.url), (office.url, other)):
        await close(alice, away)
        receipt = await asyncio.wait_for(alice.send(bob.npub, away), 20)
        assert (receipt.accepted, receipt.stamps) == (True, 1)
        assert {each.office: each.code for each in receipt.relays} == {away: "unreachable", arrives: "accepted"}
        (waiting,) = await alice.outbox()
        assert (waiting.office, waiting.to) == (away, bob.identity.pub.hex())
        await close(bob, away)
        assert await texts(bob) == [away]
        await close(alice)
        await close(bob)
        (later,) = await alice.flush()
        assert (later.office, later.accepted, later.event_id) == (away, True, receipt.event_id)
        assert await alice.outbox() == [] == await texts(bob)


async def test_one_that_is_away_does_not_stop_reading(make: Make, other: str, office: Sandbox, tmp_path: Path) -> None:
    told: list[str] = []
    alice = await stamped(make(tmp_path / "alice"), 5, 5)
    bob = make(tmp_path / "bob", notice=told.append)
    await alice.send(bob.npub, "x")
    await close(bob, office.url)
    assert await texts(bob) == ["x"]
    assert len(told) == 2 and told[1].startswith(office.url)
    await close(bob, office.url, other)
    with pytest.raises(OfficeUnreachable):
        await read(bob)
    await close(bob)
    assert await texts(bob) == []


LIES = (b"", b"<html>" + b"x" * 90, b"\xff" * 52, encode_headers(1, []) + b"x")


@pytest.mark.parametrize("feed", LIES)
async def test_a_lying_office_does_not_stop_the_others(
    make: Make, office: Sandbox, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: bytes
) -> None:
    told: list[str] = []
    alice = await stamped(make(tmp_path / "alice"), 2, 2)
    bob = make(tmp_path / "bob", notice=told.append)
    await alice.send(bob.npub, "x")
    honest = Closed.request

    async def lies(self: Closed, method: str, url: str, **options: Any) -> Response:
        if url.startswith(f"{other}/v1/headers"):
            return Response(200, feed)
        return await honest(self, method, url, **options)

    monkeypatch.setattr(Closed, "request", lies)
    assert await texts(bob) == ["x"]
    assert len(told) == 2 and told[1].startswith(other)


async def test_none_answers(make: Make, other: str, office: Sandbox, tmp_path: Path) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 5, 5), make(tmp_path / "bob")
    await close(alice, office.url, other)
    with pytest.raises(OfficeUnreachable):
        await alice.send(bob.npub, "x", patience=0)
    assert await alice.outbox() == []
    assert await alice.purse.balances() == {office.url: Balance(5), other: Balance(5)}


async def test_watching_both(make: Make, other: str, office: Sandbox, tmp_path: Path) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 5, 5), make(tmp_path / "bob")
    letters = bob.inbox(watch=True)
    first = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "one")
    assert (await asyncio.wait_for(first, 20)).text == "one"
    second = asyncio.ensure_future(anext(letters))
    await make(tmp_path / "alice", other).send(bob.npub, "two")
    assert (await asyncio.wait_for(second, 20)).text == "two"
    await letters.aclose()


async def test_stamps_for_one_only(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 0, 1), make(tmp_path / "bob")
    receipt = await alice.send(bob.npub, "x")
    assert {each.office: each.code for each in receipt.relays} == {office.url: NotEnoughStamps.code, other: "accepted"}
    assert (receipt.accepted, receipt.stamps, receipt.office) == (True, 1, other)
    assert await alice.outbox() == [] and await texts(bob) == ["x"]
    with pytest.raises(NotEnoughStamps):
        await alice.send(bob.npub, "y")
    assert await alice.outbox() == [] == await texts(bob)


@pytest.mark.parametrize("once", [None, "k"])
async def test_the_same_call_by_another_office(
    make: Make, office: Sandbox, other: str, tmp_path: Path, once: str | None
) -> None:
    both, bob = await stamped(make(tmp_path / "alice"), 3, 3), make(tmp_path / "bob")
    here, there = make(tmp_path / "alice", office.url), make(tmp_path / "alice", other)
    await close(here, office.url)
    await here._store.run(
        write_letter_on, Letter(letter_of(both, bob), office.url, state="drafted"), [], int(time.time())
    )
    note = note_of(both.identity.secret, bob.identity.pub, once, "x", KEEP, False, "stealth", "", "")
    (waiting,) = await here.outbox()
    await here._store.run(
        lambda c: c.execute(
            "INSERT INTO letters VALUES (?, ?, ?, ?, ?, 0)",
            (waiting.event_id, once, note.digest, note.receiver, waiting.kept_until),
        )
    )
    receipt = await there.send(bob.npub, "x", once=once)
    assert (receipt.event_id, receipt.office, receipt.accepted) == (waiting.event_id, other, True)
    assert [each.office for each in await there.outbox()] == [office.url]
    assert (await both.send(bob.npub, "x", once=once)).accepted
    assert await both.outbox() == [] and await texts(bob) == ["x"]
    if once is not None:
        assert (await there.send(bob.npub, "x", once=once)).stamps == 0


async def test_the_limit_is_for_all_together(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice, bob = await stamped(make(tmp_path / "alice", max_stamps=1), 5, 5), make(tmp_path / "bob")
    with pytest.raises(PriceTooHigh):
        await alice.send(bob.npub, "x")
    assert await alice.outbox() == []
    assert await alice.purse.balances() == {office.url: Balance(5), other: Balance(5)}


async def test_killed_at_any_step_each_has_it_once(
    make: Make, office: Sandbox, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = make(tmp_path / "bob")
    # Every third, for time's sake; of one office each is in test_outbox.py.
    for step in range(0, MOST_STEPS, 3):
        home, died = tmp_path / str(step), False
        await stamped(make(home), 3, 3)
        with monkeypatch.context() as patch:
            kill_after_commit(patch, step)
            dying = make(home)
            try:
                await dying.send(bob.npub, str(step), once="k", patience=0)
            except Killed:
                died = True
        for each in dying.offices:
            await each.close()
        alice = make(home)
        receipt = await alice.send(bob.npub, str(step), once="k")
        assert receipt.accepted and all(each.accepted for each in receipt.relays)
        assert await texts(bob) == [str(step)]
        checks = await alice.purse.check()
        assert {url: getattr(each, "stamps", each) for url, each in checks.items()} == {office.url: 2, other: 2}, step
        if not died:
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("offices", [[], [f"http://office{number}.example" for number in range(17)], ["not an office"]])
def test_how_many(offices: list[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        AsyncClient(offices, tmp_path)


def test_the_same_twice_is_one(tmp_path: Path) -> None:
    with Client(["http://a.example/", "http://a.example", "http://b.example"], tmp_path) as client:
        assert repr(client).startswith("Client('http://a.example, http://b.example'")
