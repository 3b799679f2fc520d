"""A mint elsewhere that changes: other keysets, another fee, numbers used before; and several mints at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pennypost.protocol.answers import KeysetsAnswer, read_answer
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.foreign import line, service
from pennypost_postoffice.tables import treasury_counters
from tests.postoffice.foreign.conftest import Books
from tests.postoffice.foreign.liar import Answer, Liar, Request
from tests.postoffice.house import House, open_house
from tests.support.relay import letter

SWAP = "/v1/swap"


async def rotate(house: House) -> None:
    """As `pennypost mint rotate` does."""
    from pennypost_mint.operate.rotation import rotate as rotated

    await rotated(house.office.database, house.service.settings, None)


@pytest.mark.usefixtures("quick")
async def test_rotated_between_two_letters(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """12002 for the old outputs: the keysets are asked for again, the same stamp pays."""
    old = elsewhere.purse.proof()
    async with office.relay() as relay:
        assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
        before = elsewhere.purse.keyring.active().id
        await rotate(elsewhere)
        async with asyncio.timeout(60):
            while elsewhere.purse.keyring.active().id == before:
                await asyncio.sleep(0.02)
        assert (await relay.post(letter(), elsewhere.purse.token(old, url=liar.url))).accepted
        # a stamp of a keyset that the office never heard of
        assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
    assert await books.earned() == 3 and await books.journal() == []


@pytest.mark.usefixtures("quick")
async def test_numbers_used_before(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """A book from an old backup: outputs signed before are skipped, and no stamp is lost."""
    async with office.relay() as relay:
        for _ in range(5):
            assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
        await office.office.database.write(lambda c: c.execute(update(treasury_counters).values(next=0)))
        assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
    assert await books.earned() == 6


@pytest.mark.usefixtures("quick")
async def test_a_fee_lowers_what_arrives(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """The price must be met after the mint's fee; a stamp of 1 sat is worth nothing at a mint with any."""

    async def dear(request: Request) -> Answer | None:
        _, content, _ = await request.honest()
        listed = read_answer(content, KeysetsAnswer).keysets
        keysets = [{"id": each.id, "unit": each.unit, "active": each.active, "input_fee_ppk": 500} for each in listed]
        import json

        return 200, json.dumps({"keysets": keysets}).encode(), {}

    foreign = office.office.foreign
    assert foreign is not None
    # version 1 ids say nothing of the fee; here the listed one alone is what the office reckons with
    liar.lie("/v1/keysets", dear)
    proof = elsewhere.purse.proof()
    async with office.relay() as relay:
        answer = await relay.post(letter(), elsewhere.purse.token(proof, url=liar.url))
    assert answer.code == "stamp-too-little", answer
    assert await elsewhere.spent(proof) == [False] and await books.earned() == 0


async def test_several_mints_at_once(
    tmp_path: Path, elsewhere: House, liar: Liar, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never answers delays nobody else; both are named to clients."""
    monkeypatch.setattr(service, "LAST_ORDERS", 0.1)
    # longer than anybody is held back: whoever is held up by it is refused
    monkeypatch.setattr(line, "SECONDS", 600.0)
    over = asyncio.Event()

    async def silent(request: Request) -> Any:
        await over.wait()

    async with (
        open_house(tmp_path / "second") as second,
        open_house(tmp_path / "office", address, role="postoffice", mint_urls=f"{liar.url},{second.url}") as office,
        office.relay() as one,
        office.relay() as two,
    ):
        for path in ("/v1/info", SWAP):
            liar.lie(path, silent)
        waiting = [asyncio.create_task(one.post(letter(), elsewhere.purse.token(url=liar.url))) for _ in range(40)]
        answers = await asyncio.gather(*(two.post(letter(), second.purse.token()) for _ in range(20)))
        assert all(answer.accepted for answer in answers)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        liar.repent()
        over.set()
        assert office.office.mints == [liar.url, second.url]


def test_what_the_setting_takes() -> None:
    """Addresses in the form in which two can be compared; plain http on this machine and private names alone."""
    chosen = load_settings({}, mint_urls=" https://Mint.example:443/ ,http://mint:3338,http://127.0.0.1:9/x/")
    assert chosen.mints == ["https://mint.example", "http://mint:3338", "http://127.0.0.1:9/x"]
    for bad in (
        "http://mint.example",
        "https://a,https://A:443/",
        "ftp://mint.example",
        "https://user@mint.example",
        "https://mint.example?x",
        "http://abcdefabcdef.onion",
        "mint.example",
    ):
        from pennypost.protocol.errors import ConfigurationError

        with pytest.raises(ConfigurationError):
            load_settings({}, mint_urls=bad)
