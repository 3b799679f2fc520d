"""Keysets that another process makes while this one serves, and the end of sales."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pennypost.protocol.errors import DatabaseUnavailable, InvalidInput, SeedMismatch
from pennypost.protocol.keyset import is_keyset_id
from pennypost_mint import keyring as keyrings
from pennypost_mint import keysets
from pennypost_mint.api import Keyring
from pennypost_mint.keyring import derive_keyset, row_of
from pennypost_mint.operate import rotation
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.settings import Settings
from tests.mint.desk import MINT, QUOTE, SWAP, Desk, open_desk, settings_for
from tests.support.stamps import output

DAY = 86_400
YEAR_2100 = 4_102_444_800


@dataclass
class Pair:
    """Two mints on one database, as two server processes are; nothing tells one what the other does."""

    here: Desk
    there: Desk

    async def rotate(self, final_expiry: int | None = None) -> str:
        return (await rotation.rotate(self.there.database, self.there.settings, final_expiry)).id


@asynccontextmanager
async def open_pair(settings: Settings) -> AsyncIterator[Pair]:
    async with open_desk(settings) as here, open_desk(settings) as there:
        yield Pair(here, there)


@pytest.fixture
async def pair(tmp_path: Path, database_url: str) -> AsyncIterator[Pair]:
    """On each kind of database."""
    async with open_pair(settings_for(tmp_path, database_url)) as opened:
        yield opened


@pytest.fixture
async def sqlite_pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """For what does not depend on the database."""
    async with open_pair(settings_for(tmp_path)) as opened:
        yield opened


async def listed(desk: Desk) -> dict[str, bool]:
    answer = (await desk.http.get("/v1/keysets")).json()
    return {each["id"]: each["active"] for each in answer["keysets"]}


async def test_whoever_lists_keysets_sees_the_newest(sqlite_pair: Pair) -> None:
    old = sqlite_pair.here.keyset
    new = await sqlite_pair.rotate()
    assert await listed(sqlite_pair.here) == {old: False, new: True}
    assert [each["id"] for each in (await sqlite_pair.there.http.get("/v1/keys")).json()["keysets"]] == [new]
    [one] = (await sqlite_pair.here.http.get(f"/v1/keys/{new}")).json()["keysets"]
    assert (one["id"], one["active"]) == (new, True)


async def test_a_keyset_that_is_not_known_yet_is_looked_for(pair: Pair) -> None:
    """Wallet and key list from one process, swap, mint, proofs, repeats and restores at another: never 12001."""
    desk, other = pair.here, pair.there
    proofs = await desk.buy(4)
    quote = await desk.paid_quote(2)
    new = await pair.rotate()
    assert new not in desk.keyring.ids
    made = output(4)
    body = {"inputs": proofs, "outputs": [made.message(new)]}
    signed = await desk.done(SWAP, body)
    await other.done(MINT, {"quote": quote["quote"], "outputs": [output(2).message(new)]})

    newer = await pair.rotate()
    renewed = output(4)
    [mine] = desk.proofs([made], signed["signatures"])
    repeated = {"inputs": [mine], "outputs": [renewed.message(newer)]}
    first = await other.done(SWAP, repeated)
    desk_knew = newer in desk.keyring.ids
    assert not desk_knew
    assert await desk.done(SWAP, repeated) == first, "the same request has the same answer everywhere (NUT-19)"
    assert await desk.signed([renewed.message(newer)]) == 1
    newest = await pair.rotate()
    assert await other.done("/v1/restore", {"outputs": [output(1).message(newest)]}) == {
        "outputs": [],
        "signatures": [],
    }


async def test_the_old_keyset_is_refused_and_its_stamps_are_good(sqlite_pair: Pair) -> None:
    desk = sqlite_pair.here
    proofs = await desk.buy(8)
    old = desk.keyset
    quote = await desk.paid_quote(8)
    new = await sqlite_pair.rotate()
    await desk.keyring.refresh()
    refused = {"inputs": proofs, "outputs": [output(8).message(old)]}
    assert await desk.refused(SWAP, refused) == 12002
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": [output(8).message(old)]}) == 12002
    await desk.done(MINT, {"quote": quote["quote"], "outputs": [output(8).message(new)]})
    await desk.done(SWAP, {"inputs": proofs, "outputs": [output(8).message(new)]})


async def test_an_answer_of_before_the_rotation_is_had_again(pair: Pair) -> None:
    desk = pair.here
    body = {"inputs": await desk.buy(8), "outputs": [output(8).message(desk.keyset)]}
    first = await desk.done(SWAP, body)
    await pair.rotate()
    await desk.keyring.refresh()
    assert await desk.done(SWAP, body) == first


async def test_it_is_followed_without_being_asked(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "EVERY", 0.01)
    following = asyncio.create_task(sqlite_pair.here.keyring.follow())
    try:
        new = await sqlite_pair.rotate()
        async with asyncio.timeout(30):
            while sqlite_pair.here.keyset != new:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()


async def test_following_outlives_a_database_that_is_away(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "EVERY", 0.01)
    ring, asked = sqlite_pair.here.keyring, asyncio.Event()
    database = ring._database

    class Away:
        async def read(self, *_: object) -> None:
            asked.set()
            raise DatabaseUnavailable

    ring._database = Away()  # type: ignore[assignment]
    assert await listed(sqlite_pair.here) == {ring.active().id: True}, "keysets are told from memory"
    following = asyncio.create_task(ring.follow())
    try:
        await asyncio.wait_for(asked.wait(), 30)
        new = await sqlite_pair.rotate()
        ring._database = database
        async with asyncio.timeout(30):
            while sqlite_pair.here.keyset != new:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()


async def test_callers_share_looks_that_begin_after_they_asked(sqlite_pair: Pair) -> None:
    ring = sqlite_pair.here.keyring
    assert ring._database is not None
    inner, looks = ring._database, 0

    read, rotated = asyncio.Event(), asyncio.Event()

    class Counting:
        async def read(self, *args: object) -> object:
            nonlocal looks
            looks += 1
            found = await inner.read(*args)  # type: ignore[arg-type]
            read.set()
            await rotated.wait()
            return found

    ring._database = Counting()  # type: ignore[assignment]
    first = asyncio.create_task(ring.refresh())
    await read.wait()
    new = await sqlite_pair.rotate()
    rotated.set()
    rest = await asyncio.gather(*(ring.refresh() for _ in range(50)))
    await first
    # One of before the rotation, one for whoever came first after it, one for all who came meanwhile.
    assert looks <= 3
    assert ring.active().id == new and any(rest)


async def test_rotations_at_once_are_as_many_keysets(pair: Pair) -> None:
    made = await asyncio.gather(*(pair.rotate() for _ in range(4)))
    assert len(set(made)) == 4
    now = await listed(pair.here)
    assert len(now) == 5 and sum(now.values()) == 1


async def test_another_seed_rotates_nothing(sqlite_pair: Pair) -> None:
    before = await listed(sqlite_pair.here)
    sqlite_pair.there.settings.seed_file.write_text(bytes(range(32)).hex())
    with pytest.raises(SeedMismatch):
        await sqlite_pair.rotate()
    assert await listed(sqlite_pair.here) == before


async def test_a_keyset_of_another_seed_is_not_followed(sqlite_pair: Pair) -> None:
    strange = row_of(derive_keyset(bytes(range(32)), 1, "sat", active=True), 0)
    await sqlite_pair.there.database.write(keysets.rotate_on, strange)
    before = sqlite_pair.here.keyring.keysets
    with pytest.raises(SeedMismatch):
        await sqlite_pair.here.keyring.refresh()
    assert sqlite_pair.here.keyring.keysets is before


async def test_a_final_expiry_that_is_past_or_no_time_is_refused(sqlite_pair: Pair) -> None:
    for expiry in (0, 1, 1_000_000_000, int(time.time()) + DAY - 60, 10**12):
        with pytest.raises(InvalidInput):
            await sqlite_pair.rotate(expiry)
    assert len(await listed(sqlite_pair.here)) == 1


async def test_a_final_expiry_is_announced_and_part_of_the_id(pair: Pair) -> None:
    new = await pair.rotate(YEAR_2100)
    [_, told] = (await pair.here.http.get("/v1/keysets")).json()["keysets"]
    assert told == {"id": new, "unit": "sat", "active": True, "input_fee_ppk": 0, "final_expiry": YEAR_2100}
    ring = await Keyring.open(pair.here.database, pair.here.settings)
    assert ring.get(new).final_expiry == YEAR_2100


@pytest.mark.parametrize("first", [1, 2])
async def test_keysets_get_the_version_that_the_settings_say(tmp_path: Path, database_url: str, first: int) -> None:
    """Each keeps the version it was made with, whatever the settings say later."""
    ids: list[str] = []
    for version in (first, 3 - first, first):
        settings = settings_for(tmp_path, database_url, keyset_version=version)
        async with open_desk(settings) as desk:
            if ids:
                ids.append((await rotation.rotate(desk.database, settings, None)).id)
                await desk.keyring.refresh()
            else:
                ids.append(desk.keyset)
            assert list(await listed(desk)) == ids
            old = await desk.buy(4)
            await desk.done(SWAP, {"inputs": old, "outputs": [output(4).message(desk.keyset)]})
    assert all(map(is_keyset_id, ids))
    assert [each[:2] for each in ids] == [f"0{version - 1}" for version in (first, 3 - first, first)]


async def test_sunset(pair: Pair) -> None:
    """No quotes; paid ones are minted, unpaid ones may still be paid; swaps go on; the info says so."""
    desk = pair.here
    paid = await desk.paid_quote(4)
    proofs = await desk.buy(2)
    since = await rotation.sunset(pair.there.database, resume=False)
    assert since is not None
    assert await rotation.sunset(pair.there.database, resume=False) == since, "repeating it changes nothing"
    await desk.keyring.refresh()
    assert await desk.refused(QUOTE, {"amount": 1, "unit": "sat"}) == 20003
    told = (await desk.http.get("/v1/info")).json()
    assert told["nuts"]["4"]["disabled"] is True and "sells no more" in told["motd"]
    await desk.done(MINT, {"quote": paid["quote"], "outputs": [output(4).message(desk.keyset)]})
    await desk.done(SWAP, {"inputs": proofs, "outputs": [output(2).message(desk.keyset)]})
    assert await rotation.sunset(pair.there.database, resume=True) is None
    await desk.keyring.refresh()
    await desk.quote(1)
    assert (await desk.http.get("/v1/info")).json()["nuts"]["4"]["disabled"] is False


async def test_what_is_paid_after_the_sunset_is_given_out(sqlite_pair: Pair) -> None:
    desk = sqlite_pair.here
    quote = await desk.quote(4)
    await rotation.sunset(sqlite_pair.there.database, resume=False)
    await desk.keyring.refresh()
    from pennypost_mint.api import pay_play_invoice

    await pay_play_invoice(desk.database, quote["request"])
    await desk.mint.till.reconcile()
    await desk.done(MINT, {"quote": quote["quote"], "outputs": [output(4).message(desk.keyset)]})


async def test_worker_processes_follow(tmp_path: Path) -> None:
    """The processes that sign hold secrets of their own."""
    settings = settings_for(tmp_path)
    async with open_desk(settings, processes=2) as desk:
        proofs = await desk.buy(*[1] * 16)
        database: Database = desk.database
        for _ in range(3):
            new = (await rotation.rotate(database, settings, None)).id
            made = [output(1) for _ in proofs]
            answers = await asyncio.gather(
                *(
                    desk.done(SWAP, {"inputs": [proof], "outputs": [each.message(new)]})
                    for proof, each in zip(proofs, made, strict=True)
                )
            )
            proofs = desk.proofs(made, [answer["signatures"][0] for answer in answers])
