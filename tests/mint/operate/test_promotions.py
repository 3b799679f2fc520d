"""Stamps given away: the same reference gives the same token, once in the books, whatever was cut off."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, func, select

from pennypost.protocol.errors import AmountInvalid, InvalidInput, MintingDisabled, MintNotStarted, ReferenceTaken
from pennypost.protocol.token import parse_token
from pennypost_mint.operate import promotions, rotation
from pennypost_mint.operate.promotions import issue
from pennypost_mint.runtime.database import Database
from pennypost_mint.tables import outputs
from tests.mint.desk import SWAP, Body, Desk
from tests.support.stamps import output


def proofs_of(desk: Desk, token: str) -> list[Body]:
    read = parse_token(token, desk.keyring.ids)
    assert (read.mint, read.unit) == (desk.settings.url, "sat")
    return [{"amount": each.amount, "id": each.id, "secret": each.secret, "C": each.C} for each in read.proofs]


def signed_on(connection: Connection) -> tuple[int, int]:
    found = connection.execute(select(func.count(), func.coalesce(func.sum(outputs.c.amount), 0))).one()
    return found[0], int(found[1])


async def test_any_wallet_receives_it(desk: Desk) -> None:
    token, fresh = await issue(desk.database, desk.settings, 100, "meetup-2026")
    assert fresh
    proofs = proofs_of(desk, token)
    assert sorted(proof["amount"] for proof in proofs) == [4, 32, 64]
    assert set(await desk.states(proofs)) == {"UNSPENT"}
    made = [output(64), output(32), output(4)]
    answer = await desk.done(SWAP, {"inputs": proofs, "outputs": desk.messages(made)})
    desk.proofs(made, answer["signatures"])
    assert proofs[0]["amount"] == 4
    assert await desk.refused(SWAP, {"inputs": proofs[:1], "outputs": [output(4).message(desk.keyset)]}) == 11001


async def test_the_same_reference_is_the_same_token(desk: Desk) -> None:
    first, fresh = await issue(desk.database, desk.settings, 5, "a")
    again, second = await issue(desk.database, desk.settings, 5, "a")
    assert (fresh, second, again) == (True, False, first)
    other, _ = await issue(desk.database, desk.settings, 5, "b")
    assert {proof["secret"] for proof in proofs_of(desk, first)}.isdisjoint(
        {proof["secret"] for proof in proofs_of(desk, other)}
    )
    assert await desk.database.read(signed_on) == (4, 10)


async def test_also_after_a_rotation_and_after_it_was_spent(desk: Desk) -> None:
    first, _ = await issue(desk.database, desk.settings, 1, "a")
    await desk.done(SWAP, {"inputs": proofs_of(desk, first), "outputs": [output(1).message(desk.keyset)]})
    await rotation.rotate(desk.database, desk.settings, None)
    assert await issue(desk.database, desk.settings, 1, "a") == (first, False)


async def test_two_at_once_are_one(desk: Desk) -> None:
    made = await asyncio.gather(*(issue(desk.database, desk.settings, 7, "same") for _ in range(6)))
    assert len({token for token, _ in made}) == 1
    assert sum(fresh for _, fresh in made) >= 1
    assert await desk.database.read(signed_on) == (3, 7)


@pytest.mark.parametrize("commits", [False, True])
async def test_a_crash_around_the_commit_loses_and_doubles_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    class Crash(BaseException):
        pass

    inner = desk.database

    class Dying:
        dialect = inner.dialect
        read = staticmethod(inner.read)

        async def write(self, work: object, *args: object) -> None:
            if commits:
                await inner.write(work, *args)  # type: ignore[arg-type]
            raise Crash

    dying: Database = Dying()  # type: ignore[assignment]
    with pytest.raises(Crash):
        await issue(dying, desk.settings, 6, "a")
    token, fresh = await issue(inner, desk.settings, 6, "a")
    assert fresh is not commits
    assert await inner.read(signed_on) == (2, 6)
    assert set(await desk.states(proofs_of(desk, token))) == {"UNSPENT"}


async def test_another_number_under_a_reference_is_refused(desk: Desk) -> None:
    await issue(desk.database, desk.settings, 5, "a")
    with pytest.raises(ReferenceTaken):
        await issue(desk.database, desk.settings, 6, "a")


async def test_numbers_and_references_out_of_bounds_are_refused(desk: Desk) -> None:
    for amount in (0, -1, 100_001, 1 << 63):
        with pytest.raises(AmountInvalid):
            await issue(desk.database, desk.settings, amount, "a")
    for reference in ("", " ", "a b", "x" * 65, "é", "٣", "a/b", "a\n", "'; --"):
        with pytest.raises(InvalidInput):
            await issue(desk.database, desk.settings, 1, reference)


async def test_after_the_sunset_only_what_was_issued_before(desk: Desk) -> None:
    assert desk.keyring.sunset is None
    before = await issue(desk.database, desk.settings, 1, "a")
    await rotation.sunset(desk.database, resume=False)
    assert await issue(desk.database, desk.settings, 1, "a") == (before[0], False)
    with pytest.raises(MintingDisabled):
        await issue(desk.database, desk.settings, 1, "b")


async def test_none_without_a_mint(desk: Desk) -> None:
    from sqlalchemy import delete

    from pennypost_mint.tables import keysets

    await desk.database.write(lambda connection: connection.execute(delete(keysets)))
    with pytest.raises(MintNotStarted):
        await issue(desk.database, desk.settings, 1, "a")


def test_the_secrets_do_not_change() -> None:
    """A change here would make a token that was cut off another one."""
    from pennypost_mint.keyring import Keyring, derive_keyset

    seed = bytes(range(32))
    keyset = derive_keyset(seed, 0, "sat", active=True)
    ring = Keyring([keyset], b"")
    ring._seed = seed
    proofs = parse_token(promotions.Promotion(ring, keyset, "a", 1).token("http://mint"), [keyset.id]).proofs
    assert [proof.secret for proof in proofs] == [SECRET]


SECRET = "c6a92239cd1797bed88ee48bfbb9f07f58e50e1b3995cebb302086c867715cf0"
