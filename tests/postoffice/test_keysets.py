"""Stamps across rotations: the newest at once, the retired still, the expired no more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from pennypost.protocol.event import Event
from pennypost.protocol.token import Token, encode_token
from pennypost_mint import keyring as keyrings
from pennypost_mint.api import Keyring
from pennypost_mint.operate import rotation
from tests.postoffice.house import DAY, Author, House, Purse


def event() -> Event:
    return Author().sign(1, expires_in=5 * DAY)


async def rotate(house: House, final_expiry: int | None = None) -> Purse:
    """What another process does: a purse with the new keyset, of which the office was not told."""
    database = house.office.database
    await rotation.rotate(database, house.settings, final_expiry)
    return Purse(await Keyring.open_existing(database, house.settings), house.url)


@pytest.fixture(autouse=True)
def nobody_looks_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "EVERY", 3_600.0)


async def test_a_stamp_of_a_keyset_that_was_just_made_is_taken(house: House) -> None:
    for version in ("A", "B", "B"):
        purse = await rotate(house)
        proof = purse.proof()
        assert proof.id not in house.office.keyring.ids
        async with house.relay() as relay:
            answer = await relay.post(event(), purse.token(proof, version=version))
        assert answer.accepted, answer
        assert await house.spent(proof) == [True]


async def test_many_of_them_at_once(house: House) -> None:
    purse = await rotate(house)
    async with house.relay() as relay:
        answers = await asyncio.gather(*(relay.post(event(), purse.token()) for _ in range(20)))
    assert all(answer.accepted for answer in answers), answers


async def test_a_deletion_with_such_a_stamp(house: House) -> None:
    """A deletion is decided by what it names; that of something unseen needs its stamp."""
    purse = await rotate(house)
    deletion = Author().sign(5, ["e", "00" * 32], expires_in=DAY)
    async with house.relay() as relay:
        answer = await relay.post(deletion, purse.token())
    assert answer.accepted, answer


async def test_a_keyset_that_was_never_made_is_refused(house: House) -> None:
    strange = Purse(Keyring([keyrings.derive_keyset(bytes(range(32)), 0, "sat", active=True)], b""), house.url)
    async with house.relay() as relay:
        for version in ("A", "B"):
            answer = await relay.post(event(), strange.token(version=version))
            assert (answer.accepted, answer.code) == (False, "stamp-keyset")


async def test_a_short_id_that_fits_two_keysets_names_neither(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp stays good, and its whole id says which is meant."""
    keyring = house.office.keyring
    (first,) = keyring.keysets

    async def nothing_new() -> bool:
        return False

    twin = replace(first, position=first.position + 1, id=first.id[:16] + "0" * 50, active=False)
    monkeypatch.setattr(keyring, "keysets", (first, twin))
    monkeypatch.setattr(keyring, "refresh", nothing_new)
    letter, proof = event(), house.purse.proof()
    token = Token(house.url, "sat", [proof], None)
    async with house.relay() as relay:
        answer = await relay.post(letter, encode_token(token))
        assert (answer.accepted, answer.code) == (False, "stamp-keyset")
        assert await house.spent(proof) == [False]
        assert (await relay.post(letter, encode_token(token, short_ids=False))).accepted
    assert await house.spent(proof) == [True]


async def test_stamps_of_a_retired_keyset_are_taken(house: House) -> None:
    proofs = [house.purse.proof() for _ in range(2)]
    await rotate(house)
    await house.office.keyring.refresh()
    async with house.relay() as relay:
        for proof in proofs:
            assert (await relay.post(event(), house.purse.token(proof))).accepted
    assert await house.spent(*proofs) == [True, True]


async def test_stamps_of_an_expired_keyset_are_not(house: House) -> None:
    purse = await rotate(house, int(time.time()) + 2 * DAY)
    early, late = purse.proof(), purse.proof()
    async with house.relay() as relay:
        assert (await relay.post(event(), purse.token(early))).accepted
        house.pass_time(3 * DAY)
        answer = await relay.post(event(), purse.token(late))
        assert (answer.accepted, answer.code) == (False, "stamp-expired")
        first = house.purse.proof(keyset=house.office.keyring.keysets[0].id)
        assert (await relay.post(event(), house.purse.token(first))).accepted, "without an expiry it is for ever"
    assert await house.spent(early, late) == [True, False]
