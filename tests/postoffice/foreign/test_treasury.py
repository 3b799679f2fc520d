"""What an office earned at mints elsewhere: swept once, backed up, found again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pennypost.protocol.errors import InvalidInput, MintAway, SeedMismatch
from pennypost.protocol.token import Proof, parse_token, resolve_token
from pennypost_migrations import upgrade
from pennypost_mint.runtime.database import database_url, open_database
from pennypost_postoffice.foreign import treasury as treasuries
from pennypost_postoffice.foreign.backup import read_backup, write_backup
from pennypost_postoffice.foreign.treasury import Treasury, balances_on
from tests.postoffice.foreign.conftest import Books
from tests.postoffice.foreign.liar import Liar, swallow
from tests.postoffice.house import House
from tests.support.relay import letter
from tests.support.stamps import MintClient, Stamp, output

LETTERS = 12


def quiet(done: int, total: int) -> None:
    """No progress is shown."""


@pytest_asyncio.fixture
async def till(elsewhere: House, liar: Liar, office: House) -> AsyncIterator[Treasury]:
    """The treasury of an office that took LETTERS letters."""
    async with office.relay() as relay:
        posts = [relay.post(letter(), elsewhere.purse.token(url=liar.url)) for _ in range(LETTERS)]
        assert all(answer.accepted for answer in await asyncio.gather(*posts))
    foreign = office.office.foreign
    assert foreign is not None
    opened = Treasury(office.office.database, [liar.url], foreign.seed)
    yield opened
    await opened.close()


def proofs_of(elsewhere: House, text: str) -> list[Proof]:
    return list(resolve_token(parse_token(text), elsewhere.purse.keyring.ids).proofs)


async def redeem(elsewhere: House, text: str) -> int:
    """Takes a token as the operator's wallet does: the sat that came."""
    proofs = proofs_of(elsewhere, text)
    async with MintClient(elsewhere.url) as mint:
        sat = sum(proof.amount for proof in proofs)
        amounts = [1 << place for place in range(sat.bit_length()) if sat >> place & 1]
        stamps = [Stamp(elsewhere.url, proof) for proof in proofs]
        return sum(stamp.proof.amount for stamp in await mint.swap(stamps, [output(amount) for amount in amounts]))


