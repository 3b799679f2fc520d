"""Contacts and blocked people, and letters that wait a random time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Client, Sandbox
from pennypost import contacts as contacts_module
from pennypost import dispatch as dispatch_module
from pennypost.protocol.errors import InvalidInput, InvalidKey, NotAnswered
from tests.sdk.test_mail import read, stamped, texts

Make = Callable[..., AsyncClient]


async def three(client: Make, **options: Any) -> tuple[AsyncClient, AsyncClient, AsyncClient]:
    """Two who write, and Bob."""
    return await stamped(client, stamps=9), await stamped(client, stamps=9), client(**options)


@pytest.mark.parametrize("mode", ["stealth", "nip17", "both"])
async def test_who_is_blocked_is_not_heard(client: Make, mode: Any) -> None:
    alice, eve, bob = await three(client)
    send = "nip17" if mode == "nip17" else "stealth"
    await bob.contacts.block(eve.npub)
    await alice.send(bob.npub, "from alice", mode=send)
    await eve.send(bob.npub, "from eve", mode=send)
    assert await texts(bob, mode=mode) == ["from alice"]
    assert await texts(bob, mode=mode, again=True) == ["from alice"]
    assert await bob.contacts.remove(eve.npub)
    assert sorted(await texts(bob, mode=mode, again=True)) == ["from alice", "from eve"]


@pytest.mark.parametrize("mode", ["stealth", "nip17"])
async def test_contacts_only(client: Make, mode: Any) -> None:
    alice, eve, bob = await three(client)
    await bob.contacts.add(alice.npub)
    for each in (eve, alice):
        await each.send(bob.npub, each.npub, mode=mode)
    assert await texts(bob, contacts_only=True, mode=mode) == [alice.npub]
    assert await texts(bob, contacts_only=True, mode=mode) == []
    # Passed over, and not lost.
    assert sorted(await texts(bob, again=True, mode=mode)) == sorted([alice.npub, eve.npub])


async def test_what_one_writes_to_oneself_is_shown(client: Make) -> None:
    alice = await stamped(client)
    await alice.send(alice.npub, "a note")
    assert await texts(alice, contacts_only=True) == ["a note"]


async def test_a_session_of_somebody_blocked_is_not_answered(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), await stamped(client, tmp_path / "bob")
    await bob.sessions.publish()
    await alice.send(bob.npub, "one", session=True)
    assert await texts(bob) == ["one"]
    await bob.sessions.forget(alice.npub)
    left = await bob.stamps.balance()
    await alice.send(bob.npub, "two", session=True)
    await bob.contacts.block(alice.npub)
    assert await read(bob) == []
    assert await bob.stamps.balance() == left


async def test_requests_of_somebody_blocked_are_not_filed(client: Make) -> None:
    alice, bob = await stamped(client), client()
    await bob.contacts.block(alice.npub)
    with pytest.raises(NotAnswered):
        await alice.paid.send(bob.npub, "x", sat=5, wait=0)
    assert await bob.paid.requests() == []


async def test_the_list(client: Make, tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    bob, alice, eve = client(tmp_path, clock=lambda: now[0]), client(), client()
    assert await bob.contacts.all() == [] and not await bob.contacts.remove(eve.npub)
    await bob.contacts.add(alice.npub, "Alice")
    now[0] += 1
    await bob.contacts.block(eve.identity.pub.hex())
    await bob.contacts.add(alice.npub)
    await bob.contacts.block(eve.npub, "Eve")
    shown = [(each.npub, each.name, each.standing, each.added_at) for each in await client(tmp_path).contacts.all()]
    assert shown == [
        (alice.npub, "Alice", "contact", 1_700_000_000),
        (eve.npub, "Eve", "blocked", 1_700_000_001),
    ]
    assert (await bob.contacts.add(eve.npub)).standing == "contact"
    assert await bob.contacts.shows(eve.identity.pub, only=True)


async def test_bounds(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts_module, "MOST", 1)
    bob, alice, eve = client(), client(), client()
    await bob.contacts.add(alice.npub)
    await bob.contacts.block(alice.npub)
    with pytest.raises(InvalidInput):
        await bob.contacts.add(eve.npub)
    for name in ("x" * 101, "a\nb", "\x1b[2J"):
        with pytest.raises(InvalidInput):
            await bob.contacts.add(alice.npub, name)
    with pytest.raises(InvalidKey):
        await bob.contacts.block("nobody")


def test_the_sync_face(office: Sandbox, tmp_path: Path) -> None:
    with Client(office, tmp_path) as bob, Client(office) as alice:
        added = bob.contacts.add(alice.npub, "Alice")
        assert bob.contacts.all() == [added]
        assert bob.contacts.block(alice.npub).standing == "blocked"
        assert bob.contacts.remove(alice.npub)


# Jitter


async def test_jitter_is_waited_before_the_letter_is_sealed(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    class Chance:
        def uniform(self, least: float, most: float) -> float:
            asked.append((least, most))
            return 1.2

    monkeypatch.setattr(dispatch_module.random, "SystemRandom", Chance)
    alice, bob = await stamped(client), client()
    begun = time.time()
    assert (await alice.send(bob.npub, "x", jitter=30)).accepted
    (mail,) = await read(bob)
    assert asked == [(0, 30)] and mail.sent_at >= int(begun + 1.2) and time.time() - begun >= 1.2
    await alice.send(bob.npub, "y")
    assert len(asked) == 1


@pytest.mark.parametrize("jitter", [-1, 3_601, float("inf"), float("nan")])
async def test_jitter_is_bounded(client: Make, jitter: float) -> None:
    alice = await stamped(client)
    with pytest.raises(InvalidInput):
        await alice.send(client().npub, "x", jitter=jitter)
    assert await alice.stamps.balance() == 5