async def test_swept_once(
    elsewhere: House, liar: Liar, office: House, books: Books, till: Treasury, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same token until it is taken; then what came in since."""
    monkeypatch.setattr(treasuries, "TOKEN_PROOFS", 5)
    (balance,) = await office.office.database.read(balances_on)
    assert (balance.mint, balance.sat, balance.proofs, balance.in_tokens) == (liar.url, LETTERS, LETTERS, 0)
    first = await till.sweep(liar.url, quiet)
    assert first.token is not None and first.sat == LETTERS and not first.again
    assert len(proofs_of(elsewhere, first.token)) <= 5, "small proofs were swapped for large ones"
    async with office.relay() as relay:
        assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
    again = await till.sweep(liar.url, quiet)
    assert again.again and again.token == first.token
    assert (await office.office.database.read(balances_on))[0].in_tokens == LETTERS
    assert await redeem(elsewhere, first.token) == LETTERS
    last = await till.sweep(liar.url, quiet)
    assert last.token is not None and last.sat == 1 and not last.again
    assert await redeem(elsewhere, last.token) == 1
    assert (await till.sweep(liar.url, quiet)).token is None
    assert await books.earned() == 0 and await books.journal() == []


async def test_a_sweep_that_dies_in_the_middle(
    elsewhere: House, liar: Liar, books: Books, till: Treasury, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap is in the journal, and the next sweep, or the server, finishes it."""
    monkeypatch.setattr(treasuries, "TOKEN_PROOFS", 5)
    monkeypatch.setattr(treasuries, "TRIES", 1)
    liar.lie("/v1/swap", swallow)
    liar.lie("/v1/checkstate", swallow)
    with pytest.raises(MintAway):
        await till.sweep(liar.url, quiet)
    assert len(await books.journal()) == 1
    liar.repent()
    swept = await till.sweep(liar.url, quiet)
    assert swept.token is not None and swept.sat == LETTERS
    assert await redeem(elsewhere, swept.token) == LETTERS and await books.journal() == []


async def test_what_is_lost_is_told(elsewhere: House, liar: Liar, books: Books, till: Treasury) -> None:
    """Proofs that somebody with the seed spent are not had any more."""
    rows = await till._database.read(treasuries.rows_on, liar.url, False)
    async with MintClient(elsewhere.url) as mint:
        await mint.swap([Stamp(elsewhere.url, till.proof(row)) for row in rows[:3]], [output(1) for _ in range(3)])
    found = await till.check(liar.url, quiet)
    assert (found.good, found.taken, found.lost) == (LETTERS - 3, 0, 3)
    assert await books.earned() == LETTERS - 3


async def test_only_mints_of_the_settings(till: Treasury) -> None:
    with pytest.raises(InvalidInput):
        await till.sweep("http://127.0.0.1:9", quiet)


@pytest.mark.parametrize("way", ["from the seed", "from an old backup"])
async def test_restored_into_an_empty_database(
    elsewhere: House, liar: Liar, office: House, till: Treasury, tmp_path: Path, way: str
) -> None:
    foreign = office.office.foreign
    assert foreign is not None
    file = tmp_path / "treasury.json"
    made = await write_backup(office.office.database, foreign.seed, file)
    assert made.sat == LETTERS and file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    rows = await till._database.read(treasuries.rows_on, liar.url, False)
    assert not any(till.proof(row).secret in text for row in rows), "no secret is in it"
    with pytest.raises(InvalidInput):
        await write_backup(office.office.database, foreign.seed, file)
    async with office.relay() as relay:
        assert (await relay.post(letter(), elsewhere.purse.token(url=liar.url))).accepted
    await upgrade(database_url("", tmp_path / "new"))
    database = open_database("", tmp_path / "new")
    restored = Treasury(database, [liar.url], foreign.seed)
    try:
        if way == "from an old backup":
            with pytest.raises(SeedMismatch):
                await read_backup(database, bytes(32), file)
            assert await read_backup(database, foreign.seed, file) == LETTERS
            assert await read_backup(database, foreign.seed, file) == 0
            assert await restored.restore(liar.url, quiet) == 1
        else:
            assert await restored.restore(liar.url, quiet) == LETTERS + 1
        assert await restored.restore(liar.url, quiet) == 0
        swept = await restored.sweep(liar.url, quiet)
        assert swept.token is not None and await redeem(elsewhere, swept.token) == LETTERS + 1
    finally:
        await restored.close()
        await database.close()


CLOSED = {
    "event_id": "00" * 32,
    "stamps": "00" * 32,
    "mint": "https://a.example",
    "keyset": "00" * 8,
    "counter": 0,
    "amounts": [1],
    "letter": True,
    "began_at": 0,
    "closed_at": 0,
    "reason": "gone",
    "collected": False,
}
BROKEN: list[tuple[str, Any]] = [
    ("a number too large", {"counters": [{"keyset": "00" * 8, "mint": "https://a", "next": 1 << 63}]}),
    ("no point", {"proofs": [{"C": "02" + "ff" * 32}]}),
    ("something more", {"extra": 1}),
    ("a closed swap of nothing", {"closed": [CLOSED | {"amounts": []}]}),
    ("one of too much", {"closed": [CLOSED | {"amounts": [1] * 300}]}),
    ("a reason that is no line", {"closed": [CLOSED | {"reason": "\0"}]}),
    ("stamps that are no hash", {"closed": [CLOSED | {"stamps": "AB" * 32}]}),
]


async def test_files_that_are_none(office: House, till: Treasury, tmp_path: Path) -> None:
    foreign = office.office.foreign
    assert foreign is not None
    good, file = tmp_path / "treasury.json", tmp_path / "broken.json"
    await write_backup(office.office.database, foreign.seed, good)
    whole = json.loads(good.read_text())
    for case, change in BROKEN:
        if "proofs" in change:
            change = {"proofs": [whole["proofs"][0] | change["proofs"][0]]}
        file.write_text(json.dumps(whole | change))
        with pytest.raises(InvalidInput):
            await read_backup(office.office.database, foreign.seed, file)
            pytest.fail(case)
    # of before closed swaps were in it
    older = {name: value for name, value in whole.items() if name != "closed"} | {"pennypost_treasury": 1}
    for allowed in (older, whole | {"closed": [CLOSED]}):
        file.write_text(json.dumps(allowed))
        assert await read_backup(office.office.database, foreign.seed, file) == 0
    for text in ("", "{", "{}", "[" * 10_000):
        file.write_text(text)
        with pytest.raises(InvalidInput):
            await read_backup(office.office.database, foreign.seed, file)
    with pytest.raises(InvalidInput):
        await read_backup(office.office.database, foreign.seed, tmp_path / "none")
